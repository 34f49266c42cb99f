package cli

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
)

// functionEvents is a function of GET /_thaw/events: its asynchronous invocations. What follows OldestAge counts since the
// platform started.
type functionEvents struct {
	Name      string `json:"name"`
	Waiting   int    `json:"waiting"` // for their first attempt, or to be attempted again now
	Running   int    `json:"running"`
	Retrying  int    `json:"retrying"` // for a further attempt at its time
	Dead      int    `json:"dead"`     // given up, and delivered nowhere
	Bytes     int64  `json:"bytes"`
	OldestAge int64  `json:"oldest_age_ms,omitempty"` // of those that wait or retry; 0: none

	Accepted         int64  `json:"accepted"`
	Attempts         int64  `json:"attempts"`
	Succeeded        int64  `json:"succeeded"`
	FunctionErrors   int64  `json:"function_errors"`
	Throttles        int64  `json:"throttles"`
	Failed           int64  `json:"failed"`            // given up
	Died             int64  `json:"died"`              // of those, delivered nowhere
	DeliveryFailures int64  `json:"delivery_failures"` // of destinations and dead-letter queues
	Problem          string `json:"problem,omitempty"` // the last of these
	ProblemAge       int64  `json:"problem_age_ms,omitempty"`
}

type eventsView struct {
	Version    int              `json:"version"`
	Functions  []functionEvents `json:"functions"`
	Deliveries *deliveriesView  `json:"deliveries,omitempty"`
	After      string           `json:"after,omitempty"`
}

// deliveriesView is what became of what rules and schedules sent, since the platform started.
type deliveriesView struct {
	Waiting   int           `json:"waiting"` // to be tried again
	Delivered int           `json:"delivered"`
	Dead      int           `json:"dead_letters"`
	Dropped   int           `json:"dropped"`
	Failures  []failureView `json:"failures,omitempty"` // the newest first
}

type failureView struct {
	Age    int64  `json:"age_ms"`
	ID     string `json:"id"`
	Source string `json:"source"`
	Target string `json:"target"`
	Status string `json:"status"`
	Error  string `json:"error"`
}

// eventView is one asynchronous invocation of GET /_thaw/events/FUNCTION.
type eventView struct {
	ID        string `json:"id"` // its request id
	State     string `json:"state"`
	Qualifier string `json:"qualifier,omitempty"`
	Age       int64  `json:"age_ms"`
	Attempts  int    `json:"attempts"`              // that the function failed
	Throttles int    `json:"throttles,omitempty"`   // in a row after those
	NextTry   int64  `json:"next_try_ms,omitempty"` // from now; of one that retries
	Error     string `json:"error,omitempty"`       // of the last attempt
	Condition string `json:"condition,omitempty"`   // how a dead one ended, as in AWS's destination record
	Reason    string `json:"reason,omitempty"`      // why it was delivered nowhere
	Bytes     int    `json:"bytes"`
}

type functionEventsView struct {
	Version int `json:"version"`
	functionEvents
	Events []eventView `json:"events"`
	After  string      `json:"after,omitempty"` // --after of the next page; empty: this is the last
}

func (p *program) events() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "events",
		Short: "Show which asynchronous invocations wait, are retried or were given up, and redrive or discard those",
		Long: `Show the asynchronous invocations of each function: those that wait for their first attempt, run, or wait for a further
one, and the dead: those that were given up and that neither a destination nor a dead-letter queue took. Below that, what rules
and schedules could not deliver to their targets.`,
		Example: "  thaw events list\n  thaw events show orders\n  thaw events redrive orders\n  thaw events discard orders --id 5c0c8d5e-9a3f-4b1e-8d0e-0c5b1f9d2a67",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return usage("what is to be done with events: list, show, redrive or discard", "thaw events list")
		},
	}
	cmd.AddCommand(p.eventsList(), p.eventsShow(),
		p.eventsDead("redrive", "Start the dead events of a function again, as if they had just been accepted", "started"),
		p.eventsDead("discard", "Drop the dead events of a function for good", "dropped"))
	return cmd
}

