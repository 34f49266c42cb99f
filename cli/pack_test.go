package cli

import (
	"archive/zip"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"thaw"
)

// entries gives what is in a package: name -> mode and content.
func entries(t *testing.T, data []byte) map[string]string {
	t.Helper()
	r, err := zip.NewReader(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, f := range r.File {
		rc, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(rc)
		if err != nil {
			t.Fatal(err)
		}
		got[f.Name] = f.Mode().String() + " " + string(content)
	}
	return got
}

func TestPackHoldsFilesModesAndLinks(t *testing.T) {
	dir := writeTree(t, map[string]string{
		"bootstrap": "#!", "lib/a.py": "a", "lib/a.pyc": "junk", "lib/__pycache__/a.pyc": "junk", ".git/HEAD": "ref",
		"top.log": "x", "lib/deep.log": "y", "keep.log": "z", "lib/build/o": "o", "build/o": "o",
		".thawignore": "# notes\n*.pyc\n*.log\n!keep.log\n/build/\n",
	})
	if err := os.Chmod(filepath.Join(dir, "bootstrap"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("../bootstrap", filepath.Join(dir, "lib", "link")); err != nil {
		t.Fatal(err)
	}
	data, err := pack(dir)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"bootstrap": "-rwxr-xr-x #!", "lib/": "drwxr-xr-x ", "lib/a.py": "-rw-r--r-- a", "lib/link": "Lrwxrwxrwx ../bootstrap",
		"keep.log": "-rw-r--r-- z", "lib/build/": "drwxr-xr-x ", "lib/build/o": "-rw-r--r-- o",
	}
	if diff := cmp.Diff(want, entries(t, data)); diff != "" {
		t.Error(diff)
	}
}

func TestPackDependsOnContentAlone(t *testing.T) {
	files := map[string]string{"b": "2", "a/x": "1", "a.py": "3"}
	one, two := writeTree(t, files), writeTree(t, files)
	if err := os.Chtimes(filepath.Join(two, "b"), time.Unix(1, 0), time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(two, "b"), 0o600); err != nil {
		t.Fatal(err)
	}
	first, err := pack(one)
	if err != nil {
		t.Fatal(err)
	}
	second, err := pack(two)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first, second) {
		t.Error("the same files made two different packages")
	}
}

func TestPackRefuses(t *testing.T) {
	for _, target := range []string{"../outside", "/etc/passwd", "lib/../../x"} {
		dir := writeTree(t, map[string]string{"a": ""})
		if err := os.Symlink(target, filepath.Join(dir, "link")); err != nil {
			t.Fatal(err)
		}
		if _, err := pack(dir); err == nil || !strings.Contains(err.Error(), "leads out of the directory") {
			t.Errorf("link to %s: %v", target, err)
		}
	}
	dir := writeTree(t, map[string]string{"a": "", ".thawignore": "[\n"})
	if _, err := pack(dir); err == nil {
		t.Error("a broken pattern was taken")
	}
	dir = writeTree(t, map[string]string{"a": ""})
	if err := os.Truncate(filepath.Join(dir, "a"), thaw.MaxUnzipped+1); err != nil {
		t.Fatal(err)
	}
	if _, err := pack(dir); !errors.Is(err, errTooLarge) {
		t.Errorf("too large: %v", err)
	}
}

func FuzzIgnore(f *testing.F) {
	f.Add("*.log\n!keep.log\n/build/", "lib/x.log", false)
	f.Add("a/*/b\n[a-", "a/x/b", true)
	f.Fuzz(func(t *testing.T, text, name string, isDir bool) {
		rules, err := parseIgnore(strings.Split(text, "\n"))
		if err != nil {
			return
		}
		if rules.match(name, isDir) && len(rules) == 0 {
			t.Error("no rule, but ignored")
		}
		// Whatever stands before, a last rule that takes everything back in wins.
		all, err := parseIgnore(append(strings.Split(text, "\n"), "!*"))
		if err == nil && !strings.Contains(name, "/") && name != "" && all.match(name, isDir) {
			t.Errorf("%q is ignored in spite of !*", name)
		}
	})
}
