package cli

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	smithyhttp "github.com/aws/smithy-go/transport/http"
	"github.com/spf13/cobra"

	"thaw"
)

type invokeFlags struct {
	payload   string
	qualifier string
	log       bool
	explain   bool
	async     bool
	cold      bool
}

type invokeJSON struct {
	Version         int             `json:"version"`
	Function        string          `json:"function"`
	ExecutedVersion string          `json:"executed_version,omitempty"`
	StatusCode      int32           `json:"status_code"`
	FunctionError   string          `json:"function_error,omitempty"`
	Payload         json.RawMessage `json:"payload,omitempty"`
	Log             string          `json:"log,omitempty"`
	Invocation      *invocation     `json:"invocation,omitempty"`
}

func (p *program) invoke() *cobra.Command {
	var f invokeFlags
	cmd := &cobra.Command{
		Use:   "invoke NAME",
		Short: "Invoke a function and print what it returns",
		Long: `Invoke a function and print its response to standard output. A function that fails prints its error object there,
the error's text goes to standard error, and the exit code is 1.`,
		Example:           "  thaw invoke hello --payload '{\"n\":1}'\n  thaw invoke hello --payload @event.json --explain\n  cat event.json | thaw invoke hello --payload - --log",
		Args:              oneArgument("a function's name"),
		ValidArgsFunction: p.completeFunction,
		RunE: func(cmd *cobra.Command, args []string) error {
			if f.async && (f.log || f.explain) {
				return usage("--async has no result yet when it returns, so --log and --explain have nothing to show",
					"thaw invoke "+args[0]+" --async, then: thaw logs "+args[0])
			}
			payload, err := p.readPayload(f.payload)
			if err != nil {
				return err
			}
			return p.runInvoke(cmd.Context(), args[0], payload, &f)
		},
	}
	flags := cmd.Flags()
	flags.StringVarP(&f.payload, "payload", "p", "", "the event: JSON, @FILE, or - for standard input (default {})")
	flags.StringVar(&f.qualifier, "qualifier", "", "version or alias")
	flags.BoolVar(&f.log, "log", false, "show the end of the invocation's log")
	flags.BoolVar(&f.explain, "explain", false, "show how the start came about and what each phase cost")
	flags.BoolVar(&f.async, "async", false, "queue the event and return")
	flags.BoolVar(&f.cold, "cold", false, "in a new environment, whatever is idle")
	return cmd
}

// readPayload reads the event that --payload names. Nothing given is an empty object: AWS's own tools send that too.
func (p *program) readPayload(arg string) ([]byte, error) {
	var payload []byte
	var err error
	switch {
	case arg == "":
		return []byte("{}"), nil
	case arg == "-":
		payload, err = io.ReadAll(io.LimitReader(p.io.In, thaw.MaxPayload+1))
	case strings.HasPrefix(arg, "@"):
		payload, err = readFile(arg[1:], thaw.MaxPayload)
	default:
		payload = []byte(arg)
	}
	if err != nil {
		return nil, &Error{What: "cannot read the payload", Why: err.Error(), Next: "thaw invoke NAME --payload @FILE", Exit: ExitUsage, Err: err}
	}
	if len(payload) > thaw.MaxPayload {
		return nil, &Error{What: "the payload is too large", Why: fmt.Sprintf("an invocation takes %d bytes", thaw.MaxPayload), Exit: ExitUsage}
	}
	if !json.Valid(payload) {
		return nil, &Error{What: "the payload is not JSON", Why: "it begins with " + quoteStart(payload), Next: `thaw invoke NAME --payload '{"key":"value"}'`, Exit: ExitUsage}
	}
	return payload, nil
}

// readFile reads at most limit+1 bytes, so that the caller sees that a file is larger than limit.
func readFile(path string, limit int64) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return io.ReadAll(io.LimitReader(file, limit+1))
}

func quoteStart(b []byte) string {
	if len(b) > 40 {
		return fmt.Sprintf("%.40q…", b)
	}
	return fmt.Sprintf("%q", b)
}

