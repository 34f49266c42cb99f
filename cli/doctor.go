package cli

import (
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"
)

// Report is what the platform finds on this machine.
type Report struct {
	Capabilities []Capability  `json:"capabilities"`
	Interpreters []Interpreter `json:"interpreters"`
}

// Capability is something that isolation or speed rests on.
type Capability struct {
	Name string `json:"name"`
	// Present says that it is there and can be used by this user.
	Present bool `json:"present"`
	// Detail says what was found: a version, a path, an error.
	Detail string `json:"detail,omitempty"`
	// WithoutIt says what is weaker without it.
	WithoutIt string `json:"without_it"`
}

// Interpreter is a language that functions can be written in.
type Interpreter struct {
	Language string `json:"language"` // python, nodejs, ruby
	Version  string `json:"version"`  // as the interpreter says it: 3.11.2
	Path     string `json:"path"`
	// Unusable says why no function is run by it; empty when functions are.
	Unusable string `json:"unusable,omitempty"`
}

type doctorJSON struct {
	Version int `json:"version"`
	Report
}

func (p *program) doctor() *cobra.Command {
	return &cobra.Command{
		Use:   "doctor",
		Short: "Show what this machine can do, and what is weaker without the rest",
		Long: `Look at this machine: each capability that isolation and speed rest on, whether it is there, and what is weaker
without it; and the interpreters that functions can use.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if p.endpoint != "" {
				return usage("thaw doctor looks at this machine and has no --endpoint", "thaw doctor")
			}
			if p.deps.Doctor == nil {
				return &Error{What: "this build cannot look at the machine", Exit: ExitFailed}
			}
			m := p.progress("looking", -1)
			report, err := p.deps.Doctor(cmd.Context())
			m.stop()
			if err != nil {
				return fmt.Errorf("cannot look at this machine: %w", err)
			}
			if p.json {
				p.writeJSON(p.io.Out, &doctorJSON{Version: jsonVersion, Report: report})
				return nil
			}
			return p.writeReport(&report)
		},
	}
}

func (p *program) writeReport(r *Report) error {
	t := tabwriter.NewWriter(p.io.Out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "CAPABILITY\tTHERE\tFOUND\tWITHOUT IT")
	for _, c := range r.Capabilities {
		there := "yes"
		if !c.Present {
			there = "NO"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", c.Name, there, first(c.Detail, "-"), c.WithoutIt)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(p.io.Out)
	if len(r.Interpreters) == 0 {
		fmt.Fprintln(p.io.Out, "no interpreters found: only functions that bring their own binary (provided.al2023) can run")
		return nil
	}
	fmt.Fprintln(t, "LANGUAGE\tVERSION\tUSED\tPATH")
	for _, i := range r.Interpreters {
		used := "yes"
		if i.Unusable != "" {
			used = "NO: " + i.Unusable
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", i.Language, i.Version, used, i.Path)
	}
	return t.Flush()
}
