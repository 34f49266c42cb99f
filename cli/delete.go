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
			c, err := p.connect(1)
			if err != nil {
				return err
			}
			defer c.close()
			m := p.progress("deleting "+name, -1)
			_, err = c.DeleteFunction(ctx, &lambda.DeleteFunctionInput{FunctionName: &name})
			m.stop()
			if err != nil {
				return p.remote(ctx, "cannot delete "+name, name, err)
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
