package code

import (
	"archive/zip"
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"thaw"
)

// unpackInto unpacks an archive into a new directory below parent and gives the directory.
func unpackInto(t testing.TB, parent string, archive []byte) (string, error) {
	t.Helper()
	dir := filepath.Join(parent, "tree")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	a, err := openArchive(t.Context(), bytes.NewReader(archive), int64(len(archive)))
	if err != nil {
		return dir, err
	}
	return dir, a.unpack(t.Context(), root)
}

// listing describes everything below dir.
func listing(t testing.TB, dir string) map[string]string {
	t.Helper()
	got := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := os.Lstat(path)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		text := info.Mode().String()
		switch info.Mode().Type() {
		case 0:
			body, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			text += " " + string(body)
		case fs.ModeSymlink:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			text = "-> " + target
		}
		got[name] = text
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestUnpack(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0o077)) // the tree is readable whatever the umask
	when := time.Date(2021, 3, 4, 5, 6, 7, 0, time.UTC)
	dir, err := unpackInto(t, t.TempDir(), pack(t,
		part{name: "index.py", mode: 0o600, body: "x", spoil: func(h *zip.FileHeader) { h.Modified = when }},
		part{name: "INDEX.py", mode: 0o444, body: "X"},
		part{name: "bin/run", mode: fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky | 0o711, body: "#!"},
		part{name: "empty/", mode: fs.ModeDir | 0o700},
		part{name: "node_modules/.bin/x", mode: fs.ModeSymlink | 0o777, body: "../x/cli.js"},
		part{name: "node_modules/x/cli.js", mode: 0o755, body: "js"},
		part{name: "windows", body: "w", spoil: func(h *zip.FileHeader) { h.CreatorVersion, h.ExternalAttrs = 0, 0x20 }},
	))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		".": "drwxr-xr-x", "index.py": "-rw-r--r-- x", "INDEX.py": "-rw-r--r-- X",
		"bin": "drwxr-xr-x", "bin/run": "-rwxr-xr-x #!", "empty": "drwxr-xr-x",
		"node_modules": "drwxr-xr-x", "node_modules/.bin": "drwxr-xr-x", "node_modules/.bin/x": "-> ../x/cli.js",
		"node_modules/x": "drwxr-xr-x", "node_modules/x/cli.js": "-rwxr-xr-x js", "windows": "-rw-r--r-- w",
	}
	if diff := cmp.Diff(want, listing(t, dir)); diff != "" {
		t.Error(diff)
	}
	info, err := os.Stat(filepath.Join(dir, "index.py"))
	if err != nil || !info.ModTime().Equal(when) {
		t.Errorf("time of index.py: %v, %v", info.ModTime(), err)
	}
}

// TestUnpackDoesNotRelyOnTheJudgement plants what the judgement refuses and expects os.Root and O_EXCL to hold.
func TestUnpackDoesNotRelyOnTheJudgement(t *testing.T) {
	parent := t.TempDir()
	outside := filepath.Join(parent, "outside")
	if err := os.WriteFile(outside, []byte("precious"), 0o644); err != nil {
		t.Fatal(err)
	}
	packed := pack(t, part{name: "dir/file", mode: 0o644, body: "gotcha"}, part{name: "other", mode: 0o644, body: "gotcha"})
	for _, test := range []struct {
		what  string
		plant func(dir string, a *archive) error
	}{
		{"a name that leads out", func(_ string, a *archive) error {
			a.items[1].name = "../outside"
			return nil
		}},
		{"a directory that is a link by now", func(dir string, a *archive) error {
			delete(a.tree.nodes, "dir")
			return os.Symlink(parent, filepath.Join(dir, "dir"))
		}},
		{"a file that is a link by now", func(dir string, _ *archive) error {
			return os.Symlink(outside, filepath.Join(dir, "other"))
		}},
		{"a file that is there", func(dir string, _ *archive) error {
			return os.WriteFile(filepath.Join(dir, "other"), []byte("first"), 0o644)
		}},
	} {
		dir := filepath.Join(parent, "tree")
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		root, err := os.OpenRoot(dir)
		if err != nil {
			t.Fatal(err)
		}
		a, err := openArchive(t.Context(), bytes.NewReader(packed), int64(len(packed)))
		if err != nil {
			t.Fatal(err)
		}
		if err := test.plant(dir, a); err != nil {
			t.Fatal(err)
		}
		if err := a.unpack(t.Context(), root); err == nil {
			t.Errorf("%s: unpacked", test.what)
		}
		root.Close()
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(map[string]string{".": "drwxr-xr-x", "outside": "-rw-r--r-- precious"}, listing(t, parent)); diff != "" {
			t.Errorf("%s: %s", test.what, diff)
		}
	}
}

