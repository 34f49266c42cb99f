package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// minTopInterval keeps a watched platform from being busy with being watched.
const minTopInterval = 100 * time.Millisecond

type topFlags struct {
	interval time.Duration
	sort     string
	once     bool
}

func (p *program) top() *cobra.Command {
	var f topFlags
	cmd := &cobra.Command{
		Use:   "top",
		Short: "Watch the functions: environments, concurrency against limits, and how they start",
		Long: `Watch what the platform does, in the terminal until q or Ctrl-C. s sorts by something else.

Each function has a line, and where several of its versions have environments, each of them. IN FLIGHT is beside the limit: r marks
reserved concurrency; elsewhere it is what is left of the account's for all functions together, with what the function
itself has provisioned. PROV is what is there of provisioned concurrency beside what is asked for. NOW is how the
invocations since the last reading started, in percent, ALL how those did since the platform started: w on a warm
environment, p on a provisioned one, s on a spare, f on a fork, b on a boot. MEMORY is what
the environments may need together, as the platform counts it against its bound: what those used at most that have
served, and an estimate for the others.

Where standard output is not a terminal, a table is printed at each interval. With --json each reading is one line.`,
		Example: "  thaw top\n  thaw top --once --sort throttles\n  thaw top --json --interval 10s",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.interval < minTopInterval {
				return usage(fmt.Sprintf("--interval must be at least %s", minTopInterval), "thaw top --interval 1s")
			}
			if !slices.Contains(topOrders, f.sort) {
				return usage(fmt.Sprintf("--sort cannot be %q: it is one of %s", f.sort, strings.Join(topOrders, ", ")), "thaw top --sort "+topOrders[0])
			}
			return p.runTop(cmd.Context(), &f)
		},
	}
	flags := cmd.Flags()
	flags.DurationVar(&f.interval, "interval", time.Second, "how often to look")
	flags.StringVar(&f.sort, "sort", topOrders[0], "what comes first: "+strings.Join(topOrders, ", "))
	flags.BoolVar(&f.once, "once", false, "look once and end")
	// The flag exists, which is all that registering can fail for.
	_ = cmd.RegisterFlagCompletionFunc("sort", cobra.FixedCompletions(topOrders, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func (p *program) runTop(ctx context.Context, f *topFlags) error {
	c, err := p.connect(1)
	if err != nil {
		return err
	}
	defer c.close()
	look := func(ctx context.Context) (*reading, error) {
		r, err := c.readFunctions(ctx)
		if err != nil {
			return nil, p.remote(ctx, "cannot look at the functions", "", err)
		}
		return r, nil
	}
	now, err := look(ctx)
	if err != nil {
		return err
	}
	if tty := p.screen(); tty != nil && !p.json && !f.once {
		return p.watchLive(ctx, tty, f, now, look)
	}
	tick := time.NewTicker(f.interval)
	defer tick.Stop()
	for before := (*reading)(nil); ; {
		view := compare(before, now, f.sort)
		if err := p.writeTop(view); err != nil {
			return nil //nolint:nilerr // whoever read the tables has seen enough
		}
		if f.once {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil // an interrupt is how watching ends
		case <-tick.C:
		}
		before = now
		if now, err = look(ctx); ctx.Err() != nil {
			return nil //nolint:nilerr // as above
		} else if err != nil {
			return err
		}
	}
}

// writeTop writes one reading as a table, or as one line of JSON.
func (p *program) writeTop(view *topView) error {
	if p.json {
		enc := json.NewEncoder(p.io.Out)
		enc.SetEscapeHTML(false)
		return enc.Encode(view)
	}
	_, err := fmt.Fprintf(p.io.Out, "%s\n\n", strings.Join(view.lines(), "\n"))
	return err
}
