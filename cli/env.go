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
	var key, secret string
	cmd := &cobra.Command{
		Use:   "env",
		Short: "Print the exports that point AWS clients at the platform",
		Long: `Print shell exports that point the AWS CLI and every AWS SDK at the platform. The region is the platform's own when it
runs. Credentials of the surrounding shell are never printed: a platform that checks signatures needs --access-key and
--secret-key, any other takes the ones printed by default.`,
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
	flags.StringVar(&key, "access-key", defaultKey, "access key `id` to print")
	flags.StringVar(&secret, "secret-key", defaultSecret, "secret access `key` to print")
	return cmd
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
