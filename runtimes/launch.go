package runtimes

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
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

// bootstrapFiles are what /var/runtime holds for each language; the first is the program, and native is not among them.
var bootstrapFiles = map[string][]string{
	"python": {"bootstrap.py", "park.py", "init_profile.py", "snapshot_restore_py.py"},
	"nodejs": {"bootstrap.js", "park.js", "profile.js"},
	"ruby":   {"bootstrap.rb", "park.rb", "profile.rb"},
}

// nativeFile is native/fork.c's object in /var/runtime.
const nativeFile = "fork.so"

// Bind is a host directory or file that an environment needs, read-only, at Target.
type Bind struct {
	Source string
	Target string
}

// Launch is how one function version's runtime is started in an environment.
type Launch struct {
	// Args is the command; Args[0] is an absolute path inside the environment.
	Args []string
	// TemplateArgs is the command of an environment that shall become a template; nil for a runtime that cannot be forked.
	TemplateArgs []string
	// ProfileArgs, after Args or TemplateArgs, have the bootstrap measure init; nil where it cannot.
	ProfileArgs []string
	// ArchiveArgs is the command of an environment that makes the version's class-data archive, which spares its later
	// starts the parsing and checking of classes; nil for a runtime without such archives, which are all but Java 13 and
	// later. It takes events like any other, and every class that is loaded until the host's side of its channel is shut
	// for writing goes into the archive. It then writes the archive to the channel and ends with status 0. It needs some
	// hundred milliseconds more than a start, and memory of several times the archive's size.
	ArchiveArgs []string
	// Archive is the file on the host in which the version's archive is kept, empty where ArchiveArgs is nil. A Launch that
	// finds it there uses it; the JVM leaves one that does not fit aside without a word.
	Archive string
	// Wrapper is the program that starts the runtime's, from AWS_LAMBDA_EXEC_WRAPPER, and is in Args; empty where there is none.
	Wrapper string
	// Env holds the runtime's own variables, which Environ takes as defaults.
	Env []string
	// Binds come on top of the host's /usr and the function's code.
	Binds []Bind
	// Channel asks for the socketpair at descriptor 3 (see NewFrames), RuntimeAPI for the HTTP listener (see ServeAPI).
	// One of them is true.
	Channel, RuntimeAPI bool
	// Version is what INIT_START shows: "python:3.11.2", "provided:al2023".
	Version string
	// Extensions are the names of the files in /opt/extensions, sorted, which Launcher starts before Args; extensions.BindOpt
	// fills both in.
	Extensions []string
	// Launcher is the program on the host that starts the extensions; set where there are some.
	Launcher string
}

// Launch says how to start the version's runtime, whose unpacked code is in codeDir and whose layers are in optDir, empty where
// it has none. A runtime that this host cannot
// run is the *thaw.Error of Check; code without the executable that the runtime needs is a *thaw.FunctionError of type
// Runtime.InvalidEntrypoint, whose Payload is the message alone, and the Launch then has the Version only. The first
// Launch of an interpreter prepares its bootstrap, which takes tens of milliseconds, and which the end of ctx ends; the
// later ones cost a few stats.
func (r *Registry) Launch(ctx context.Context, v *thaw.Version, codeDir, optDir string) (*Launch, error) {
	id, err := r.resolve(v.Runtime)
	if err != nil {
		return nil, err
	}
	if id.language == "provided" || id.language == "go" {
		return launchBinary(v, id, codeDir, optDir)
	}
	interpreter, err := r.choose(id)
	if err != nil {
		return nil, err
	}
	l, err := r.launchManaged(ctx, v, id, interpreter, codeDir)
	if err == nil {
		wrap(l, v)
	}
	return l, err
}

