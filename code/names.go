package code

import (
	"path"
	"strings"
	"unicode/utf8"
)

const (
	maxPathBytes = 1024 // /var/task/ and the cache's own path come on top, and PATH_MAX is 4,096
	maxNameBytes = 255  // NAME_MAX of Linux
)

// cleanName gives an entry's path in the tree: relative, without empty, "." or ".." elements. "." is the tree itself.
// Names that differ in case only are different names, as they are on AWS and on Linux.
func cleanName(name string) (string, error) {
	switch {
	case name == "":
		return "", refuse("an entry has no name")
	case len(name) > maxPathBytes:
		return "", refuse("the name %.40q... has %d bytes; at most %d are possible", name, len(name), maxPathBytes)
	case !utf8.ValidString(name):
		return "", refuse("the name %q is not UTF-8", name)
	case strings.ContainsRune(name, 0):
		return "", refuse("the name %q has a NUL byte", name)
	case strings.Contains(name, `\`):
		return "", refuse("the name %q has a backslash; directories are separated by slashes", name)
	case name[0] == '/':
		return "", refuse("the name %q is absolute; names must be relative to the function's directory", name)
	}
	for element := range strings.SplitSeq(name, "/") {
		if element == ".." {
			return "", refuse("the name %q leads out of the function's directory", name)
		}
		if len(element) > maxNameBytes {
			return "", refuse("the name %.40q... has an element of %d bytes; at most %d are possible", name, len(element), maxNameBytes)
		}
	}
	return path.Clean(name), nil
}
