package cli

import (
	"archive/zip"
	"bytes"
	"compress/flate"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"thaw"
)

// zipTime is the modification time of every entry: the zip format's first instant. With the walk's sorted order and
// modes reduced to two it makes the package, and so its digest, depend on names, contents and executable bits alone.
var zipTime = time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC)

var errTooLarge = errors.New("too large")

// pack makes the deployment package of the directory dir in memory. Links that stay inside dir are kept as links;
// one that leads out is an error.
func pack(dir string) ([]byte, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	skip, err := readIgnore(root.FS())
	if err != nil {
		return nil, err
	}
	var buf bytes.Buffer
	w := zip.NewWriter(&buf)
	w.RegisterCompressor(zip.Deflate, func(out io.Writer) (io.WriteCloser, error) {
		return flate.NewWriter(out, flate.DefaultCompression)
	})
	var unpacked int64
	err = fs.WalkDir(root.FS(), ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || name == "." {
			return err
		}
		if skip.match(name, entry.IsDir()) {
			if entry.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		unpacked += info.Size()
		if unpacked > thaw.MaxUnzipped || buf.Len() > thaw.MaxZip {
			return errTooLarge
		}
		return addEntry(w, root, name, info)
	})
	if err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	if buf.Len() > thaw.MaxZip {
		return nil, errTooLarge
	}
	return buf.Bytes(), nil
}

func addEntry(w *zip.Writer, root *os.Root, name string, info fs.FileInfo) error {
	header := &zip.FileHeader{Name: name, Method: zip.Deflate, Modified: zipTime}
	switch mode := info.Mode(); {
	case mode.IsDir():
		header.Name += "/"
		header.Method = zip.Store
		header.SetMode(fs.ModeDir | 0o755)
		_, err := w.CreateHeader(header)
		return err
	case mode&fs.ModeSymlink != 0:
		return addLink(w, root, header)
	case mode.IsRegular():
		header.SetMode(0o644 | mode&0o111)
		if mode&0o111 != 0 {
			header.SetMode(0o755)
		}
		return addFile(w, root, header)
	default:
		return fmt.Errorf("%s is neither a file nor a directory nor a link (%s)", name, mode.Type())
	}
}

func addLink(w *zip.Writer, root *os.Root, header *zip.FileHeader) error {
	target, err := root.Readlink(header.Name)
	if err != nil {
		return err
	}
	inside := filepath.IsLocal(filepath.Join(filepath.Dir(header.Name), target)) && !filepath.IsAbs(target)
	if !inside {
		return fmt.Errorf("the link %s leads out of the directory, to %s", header.Name, target)
	}
	header.Method = zip.Store
	header.SetMode(fs.ModeSymlink | 0o777)
	out, err := w.CreateHeader(header)
	if err != nil {
		return err
	}
	_, err = io.WriteString(out, target)
	return err
}

func addFile(w *zip.Writer, root *os.Root, header *zip.FileHeader) error {
	file, err := root.Open(header.Name)
	if err != nil {
		return err
	}
	defer file.Close()
	out, err := w.CreateHeader(header)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, file)
	return err
}

// ignoreFile names the patterns of what a directory's package leaves out.
const ignoreFile = ".thawignore"

// ignoreRules are patterns in the order in which they were read; the last one that matches decides.
type ignoreRules []ignoreRule

type ignoreRule struct {
	pattern string
	keep    bool // "!pattern"
	rooted  bool // the pattern has a slash: it is matched against the whole name
	dirOnly bool // "pattern/"
}

// ignoredByDefault never belongs in a package: version control, and byte code that was made for other time stamps.
var ignoredByDefault = []string{".git/", ".hg/", ".svn/", ".DS_Store", ignoreFile, "__pycache__/"}

func readIgnore(dir fs.FS) (ignoreRules, error) {
	lines := ignoredByDefault
	text, err := fs.ReadFile(dir, ignoreFile)
	if err == nil {
		lines = append(lines[:len(lines):len(lines)], strings.Split(string(text), "\n")...)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return parseIgnore(lines)
}

// parseIgnore reads patterns of path.Match, one a line. As in .gitignore, # begins a comment, ! takes a name back in,
// a slash at the end means directories only, and a slash elsewhere ties the pattern to the top.
func parseIgnore(lines []string) (ignoreRules, error) {
	var rules ignoreRules
	for _, line := range lines {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		var rule ignoreRule
		line, rule.keep = strings.CutPrefix(line, "!")
		line, rule.dirOnly = strings.CutSuffix(line, "/")
		rule.rooted = strings.Contains(line, "/")
		rule.pattern = strings.TrimPrefix(line, "/")
		if _, err := path.Match(rule.pattern, ""); err != nil {
			return nil, fmt.Errorf("%s: %q is not a pattern", ignoreFile, line)
		}
		rules = append(rules, rule)
	}
	return rules, nil
}

func (rules ignoreRules) match(name string, isDir bool) bool {
	ignored := false
	for i := range rules {
		rule := &rules[i]
		if rule.dirOnly && !isDir {
			continue
		}
		subject := name
		if !rule.rooted {
			subject = path.Base(name)
		}
		if ok, err := path.Match(rule.pattern, subject); ok && err == nil {
			ignored = !rule.keep
		}
	}
	return ignored
}
