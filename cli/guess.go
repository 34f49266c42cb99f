package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// guess is what the files of a package say about how to run them.
type guess struct {
	Runtime string
	Handler string
}

// language is how one language's functions are recognised.
type language struct {
	prefix     string         // of AWS's runtime identifiers
	fallback   string         // the identifier when the platform does not say which it has
	extensions []string       // of its source files
	names      []string       // of the file that usually holds the handler, without extension, best first
	handler    *regexp.Regexp // the definition of a handler in a file; its first non-empty group is the handler's name
}

// languages in the order in which they are looked for: a package.json beside a stray script decides for Node.
var languages = []language{
	{
		prefix: "nodejs", fallback: "nodejs20.x", extensions: []string{".mjs", ".js", ".cjs"},
		names:   []string{"index", "app", "main", "handler", "lambda"},
		handler: regexp.MustCompile(`(?m)^\s*(?:module\.)?exports\.(handler|lambdaHandler)\b|^\s*export\s+(?:const|let|var|async\s+function|function)\s+(handler|lambdaHandler)\b|\bmodule\.exports\s*=\s*\{[^}]*\b(handler|lambdaHandler)\b|^\s*export\s*\{[^}]*\b(handler|lambdaHandler)\b`),
	},
	{
		prefix: "python", fallback: "python3.11", extensions: []string{".py"},
		names:   []string{"lambda_function", "app", "main", "handler", "index", "function"},
		handler: regexp.MustCompile(`(?m)^(?:async\s+)?(?:def\s+(lambda_handler|handler|main)\s*\(|(lambda_handler|handler)\s*=)`),
	},
	{
		prefix: "ruby", fallback: "ruby3.2", extensions: []string{".rb"},
		names:   []string{"lambda_function", "app", "main", "handler", "index", "function"},
		handler: regexp.MustCompile(`(?m)^def\s+(lambda_handler|handler)\b`),
	},
}

// maxSource bounds what is read of one file when looking for a handler.
const maxSource = 1 << 20

var errNoGuess = errors.New("no handler found")

// guessFrom looks at the top of a package. runtimes are the identifiers that the platform has, in any order; none means
// that it did not say.
func guessFrom(files fs.FS, runtimes []string) (guess, error) {
	entries, err := fs.ReadDir(files, ".")
	if err != nil {
		return guess{}, err
	}
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		if !e.IsDir() {
			names = append(names, e.Name())
		}
	}
	if slices.Contains(names, "bootstrap") {
		return guess{Runtime: "provided.al2023", Handler: "bootstrap"}, nil
	}
	entry, err := nodeEntry(files, names)
	if err != nil {
		return guess{}, err
	}
	for i := range languages {
		lang := &languages[i]
		candidates := lang.candidates(names)
		if entry != "" && lang.prefix == "nodejs" {
			candidates = append([]string{entry}, candidates...)
		}
		for _, name := range candidates {
			if symbol := lang.handlerIn(files, name); symbol != "" {
				module := strings.TrimSuffix(name, path.Ext(name))
				return guess{Runtime: lang.newest(runtimes), Handler: module + "." + symbol}, nil
			}
		}
	}
	return guess{}, errNoGuess
}

// nodeEntry is package.json's main file, empty when there is none.
func nodeEntry(files fs.FS, names []string) (string, error) {
	if !slices.Contains(names, "package.json") {
		return "", nil
	}
	text, err := fs.ReadFile(files, "package.json")
	if err != nil {
		return "", err
	}
	var manifest struct {
		Main string `json:"main"`
	}
	if err := json.Unmarshal(text, &manifest); err != nil {
		return "", fmt.Errorf("package.json is not valid: %w", err)
	}
	entry := path.Clean(manifest.Main)
	if manifest.Main == "" || !fs.ValidPath(entry) {
		return "", nil
	}
	return entry, nil
}

// candidates are the language's files among names, the usual ones first.
func (l *language) candidates(names []string) []string {
	var found []string
	for _, name := range names {
		if slices.Contains(l.extensions, path.Ext(name)) {
			found = append(found, name)
		}
	}
	rank := func(name string) int {
		if i := slices.Index(l.names, strings.TrimSuffix(name, path.Ext(name))); i >= 0 {
			return i
		}
		return len(l.names)
	}
	slices.SortStableFunc(found, func(a, b string) int { return rank(a) - rank(b) })
	return found
}

// handlerIn is the name of the handler that the file defines, or empty.
func (l *language) handlerIn(files fs.FS, name string) string {
	file, err := files.Open(name)
	if err != nil {
		return "" // package.json may name a file that is not there
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, maxSource))
	if err != nil {
		return ""
	}
	for _, group := range append(l.handler.FindStringSubmatch(string(text)), "")[1:] {
		if group != "" {
			return group
		}
	}
	return ""
}

// newest is the language's highest version among the platform's runtimes.
func (l *language) newest(runtimes []string) string {
	best := ""
	for _, r := range runtimes {
		if strings.HasPrefix(r, l.prefix) && (best == "" || versionLess(best[len(l.prefix):], r[len(l.prefix):])) {
			best = r
		}
	}
	return first(best, l.fallback)
}

// versionLess compares "3.9" with "3.11", and "20.x" with "22.x", by number.
func versionLess(a, b string) bool {
	numbers := func(s string) []int {
		var out []int
		for part := range strings.SplitSeq(s, ".") {
			n, err := strconv.Atoi(part)
			if err != nil {
				break
			}
			out = append(out, n)
		}
		return out
	}
	return slices.Compare(numbers(a), numbers(b)) < 0
}
