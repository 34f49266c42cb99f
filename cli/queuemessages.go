package cli

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/spf13/cobra"

	"thaw/internal/ownbody"
)

// maxMessage is what SQS takes as a message at most, attributes included: 1 MiB since August 2025.
const maxMessage = 1 << 20

// maxDelay is the longest delay of a message, seconds.
const maxDelay = 900

type sentJSON struct {
	Version  int    `json:"version"`
	ID       string `json:"id"`
	Sequence string `json:"sequence,omitempty"` // of FIFO queues
}

func (p *program) queueSend() *cobra.Command {
	var group, dedup string
	var delay int32
	cmd := &cobra.Command{
		Use:   "send NAME BODY",
		Short: "Send one message; BODY may be @FILE, or - for standard input",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 2 {
				return nil
			}
			return usage("a queue's name and a message's body are needed", `thaw queue send NAME '{"key":"value"}'`)
		},
		ValidArgsFunction: p.completeQueue,
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, name := cmd.Context(), args[0]
			if cmd.Flags().Changed("delay") && (delay < 1 || delay > maxDelay) { // the SDK does not send a delay of 0
				return usage(fmt.Sprintf("--delay must be 1 to %d seconds; without it, the queue's own delay counts", maxDelay), "thaw queue send "+name+" BODY")
			}
			body, err := p.readBody(args[1])
			if err != nil {
				return err
			}
			c, err := p.connect(1)
			if err != nil {
				return err
			}
			defer c.close()
			client := sqs.New(sqs.Options{BaseEndpoint: &c.base, Region: c.region, Credentials: c.creds, HTTPClient: ownbody.Client{HTTP: c.http}, Retryer: aws.NopRetryer{}})
			what := "cannot send to " + name
			q, err := client.GetQueueUrl(ctx, &sqs.GetQueueUrlInput{QueueName: &name})
			if err != nil {
				return p.queueError(ctx, what, err)
			}
			in := &sqs.SendMessageInput{QueueUrl: q.QueueUrl, MessageBody: aws.String(body), DelaySeconds: delay}
			if group != "" {
				in.MessageGroupId = &group
			}
			if dedup != "" {
				in.MessageDeduplicationId = &dedup
			}
			sent, err := client.SendMessage(ctx, in)
			if err != nil {
				return p.queueError(ctx, what, err)
			}
			if p.json {
				p.writeJSON(p.io.Out, &sentJSON{jsonVersion, aws.ToString(sent.MessageId), aws.ToString(sent.SequenceNumber)})
				return nil
			}
			fmt.Fprintf(p.io.Out, "sent %s\n", aws.ToString(sent.MessageId))
			return nil
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&group, "group", "", "message group id, which FIFO queues need")
	flags.StringVar(&dedup, "dedup", "", "deduplication id, for FIFO queues that do not make it of the body")
	flags.Int32Var(&delay, "delay", 0, "seconds until it can be received, 1 to 900 (default: as the queue has it)")
	return cmd
}

// readBody reads the message that an argument names.
func (p *program) readBody(arg string) (string, error) {
	var body []byte
	var err error
	switch {
	case arg == "-":
		body, err = io.ReadAll(io.LimitReader(p.io.In, maxMessage+1))
	case strings.HasPrefix(arg, "@"):
		body, err = readFile(arg[1:], maxMessage)
	default:
		body = []byte(arg)
	}
	if err != nil {
		return "", &Error{What: "cannot read the message", Why: err.Error(), Next: "thaw queue send NAME @FILE", Exit: ExitUsage, Err: err}
	}
	if len(body) > maxMessage {
		return "", &Error{What: "the message is too large", Why: fmt.Sprintf("a queue takes %d bytes", maxMessage), Exit: ExitUsage}
	}
	return string(body), nil
}

