package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
)

// DefaultEndpoint is where the verbs look for a platform when neither --endpoint nor the environment names one: the
// default of `thaw up --listen`.
const DefaultEndpoint = "http://127.0.0.1:4566"

// Streams are the three standard streams of one run of the program.
type Streams struct {
	In  io.Reader
	Out io.Writer
	Err io.Writer
	// Terminal says that Err is a terminal: progress is drawn on it.
	Terminal bool
}

// UpOptions is what `thaw up` was told. An empty string means that the flag was not given, so that the configuration
// file or the embedded default decides.
type UpOptions struct {
	Listen     string    // host:port of the one listener
	Data       string    // directory that holds everything
	Config     string    // path of a YAML file
	Durability string    // what an acknowledged write survives: process or fsync; empty: as configured
	JSON       bool      // log as JSON lines
	Log        io.Writer // where the platform logs
}

// Deps is what the program needs from the outside besides its streams.
type Deps struct {
	// Up runs the platform until ctx ends. An *Error that it returns is shown as it is.
	Up func(ctx context.Context, options UpOptions) error
	// Doctor looks at this machine.
	Doctor func(ctx context.Context) (Report, error)
	// Credentials gives the access key that a platform with the data directory data made for itself; "" as data means
	// the default directory. Empty answers mean that there is none; nil means the same.
	Credentials func(data string) (accessKey, secretKey string, err error)
	// Version is the build's version, as `git describe` says it.
	Version string
	// Getenv is os.Getenv, or a test's; nil means an empty environment.
	Getenv func(name string) string
}

// program is one run of the command line.
type program struct {
	io       Streams
	deps     Deps
	endpoint string // --endpoint
	json     bool   // --json
	parsed   bool   // the command line was understood; what fails from here on is not its usage
}

// Run runs one command line, without the program's name, and returns the exit code: one of the Exit constants.
func Run(ctx context.Context, args []string, io Streams, deps Deps) (exit int) {
	if deps.Getenv == nil {
		deps.Getenv = func(string) string { return "" }
	}
	p := &program{io: io, deps: deps}
	root := p.root()
	root.SetArgs(args)
	root.SetIn(io.In)
	root.SetOut(io.Out)
	root.SetErr(io.Err)
	cmd, err := root.ExecuteContextC(ctx)
	return p.report(p.classify(ctx, cmd, err))
}

func (p *program) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "thaw",
		Short: "A self-hosted serverless platform that speaks the AWS Lambda API",
		Long: `thaw runs AWS Lambda functions on your own machine and explains what every start cost.

Exit codes:
  0    it worked
  1    the function failed, or the platform refused the request
  2    the command line or a file named on it is wrong
  3    the platform cannot be reached
  4    there is no such function or queue
  5    the platform did not finish in time
  130  interrupted`,
		Example:       "  thaw up\n  thaw deploy examples/python-echo\n  thaw invoke python-echo --payload '{\"n\":1}' --explain",
		SilenceErrors: true,
		SilenceUsage:  true,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			p.parsed = true
			if p.json && cmd.HasParent() && cmd.Parent().Name() == "completion" {
				return usage("completion scripts have no JSON form", "thaw completion "+cmd.Name())
			}
			return nil
		},
	}
	flags := root.PersistentFlags()
	flags.StringVar(&p.endpoint, "endpoint", "", "URL of the platform (default: THAW_ENDPOINT, AWS_ENDPOINT_URL, else "+DefaultEndpoint+")")
	flags.BoolVar(&p.json, "json", false, "write JSON with a version member")
	root.AddCommand(
		p.up(), p.deploy(), p.invoke(), p.explain(), p.get(), p.list(), p.top(), p.logs(), p.delete(),
		p.queue(), p.events(), p.alarms(), p.doctor(), p.env(), p.bench(), p.version(),
	)
	return root
}

// classify turns whatever a verb or cobra returned into an *Error, or nil.
func (p *program) classify(ctx context.Context, cmd *cobra.Command, err error) *Error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	if ctx.Err() != nil {
		return &Error{What: "interrupted", Exit: ExitInterrupted, Err: err}
	}
	if !p.parsed {
		return usage(strings.TrimSpace(err.Error()), cmd.CommandPath()+" --help")
	}
	return &Error{What: err.Error(), Exit: ExitFailed, Err: err}
}

// oneArgument is the check of a verb that takes exactly one argument, what being what it names.
func oneArgument(what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == 1 {
			return nil
		}
		return usage(fmt.Sprintf("%s takes %s and nothing else, but was given %d arguments", cmd.CommandPath(), what, len(args)), cmd.CommandPath()+" --help")
	}
}
