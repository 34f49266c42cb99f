package cli

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

type envJSON struct {
	Version   int               `json:"version"`
	Variables map[string]string `json:"variables"`
}

// envNames are the variables that AWS's clients read, in the order in which they are printed.
var envNames = []string{"AWS_ENDPOINT_URL", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}

func (p *program) env() *cobra.Command {
	var unset bool
	var key, secret, data string
	cmd := &cobra.Command{
		Use:   "env",
		Short: "Print the exports that point AWS clients at the platform",
		Long: `Print shell exports that point the AWS CLI and every AWS SDK at the platform. The region is the platform's own when it
runs. The credentials are those given by flags, else the pair that the platform made for itself if its data directory is on this
machine, else a stand-in, which every platform takes that does not check signatures. Those of the surrounding shell are
never printed.`,
		Example: "  eval \"$(thaw env)\"\n  eval \"$(thaw env --unset)\"",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if unset {
				if p.json {
					return usage("--unset prints shell commands and has no JSON form", "thaw env --unset")
				}
				fmt.Fprintf(p.io.Out, "unset %s\n", strings.Join(envNames, " "))
				return nil
			}
			if (key == "") != (secret == "") {
				return usage("--access-key and --secret-key belong together", "thaw env --access-key ID --secret-key KEY")
			}
			if key == "" {
				var err error
				if key, secret, err = p.ownCredentials(data); err != nil {
					return err
				}
			}
			c, err := p.connect(1)
			if err != nil {
				return err
			}
			defer c.close()
			region := defaultRegion
			ctx, cancel := context.WithTimeout(cmd.Context(), 2*time.Second)
			defer cancel()
			if h, err := c.health(ctx); err == nil {
				region = first(h.Region, region)
			} else {
				fmt.Fprintf(p.io.Err, "note: no platform answers at %s yet\n  next: thaw up\n", p.target())
			}
			values := map[string]string{
				"AWS_ENDPOINT_URL": p.target(), "AWS_REGION": region, "AWS_DEFAULT_REGION": region,
				"AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": secret,
			}
			if p.json {
				p.writeJSON(p.io.Out, &envJSON{Version: jsonVersion, Variables: values})
				return nil
			}
			for _, name := range envNames {
				fmt.Fprintf(p.io.Out, "export %s=%s\n", name, shellQuote(values[name]))
			}
			return nil
		},
	}
	flags := cmd.Flags()
	flags.BoolVar(&unset, "unset", false, "print the command that undoes the exports")
	flags.StringVar(&key, "access-key", "", "access key `id` to print")
	flags.StringVar(&secret, "secret-key", "", "secret access `key` to print")
	flags.StringVar(&data, "data", "", "data `directory` of the platform whose own credentials are printed (default: as for thaw up)")
	return cmd
}

// ownCredentials are the platform's own, or the stand-in.
func (p *program) ownCredentials(data string) (key, secret string, err error) {
	if p.deps.Credentials != nil {
		key, secret, err = p.deps.Credentials(data)
	}
	if err != nil {
		return "", "", &Error{
			What: "cannot read the platform's credentials", Why: err.Error(),
			Next: "thaw env --access-key ID --secret-key KEY", Exit: ExitFailed, Err: err,
		}
	}
	if key == "" && data != "" {
		return "", "", &Error{
			What: "no credentials in " + data, Why: "no platform has run with this data directory, or its configuration names the keys",
			Next: "thaw env --access-key ID --secret-key KEY", Exit: ExitUsage,
		}
	}
	return first(key, defaultKey), first(secret, defaultSecret), nil
}

// shellQuote makes s one word of a POSIX shell, whatever is in it.
func shellQuote(s string) string {
	plain := s != "" && strings.IndexFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("-_./:@%+=,", r)
	}) < 0
	if plain {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
