package platform

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"thaw/cli"
)

// Example is a function under bin/examples with what is needed to run it, and to start the same without a platform.
type Example struct {
	Name    string
	Dir     string
	Runtime string
	Handler string
	Memory  int      // MB
	Plain   []string // the same interpreter with the same imports, or the binary alone, without a platform; run in Dir
	Words   string   // Plain as a person would type it
}

// Interpreter picks the interpreter of a language that examples use: one below /usr where there is one, because that is
// where Debian's boto3 belongs, else the first that the platform names.
func Interpreter(report *cli.Report, language string) (cli.Interpreter, error) {
	usable := slices.DeleteFunc(slices.Clone(report.Interpreters), func(i cli.Interpreter) bool {
		return i.Language != language || i.Unusable != ""
	})
	if len(usable) == 0 {
		return cli.Interpreter{}, fmt.Errorf("thaw doctor finds no %s on this machine", language)
	}
	for _, i := range usable {
		if strings.HasPrefix(i.Path, "/usr/bin/") {
			return i, nil
		}
	}
	return usable[0], nil
}

// Examples are all examples, built into root by scripts/examples.sh.
func Examples(report *cli.Report, root string) ([]Example, error) {
	python, err := Interpreter(report, "python")
	if err != nil {
		return nil, err
	}
	node, err := Interpreter(report, "nodejs")
	if err != nil {
		return nil, err
	}
	parts := strings.SplitN(python.Version, ".", 3)
	pythonID := "python" + strings.Join(parts[:min(2, len(parts))], ".")
	major, _, _ := strings.Cut(node.Version, ".")
	nodeID := "nodejs" + major + ".x"
	examples := []Example{
		{Name: "python-boto3", Runtime: pythonID, Handler: "app.handler", Memory: 512, Plain: []string{python.Path, "-B", "-c", "import app"}, Words: "python3 -c 'import app'"},
		{Name: "node-npm", Runtime: nodeID, Handler: "index.handler", Memory: 512, Plain: []string{node.Path, "index.mjs"}, Words: "node index.mjs"},
		{Name: "go-lambda", Runtime: "provided.al2023", Handler: "bootstrap", Memory: 512, Plain: []string{"./bootstrap"}, Words: "./bootstrap (exec only)"},
		{Name: "python-echo", Runtime: pythonID, Handler: "app.handler", Memory: 1769, Plain: []string{python.Path, "-B", "-c", "import app"}, Words: "python3 -c 'import app'"},
		{Name: "node-echo", Runtime: nodeID, Handler: "index.handler", Memory: 1769, Plain: []string{node.Path, "index.js"}, Words: "node index.js"},
	}
	examples = append(examples,
		Example{Name: "python-numpy", Runtime: pythonID, Handler: "app.handler", Memory: 512, Plain: []string{python.Path, "-B", "-c", "import app"}, Words: "python3 -c 'import app'"},
		Example{Name: "node-s3", Runtime: nodeID, Handler: "index.handler", Memory: 512, Plain: []string{node.Path, "index.mjs"}, Words: "node index.mjs"})
	if java, err := Interpreter(report, "java"); err == nil {
		major, _, _ := strings.Cut(java.Version, ".")
		examples = append(examples, Example{
			Name: "java-hello", Runtime: "java" + major, Handler: "example.Hello::handle", Memory: 512,
			Plain: []string{java.Path, "-cp", ".", "example.Hello"}, Words: "java -cp . example.Hello (which has no main)",
		}, Example{
			Name: "java-gson", Runtime: "java" + major, Handler: "example.Order::handle", Memory: 512,
			Plain: []string{java.Path, "-cp", ".:lib/gson.jar", "example.Order"}, Words: "java -cp .:lib/gson.jar example.Order",
		})
	}
	if ruby, err := Interpreter(report, "ruby"); err == nil {
		examples = append(examples, Example{
			Name: "ruby-echo", Runtime: rubyID(ruby.Version), Handler: "lambda_function.handler", Memory: 1769,
			Plain: []string{ruby.Path, "-r", "./lambda_function", "-e", ""}, Words: "ruby -r ./lambda_function -e ''",
		})
	}
	examples = append(examples, Example{Name: "rust-hello", Runtime: "provided.al2023", Handler: "bootstrap", Memory: 512, Plain: []string{"./bootstrap"}, Words: "./bootstrap (exec only)"})
	for i := range examples {
		examples[i].Dir = filepath.Join(root, examples[i].Name)
	}
	// scripts/examples.sh leaves out what this machine has no compiler for.
	return slices.DeleteFunc(examples, func(e Example) bool { _, err := os.Stat(e.Dir); return err != nil }), nil
}

// rubyID is AWS's identifier for a version of Ruby, or the nearest where it has none: that needs runtimes.nearest.
func rubyID(version string) string {
	parts := strings.SplitN(version, ".", 3)
	minor := strings.Join(parts[:min(2, len(parts))], ".")
	if minor == "3.0" || minor == "3.1" {
		minor = "3.2"
	}
	return "ruby" + minor
}

// Deploy puts the example in force.
func (p *Platform) Deploy(ctx context.Context, e *Example) error {
	return p.Run(ctx, nil, "deploy", e.Dir, "--name", e.Name, "--runtime", e.Runtime, "--handler", e.Handler,
		"--memory", fmt.Sprint(e.Memory), "--timeout", "30")
}

// endsByItself says that the plain command ends with an error status, which is not one here: a binary misses the variables
// of a Lambda environment, and a Java handler has no main.
func (e *Example) endsByItself() bool {
	return e.Runtime == "provided.al2023" || strings.HasPrefix(e.Runtime, "java")
}

// PlainStart is the median of runs plain starts.
func (e *Example) PlainStart(ctx context.Context, runs int) (time.Duration, error) {
	return Median(runs, func() (time.Duration, error) { return e.StartPlain(ctx) })
}

// StartPlain is the time from starting the example's plain command to its end.
func (e *Example) StartPlain(ctx context.Context) (time.Duration, error) {
	cmd := exec.CommandContext(ctx, e.Plain[0], e.Plain[1:]...)
	cmd.Dir = e.Dir
	begin := time.Now()
	err := cmd.Run()
	took := time.Since(begin)
	if _, exited := errors.AsType[*exec.ExitError](err); err != nil && (!exited || !e.endsByItself()) {
		return 0, fmt.Errorf("%s: %w", strings.Join(e.Plain, " "), err)
	}
	return took, ctx.Err()
}

// Median runs measure runs times, once more before to warm caches, and gives the median.
func Median(runs int, measure func() (time.Duration, error)) (time.Duration, error) {
	if _, err := measure(); err != nil {
		return 0, err
	}
	took := make([]time.Duration, runs)
	for i := range took {
		var err error
		if took[i], err = measure(); err != nil {
			return 0, err
		}
	}
	slices.Sort(took)
	return took[runs/2], nil
}