// launchManaged is Launch for runtimes whose program is the host's.
func (r *Registry) launchManaged(ctx context.Context, v *thaw.Version, id identifier, interpreter *Interpreter, codeDir string) (*Launch, error) {
	switch id.language {
	case "java":
		return r.launchJava(ctx, v, interpreter)
	case "dotnet":
		return launchDotnet(v, id, interpreter, codeDir)
	}
	runtimeDir, err := r.prepare(ctx, interpreter)
	if err != nil {
		return nil, fmt.Errorf("runtimes: prepare the bootstrap of %s: %w", interpreter.Path, err)
	}
	l := &Launch{
		Env:     id.environ(interpreter),
		Binds:   []Bind{{runtimeDir, RuntimeDir}},
		Channel: true,
		Version: id.language + ":" + interpreter.Version,

		ProfileArgs: []string{profileOption},
	}
	if interpreter.Prefix != "" {
		l.Binds = append(l.Binds, Bind{interpreter.Prefix, interpreter.Prefix})
	}
	l.Args = append([]string{interpreter.Path}, commandLine(id.language, v.MemorySize)...)
	l.TemplateArgs = append([]string{interpreter.Path}, templateCommandLine(id.language, v.MemorySize)...)
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

// templateCommandLine is what follows the interpreter's path when it shall be forked.
func templateCommandLine(language string, memoryMB int) []string {
	args := commandLine(language, memoryMB)
	switch language {
	case "nodejs":
		// V8 has no other threads then, which a fork would not copy, and whose work the copies would wait for.
		return append(append([]string{"--single-threaded"}, args...), "--template")
	case "python":
		return append(args, "--template")
	}
	return args
}

// optRoot is where an environment has its layers.
const optRoot = "/opt"

// launchBinary is for runtimes whose program comes with the code, or in a layer.
func launchBinary(v *thaw.Version, id identifier, codeDir, optDir string) (*Launch, error) {
	name := "bootstrap"
	if id.language == "go" {
		name = v.Handler
	}
	target, dir := filepath.Join(TaskRoot, name), codeDir
	version := id.language + ":" + id.version
	failed := &Launch{Version: version}
	if !filepath.IsLocal(name) {
		return failed, invalidEntrypoint("The handler %q is not a path within the code.", name)
	}
	info, err := os.Stat(filepath.Join(dir, name))
	if err != nil && id.language == "provided" && optDir != "" {
		target, dir = filepath.Join(optRoot, name), optDir
		info, err = os.Stat(filepath.Join(dir, name))
	}
	switch {
	case err != nil && id.language == "go":
		return failed, invalidEntrypoint("fork/exec %s: no such file or directory", target)
	case err != nil:
		return failed, invalidEntrypoint("Couldn't find valid bootstrap(s): [%s %s]", filepath.Join(TaskRoot, name), filepath.Join(optRoot, name))
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
func (r *Registry) prepare(ctx context.Context, in *Interpreter) (string, error) {
	r.preparing.Lock()
	defer r.preparing.Unlock()
	if dir, ok := r.prepared[in.Path]; ok {
		return dir, nil
	}
	files := map[string][]byte{nativeFile: nativeObject}
	for _, name := range bootstrapFiles[in.Language] {
		source, err := fs.ReadFile(bootstraps, "bootstrap/"+name)
		if err != nil {
			return "", err
		}
		files[name] = source
	}
	sum := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(files)) {
		fmt.Fprintf(sum, "%s\x00%d\x00%s", name, len(files[name]), files[name])
	}
	fmt.Fprintf(sum, "%s\x00%s", in.Path, in.Version)
	dir := filepath.Join(r.cfg.Dir, in.Language+"-"+in.Version+"-"+hex.EncodeToString(sum.Sum(nil)[:6]))
	if !isDir(dir) {
		if err := makeRuntimeDir(ctx, in, dir, files); err != nil {
			return "", err
		}
	}
	r.prepared[in.Path] = dir
	return dir, nil
}

// makeRuntimeDir fills a folder beside dir and then gives it its name, so that dir is whole or absent.
func makeRuntimeDir(ctx context.Context, in *Interpreter, dir string, files map[string][]byte) (err error) {
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
	for name, content := range files {
		file := filepath.Join(fresh, name)
		if err := os.WriteFile(file, content, 0o644); err != nil {
			return err
		}
		switch {
		case filepath.Ext(name) == ".py":
			err = compilePython(ctx, in.Path, file)
		case name == rubyProfile:
			err = compileRuby(ctx, in.Path, file)
		}
		if err != nil {
			return err
		}
	}
	if err := os.Rename(fresh, dir); err != nil && !isDir(dir) {
		return err
	}
	return nil
}

// rubyProfile is what measures Ruby's init: small, and in most starts, so that compiling it there would be most of what it costs.
const rubyProfile = "profile.rb"

// compileRuby writes file's bytecode beside it, as file.bin. Traces show its lines as Ruby's own.
func compileRuby(ctx context.Context, interpreter, file string) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	const program = `code = RubyVM::InstructionSequence.compile(File.read(ARGV[0], encoding: "UTF-8"), "<internal:#{ARGV[1]}>")
File.binwrite(ARGV[0] + ".bin", code.to_binary)`
	out, err := exec.CommandContext(ctx, interpreter, "--disable-gems", "-e", program, file, RuntimeDir+"/"+filepath.Base(file)).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, strings.TrimSpace(string(out)))
	}
	return os.Chmod(file+".bin", 0o644)
}

// compilePython writes file's bytecode beside it, to be run as it is: environments have it on a read-only mount, and
// compiling at each start would cost more than the rest of the bootstrap.
func compilePython(ctx context.Context, interpreter, file string) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	const program = `import py_compile, sys
py_compile.compile(sys.argv[1], cfile=sys.argv[1] + "c", dfile=sys.argv[2], doraise=True,
                   invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)`
	out, err := exec.CommandContext(ctx, interpreter, "-I", "-S", "-c", program, file, RuntimeDir+"/"+filepath.Base(file)).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, strings.TrimSpace(string(out)))
	}
	return os.Chmod(file+"c", 0o644)
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}
