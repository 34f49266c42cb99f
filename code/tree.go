package code

import (
	"path"
	"strings"
	"unicode/utf8"
)

// kind is what a path in the tree is.
type kind uint8

const (
	directory kind = iota + 1
	file
	link
)

// maxNodes bounds files, links and directories of one package, those directories included that only names imply. It is
// the bound of the archive format before its 64-bit extension. What layers make together may have as many of each.
const maxNodes = 65_535

// maxLinkBytes bounds a link's target.
const maxLinkBytes = 1024

// maxHops bounds the links that one path may lead through; the kernel's own bound is 40.
const maxHops = 40

// tree is what an archive would become on disk.
type tree struct {
	nodes map[string]kind
	links map[string]string // targets
	most  int               // nodes
}

func newTree(most int) *tree {
	return &tree{nodes: map[string]kind{}, links: map[string]string{}, most: most}
}

// add places a node and the directories above it. A directory may be named more than once, everything else only once.
func (t *tree) add(name string, k kind) error {
	if name == "." {
		if k != directory {
			return refuse("a file has the name of the function's directory itself")
		}
		return nil
	}
	switch old, taken := t.nodes[name]; {
	case taken && old == directory && k == directory:
		return nil
	case taken && (old == directory || k == directory):
		return refuse("%q is both a directory and something else", name)
	case taken:
		return refuse("there are two entries with the name %q", name)
	}
	if err := t.add(path.Dir(name), directory); err != nil {
		return err
	}
	if len(t.nodes) >= t.most {
		return refuse("it has more than %d files and directories", t.most)
	}
	t.nodes[name] = k
	return nil
}

// addTarget says where the link at name leads.
func (t *tree) addTarget(name, target string) error {
	switch {
	case target == "" || !utf8.ValidString(target) || strings.ContainsRune(target, 0):
		return refuse("the link %q has no usable target", name)
	case target[0] == '/':
		return refuse("the link %q leads to %q, out of the function's directory; links must be relative", name, target)
	}
	t.links[name] = target
	return nil
}

// checkLinks follows every link as the kernel would, through further links where there are any, and refuses those that
// leave the tree on their way. A link to something that is not there is harmless.
func (t *tree) checkLinks() error {
	for name, target := range t.links {
		if err := t.follow(name, target); err != nil {
			return err
		}
	}
	return nil
}

func (t *tree) follow(name, target string) error {
	at := path.Dir(name)
	ahead := strings.Split(target, "/")
	for hops := 0; len(ahead) > 0; {
		element := ahead[0]
		ahead = ahead[1:]
		switch element {
		case "", ".":
			continue
		case "..":
			if at == "." {
				return refuse("the link %q leads to %q, out of the function's directory", name, target)
			}
			at = path.Dir(at)
			continue
		}
		next := path.Join(at, element)
		through, isLink := t.links[next]
		if !isLink {
			at = next
			continue
		}
		if hops++; hops > maxHops {
			return refuse("the link %q leads through more than %d links", name, maxHops)
		}
		ahead = append(strings.Split(through, "/"), ahead...)
	}
	return nil
}
