package cli

import (
	"fmt"

	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/spf13/cobra"
)

type deleteJSON struct {
	Version int    `json:"version"`
	Deleted string `json:"deleted"`
}

func (p *program) delete() *cobra.Command {
	return &cobra.Command{
		Use:               "delete NAME",
		Aliases:           []string{"rm"},
		Short:             "Delete a function with its code and environments",
		Args:              oneArgument("a function's name"),
		ValidArgsFunction: p.completeFunction,
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, name := cmd.Context(), args[0]
			err := p.talk("deleting "+name, func(c *client) error {
				_, err := c.DeleteFunction(ctx, &lambda.DeleteFunctionInput{FunctionName: &name})
				return err
			}, func(err error) *Error { return p.remote(ctx, "cannot delete "+name, name, err) })
			if err != nil {
				return err
			}
			if p.json {
				p.writeJSON(p.io.Out, &deleteJSON{Version: jsonVersion, Deleted: name})
				return nil
			}
			fmt.Fprintf(p.io.Out, "deleted %s\n", name)
			return nil
		},
	}
}
