package runtimes

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"thaw"
)

// Config is what Discover needs to know.
type Config struct {
	// Dir is the platform's own folder for prepared bootstraps and the cache of interpreter versions. It is made on
	// demand; environments must be able to read below it.
	Dir string
	// Nearest allows an identifier whose version is absent to be run by the nearest version of its language.
	Nearest bool
	// Extra are further folders in which to look for interpreters; each is looked at like a folder of PATH.
	Extra []string
	// Getenv gives PATH, HOME and what moves the version managers' folders; nil means that none of them is set.
	Getenv func(name string) string
}

// Interpreter is one language interpreter on the host.
type Interpreter struct {
	Language string `json:"language"` // python, nodejs, ruby, java or dotnet
	Version  string `json:"version"`  // as the interpreter says it: 3.11.2
	Path     string `json:"path"`     // the binary itself, without links
	// Prefix is what an environment needs bound besides the host's /usr, at the same place; empty within /usr.
	Prefix string `json:"prefix,omitempty"`
	// Unusable says why no function is run by it; empty when it can be used.
	Unusable string `json:"unusable,omitempty"`
}

// Registry knows the host's interpreters and prepares them. Its methods may be called from several goroutines.
type Registry struct {
	cfg          Config
	interpreters []Interpreter // sorted: language, version from new to old, /usr first

	preparing sync.Mutex
	prepared  map[string]string // by Interpreter.Path: the folder that becomes /var/runtime
}

// oldest is the first version of each language that its bootstrap supports.
var oldest = map[string]string{"python": "3.8", "nodejs": "14", "ruby": "2.7", "java": "8", "dotnet": "6"}

// executables are the file names under which interpreters are looked for. The prefix spares most files the pattern.
var executables = []struct {
	language, prefix string
	pattern          *regexp.Regexp
}{
	{"python", "python3", regexp.MustCompile(`^python3(\.\d+)?$`)},
	{"nodejs", "node", regexp.MustCompile(`^node(js)?(-?\d+)?$`)},
	{"java", "java", regexp.MustCompile(`^java$`)},
	{"dotnet", "dotnet", regexp.MustCompile(`^dotnet$`)},
	{"ruby", "ruby", regexp.MustCompile(`^ruby(-?\d+(\.\d+)*)?$`)},
}

// managed are the folders of version managers, as glob patterns below a home folder.
var managed = []string{
	".pyenv/versions/*/bin", ".nvm/versions/node/*/bin", ".rbenv/versions/*/bin", ".rubies/*/bin",
	".asdf/installs/python/*/bin", ".asdf/installs/nodejs/*/bin", ".asdf/installs/ruby/*/bin",
	".local/share/mise/installs/python/*/bin", ".local/share/mise/installs/node/*/bin", ".local/share/mise/installs/ruby/*/bin",
	".sdkman/candidates/java/*/bin", ".jdks/*/bin", ".asdf/installs/java/*/bin", ".local/share/mise/installs/java/*/bin",
	".dotnet", ".asdf/installs/dotnet/*", ".local/share/mise/dotnet-root",
	".local/share/uv/python/*/bin", ".local/share/fnm/node-versions/*/installation/bin", ".volta/tools/image/node/*/bin",
}

// managerRoots are the variables that move a version manager's folder, and the pattern below it.
var managerRoots = map[string]string{
	"PYENV_ROOT":    "versions/*/bin",
	"NVM_DIR":       "versions/node/*/bin",
	"RBENV_ROOT":    "versions/*/bin",
	"ASDF_DATA_DIR": "installs/*/*/bin",
	"JAVA_HOME":     "bin",
	"SDKMAN_DIR":    "candidates/java/*/bin",
	"DOTNET_ROOT":   ".",
}

const versionTimeout = 5 * time.Second

// Discover looks for interpreters in PATH, the usual folders, those of version managers and cfg.Extra. It asks each one
// that it has not seen before for its version, a few at a time, and remembers the answers in cfg.Dir; one that does not
// answer within seconds is left out. An error is of the context or of cfg.Dir.
func Discover(ctx context.Context, cfg Config) (*Registry, error) {
	seen := map[string]bool{}
	var found []Interpreter
	for _, dir := range searchDirs(cfg) {
		if dir, err := filepath.EvalSymlinks(dir); err == nil && !seen[dir] {
			seen[dir] = true
			found = append(found, interpretersIn(dir, seen)...)
		}
	}
	if err := learnVersions(ctx, filepath.Join(cfg.Dir, "interpreters.json"), found); err != nil {
		return nil, err
	}
	found = slices.DeleteFunc(eachVersion(found), func(in Interpreter) bool { return in.Version == "" })
	for i := range found {
		judge(&found[i])
	}
	slices.SortStableFunc(found, func(a, b Interpreter) int {
		return cmp.Or(
			cmp.Compare(a.Language, b.Language),
			-compareVersions(minor(a.Version), minor(b.Version)),
			cmp.Compare(boolInt(a.Prefix != ""), boolInt(b.Prefix != "")),
			-compareVersions(a.Version, b.Version),
		)
	})
	return &Registry{cfg: cfg, interpreters: found, prepared: map[string]string{}}, nil
}

