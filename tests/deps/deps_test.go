package deps

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"path"
	"slices"
	"strings"
	"testing"
)

// layers are the packages from the top to the bottom. A package may import what stands below it, and packages below its
// own path, but nothing that stands above it or beside it.
var layers = []string{
	"thaw/cmd",
	"thaw/cli",
	"thaw/edge",
	"thaw/control",
	"thaw/trigger",
	"thaw/invoke",
	"thaw/placement",
	"thaw/warm",
	"thaw/telemetry",
	"thaw/template",
	"thaw/sandbox",
	"thaw/runtimes",
	"thaw/code",
	"thaw/state",
	"thaw/awsapi",
	"thaw/internal",
	"thaw",
}

// programs are what no package imports, and what may import anything: they drive the platform from outside.
var programs = []string{"thaw/tests", "thaw/bench", "thaw/scripts", "thaw/examples"}

// ban forbids that a package, or anything of this module that it imports, imports another.
type ban struct {
	from   string   // import path and all below it; "" is every package of the platform, for what it imports itself
	except []string // of from
	to     string   // import path and all below it
	reason string
}

var bans = []ban{
	{from: "thaw/cli", to: "thaw/", reason: "the command line talks HTTP only, so that each verb works against another machine"},
	{from: "thaw/control", to: "thaw/placement", reason: "control writes state and placement follows the change feed, so that a crash between the two loses nothing"},
	{from: "thaw/control", to: "thaw/sandbox", reason: "control writes state; it runs nothing"},
	{from: "thaw/edge", to: "thaw/sandbox/linux", reason: "which driver isolates functions is chosen in cmd/thaw alone, so that a further one fits beside it"},
	{from: "thaw/control", to: "thaw/invoke", reason: "control writes state; it runs nothing"},
	{from: "thaw/warm", to: "thaw/", reason: "policies are pure functions of history and time, so that what is tuned on a trace is what runs"},
	{from: "thaw/warm", to: "os", reason: "policies are pure functions of history and time, so that what is tuned on a trace is what runs"},
	{from: "thaw/state", to: "thaw/", reason: "the store keeps the vocabulary's own values and knows nothing of who uses them"},
	{from: "thaw/code", to: "thaw/", reason: "packages are bytes and digests; where they come from is handed in"},
	{from: "thaw/runtimes", to: "thaw/sandbox", reason: "a language's protocol is the same in every sandbox"},
	{from: "thaw/awsapi", to: "thaw/", reason: "a wire protocol does not know what an operation does"},
	{
		from: "", except: []string{"thaw/state", "thaw/cmd"}, to: "github.com/nats-io",
		reason: "state is the only package that knows which engine keeps the data",
	},
	{
		from: "", except: []string{"thaw/sandbox/linux", "thaw/cmd"}, to: "github.com/containerd/cgroups",
		reason: "isolation belongs to sandbox/linux; others go through sandbox.Driver",
	},
	{
		from: "", except: []string{"thaw/sandbox/linux", "thaw/cmd"}, to: "github.com/vishvananda",
		reason: "isolation belongs to sandbox/linux; others go through sandbox.Driver",
	},
	{
		from: "", except: []string{"thaw/cli", "thaw/cmd"}, to: "github.com/spf13",
		reason: "flags and verbs belong to cli; a library takes a config struct",
	},
	{
		from: "", to: "testing",
		except: []string{"thaw/sandbox/sandboxtest", "thaw/control/internal/apitest", "thaw/control/internal/golden"}, // for tests alone
		reason: "what ships does not carry the test framework",
	},
}

// forbiddenNames say nothing about what is inside.
var forbiddenNames = []string{"util", "utils", "common", "helper", "helpers", "model", "models", "pkg", "misc", "base", "shared", "lib"}

type listed struct {
	ImportPath  string
	Doc         string
	Imports     []string
	GoFiles     []string
	TestGoFiles []string
	Module      *struct{ Path string }
}

// load lists every package of the module with everything that it imports.
func load(t *testing.T) map[string]*listed {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-deps", "-json=ImportPath,Doc,Imports,GoFiles,TestGoFiles,Module", "thaw/...")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.String())
	}
	packages := map[string]*listed{}
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return packages
		} else if err != nil {
			t.Fatal(err)
		}
		packages[p.ImportPath] = &p
	}
}

func (p *listed) ours() bool { return p.Module != nil && p.Module.Path == "thaw" }

// within reports whether pkg is root or below it. A root that ends with a slash does not contain itself.
func within(pkg, root string) bool {
	return pkg == root || strings.HasPrefix(pkg, strings.TrimSuffix(root, "/")+"/")
}

func withinAny(pkg string, roots []string) bool {
	return slices.ContainsFunc(roots, func(root string) bool { return within(pkg, root) })
}

