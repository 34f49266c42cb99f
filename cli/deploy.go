package cli

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/spf13/cobra"

	"thaw"
)

type deployFlags struct {
	name    string
	runtime string
	handler string
	role    string
	memory  int32
	timeout int32
	env     []string
	wait    time.Duration
}

type deployJSON struct {
	Version  int          `json:"version"`
	Action   string       `json:"action"` // created, updated or unchanged
	Function functionJSON `json:"function"`
	// Template is absent where the platform is not thaw, or did not say.
	Template *templateView `json:"template,omitempty"`
}

func (p *program) deploy() *cobra.Command {
	var f deployFlags
	cmd := &cobra.Command{
		Use:   "deploy DIR|ZIP",
		Short: "Create a function, or give it new code, and wait until it is in force",
		Long: `Create a function from a directory or a zip file, or update the function of that name, wait until it is in force, and say
whether its starts are forked, and if not, why.

A directory is packed as it is, the same bytes for the same files, except for what ` + ignoreFile + ` in it names (one pattern a
line, # begins a comment, ! takes back in), version control, and __pycache__. Runtime and handler of a new function are
guessed from the files at the top: bootstrap, package.json and *.mjs, *.js, *.cjs, *.py, *.rb. An update changes only what flags
name, and the code.`,
		Example: "  thaw deploy examples/python-echo\n  thaw deploy build/hello.zip --name hello --runtime python3.11 --handler app.handler --env STAGE=dev",
		Args:    oneArgument("a directory or a zip file"),
		RunE: func(cmd *cobra.Command, args []string) error {
			d := &deployment{program: p, flags: &f, given: cmd.Flags().Changed, source: args[0]}
			return d.run(cmd.Context())
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.name, "name", "", "function name (default: the name of the directory or zip file)")
	flags.StringVar(&f.runtime, "runtime", "", "runtime identifier, such as python3.11, nodejs20.x, provided.al2023")
	flags.StringVar(&f.handler, "handler", "", "handler, such as app.handler")
	flags.StringVar(&f.role, "role", "", "ARN of the function's role (default: role/thaw in the platform's account)")
	flags.Int32Var(&f.memory, "memory", 128, "memory in `MB`")
	flags.Int32Var(&f.timeout, "timeout", 3, "timeout in `seconds`")
	flags.StringArrayVar(&f.env, "env", nil, "environment variable `KEY=VALUE`; may be repeated; replaces all variables of the function")
	flags.DurationVar(&f.wait, "wait", 5*time.Minute, "how long to wait until the function is in force")
	return cmd
}

// deployment is one run of the verb.
type deployment struct {
	*program
	flags  *deployFlags
	given  func(flag string) bool
	source string

	c        *client
	native   bool // the platform is thaw
	name     string
	zip      []byte
	guess    guess
	guessErr error
	env      map[string]string
	meter    *meter
}

func (d *deployment) run(ctx context.Context) error {
	env, err := parseEnv(d.flags.env)
	if err != nil {
		return err
	}
	d.env = env
	c, err := d.connect(1)
	if err != nil {
		return err
	}
	defer c.close()
	d.c = c
	d.meter = d.progress("deploying", -1)
	action, config, err := d.deployAll(ctx)
	d.meter.stop()
	if err != nil {
		return err
	}
	return d.show(action, config, d.template(ctx))
}

// template asks how the function's starts are made. The deployment is over and in force whatever comes of it.
func (d *deployment) template(ctx context.Context) *templateView {
	if !d.native {
		return nil
	}
	view, err := d.view(ctx, d.name)
	if err != nil {
		fmt.Fprintf(d.io.Err, "note: how its starts are made is not known: %v\n", err)
		return nil
	}
	return &view.Template
}

func (d *deployment) deployAll(ctx context.Context) (action string, _ *types.FunctionConfiguration, _ error) {
	h, err := d.c.health(ctx)
	if err != nil && !errors.Is(err, errNotThaw) {
		return "", nil, d.remote(ctx, "cannot deploy", "", err)
	}
	if d.native = h != nil; !d.native {
		h = &health{} // another Lambda API; the SDK's own calls tell whether it works
	}
	if err := d.load(h.Runtimes); err != nil {
		return "", nil, err
	}
	d.meter.relabel("deploying " + d.name)
	_, err = d.c.GetFunctionConfiguration(ctx, &lambda.GetFunctionConfigurationInput{FunctionName: &d.name})
	if _, missing := errors.AsType[*types.ResourceNotFoundException](err); missing {
		action, err = "created", d.create(ctx, h)
	} else if err == nil {
		action, err = d.update(ctx)
	}
	if err != nil {
		if _, ours := errors.AsType[*Error](err); ours {
			return "", nil, err
		}
		return "", nil, d.remote(ctx, "cannot deploy "+d.name, d.name, err)
	}
	config, err := d.await(ctx)
	return action, config, err
}

var notInName = regexp.MustCompile(`[^a-zA-Z0-9_-]+`)

// load reads the package and guesses from it.
func (d *deployment) load(runtimes []string) error {
	info, err := os.Stat(d.source)
	if err != nil {
		return &Error{What: "cannot read " + d.source, Why: err.Error(), Next: "thaw deploy DIR|ZIP", Exit: ExitUsage, Err: err}
	}
	abs, err := filepath.Abs(d.source)
	if err != nil {
		return err
	}
	d.name = d.flags.name
	if d.name == "" {
		d.name = strings.Trim(notInName.ReplaceAllString(strings.TrimSuffix(filepath.Base(abs), ".zip"), "-"), "-")
	}
	if d.name == "" {
		return usage("the directory's name makes no function name", "thaw deploy "+d.source+" --name NAME")
	}
	var files fs.FS
	if info.IsDir() {
		d.zip, err = pack(d.source)
		files = os.DirFS(d.source)
	} else {
		if d.zip, err = readFile(d.source, thaw.MaxZip); err == nil && len(d.zip) > thaw.MaxZip {
			err = errTooLarge
		}
		if err == nil {
			files, err = zip.NewReader(bytes.NewReader(d.zip), int64(len(d.zip)))
		}
	}
	if errors.Is(err, errTooLarge) {
		return &Error{
			What: d.source + " is too large", Why: fmt.Sprintf("a package may have %d MB packed and %d MB unpacked", thaw.MaxZip>>20, thaw.MaxUnzipped>>20),
			Next: "leave files out with a " + ignoreFile + " file", Exit: ExitUsage, Err: err,
		}
	}
	if err != nil {
		return &Error{What: "cannot pack " + d.source, Why: err.Error(), Exit: ExitUsage, Err: err}
	}
	d.guess, d.guessErr = guessFrom(files, runtimes)
	return nil
}

func (d *deployment) create(ctx context.Context, h *health) error {
	runtime, handler := first(d.flags.runtime, d.guess.Runtime), first(d.flags.handler, d.guess.Handler)
	if runtime == "" || handler == "" {
		return &Error{
			What: "cannot tell how to run " + d.source, Why: d.guessErr.Error(),
			Next: "thaw deploy " + d.source + " --runtime python3.11 --handler FILE.FUNCTION", Exit: ExitUsage, Err: d.guessErr,
		}
	}
	in := &lambda.CreateFunctionInput{
		FunctionName: &d.name,
		Runtime:      types.Runtime(runtime),
		Handler:      &handler,
		Role:         aws.String(first(d.flags.role, "arn:aws:iam::"+first(h.Account, "000000000000")+":role/thaw")),
		Code:         &types.FunctionCode{ZipFile: d.zip},
		MemorySize:   &d.flags.memory,
		Timeout:      &d.flags.timeout,
	}
	if len(d.env) > 0 {
		in.Environment = &types.Environment{Variables: d.env}
	}
	_, err := d.c.CreateFunction(ctx, in)
	return err
}

// update brings new code first and the configuration that flags name second, waiting between the two: a function takes
// one change at a time.
func (d *deployment) update(ctx context.Context) (action string, err error) {
	now, err := d.await(ctx)
	if err != nil {
		return "", err
	}
	action = "unchanged"
	sum := sha256.Sum256(d.zip)
	if aws.ToString(now.CodeSha256) != base64.StdEncoding.EncodeToString(sum[:]) {
		action = "updated"
		if _, err := d.c.UpdateFunctionCode(ctx, &lambda.UpdateFunctionCodeInput{FunctionName: &d.name, ZipFile: d.zip}); err != nil {
			return "", err
		}
	}
	in, changed := d.changes()
	if !changed {
		return action, nil
	}
	if _, err := d.await(ctx); err != nil {
		return "", err
	}
	_, err = d.c.UpdateFunctionConfiguration(ctx, in)
	return "updated", err
}

// changes is the configuration that flags name.
func (d *deployment) changes() (in *lambda.UpdateFunctionConfigurationInput, changed bool) {
	in = &lambda.UpdateFunctionConfigurationInput{FunctionName: &d.name}
	for flag, set := range map[string]func(){
		"runtime": func() { in.Runtime = types.Runtime(d.flags.runtime) },
		"handler": func() { in.Handler = &d.flags.handler },
		"role":    func() { in.Role = &d.flags.role },
		"memory":  func() { in.MemorySize = &d.flags.memory },
		"timeout": func() { in.Timeout = &d.flags.timeout },
		"env":     func() { in.Environment = &types.Environment{Variables: d.env} },
	} {
		if d.given(flag) {
			set()
			changed = true
		}
	}
	return in, changed
}

// await polls until the function is Active and its last update has ended.
func (d *deployment) await(ctx context.Context) (*types.FunctionConfiguration, error) {
	deadline := time.Now().Add(d.flags.wait)
	for pause := 10 * time.Millisecond; ; pause = min(2*pause, 500*time.Millisecond) {
		out, err := d.c.GetFunction(ctx, &lambda.GetFunctionInput{FunctionName: &d.name})
		if err != nil {
			return nil, d.remote(ctx, "cannot deploy "+d.name, d.name, err)
		}
		config := out.Configuration
		switch {
		case config.State == types.StateFailed:
			return nil, failedState(d.name, aws.ToString(config.StateReason))
		case config.State == types.StatePending || config.LastUpdateStatus == types.LastUpdateStatusInProgress:
		case config.LastUpdateStatus == types.LastUpdateStatusFailed:
			return nil, failedState(d.name, aws.ToString(config.LastUpdateStatusReason))
		default:
			return config, nil
		}
		d.meter.relabel(fmt.Sprintf("deploying %s: %s %s", d.name, config.State, config.LastUpdateStatus))
		if time.Now().After(deadline) {
			return nil, &Error{
				What: d.name + " is not in force yet", Why: fmt.Sprintf("it is still %s %s after %s", config.State, config.LastUpdateStatus, shortDuration(d.flags.wait)),
				Next: "thaw list", Exit: ExitTimeout,
			}
		}
		select {
		case <-ctx.Done():
			return nil, d.remote(ctx, "", "", ctx.Err())
		case <-time.After(pause):
		}
	}
}

func failedState(name, reason string) *Error {
	return &Error{What: name + " could not be put in force", Why: first(reason, "the platform gave no reason"), Next: "thaw logs " + name, Exit: ExitFailed}
}

// parseEnv reads KEY=VALUE pairs.
func parseEnv(pairs []string) (map[string]string, error) {
	env := make(map[string]string, len(pairs))
	for _, pair := range pairs {
		key, value, ok := strings.Cut(pair, "=")
		if !ok || key == "" {
			return nil, usage(fmt.Sprintf("--env %q has not the form KEY=VALUE", pair), "thaw deploy DIR --env STAGE=dev")
		}
		env[key] = value
	}
	return env, nil
}

func (d *deployment) show(action string, config *types.FunctionConfiguration, template *templateView) error {
	f := describe(config)
	if d.json {
		d.writeJSON(d.io.Out, &deployJSON{Version: jsonVersion, Action: action, Function: f, Template: template})
		return nil
	}
	fmt.Fprintf(d.io.Out, "%s %s\n", action, f.Name)
	fmt.Fprintf(d.io.Out, "  state    %s\n", f.condition())
	fmt.Fprintf(d.io.Out, "  runs     %s %s, %d MB, %d s\n", f.Runtime, f.Handler, f.MemorySize, f.Timeout)
	fmt.Fprintf(d.io.Out, "  code     %s, sha256 %s\n", bytesText(f.CodeSize), f.CodeSHA256)
	fmt.Fprintf(d.io.Out, "  arn      %s\n", f.ARN)
	if template != nil {
		d.writeTemplate("  starts   ", "           ", template)
	}
	if action != "created" && d.guessErr == nil && d.guess != (guess{Runtime: f.Runtime, Handler: f.Handler}) {
		fmt.Fprintf(d.io.Err, "note: the files look like %s with handler %s; --runtime and --handler change the function\n", d.guess.Runtime, d.guess.Handler)
	}
	fmt.Fprintf(d.io.Err, "  next: thaw invoke %s --explain\n", f.Name)
	return nil
}
