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
	Version  int    `json:"version"`
	Name     string `json:"name"`
	State    string `json:"state"`
	Template struct {
		State   string   `json:"state"`
		Reasons []string `json:"reasons,omitempty"`
		InitMS  float64  `json:"init_ms,omitempty"`
	} `json:"template"`
	Environments struct {
		Busy   int `json:"busy"`
		Idle   int `json:"idle"`
		Spares int `json:"spares"`
		Starts int `json:"starts"`
	} `json:"environments"`
}

func (p *program) get() *cobra.Command {
	return &cobra.Command{
		Use:   "get NAME",
		Short: "Show how a function's environments are made, and why they are not forked",
		Long: `Show what a function has on this platform: whether its environments are forked from an initialised template, how
much that saves each start, why not if they are not, and how many environments there are.`,
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
			fmt.Fprintf(p.io.Out, "environments: %d busy, %d idle, %d spare, %d starting\n",
				view.Environments.Busy, view.Environments.Idle, view.Environments.Spares, view.Environments.Starts)
			p.writeTemplate(view)
			return nil
		},
	}
}

// writeTemplate says how a function's environments are made.
func (p *program) writeTemplate(v *functionView) {
	switch v.Template.State {
	case "ready":
		fmt.Fprintf(p.io.Out, "starts: forked from a template; each saves %.0f ms of init\n", v.Template.InitMS)
		return
	case "building":
		fmt.Fprintln(p.io.Out, "starts: booted; its template is being made")
		return
	}
	fmt.Fprintf(p.io.Out, "starts: booted, not forked (%s)\n", v.Template.State)
	for _, reason := range v.Template.Reasons {
		fmt.Fprintf(p.io.Out, "  because %s\n", reason)
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
