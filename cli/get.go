package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"

	"github.com/spf13/cobra"
)

// functionView is the answer of GET /_thaw/functions/NAME.
type functionView struct {
	Version      int           `json:"version"`
	Name         string        `json:"name"`
	State        string        `json:"state"`
	Template     templateView  `json:"template"`
	Environments environments  `json:"environments"`
	Versions     []versionView `json:"versions,omitempty"`
}

// versionView is what a version has on the platform.
type versionView struct {
	Version     string       `json:"version"`
	State       string       `json:"state"`
	StateReason string       `json:"state_reason,omitempty"`
	Template    templateView `json:"template"`
	Provisioned provisioned  `json:"provisioned"`
}

// templateView says whether environments are forked, and why not.
type templateView struct {
	State   string   `json:"state"`
	Reasons []string `json:"reasons,omitempty"`
	InitMS  float64  `json:"init_ms,omitempty"`
}

func (p *program) get() *cobra.Command {
	return &cobra.Command{
		Use:   "get NAME",
		Short: "Show how a function's environments are made, and why they are not forked",
		Long: `Show what a function has on this platform: whether its environments are forked from an initialised template, how
much that saves each start, why not if they are not, and how many environments there are: those that serve, those that have
served and wait, and the spares, which have served nothing yet, beside the number that the function's bursts ask for. That is
the unpublished version's; of the published ones those are shown that have provisioned concurrency.`,
		Args:              oneArgument("a function's name"),
		ValidArgsFunction: p.completeFunction,
		RunE: func(cmd *cobra.Command, args []string) error {
			view, err := p.view(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if p.json {
				p.writeJSON(p.io.Out, view)
				return nil
			}
			fmt.Fprintf(p.io.Out, "%s is %s\n", view.Name, view.State)
			fmt.Fprintf(p.io.Out, "environments: %d busy, %d idle, %d spare (%d wanted), %d starting\n",
				view.Environments.Busy, view.Environments.Idle, view.Environments.Spares, view.Environments.Wanted, view.Environments.Starts)
			p.writeTemplate("starts: ", "  ", &view.Template)
			for i := range view.Versions {
				if v := &view.Versions[i]; v.Provisioned.Wanted+v.Provisioned.Allocated > 0 {
					fmt.Fprintf(p.io.Out, "version %s is %s; provisioned environments: %d of %d (%d starting)\n",
						v.Version, v.State, v.Provisioned.Available, v.Provisioned.Wanted, v.Provisioned.Allocated-v.Provisioned.Available)
					p.writeTemplate("  starts: ", "    ", &v.Template)
				}
			}
			return nil
		},
	}
}

// writeTemplate says after label how a function's environments are made, and why not otherwise on lines of their own that
// begin with indent.
func (p *program) writeTemplate(label, indent string, t *templateView) {
	switch t.State {
	case "ready":
		fmt.Fprintf(p.io.Out, "%sforked from a template; each saves %.0f ms of init\n", label, t.InitMS)
		return
	case "building":
		fmt.Fprintf(p.io.Out, "%sbooted; its template is being made\n", label)
		return
	}
	fmt.Fprintf(p.io.Out, "%sbooted, not forked (%s)\n", label, first(t.State, "it has never been in force"))
	for _, reason := range t.Reasons {
		fmt.Fprintf(p.io.Out, "%sbecause %s\n", indent, reason)
	}
}

func (p *program) view(ctx context.Context, name string) (*functionView, error) {
	c, err := p.connect(1)
	if err != nil {
		return nil, err
	}
	defer c.close()
	what := "cannot look at " + name
	resp, err := c.get(ctx, "/_thaw/functions/"+url.PathEscape(name), nil)
	if err != nil {
		return nil, p.remote(ctx, what, name, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, p.remote(ctx, what, name, refusal(resp))
	}
	view := &functionView{}
	if err := json.NewDecoder(resp.Body).Decode(view); err != nil {
		return nil, &Error{What: what, Why: "the platform's answer is not JSON", Exit: ExitFailed, Err: err}
	}
	view.Version = jsonVersion
	return view, nil
}