// Interpreters lists what was found: by language, newest first.
func (r *Registry) Interpreters() []Interpreter { return slices.Clone(r.interpreters) }

// Identifiers lists the runtimes that this host runs with the very version that they name, so that the newest of them is
// one that is installed. Check accepts others too where Config.Nearest is set.
func (r *Registry) Identifiers() []string {
	exact := Registry{interpreters: r.interpreters}
	var names []string
	for _, name := range identifiers {
		if exact.Check(name) == nil {
			names = append(names, name)
		}
	}
	return names
}

// Check reports whether this host can run functions of the runtime. The error is a *thaw.Error with AWS's code for a
// bad Runtime, and says what there is.
func (r *Registry) Check(runtime string) error {
	id, err := r.resolve(runtime)
	if err != nil || id.language == "provided" || id.language == "go" {
		return err
	}
	_, err = r.choose(id)
	return err
}

// resolve takes an identifier apart and refuses what no interpreter could help.
func (r *Registry) resolve(runtime string) (identifier, error) {
	id, ok := parseIdentifier(runtime)
	if !ok {
		return id, thaw.Errorf(thaw.CodeInvalidParameterValue,
			"Value %s at 'runtime' failed to satisfy constraint: Member must satisfy enum value set: [%s] or be a valid ARN",
			runtime, strings.Join(identifiers, ", "))
	}
	return id, nil
}

// choose gives the interpreter that runs the identifier.
func (r *Registry) choose(id identifier) (*Interpreter, error) {
	var nearest *Interpreter
	var there []string
	for i := range r.interpreters {
		in := &r.interpreters[i]
		if in.Language != id.language || in.Unusable != "" {
			continue
		}
		if id.matches(in.Version) {
			return in, nil
		}
		if nearest == nil || distance(id.version, in.Version) < distance(id.version, nearest.Version) {
			nearest = in
		}
		if version := in.Version + " (" + in.Path + ")"; !slices.Contains(there, version) {
			there = append(there, version)
		}
	}
	switch {
	case nearest == nil:
		return nil, thaw.Errorf(thaw.CodeInvalidParameterValue,
			"The runtime %s needs %s %s and this host has no usable %s interpreter. Install one, or name its folder in runtimes.extra; `thaw doctor` lists what was found.",
			id.name, id.language, id.version, id.language)
	case r.cfg.Nearest:
		return nearest, nil
	}
	return nil, thaw.Errorf(thaw.CodeInvalidParameterValue,
		"The runtime %s needs %s %s and this host has %s. Install it, or set runtimes.nearest: true in the configuration to run it with %s %s.",
		id.name, id.language, id.version, strings.Join(there, ", "), id.language, nearest.Version)
}

func searchDirs(cfg Config) []string {
	dirs := slices.Clone(cfg.Extra)
	dirs = append(dirs, "/usr/bin", "/usr/local/bin")
	dirs = append(dirs, glob("/usr/lib/jvm/*/bin")...)
	dirs = append(dirs, "/usr/share/dotnet", "/usr/lib/dotnet", "/usr/lib64/dotnet", "/usr/local/share/dotnet")
	if cfg.Getenv == nil {
		return dirs
	}
	dirs = append(dirs, filepath.SplitList(cfg.Getenv("PATH"))...)
	for name, pattern := range managerRoots {
		if root := cfg.Getenv(name); root != "" {
			dirs = append(dirs, glob(filepath.Join(root, pattern))...)
		}
	}
	if home := cfg.Getenv("HOME"); home != "" {
		for _, pattern := range managed {
			dirs = append(dirs, glob(filepath.Join(home, pattern))...)
		}
	}
	return dirs
}

func glob(pattern string) []string {
	matches, _ := filepath.Glob(pattern)
	return matches
}

// interpretersIn finds the interpreters of one folder that are not in seen, which holds paths without links.
func interpretersIn(dir string, seen map[string]bool) []Interpreter {
	folder, err := os.Open(dir)
	if err != nil {
		return nil
	}
	defer folder.Close()
	names, _ := folder.Readdirnames(-1) // what could be read of it counts
	slices.Sort(names)
	var found []Interpreter
	for _, name := range names {
		for _, e := range executables {
			if !strings.HasPrefix(name, e.prefix) || !e.pattern.MatchString(name) {
				continue
			}
			path, err := filepath.EvalSymlinks(filepath.Join(dir, name))
			if err != nil || seen[path] || !isELF(path) {
				continue
			}
			seen[path] = true
			found = append(found, Interpreter{Language: e.language, Path: path})
		}
	}
	return found
}

// isELF tells binaries from the scripts that version managers put in PATH.
func isELF(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	var magic [4]byte
	_, err = io.ReadFull(f, magic[:])
	return err == nil && string(magic[:]) == "\x7fELF"
}

// knownVersion is one line of the cache: the version that a binary of that age and size has told.
type knownVersion struct {
	ModTime time.Time `json:"mod_time"`
	Size    int64     `json:"size"`
	Version string    `json:"version"`
}

