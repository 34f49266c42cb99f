package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// logLine is one line of GET /_thaw/logs.
type logLine struct {
	Version   int    `json:"version"`
	Timestamp int64  `json:"timestamp"` // Unix ms
	Stream    string `json:"stream"`
	RequestID string `json:"request_id"`
	Message   string `json:"message"`
}

// maxLogLine bounds one line of the answer: AWS's own bound of a log event is 1 MB, and JSON may escape each byte.
const maxLogLine = 8 << 20

func (p *program) logs() *cobra.Command {
	var follow bool
	var since time.Duration
	cmd := &cobra.Command{
		Use:               "logs NAME",
		Short:             "Show a function's log lines",
		Example:           "  thaw logs hello --since 1h\n  thaw logs hello -f",
		Args:              oneArgument("a function's name"),
		ValidArgsFunction: p.completeFunction,
		RunE: func(cmd *cobra.Command, args []string) error {
			if since <= 0 {
				return usage("--since must be longer than zero", "thaw logs "+args[0]+" --since 10m")
			}
			n, err := p.readLogs(cmd.Context(), args[0], since, follow)
			if err != nil {
				return err
			}
			if n == 0 && !follow && !p.json {
				fmt.Fprintf(p.io.Err, "no log lines since %s ago\n  next: thaw logs %s --since 24h\n", shortDuration(since), args[0])
			}
			return nil
		},
	}
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on with new lines until interrupted")
	cmd.Flags().DurationVar(&since, "since", 10*time.Minute, "how far back to begin, such as 90s, 10m or 24h")
	return cmd
}

func (p *program) readLogs(ctx context.Context, name string, since time.Duration, follow bool) (lines int, err error) {
	c, err := p.connect(1)
	if err != nil {
		return 0, err
	}
	defer c.close()
	what := "cannot read the logs of " + name
	resp, err := c.get(ctx, "/_thaw/logs", url.Values{
		"function": {name},
		"since":    {time.Now().Add(-since).UTC().Format(time.RFC3339Nano)},
		"follow":   {strconv.FormatBool(follow)},
	})
	if err != nil {
		if follow && ctx.Err() != nil {
			return 0, nil // an interrupt is how following ends
		}
		return 0, p.remote(ctx, what, name, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return 0, p.remote(ctx, what, name, refusal(resp))
	}
	scan := bufio.NewScanner(resp.Body)
	scan.Buffer(make([]byte, 64<<10), maxLogLine)
	for scan.Scan() {
		var line logLine
		if err := json.Unmarshal(scan.Bytes(), &line); err != nil {
			return lines, &Error{What: what, Why: "the platform sent a line that is not JSON", Exit: ExitFailed, Err: err}
		}
		lines++
		p.writeLogLine(&line)
	}
	if err := scan.Err(); err != nil {
		if follow && ctx.Err() != nil {
			return lines, nil
		}
		return lines, p.remote(ctx, what, name, err)
	}
	return lines, nil
}

func (p *program) writeLogLine(line *logLine) {
	if p.json {
		line.Version = jsonVersion
		enc := json.NewEncoder(p.io.Out)
		enc.SetEscapeHTML(false)
		_ = enc.Encode(line) // a reader that has gone away ends the program by itself
		return
	}
	at := time.UnixMilli(line.Timestamp).UTC().Format("2006-01-02T15:04:05.000Z")
	fmt.Fprintf(p.io.Out, "%s %s\n", at, strings.TrimRight(line.Message, "\n"))
}

// shortDuration writes 10m rather than 10m0s.
func shortDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
