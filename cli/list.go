package cli

import (
	"context"
	"fmt"
	"text/tabwriter"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/spf13/cobra"
)

type listJSON struct {
	Version   int            `json:"version"`
	Functions []functionJSON `json:"functions"`
}

// functionJSON is a function as every verb shows it.
type functionJSON struct {
	Name         string `json:"name"`
	ARN          string `json:"arn"`
	Runtime      string `json:"runtime"`
	Handler      string `json:"handler,omitempty"`
	MemorySize   int32  `json:"memory_mb"`
	Timeout      int32  `json:"timeout_s"`
	CodeSize     int64  `json:"code_bytes"`
	CodeSHA256   string `json:"code_sha256"`
	LastModified string `json:"last_modified"`
	State        string `json:"state"`
	StateReason  string `json:"state_reason,omitempty"`
	Update       string `json:"last_update_status,omitempty"`
	UpdateReason string `json:"last_update_reason,omitempty"`
}

func describe(c *types.FunctionConfiguration) functionJSON {
	return functionJSON{
		Name:         aws.ToString(c.FunctionName),
		ARN:          aws.ToString(c.FunctionArn),
		Runtime:      string(c.Runtime),
		Handler:      aws.ToString(c.Handler),
		MemorySize:   aws.ToInt32(c.MemorySize),
		Timeout:      aws.ToInt32(c.Timeout),
		CodeSize:     c.CodeSize,
		CodeSHA256:   aws.ToString(c.CodeSha256),
		LastModified: aws.ToString(c.LastModified),
		State:        string(c.State),
		StateReason:  aws.ToString(c.StateReason),
		Update:       string(c.LastUpdateStatus),
		UpdateReason: aws.ToString(c.LastUpdateStatusReason),
	}
}

func (p *program) list() *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List the functions",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			var functions []functionJSON
			err := p.talk("listing", func(c *client) (err error) {
				functions, err = listAll(ctx, c)
				return err
			}, func(err error) *Error { return p.remote(ctx, "cannot list the functions", "", err) })
			if err != nil {
				return err
			}
			if p.json {
				p.writeJSON(p.io.Out, &listJSON{Version: jsonVersion, Functions: functions})
				return nil
			}
			if len(functions) == 0 {
				fmt.Fprintf(p.io.Err, "no functions yet\n  next: thaw deploy DIR\n")
				return nil
			}
			t := tabwriter.NewWriter(p.io.Out, 0, 0, 2, ' ', 0)
			fmt.Fprintln(t, "NAME\tRUNTIME\tHANDLER\tMEMORY\tTIMEOUT\tCODE\tSTATE\tMODIFIED")
			for i := range functions {
				f := &functions[i]
				fmt.Fprintf(t, "%s\t%s\t%s\t%d MB\t%d s\t%s\t%s\t%s\n",
					f.Name, f.Runtime, f.Handler, f.MemorySize, f.Timeout, bytesText(f.CodeSize), f.condition(), f.LastModified)
			}
			return t.Flush()
		},
	}
}

func listAll(ctx context.Context, c *client) ([]functionJSON, error) {
	functions := []functionJSON{}
	pages := lambda.NewListFunctionsPaginator(c, &lambda.ListFunctionsInput{})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		for i := range page.Functions {
			functions = append(functions, describe(&page.Functions[i]))
		}
	}
	return functions, nil
}

// condition is the state in one word, or two while an update is not in force.
func (f *functionJSON) condition() string {
	switch {
	case f.State == "":
		return "Active" // AWS leaves the state out of a list
	case f.Update != "" && f.Update != string(types.LastUpdateStatusSuccessful):
		return f.State + ", update " + f.Update
	default:
		return f.State
	}
}

// bytesText writes a size in the unit that keeps it short.
func bytesText(n int64) string {
	switch {
	case n < 1<<10:
		return fmt.Sprintf("%d B", n)
	case n < 1<<20:
		return fmt.Sprintf("%.1f kB", float64(n)/(1<<10))
	case n < 10<<30:
		return fmt.Sprintf("%.1f MB", float64(n)/(1<<20))
	default:
		return fmt.Sprintf("%.1f GB", float64(n)/(1<<30))
	}
}