// askEvents sends one request about a function's events to the native API.
func (p *program) askEvents(ctx context.Context, method, path string, query url.Values, answer any, what, function string) error {
	return p.askNative(ctx, method, path, query, answer, what, func(err error) *Error { return p.eventsError(ctx, what, function, err) })
}

func (p *program) eventsError(ctx context.Context, what, function string, err error) *Error {
	e := p.remote(ctx, what, function, err)
	if e.Exit == ExitNotFound {
		e.Next = "thaw events list"
	}
	return e
}

// listEvents reads all pages.
func (c *client) listEvents(ctx context.Context) (*eventsView, error) {
	all := &eventsView{Version: jsonVersion, Functions: []functionEvents{}}
	for query := (url.Values{}); ; {
		var page eventsView
		if err := c.native(ctx, http.MethodGet, "/_thaw/events", query, &page); err != nil {
			return nil, err
		}
		all.Functions = append(all.Functions, page.Functions...)
		if page.Deliveries != nil {
			all.Deliveries = page.Deliveries
		}
		if page.After == "" {
			return all, nil
		}
		query.Set("after", page.After)
	}
}

func (p *program) eventsList() *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List the functions that have asynchronous invocations, and what rules and schedules could not deliver",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			var all *eventsView
			err := p.talk("listing", func(c *client) (err error) {
				all, err = c.listEvents(ctx)
				return err
			}, func(err error) *Error { return p.eventsError(ctx, "cannot list the events", "", err) })
			if err != nil {
				return err
			}
			if p.json {
				p.writeJSON(p.io.Out, all)
				return nil
			}
			if len(all.Functions) == 0 {
				fmt.Fprintf(p.io.Err, "no asynchronous invocations\n  next: thaw invoke NAME --async\n")
			} else {
				t := tabwriter.NewWriter(p.io.Out, 0, 0, 2, ' ', 0)
				fmt.Fprintln(t, "FUNCTION\tWAITING\tRUNNING\tRETRYING\tDEAD\tOLDEST")
				for i := range all.Functions {
					f := &all.Functions[i]
					fmt.Fprintf(t, "%s\t%d\t%d\t%d\t%d\t%s\n", f.Name, f.Waiting, f.Running, f.Retrying, f.Dead, ageText(f.OldestAge))
				}
				if err := t.Flush(); err != nil {
					return err
				}
			}
			all.Deliveries.write(p)
			return nil
		},
	}
}

// failuresShown is how many failed deliveries are shown without --json.
const failuresShown = 5

// write shows what rules and schedules could not deliver, and nothing where all was delivered.
func (d *deliveriesView) write(p *program) {
	if d == nil || d.Waiting+d.Dead+d.Dropped == 0 {
		return
	}
	fmt.Fprintf(p.io.Out, "rules and schedules: %d delivered, %d to be tried again, %d in dead-letter queues, %d dropped\n", d.Delivered, d.Waiting, d.Dead, d.Dropped)
	for _, f := range d.Failures[:min(len(d.Failures), failuresShown)] {
		fmt.Fprintf(p.io.Out, "  %s ago, %s: %s to %s: %s\n", ageText(f.Age), f.Status, f.Source, f.Target, f.Error)
	}
}