func (p *program) runInvoke(ctx context.Context, name string, payload []byte, f *invokeFlags) error {
	c, err := p.connect(1)
	if err != nil {
		return err
	}
	defer c.close()
	in := &lambda.InvokeInput{FunctionName: &name, Payload: payload}
	if f.qualifier != "" {
		in.Qualifier = &f.qualifier
	}
	if f.log {
		in.LogType = types.LogTypeTail
	}
	if f.async {
		in.InvocationType = types.InvocationTypeEvent
	}
	m := p.progress("invoking "+name, -1)
	out, err := c.Invoke(ctx, in, func(o *lambda.Options) {
		if f.explain || p.json {
			o.APIOptions = append(o.APIOptions, smithyhttp.SetHeaderValue(headerExplain, "true"))
		}
		if f.cold {
			o.APIOptions = append(o.APIOptions, smithyhttp.SetHeaderValue(headerStart, startForced))
		}
	})
	m.stop()
	if err != nil {
		return p.remote(ctx, "cannot invoke "+name, name, err)
	}
	return p.showInvoke(name, f, out)
}

func (p *program) showInvoke(name string, f *invokeFlags, out *lambda.InvokeOutput) error {
	var inv *invocation
	if resp, ok := awsmiddleware.GetRawResponse(out.ResultMetadata).(*smithyhttp.Response); ok {
		inv = parseInvocation(resp.Header)
	}
	log, err := base64.StdEncoding.DecodeString(aws.ToString(out.LogResult))
	if err != nil {
		return &Error{What: "cannot read the log of " + name, Why: "X-Amz-Log-Result is not base64", Exit: ExitFailed, Err: err}
	}
	switch {
	case p.json:
		doc := &invokeJSON{
			Version: jsonVersion, Function: name, ExecutedVersion: aws.ToString(out.ExecutedVersion), StatusCode: out.StatusCode,
			FunctionError: aws.ToString(out.FunctionError), Log: string(log), Invocation: inv,
		}
		if json.Valid(out.Payload) {
			doc.Payload = out.Payload
		}
		p.writeJSON(p.io.Out, doc)
	case f.async:
		fmt.Fprintf(p.io.Err, "queued\n  next: thaw logs %s -f\n", name)
	default:
		fmt.Fprintf(p.io.Out, "%s\n", out.Payload)
		if len(log) > 0 {
			fmt.Fprintf(p.io.Err, "%s\n", strings.TrimRight(string(log), "\n"))
		}
		if f.explain {
			if inv == nil {
				fmt.Fprintf(p.io.Err, "note: the platform at %s does not explain starts\n", p.target())
			} else {
				writeExplanation(p.io.Err, name, inv)
			}
		}
	}
	if out.FunctionError != nil {
		return functionFailure(name, out.Payload)
	}
	return nil
}

// functionFailure says in words what the error object of a failed function holds.
func functionFailure(name string, payload []byte) *Error {
	var object struct {
		Type    string `json:"errorType"`
		Message string `json:"errorMessage"`
		// Runtimes differ in what a trace is: Python's and Ruby's are lines, others have objects.
		Trace []json.RawMessage `json:"stackTrace"`
	}
	e := &Error{What: name + " failed", Next: "thaw logs " + name, Exit: ExitFailed, Err: errFunction}
	if json.Unmarshal(payload, &object) != nil {
		e.Why = "its error object is above"
		return e
	}
	e.Why = object.Message
	if object.Type != "" {
		e.Why = strings.TrimSuffix(object.Type+": "+object.Message, ": ")
	}
	if len(object.Trace) > 0 {
		var line string
		if json.Unmarshal(object.Trace[len(object.Trace)-1], &line) == nil {
			e.Why += "\n  " + strings.TrimSpace(line)
		}
	}
	return e
}

// errFunction is the cause of the *Error for a function that failed.
var errFunction = errors.New("function error")