// learnVersions sets the version of each interpreter, from the cache file or by asking.
func learnVersions(ctx context.Context, cacheFile string, found []Interpreter) error {
	known := map[string]knownVersion{}
	if data, err := os.ReadFile(cacheFile); err == nil && json.Unmarshal(data, &known) != nil {
		known = map[string]knownVersion{} // damaged: it is made again
	}
	fresh := make([]knownVersion, len(found))
	asked := false
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(4)
	for i, in := range found {
		info, err := os.Stat(versionFile(&in))
		if err != nil {
			continue
		}
		fresh[i] = knownVersion{info.ModTime(), info.Size(), known[in.Path].Version}
		if old := known[in.Path]; old.Version != "" && old.Size == info.Size() && old.ModTime.Equal(info.ModTime()) {
			continue
		}
		asked = true
		group.Go(func() error {
			fresh[i].Version = askVersion(ctx, in)
			return ctx.Err()
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	known = make(map[string]knownVersion, len(found))
	for i := range found {
		found[i].Version = fresh[i].Version
		known[found[i].Path] = fresh[i]
	}
	if !asked {
		return nil
	}
	return writeCache(cacheFile, known)
}

func writeCache(file string, known map[string]knownVersion) error {
	data, err := json.MarshalIndent(known, "", "\t")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return fmt.Errorf("runtimes: %w", err)
	}
	temporary := file + ".new"
	if err := errors.Join(os.WriteFile(temporary, data, 0o644), os.Rename(temporary, file)); err != nil {
		return fmt.Errorf("runtimes: %w", err)
	}
	return nil
}

var versionPattern = regexp.MustCompile(`\d+(\.\d+)+`)

// askVersion runs the interpreter, which prints its version before it initialises itself. Empty: it did not tell.
func askVersion(ctx context.Context, in Interpreter) string {
	if in.Language == "java" {
		return javaVersion(in.Path)
	}
	ctx, cancel := context.WithTimeout(ctx, versionTimeout)
	defer cancel()
	args := []string{"--version"}
	switch in.Language {
	case "ruby":
		args = []string{"--disable-gems", "--version"}
	case "dotnet":
		args = []string{"--list-runtimes"} // its --version is the SDK's
	}
	cmd := exec.CommandContext(ctx, in.Path, args...)
	cmd.Env = []string{}
	cmd.Dir = "/"
	cmd.WaitDelay = time.Second
	out, err := cmd.Output()
	if err != nil {
		return ""
	}
	if in.Language == "dotnet" {
		return dotnetVersions(string(out))
	}
	return versionPattern.FindString(string(out))
}

// judge finds an interpreter's prefix and whether functions can be run by it.
func judge(in *Interpreter) {
	if compareVersions(in.Version, oldest[in.Language]) < 0 {
		in.Unusable = "older than " + oldest[in.Language]
	}
	if !strings.HasPrefix(in.Path, "/usr/") {
		prefix := filepath.Dir(filepath.Dir(in.Path))
		folder := filepath.Base(filepath.Dir(in.Path)) == "bin"
		if in.Language == "dotnet" {
			prefix, folder = filepath.Dir(in.Path), true
		}
		library := map[string]string{
			"python": "lib/python" + minor(in.Version) + "/os.py",
			"nodejs": "include/node",
			"ruby":   "lib/ruby/" + minor(in.Version) + ".0",
			"java":   "release",
			"dotnet": dotnetFramework + "/" + in.Version,
		}[in.Language]
		_, err := os.Stat(filepath.Join(prefix, library))
		switch {
		// A folder that is not an installation of its own may hold anything, so it is not shown to functions.
		case err == nil && folder && prefix != "/":
			in.Prefix = prefix
		case in.Language == "nodejs":
			in.Prefix = in.Path // one binary, whole by itself
		default:
			in.Unusable = "its standard library is not beside it"
		}
	}
	for _, path := range []string{in.Path, in.Prefix} {
		if path == "" {
			continue
		}
		if info, err := os.Stat(path); err != nil || info.Mode()&0o005 != 0o005 {
			in.Unusable = path + " cannot be read by other users: chmod o+rX"
		}
	}
}

// minor cuts a version to its first two numbers.
func minor(version string) string {
	parts := strings.SplitN(version, ".", 3)
	return strings.Join(parts[:min(2, len(parts))], ".")
}

// compareVersions compares number by number; a missing number is zero.
func compareVersions(a, b string) int {
	as, bs := numbers(a), numbers(b)
	return cmp.Or(cmp.Compare(as[0], bs[0]), cmp.Compare(as[1], bs[1]), cmp.Compare(as[2], bs[2]))
}

func numbers(version string) (n [3]int) {
	for i, part := range strings.SplitN(version, ".", 3) {
		n[i], _ = strconv.Atoi(part)
	}
	return n
}

// distance says how far a version is from the wanted one; of two equally far the newer one counts as nearer.
func distance(wanted, version string) int {
	w, v := numbers(wanted), numbers(version)
	d := 2 * ((v[0]-w[0])*1000 + v[1] - w[1])
	if d < 0 {
		return -d + 1
	}
	return d
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}
