package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
)

// queueView is a queue of GET /_thaw/queues, or the answer of GET /_thaw/queues/NAME.
type queueView struct {
	Version      int            `json:"version,omitempty"`
	Name         string         `json:"name"`
	FIFO         bool           `json:"fifo"`
	Waiting      int            `json:"waiting"`
	InFlight     int            `json:"in_flight"`
	Delayed      int            `json:"delayed"`
	Bytes        int64          `json:"bytes"`
	OldestAge    int64          `json:"oldest_age_ms,omitempty"` // of what is not in flight; 0: nothing is there
	DeadLetters  *deadLetters   `json:"dead_letters,omitempty"`
	DeadLetterOf []string       `json:"dead_letter_of,omitempty"` // not in a list
	Mappings     []queueMapping `json:"mappings,omitempty"`       // not in a list
}

type deadLetters struct {
	Queue       string `json:"queue"`
	MaxReceives int    `json:"max_receives"`
}

type queueMapping struct {
	ID         string `json:"id"`
	Function   string `json:"function"`
	State      string `json:"state"`
	LastResult string `json:"last_result,omitempty"`
}

// queuesView is a page of GET /_thaw/queues, and all of them with --json.
type queuesView struct {
	Version int         `json:"version"`
	Queues  []queueView `json:"queues"`
	After   string      `json:"after,omitempty"`
}

// messageView is a message of GET /_thaw/queues/NAME/messages.
type messageView struct {
	ID         string          `json:"id"`
	Sequence   uint64          `json:"sequence"`
	Age        int64           `json:"age_ms"`
	Receives   int             `json:"receives"`
	Group      string          `json:"group,omitempty"`
	DeadFrom   string          `json:"dead_from,omitempty"`
	Attributes json.RawMessage `json:"attributes,omitempty"`
	Body       string          `json:"body"`
}

type messagesView struct {
	Version  int           `json:"version"`
	Messages []messageView `json:"messages"`
	After    uint64        `json:"after,omitempty"` // --after of the next page; 0: this is the last
}

// countJSON is what became of messages or events.
type countJSON struct {
	Version int `json:"version"`
	Count   int `json:"count"`
	// Left are the messages that could be received and were not moved by a redrive.
	Left int `json:"left,omitempty"`
}

func (p *program) queue() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "queue",
		Short: "Show what waits in queues, look at messages, send one, move dead letters back, and purge",
		Long: `Show the queues that programs use through the SQS API: how many messages wait, are in flight or delayed, and for how
long the oldest one waits. The numbers are exact, and looking at messages receives none.`,
		Example: "  thaw queue list\n  thaw queue show orders\n  thaw queue send orders '{\"order\": 1}'\n  thaw queue peek orders-dead\n  thaw queue redrive orders-dead",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return usage("what is to be done with queues: list, show, send, peek, redrive or purge", "thaw queue list")
		},
	}
	cmd.AddCommand(p.queueList(), p.queueShow(), p.queueSend(), p.queuePeek(), p.queueRedrive(), p.queuePurge())
	return cmd
}

// queueError is remote for what a queue was asked.
func (p *program) queueError(ctx context.Context, what string, err error) *Error {
	e := p.remote(ctx, what, "", err)
	if e.Exit == ExitNotFound {
		e.Next = "thaw queue list"
	}
	return e
}

// askQueue sends one request about queues to the native API.
func (p *program) askQueue(ctx context.Context, method, path string, query url.Values, answer any, what string) error {
	return p.askNative(ctx, method, path, query, answer, what, func(err error) *Error { return p.queueError(ctx, what, err) })
}

func queuePath(name, what string) string {
	return "/_thaw/queues/" + url.PathEscape(name) + what
}

// listQueues reads all pages.
func (c *client) listQueues(ctx context.Context) ([]queueView, error) {
	list := []queueView{}
	for query := (url.Values{}); ; {
		var page queuesView
		if err := c.native(ctx, http.MethodGet, "/_thaw/queues", query, &page); err != nil {
			return nil, err
		}
		list = append(list, page.Queues...)
		if page.After == "" {
			return list, nil
		}
		query.Set("after", page.After)
	}
}

