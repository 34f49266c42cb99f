package anatomy

import (
	"cmp"
	"path"
	"slices"
	"strings"
	"time"

	"thaw"
)

// Heavy is a module, other than the function's own, that the function's code loads, and what that took with all that the
// module loads itself.
type Heavy struct {
	Name  string
	Kind  string
	Total time.Duration
	Bytes int64 // of it and all that it loads, as far as they are known
	// Mostly is the module of another package below it that took most of that, if it took a good part.
	Mostly      string
	MostlyTotal time.Duration
}

// Breakdown is an init taken apart.
type Breakdown struct {
	// Libraries are what the function's own code loads, the heaviest first. They do not contain each other.
	Libraries []Heavy
	// Own is the time of the function's own modules without what they load; OwnName is the one that took most of it.
	Own     time.Duration
	OwnName string
	// Connecting is what opening connections took, as far as it is known; it is also part of the modules' times.
	Connecting time.Duration
	Slowest    *thaw.Connection // nil: there is none
}

// codeDir is where a function finds its package.
const codeDir = "/var/task/"

// goodPart is from what share of a module on a module below it is named too.
const goodPart = 0.4

// TakeApart says what a profiled init's time went to. handler is the function's Handler setting, which tells its own modules
// from those that it brought along.
func TakeApart(p *thaw.InitProfile, handler string) Breakdown {
	var b Breakdown
	t := newTree(p)
	var heaviestOwn time.Duration
	var walk func(n int)
	walk = func(n int) {
		m := &p.Modules[n]
		if own(m, handler) {
			b.Own += m.Self
			if m.Self > heaviestOwn {
				heaviestOwn, b.OwnName = m.Self, displayName(m)
			}
			for _, child := range t.children[n] {
				walk(child)
			}
			return
		}
		h := Heavy{Name: displayName(m), Kind: m.Kind, Total: m.Total, Bytes: t.bytes(n)}
		if other := t.heaviestOther(n); other >= 0 && float64(p.Modules[other].Total) >= goodPart*float64(m.Total) {
			h.Mostly, h.MostlyTotal = displayName(&p.Modules[other]), p.Modules[other].Total
		}
		b.Libraries = append(b.Libraries, h)
	}
	for _, root := range t.roots {
		walk(root)
	}
	b.Libraries = merge(b.Libraries)
	var longest time.Duration
	for n := range p.Connections {
		c := &p.Connections[n]
		took := c.DNS + c.TCP + c.TLS
		b.Connecting += took
		if took > longest {
			longest, b.Slowest = took, c
		}
	}
	return b
}

// merge adds up modules of one name, as when a package is loaded file by file, and sorts the heaviest first.
func merge(list []Heavy) []Heavy {
	at := map[string]int{}
	var merged []Heavy
	for _, h := range list {
		n, ok := at[h.Name]
		if !ok {
			at[h.Name] = len(merged)
			merged = append(merged, h)
			continue
		}
		m := &merged[n]
		m.Total += h.Total
		m.Bytes += h.Bytes
		if h.MostlyTotal > m.MostlyTotal {
			m.Mostly, m.MostlyTotal = h.Mostly, h.MostlyTotal
		}
	}
	slices.SortStableFunc(merged, func(a, b Heavy) int { return cmp.Compare(b.Total, a.Total) })
	return merged
}

// tree is a profile's modules by who loaded them. What a damaged profile says of parents that come later is not believed, so
// that there are no circles.
type tree struct {
	modules  []thaw.Module
	roots    []int
	children [][]int
}

func newTree(p *thaw.InitProfile) *tree {
	t := &tree{modules: p.Modules, children: make([][]int, len(p.Modules))}
	for n := range p.Modules {
		if parent := p.Modules[n].Parent; parent >= 0 && parent < n {
			t.children[parent] = append(t.children[parent], n)
		} else {
			t.roots = append(t.roots, n)
		}
	}
	return t
}

// bytes is the size of a module and of all below it.
func (t *tree) bytes(n int) int64 {
	total := t.modules[n].Bytes
	for _, child := range t.children[n] {
		total += t.bytes(child)
	}
	return total
}

// heaviestOther finds the module below n that took most and is of another package than n, -1: there is none.
func (t *tree) heaviestOther(n int) int {
	best := -1
	name := packageOf(&t.modules[n])
	var walk func(n int)
	walk = func(n int) {
		for _, child := range t.children[n] {
			if packageOf(&t.modules[child]) == name {
				walk(child)
				continue
			}
			if best < 0 || t.modules[child].Total > t.modules[best].Total {
				best = child
			}
		}
	}
	walk(n)
	return best
}

// own reports whether a module is of the function's author, as far as that can be told from where it lies: the handler's own
// package or single files beside it are, and for Node everything outside node_modules.
func own(m *thaw.Module, handler string) bool {
	rest, inPackage := strings.CutPrefix(m.File, codeDir)
	if !inPackage || strings.Contains("/"+rest, "/node_modules/") || strings.Contains("/"+rest, "/site-packages/") {
		return false
	}
	if m.Kind == thaw.ModuleRequire || m.Kind == thaw.ModuleESM {
		return true
	}
	dir, _, nested := strings.Cut(rest, "/")
	return !nested || dir == handlerDir(handler)
}

// handlerDir is the top directory of the handler's module: app of app/main.handler and of app.main.handler.
func handlerDir(handler string) string {
	module := handler
	if dot := strings.LastIndexByte(handler, '.'); dot >= 0 {
		module = handler[:dot]
	}
	dir, _, nested := strings.Cut(strings.ReplaceAll(module, ".", "/"), "/")
	if !nested {
		return ""
	}
	return dir
}

// packageOf is what a module is a part of.
func packageOf(m *thaw.Module) string {
	if name := nodePackage(m.File); name != "" {
		return name
	}
	if m.Kind == thaw.ModuleImport {
		name, _, _ := strings.Cut(m.Name, ".")
		return name
	}
	return m.Name
}

// nodePackage is the package that a file in node_modules belongs to, with its scope.
func nodePackage(file string) string {
	_, rest, ok := cutLast(file, "/node_modules/")
	if !ok {
		return ""
	}
	name, rest, _ := strings.Cut(rest, "/")
	if strings.HasPrefix(name, "@") {
		inScope, _, _ := strings.Cut(rest, "/")
		name += "/" + inScope
	}
	return name
}

func cutLast(s, sep string) (before, after string, found bool) {
	if n := strings.LastIndex(s, sep); n >= 0 {
		return s[:n], s[n+len(sep):], true
	}
	return s, "", false
}

// displayName is what the function's author calls a module.
func displayName(m *thaw.Module) string {
	if name := nodePackage(m.File); name != "" {
		return name
	}
	if path.IsAbs(m.Name) {
		return strings.TrimPrefix(m.Name, codeDir)
	}
	return m.Name
}