// layerOf is the index of pkg's layer, or -1. The root package is a layer of its own, not a parent of all.
func layerOf(pkg string) int {
	if pkg == "thaw" {
		return len(layers) - 1
	}
	return slices.IndexFunc(layers[:len(layers)-1], func(root string) bool { return within(pkg, root) })
}

func TestImportsPointDown(t *testing.T) {
	for name, p := range load(t) {
		if !p.ours() || withinAny(name, programs) {
			continue
		}
		from := layerOf(name)
		if from < 0 {
			t.Errorf("%s stands in no layer: name its place in this test's list", name)
			continue
		}
		for _, imported := range p.Imports {
			to := layerOf(imported)
			switch {
			case withinAny(imported, programs):
				t.Errorf("%s imports %s: programs and tests drive the platform from outside, and nothing imports them", name, imported)
			case to >= 0 && to < from:
				t.Errorf("%s imports %s, which stands above it: imports point down only, and news goes up as values, through a callback or a channel handed in at construction", name, imported)
			}
		}
	}
}

func TestBans(t *testing.T) {
	packages := load(t)
	for name, p := range packages {
		if !p.ours() || withinAny(name, programs) {
			continue
		}
		for _, b := range bans {
			if b.from != "" && !within(name, b.from) || withinAny(name, b.except) {
				continue
			}
			reaches := func(pkg string) bool {
				if b.to == "thaw/" {
					return within(pkg, b.to) && pkg != "thaw" && !within(pkg, b.from) && !within(pkg, "thaw/internal")
				}
				return within(pkg, b.to)
			}
			through := func(pkg string) bool { return !withinAny(pkg, b.except) }
			if chain := findChain(packages, name, reaches, through); chain != nil && (b.from != "" || len(chain) == 2) {
				t.Errorf("%s: %s", strings.Join(chain, " -> "), b.reason)
			}
		}
	}
}

// findChain is the shortest chain of imports from a package to one that is reached, through packages of this module only;
// nil when there is none.
func findChain(packages map[string]*listed, from string, reached, through func(string) bool) []string {
	cameFrom := map[string]string{from: ""}
	for queue := []string{from}; len(queue) > 0; queue = queue[1:] {
		at := queue[0]
		for _, next := range packages[at].Imports {
			if _, seen := cameFrom[next]; seen {
				continue
			}
			cameFrom[next] = at
			if reached(next) {
				var chain []string
				for pkg := next; pkg != ""; pkg = cameFrom[pkg] {
					chain = append([]string{pkg}, chain...)
				}
				return chain
			}
			if p := packages[next]; p != nil && p.ours() && through(next) {
				queue = append(queue, next)
			}
		}
	}
	return nil
}

func TestPackagesSayWhatTheyAre(t *testing.T) {
	for name, p := range load(t) {
		if !p.ours() {
			continue
		}
		if len(p.GoFiles) == 0 && len(p.TestGoFiles) == 0 {
			continue
		}
		want := "Package " + path.Base(name)
		if strings.HasPrefix(p.Doc, "Command ") {
			want = "Command " + path.Base(name)
		}
		if len(p.GoFiles) > 0 && !strings.HasPrefix(p.Doc, want+" ") {
			t.Errorf("%s: its comment begins %q, not %q: a package says what it is, what it is not, its states and its lock order", name, p.Doc, want)
		}
		if slices.Contains(forbiddenNames, path.Base(name)) {
			t.Errorf("%s: the name says nothing about what is inside: name a package by what it does", name)
		}
	}
}

// TestFindChain breaks the direction on purpose.
func TestFindChain(t *testing.T) {
	module := &struct{ Path string }{"thaw"}
	packages := map[string]*listed{
		"thaw/a":  {Imports: []string{"fmt", "thaw/b"}, Module: module},
		"thaw/b":  {Imports: []string{"thaw/c", "x.org/y"}, Module: module},
		"thaw/c":  {Module: module},
		"x.org/y": {Imports: []string{"x.org/z"}},
	}
	is := func(want string) func(string) bool { return func(pkg string) bool { return within(pkg, want) } }
	anything := func(string) bool { return true }
	if got := findChain(packages, "thaw/a", is("thaw/c"), anything); !slices.Equal(got, []string{"thaw/a", "thaw/b", "thaw/c"}) {
		t.Errorf("got %q", got)
	}
	if got := findChain(packages, "thaw/a", is("x.org/z"), anything); got != nil {
		t.Errorf("looked into another module: %q", got)
	}
	if got := findChain(packages, "thaw/a", is("thaw/c"), func(pkg string) bool { return pkg != "thaw/b" }); got != nil {
		t.Errorf("went through an exception: %q", got)
	}
}