func (p *program) queuePeek() *cobra.Command {
	var limit int
	var after uint64
	cmd := &cobra.Command{
		Use:               "peek NAME",
		Short:             "Look at the oldest messages; none is received and nothing is counted",
		Args:              oneArgument("a queue's name"),
		ValidArgsFunction: p.completeQueue,
		RunE: func(cmd *cobra.Command, args []string) error {
			query := url.Values{"limit": {strconv.Itoa(limit)}, "after": {strconv.FormatUint(after, 10)}}
			var view messagesView
			if err := p.askQueue(cmd.Context(), http.MethodGet, queuePath(args[0], "/messages"), query, &view, "cannot look at the messages of "+args[0]); err != nil {
				return err
			}
			if p.json {
				view.Version = jsonVersion
				p.writeJSON(p.io.Out, &view)
				return nil
			}
			if len(view.Messages) == 0 {
				fmt.Fprintf(p.io.Err, "no messages in %s\n", args[0])
				return nil
			}
			for i := range view.Messages {
				m := &view.Messages[i]
				fmt.Fprintf(p.io.Out, "%s  sent %s ago, %s%s%s\n", m.ID, ageText(m.Age), plural(m.Receives, "receive"),
					prefixed(", group ", m.Group), prefixed(", died in ", m.DeadFrom))
				if len(m.Attributes) > 0 {
					fmt.Fprintf(p.io.Out, "  attributes %s\n", m.Attributes)
				}
				fmt.Fprintf(p.io.Out, "  %s\n", strings.ReplaceAll(strings.TrimRight(m.Body, "\n"), "\n", "\n  "))
			}
			if view.After > 0 {
				fmt.Fprintf(p.io.Err, "  next: thaw queue peek %s --after %d\n", args[0], view.After)
			}
			return nil
		},
	}
	cmd.Flags().IntVarP(&limit, "count", "n", 10, "how many, 1 to 100")
	cmd.Flags().Uint64Var(&after, "after", 0, "those after this sequence number")
	return cmd
}

func (p *program) queueRedrive() *cobra.Command {
	var to string
	var limit int
	cmd := &cobra.Command{
		Use:   "redrive NAME",
		Short: "Move the messages of a dead-letter queue back to where they died, or elsewhere",
		Long: `Move the messages of a dead-letter queue, oldest first, back to the queues that they died in, or all of them to another
queue. They count as never received there.`,
		Args:              oneArgument("a queue's name"),
		ValidArgsFunction: p.completeQueue,
		RunE: func(cmd *cobra.Command, args []string) error {
			query := url.Values{}
			if to != "" {
				query.Set("to", to)
			}
			if cmd.Flags().Changed("count") {
				query.Set("limit", strconv.Itoa(limit))
			}
			var moved countJSON
			if err := p.askQueue(cmd.Context(), http.MethodPost, queuePath(args[0], "/redrive"), query, &moved, "cannot move the messages of "+args[0]); err != nil {
				return err
			}
			p.tellCount(&moved, "moved "+plural(moved.Count, "message"))
			if moved.Left > 0 && len(query) == 0 && !p.json {
				fmt.Fprintf(p.io.Err, "%s left: sent there and not died in a queue, or that queue is gone\n  next: thaw queue redrive %s --to QUEUE\n", plural(moved.Left, "message"), args[0])
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&to, "to", "", "queue to move them to (default: where each one died)")
	cmd.Flags().IntVarP(&limit, "count", "n", 0, "how many at most (default: all that are there)")
	_ = cmd.RegisterFlagCompletionFunc("to", func(cmd *cobra.Command, _ []string, prefix string) ([]string, cobra.ShellCompDirective) {
		return p.completeQueue(cmd, nil, prefix)
	})
	return cmd
}

func (p *program) queuePurge() *cobra.Command {
	return &cobra.Command{
		Use:               "purge NAME",
		Short:             "Delete all messages of a queue, those in flight too",
		Args:              oneArgument("a queue's name"),
		ValidArgsFunction: p.completeQueue,
		RunE: func(cmd *cobra.Command, args []string) error {
			var purged countJSON
			if err := p.askQueue(cmd.Context(), http.MethodPost, queuePath(args[0], "/purge"), nil, &purged, "cannot purge "+args[0]); err != nil {
				return err
			}
			p.tellCount(&purged, "deleted "+plural(purged.Count, "message"))
			return nil
		},
	}
}

// tellCount says what became of messages or events.
func (p *program) tellCount(n *countJSON, text string) {
	if p.json {
		n.Version = jsonVersion
		p.writeJSON(p.io.Out, n)
		return
	}
	fmt.Fprintln(p.io.Out, text)
}
