package cli

import (
	"fmt"
	"runtime"

	"github.com/spf13/cobra"
)

type versionJSON struct {
	Version  int    `json:"version"`
	Thaw     string `json:"thaw"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

func (p *program) version() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Say which build this is",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			v := versionJSON{Version: jsonVersion, Thaw: p.deps.Version, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
			if p.json {
				p.writeJSON(p.io.Out, &v)
				return nil
			}
			fmt.Fprintf(p.io.Out, "thaw %s (%s, %s)\n", v.Thaw, v.Go, v.Platform)
			return nil
		},
	}
}