// FuzzUnpack makes archives of lines "MODE NAME BODY" and unpacks them next to a file that must stay as it is. What Check
// takes must unpack into plain files, directories and links that stay inside, and what it refuses must not unpack.
func FuzzUnpack(f *testing.F) {
	f.Add("f index.py x\nd lib/\nx bin/run #!\nl lib/l ../index.py")
	f.Add("f ../outside x")
	f.Add("l up ..\nf up/outside x")
	f.Add("l p/deep ../q\nf q/f x\nl p/l deep/../../outside")
	f.Add("l a b\nl b a")
	f.Add("f A 1\nf a 2\nf ./a 3")
	modes := map[byte]fs.FileMode{'f': 0o640, 'x': 0o4711, 'd': fs.ModeDir | 0o700, 'l': fs.ModeSymlink, 'p': fs.ModeNamedPipe, 'n': fs.ModeDevice}
	f.Fuzz(func(t *testing.T, text string) {
		var parts []part
		for line := range strings.SplitSeq(text, "\n") {
			fields := strings.SplitN(line, " ", 3)
			if len(fields) < 2 || fields[0] == "" {
				continue
			}
			p := part{name: fields[1], mode: modes[fields[0][0]]}
			if len(fields) == 3 && !strings.HasSuffix(p.name, "/") {
				p.body = fields[2]
			}
			if len(p.name) > 1<<15 {
				continue
			}
			parts = append(parts, p)
		}
		archive := pack(t, parts...)
		checked := check(t, archive)
		if checked != nil && thaw.CodeOf(checked) != thaw.CodeInvalidParameterValue {
			t.Fatal(checked)
		}
		parent := t.TempDir()
		if err := os.WriteFile(filepath.Join(parent, "outside"), []byte("precious"), 0o644); err != nil {
			t.Fatal(err)
		}
		dir, err := unpackInto(t, parent, archive)
		if (err == nil) != (checked == nil) {
			t.Fatalf("check: %v; unpack: %v", checked, err)
		}
		entries, err := os.ReadDir(parent)
		if err != nil || len(entries) != 2 {
			t.Fatalf("beside the tree: %v, %v", entries, err)
		}
		if body, err := os.ReadFile(filepath.Join(parent, "outside")); err != nil || string(body) != "precious" {
			t.Fatalf("the file outside is %q, %v", body, err)
		}
		if checked != nil {
			return
		}
		files := 0
		for name, text := range listing(t, dir) {
			switch {
			case strings.HasPrefix(text, "-> "):
				to, err := filepath.EvalSymlinks(filepath.Join(dir, name))
				if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTDIR) {
					t.Fatal(err)
				}
				if err == nil && to != dir && !strings.HasPrefix(to, dir+"/") {
					t.Fatalf("link %s leads to %s", name, to)
				}
				files++
			case strings.HasPrefix(text, "-rw-r--r-- "), strings.HasPrefix(text, "-rwxr-xr-x "):
				files++
			case text != "drwxr-xr-x":
				t.Fatalf("%s is %s", name, text)
			}
		}
		want := 0
		for _, p := range parts {
			if !strings.HasSuffix(p.name, "/") && !p.mode.IsDir() {
				want++
			}
		}
		if files != want {
			t.Fatalf("%d of %d files are there", files, want)
		}
	})
}
