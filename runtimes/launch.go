package runtimes

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"thaw"
)

// Where an environment has the function's code and the bootstrap, as on AWS.
const (
	TaskRoot   = "/var/task"
	RuntimeDir = "/var/runtime"
)

//go:embed bootstrap
var bootstraps embed.FS

// Bind is a host directory or file that an environment needs, read-only, at Target.
type Bind struct {
	Source string
	Target string
}

// Launch is how one function version's runtime is started in an environment.
type Launch struct {
	// Args is the command; Args[0] is an absolute path inside the environment.
	Args []string
	// Env holds the runtime's own variables, which Environ takes as defaults.
	Env []string
	// Binds come on top of the host's /usr and the function's code.
	Binds []Bind
	// Channel asks for the socketpair at descriptor 3 (see NewFrames), RuntimeAPI for the HTTP listener (see ServeAPI).
	// One of them is true.
	Channel, RuntimeAPI bool
	// Version is what INIT_START shows: "python:3.11.2", "provided:al2023".
	Version string
}

// Launch says how to start the version's runtime, whose unpacked code is in codeDir. A runtime that this host cannot
// run is the *thaw.Error of Check; code without the executable that the runtime needs is a *thaw.FunctionError of type
// Runtime.InvalidEntrypoint, whose Payload is the message alone, and the Launch then has the Version only. The first Launch of an interpreter prepares its bootstrap, which takes tens of
// milliseconds; the later ones cost a few stats.
func (r *Registry) Launch(v *thaw.Version, codeDir string) (*Launch, error) {
	id, err := r.resolve(v.Runtime)
	if err != nil {
		return nil, err
	}
	if id.language == "provided" || id.language == "go" {
		return launchBinary(v, id, codeDir)
	}
	interpreter, err := r.choose(id)
	if err != nil {
		return nil, err
	}
	if id.language == "java" {
		return r.launchJava(v, interpreter)
	}
	runtimeDir, err := r.prepare(interpreter)
	if err != nil {
		return nil, fmt.Errorf("runtimes: prepare the bootstrap of %s: %w", interpreter.Path, err)
	}
	l := &Launch{
		Env:     id.environ(interpreter),
		Binds:   []Bind{{runtimeDir, RuntimeDir}},
		Channel: true,
		Version: id.language + ":" + interpreter.Version,
	}
	if interpreter.Prefix != "" {
		l.Binds = append(l.Binds, Bind{interpreter.Prefix, interpreter.Prefix})
	}
	l.Args = append([]string{interpreter.Path}, commandLine(id.language, v.MemorySize)...)
	return l, nil
}

// commandLine is what follows the interpreter's path.
func commandLine(language string, memoryMB int) []string {
	switch language {
	case "python":
		return []string{RuntimeDir + "/bootstrap.pyc"}
	case "nodejs":
		// V8 takes its limit from the host's memory otherwise. AWS leaves the same tenth for what is not heap.
		return []string{"--max-old-space-size=" + strconv.Itoa(memoryMB*9/10), "--max-http-header-size=81920", RuntimeDir + "/bootstrap.js"}
	default:
		// Loading RubyGems takes several times as long as starting Ruby; the bootstrap does it when something needs it.
		return []string{"--disable-gems", RuntimeDir + "/bootstrap.rb"}
	}
}

// launchBinary is for runtimes whose program comes with the code.
func launchBinary(v *thaw.Version, id identifier, codeDir string) (*Launch, error) {
	name := "bootstrap"
	if id.language == "go" {
		name = v.Handler
	}
	target := filepath.Join(TaskRoot, name)
	version := id.language + ":" + id.version
	failed := &Launch{Version: version}
	if !filepath.IsLocal(name) {
		return failed, invalidEntrypoint("The handler %q is not a path within the code.", name)
	}
	info, err := os.Stat(filepath.Join(codeDir, name))
	switch {
	case err != nil && id.language == "go":
		return failed, invalidEntrypoint("fork/exec %s: no such file or directory", target)
	case err != nil:
		return failed, invalidEntrypoint("Couldn't find valid bootstrap(s): [%s /opt/bootstrap]", target)
	case !info.Mode().IsRegular() || info.Mode()&0o111 == 0:
		return failed, invalidEntrypoint("fork/exec %s: permission denied", target)
	}
	return &Launch{Args: []string{target}, RuntimeAPI: true, Version: version}, nil
}

func invalidEntrypoint(format string, args ...any) error {
	return &thaw.FunctionError{Type: thaw.ErrorInvalidEntry, Payload: fmt.Appendf(nil, format, args...)}
}

// prepare makes the folder that becomes /var/runtime for an interpreter, once per interpreter version and content of
// the bootstrap, and returns its path.
func (r *Registry) prepare(in *Interpreter) (string, error) {
	r.preparing.Lock()
	defer r.preparing.Unlock()
	if dir, ok := r.prepared[in.Path]; ok {
		return dir, nil
	}
	name := bootstrapFile[in.Language]
	source, err := fs.ReadFile(bootstraps, "bootstrap/"+name)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(append(source, in.Path+"\x00"+in.Version...))
	dir := filepath.Join(r.cfg.Dir, in.Language+"-"+in.Version+"-"+hex.EncodeToString(sum[:6]))
	if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
		if err := makeRuntimeDir(in, dir, name, source); err != nil {
			return "", err
		}
	}
	r.prepared[in.Path] = dir
	return dir, nil
}

var bootstrapFile = map[string]string{"python": "bootstrap.py", "nodejs": "bootstrap.js", "ruby": "bootstrap.rb"}

// makeRuntimeDir fills a folder beside dir and then gives it its name, so that dir is whole or absent.
func makeRuntimeDir(in *Interpreter, dir, name string, source []byte) (err error) {
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return err
	}
	fresh, err := os.MkdirTemp(filepath.Dir(dir), ".new-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(fresh)
	if err := os.Chmod(fresh, 0o755); err != nil {
		return err
	}
	file := filepath.Join(fresh, name)
	if err := os.WriteFile(file, source, 0o644); err != nil {
		return err
	}
	if in.Language == "python" {
		if err := compilePython(in.Path, file); err != nil {
			return err
		}
	}
	if err := os.Rename(fresh, dir); err != nil && !isDir(dir) {
		return err
	}
	return nil
}

// compilePython writes file's bytecode beside it, to be run as it is: environments have it on a read-only mount, and
// compiling at each start would cost more than the rest of the bootstrap.
func compilePython(interpreter, file string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	const program = `import py_compile, sys
py_compile.compile(sys.argv[1], cfile=sys.argv[1] + "c", dfile=sys.argv[2], doraise=True,
                   invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)`
	out, err := exec.CommandContext(ctx, interpreter, "-I", "-S", "-c", program, file, RuntimeDir+"/bootstrap.py").CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, strings.TrimSpace(string(out)))
	}
	return os.Chmod(file+"c", 0o644)
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}