func (p *program) queueList() *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List the queues with what waits in them",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			var list []queueView
			err := p.talk("listing", func(c *client) (err error) {
				list, err = c.listQueues(ctx)
				return err
			}, func(err error) *Error { return p.queueError(ctx, "cannot list the queues", err) })
			if err != nil {
				return err
			}
			if p.json {
				p.writeJSON(p.io.Out, &queuesView{Version: jsonVersion, Queues: list})
				return nil
			}
			if len(list) == 0 {
				fmt.Fprintf(p.io.Err, "no queues yet\n  next: aws sqs create-queue --queue-name NAME\n")
				return nil
			}
			t := tabwriter.NewWriter(p.io.Out, 0, 0, 2, ' ', 0)
			fmt.Fprintln(t, "NAME\tWAITING\tIN FLIGHT\tDELAYED\tSIZE\tOLDEST\tDEAD LETTERS")
			for i := range list {
				q := &list[i]
				fmt.Fprintf(t, "%s\t%d\t%d\t%d\t%s\t%s\t%s\n", q.Name, q.Waiting, q.InFlight, q.Delayed, bytesText(q.Bytes), ageText(q.OldestAge), q.DeadLetters.text())
			}
			return t.Flush()
		},
	}
}

// text says where dead letters go.
func (d *deadLetters) text() string {
	if d == nil {
		return "-"
	}
	return fmt.Sprintf("%s, after %s", d.Queue, plural(d.MaxReceives, "receive"))
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// ageText writes an age given in ms in at most two units; "-" for none.
func ageText(ms int64) string {
	d := time.Duration(ms) * time.Millisecond
	switch {
	case ms == 0:
		return "-"
	case d < time.Second:
		return d.String()
	case d < time.Hour:
		return shortDuration(d.Truncate(time.Second))
	case d < 48*time.Hour:
		return shortDuration(d.Truncate(time.Minute))
	default:
		return fmt.Sprintf("%dd", d/(24*time.Hour))
	}
}

func (p *program) queueShow() *cobra.Command {
	return &cobra.Command{
		Use:               "show NAME",
		Short:             "Show one queue, where its dead letters go, and which functions read it",
		Args:              oneArgument("a queue's name"),
		ValidArgsFunction: p.completeQueue,
		RunE: func(cmd *cobra.Command, args []string) error {
			var q queueView
			if err := p.askQueue(cmd.Context(), http.MethodGet, queuePath(args[0], ""), nil, &q, "cannot look at "+args[0]); err != nil {
				return err
			}
			if p.json {
				q.Version = jsonVersion
				p.writeJSON(p.io.Out, &q)
				return nil
			}
			kind := "a standard queue"
			if q.FIFO {
				kind = "a FIFO queue"
			}
			fmt.Fprintf(p.io.Out, "%s is %s with %s (%s)\n", q.Name, kind, plural(q.Waiting+q.InFlight+q.Delayed, "message"), bytesText(q.Bytes))
			fmt.Fprintf(p.io.Out, "messages: %d waiting, %d in flight, %d delayed\n", q.Waiting, q.InFlight, q.Delayed)
			if q.OldestAge > 0 {
				fmt.Fprintf(p.io.Out, "the oldest that is not in flight was sent %s ago\n", ageText(q.OldestAge))
			}
			if q.DeadLetters != nil {
				fmt.Fprintf(p.io.Out, "dead letters: to %s\n", q.DeadLetters.text())
			}
			if len(q.DeadLetterOf) > 0 {
				fmt.Fprintf(p.io.Out, "holds the dead letters of %s\n", strings.Join(q.DeadLetterOf, ", "))
			}
			for _, m := range q.Mappings {
				fmt.Fprintf(p.io.Out, "read by %s: mapping %s is %s%s\n", m.Function, m.ID, m.State, prefixed(", last result: ", m.LastResult))
			}
			return nil
		},
	}
}

// prefixed is s behind prefix, or nothing.
func prefixed(prefix, s string) string {
	if s == "" {
		return ""
	}
	return prefix + s
}

// completeQueue completes a queue's name, as completeFunction does a function's.
func (p *program) completeQueue(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
	return p.complete(cmd, args, prefix, func(ctx context.Context, c *client) (names []string, err error) {
		list, err := c.listQueues(ctx)
		for i := range list {
			names = append(names, fmt.Sprintf("%s\t%d waiting", list[i].Name, list[i].Waiting))
		}
		return names, err
	})
}