func (p *program) eventsShow() *cobra.Command {
	var limit int
	var after string
	var dead bool
	cmd := &cobra.Command{
		Use:               "show FUNCTION",
		Short:             "Show a function's asynchronous invocations one by one: attempts, last error, next try, why they died",
		Args:              oneArgument("a function's name"),
		ValidArgsFunction: p.completeEvents,
		RunE: func(cmd *cobra.Command, args []string) error {
			query := url.Values{"limit": {strconv.Itoa(limit)}}
			if after != "" {
				query.Set("after", after)
			}
			if dead {
				query.Set("state", "dead")
			}
			var view functionEventsView
			if err := p.askEvents(cmd.Context(), http.MethodGet, eventsPath(args[0], ""), query, &view, "cannot look at the events of "+args[0], args[0]); err != nil {
				return err
			}
			if p.json {
				view.Version = jsonVersion
				p.writeJSON(p.io.Out, &view)
				return nil
			}
			fmt.Fprintf(p.io.Out, "%s: %d waiting, %d running, %d retrying, %d dead\n", view.Name, view.Waiting, view.Running, view.Retrying, view.Dead)
			fmt.Fprintf(p.io.Out, "since the platform started: %d accepted, %d attempts, %d succeeded, %d function errors, %d throttled, %d given up, %d of them dead\n",
				view.Accepted, view.Attempts, view.Succeeded, view.FunctionErrors, view.Throttles, view.Failed, view.Died)
			if view.Problem != "" {
				fmt.Fprintf(p.io.Out, "a destination or dead-letter queue failed %s ago: %s\n", ageText(view.ProblemAge), view.Problem)
			}
			for i := range view.Events {
				view.Events[i].write(p)
			}
			switch {
			case view.After != "":
				fmt.Fprintf(p.io.Err, "  next: thaw events show %s --after %s\n", args[0], view.After)
			case view.Dead > 0:
				fmt.Fprintf(p.io.Err, "  next: thaw events redrive %s        (or discard)\n", args[0])
			}
			return nil
		},
	}
	flags := cmd.Flags()
	flags.IntVarP(&limit, "count", "n", 20, "how many, 1 to 100")
	flags.StringVar(&after, "after", "", "those after what the last page named")
	flags.BoolVar(&dead, "dead", false, "only the dead ones")
	return cmd
}

func eventsPath(function, what string) string {
	return "/_thaw/events/" + url.PathEscape(function) + what
}

// write shows an event on one line, and what is known of its failures on more.
func (e *eventView) write(p *program) {
	fmt.Fprintf(p.io.Out, "%s  %s%s, accepted %s ago, %s", e.ID, e.State, prefixed(" for ", e.Qualifier), ageText(e.Age), plural(e.Attempts, "failed attempt"))
	if e.Throttles > 0 {
		fmt.Fprintf(p.io.Out, ", throttled %s", plural(e.Throttles, "time"))
	}
	if e.NextTry > 0 {
		fmt.Fprintf(p.io.Out, ", next in %s", ageText(e.NextTry))
	}
	fmt.Fprintln(p.io.Out)
	if e.Condition != "" || e.Reason != "" {
		fmt.Fprintf(p.io.Out, "  %s%s\n", e.Condition, prefixed(": ", e.Reason))
	}
	if e.Error != "" {
		fmt.Fprintf(p.io.Out, "  last error: %s\n", strings.ReplaceAll(e.Error, "\n", "\n  "))
	}
}

// eventsDead makes the verbs that end the life of a function's dead events one way or the other.
func (p *program) eventsDead(verb, short, done string) *cobra.Command {
	var id string
	cmd := &cobra.Command{
		Use:               verb + " FUNCTION",
		Short:             short,
		Args:              oneArgument("a function's name"),
		ValidArgsFunction: p.completeEvents,
		RunE: func(cmd *cobra.Command, args []string) error {
			query := url.Values{}
			if id != "" {
				query.Set("id", id)
			}
			var n countJSON
			if err := p.askEvents(cmd.Context(), http.MethodPost, eventsPath(args[0], "/"+verb), query, &n, "cannot "+verb+" the events of "+args[0], args[0]); err != nil {
				return err
			}
			p.tellCount(&n, done+" "+plural(n.Count, "event"))
			return nil
		},
	}
	cmd.Flags().StringVar(&id, "id", "", "this one alone, by its request id")
	return cmd
}

// completeEvents completes the name of a function that has asynchronous invocations, as completeFunction does any.
func (p *program) completeEvents(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
	return p.complete(cmd, args, prefix, func(ctx context.Context, c *client) (names []string, err error) {
		all, err := c.listEvents(ctx)
		if err != nil {
			return nil, err
		}
		for i := range all.Functions {
			names = append(names, fmt.Sprintf("%s\t%d dead", all.Functions[i].Name, all.Functions[i].Dead))
		}
		return names, nil
	})
}
