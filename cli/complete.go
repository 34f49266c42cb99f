package cli

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// complete completes the first argument with what list gives, names with or without a description behind a tab, by asking
// the platform. A shell that waits for a completion must not wait long, and must not see errors: without an answer there is
// nothing to complete.
func (p *program) complete(cmd *cobra.Command, args []string, prefix string, list func(context.Context, *client) ([]string, error)) ([]string, cobra.ShellCompDirective) {
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
	names, err := list(ctx, c)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	names = slices.DeleteFunc(names, func(name string) bool { return !strings.HasPrefix(name, prefix) })
	return names, cobra.ShellCompDirectiveNoFileComp
}

// completeFunction completes a function's name.
func (p *program) completeFunction(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
	return p.complete(cmd, args, prefix, func(ctx context.Context, c *client) (names []string, err error) {
		functions, err := listAll(ctx, c)
		for i := range functions {
			names = append(names, functions[i].Name+"\t"+functions[i].Runtime)
		}
		return names, err
	})
}
