package code

import (
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"thaw"
)

// look is what a test sees in a tree: contents of files, targets of links behind "->", "/" for directories.
func look(t testing.TB, dir string) map[string]string {
	t.Helper()
	seen := map[string]string{}
	err := filepath.WalkDir(dir, func(p string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(dir, p)
		switch entry.Type() {
		case fs.ModeDir:
			seen[name] = "/"
		case fs.ModeSymlink:
			target, err := os.Readlink(p)
			seen[name] = "->" + target
			return err
		default:
			body, err := os.ReadFile(p)
			seen[name] = string(body)
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	delete(seen, ".")
	return seen
}

func TestLayersAreMergedInOrder(t *testing.T) {
	f := func(name, body string) part { return part{name: name, mode: 0o644, body: body} }
	l := func(name, target string) part { return part{name: name, mode: fs.ModeSymlink | 0o777, body: target} }
	for _, test := range []struct {
		what   string
		layers [][]part
		want   map[string]string
		say    string
	}{
		{"directories are joined, later files win", [][]part{{f("python/a.py", "1"), f("python/b.py", "1")}, {f("python/b.py", "2"), f("bin/x", "2")}},
			map[string]string{"python": "/", "python/a.py": "1", "python/b.py": "2", "bin": "/", "bin/x": "2"}, ""},
		{"the order decides", [][]part{{f("a", "2")}, {f("a", "1")}, {f("a", "0")}}, map[string]string{"a": "0"}, ""},
		{"a file over a directory", [][]part{{f("a/b/c", "1"), f("a/d", "1"), f("e", "1")}, {f("a", "2")}}, map[string]string{"a": "2", "e": "1"}, ""},
		{"a directory over a file", [][]part{{f("a", "1")}, {f("a/b", "2")}}, map[string]string{"a": "/", "a/b": "2"}, ""},
		{"a directory over a link is no way through it", [][]part{{l("python", "lib"), f("lib/x", "1")}, {f("python/y", "2")}},
			map[string]string{"python": "/", "python/y": "2", "lib": "/", "lib/x": "1"}, ""},
		{"a link over a directory", [][]part{{f("python/y", "1")}, {l("python", "lib"), f("lib/x", "2")}},
			map[string]string{"python": "->lib", "lib": "/", "lib/x": "2"}, ""},
		{"three", [][]part{{f("a", "1"), f("b", "1"), f("c", "1")}, {f("b", "2"), f("c", "2")}, {f("c", "3")}}, map[string]string{"a": "1", "b": "2", "c": "3"}, ""},
		{"links that lead out together", [][]part{{f("p/q/x", ""), l("l", "p/q/../../x")}, {l("p", "."), f("q/y", "")}}, nil, "out of the function's directory"},
	} {
		src := &shelf{}
		c := openCache(t, t.TempDir(), src, 0)
		var digests []string
		for _, parts := range test.layers {
			digests = append(digests, src.put(pack(t, parts...)))
		}
		dir, err := c.Layers(t.Context(), digests)
		if test.say != "" {
			if thaw.CodeOf(err) != thaw.CodeInvalidParameterValue || !strings.Contains(err.Error(), test.say) || strings.Contains(err.Error(), unusable) {
				t.Errorf("%s: %v, want %q", test.what, err, test.say)
			}
			continue
		}
		if err != nil {
			t.Fatalf("%s: %v", test.what, err)
		}
		got := look(t, dir)
		for name, want := range test.want {
			if got[name] != want {
				t.Errorf("%s: %s is %q, want %q", test.what, name, got[name], want)
			}
			delete(got, name)
		}
		if len(got) > 0 {
			t.Errorf("%s: there is also %v", test.what, got)
		}
		isEmpty(t, filepath.Join(c.dir, partialDir))
		if c.used != c.treeBytes() {
			t.Errorf("%s: %d bytes are counted, %d are there", test.what, c.used, c.treeBytes())
		}
	}
}

func TestOneLayerIsItsOwnTree(t *testing.T) {
	src := &shelf{}
	c := openCache(t, t.TempDir(), src, 0)
	digest := src.put(sized(t, 0, 10))
	dir, err := c.Layers(t.Context(), []string{digest})
	if err != nil {
		t.Fatal(err)
	}
	if own, err := c.Dir(t.Context(), digest); err != nil || own != dir || LayersDigest([]string{digest}) != digest {
		t.Errorf("%s and %s, %v", dir, own, err)
	}
}

func TestLayersShareTheirFilesAndAreMergedOnce(t *testing.T) {
	src := &shelf{}
	dir := t.TempDir()
	c := openCache(t, dir, src, 0)
	script := part{name: "bin/run", mode: 0o755, body: "#!/bin/sh\n"}
	one, two := src.put(pack(t, script)), src.put(sized(t, 1, 10))
	digests := []string{one, two}
	var callers sync.WaitGroup
	paths := make([]string, 20)
	for n := range paths {
		callers.Go(func() {
			var err error
			if paths[n], err = c.Layers(t.Context(), digests); err != nil {
				t.Error(err)
			}
		})
	}
	callers.Wait()
	for _, path := range paths {
		if path != paths[0] {
			t.Errorf("paths %s and %s", path, paths[0])
		}
	}
	own, err := c.Dir(t.Context(), one)
	if err != nil {
		t.Fatal(err)
	}
	a, errA := os.Stat(filepath.Join(own, "bin/run"))
	b, errB := os.Stat(filepath.Join(paths[0], "bin/run"))
	if errA != nil || errB != nil || !os.SameFile(a, b) || b.Mode().Perm() != executableMode {
		t.Errorf("%v and %v are not one file: %v, %v", a, b, errA, errB)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	opened := src.opened.Load()
	again := openCache(t, dir, src, 0)
	if path, err := again.Layers(t.Context(), digests); err != nil || path != paths[0] || src.opened.Load() != opened {
		t.Errorf("after opening again: %s, %v, %d fetches", path, err, src.opened.Load()-opened)
	}
	if other, err := again.Layers(t.Context(), []string{two, one}); err != nil || other == paths[0] {
		t.Errorf("another order gives %s, %v", other, err)
	}
}

func TestLayersInUseStay(t *testing.T) {
	src := &shelf{}
	c := openCache(t, t.TempDir(), src, 0)
	digests := []string{src.put(sized(t, 0, 10)), src.put(pack(t, part{name: "other", mode: 0o644, body: "x"}))}
	release := c.RetainLayers(digests)
	dir, err := c.Layers(t.Context(), digests)
	if err != nil {
		t.Fatal(err)
	}
	later := time.Now().Add(2 * youth)
	none := func(string) bool { return false }
	if err := c.sweep(t.Context(), none, later); err != nil {
		t.Fatal(err)
	}
	if _, there := c.trees.Load(digests[0]); there {
		t.Error("a layer's own tree stays although only the merged one is in use")
	}
	if got := look(t, dir); len(got) != 2 || got["other"] != "x" || len(got["body"]) != 10 {
		t.Errorf("what is in use has become %v", got)
	}
	release()
	if err := c.sweep(t.Context(), none, later); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("what is not used any more stays: %v", err)
	}
}

// What each layer may have by itself, they may have together.
func TestLayersOfManyFiles(t *testing.T) {
	m, err := planMerge(t.Context(), []string{t.TempDir(), t.TempDir(), t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	for n := range 3 * maxNodes {
		if err := m.tree.add(strconv.Itoa(n), file); err != nil {
			t.Fatal(err)
		}
	}
	if err := m.tree.add("more", file); thaw.CodeOf(err) != thaw.CodeInvalidParameterValue {
		t.Errorf("one more: %v", err)
	}
}

// More merges at once than slots: none may hold a slot while it waits for a layer.
func TestManyMergesAtOnce(t *testing.T) {
	src := &shelf{}
	c := openCache(t, t.TempDir(), src, 0)
	var layers []string
	for n := range 6 {
		layers = append(layers, src.put(pack(t, part{name: "f", mode: 0o644, body: string(rune('a' + n))})))
	}
	var callers sync.WaitGroup
	for n := range layers {
		callers.Go(func() {
			if _, err := c.Layers(t.Context(), append(layers[n:len(layers):len(layers)], layers[:n]...)); err != nil {
				t.Error(err)
			}
		})
	}
	callers.Wait()
}
