package cli

import (
	"errors"

	"github.com/spf13/cobra"
)

func (p *program) up() *cobra.Command {
	var options UpOptions
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Run the platform until interrupted",
		Long: `Run the platform in the foreground: one listener for the Lambda API and everything else.
It stops on SIGINT and SIGTERM, and leaves nothing behind. Settings that are not given as flags come from
the file named by --config, and from the embedded defaults otherwise.`,
		Example: "  thaw up\n  thaw up --listen 127.0.0.1:4566 --data /var/lib/thaw",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if p.endpoint != "" {
				return usage("thaw up starts a platform and has no --endpoint", "thaw up --listen HOST:PORT")
			}
			options.JSON, options.Log = p.json, p.io.Err
			if p.deps.Up == nil {
				return &Error{What: "this build cannot run the platform", Exit: ExitFailed}
			}
			err := p.deps.Up(cmd.Context(), options)
			if err == nil {
				return nil
			}
			if e, ok := errors.AsType[*Error](err); ok {
				return e
			}
			return &Error{What: "the platform stopped", Why: err.Error(), Exit: ExitFailed, Err: err}
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&options.Listen, "listen", "", "`host:port` to listen on (default 127.0.0.1:4566)")
	flags.StringVar(&options.Data, "data", "", "`directory` that holds everything")
	flags.StringVar(&options.Durability, "durability", "", "what acknowledged writes survive, `process|fsync`: the end of the process, or a power cut too (default process)")
	flags.StringVar(&options.Config, "config", "", "YAML `file` with further settings")
	return cmd
}
