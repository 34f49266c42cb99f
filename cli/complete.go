package cli

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// completeFunction completes a function's name by asking the platform. A shell that waits for a completion must not
// wait long, and must not see errors: without an answer there is nothing to complete.
func (p *program) completeFunction(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), time.Second)
	defer cancel()
	c, err := p.connect(1)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	defer c.close()
	functions, err := listAll(ctx, c)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var names []string
	for i := range functions {
		if strings.HasPrefix(functions[i].Name, prefix) {
			names = append(names, functions[i].Name+"\t"+functions[i].Runtime)
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
