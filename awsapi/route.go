package awsapi

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"thaw"
)

// incoming is a request whose operation is known, with the parts that were read to find it.
type incoming struct {
	op     *operation
	labels map[string]string // rest-json: the decoded URI labels
	query  url.Values        // rest-json: the query string
	form   url.Values        // query protocol: all parameters
}

// A router finds the operation of a rest-json request. Routes are kept by method and the literals that their
// path begins with, two at most; the more literals a route has, the earlier it is tried.
type router struct {
	service string
	routes  map[string][]route
}

type route struct {
	op       *operation
	segments []segment
	query    url.Values // literals that the query string must hold
	greedy   bool       // the last label takes all that is left, slashes too
}

type segment struct {
	literal string
	label   string
}

func newRouter(m *model) router {
	r := router{service: m.Service, routes: make(map[string][]route)}
	if m.Protocol != protocolREST {
		return r
	}
	for _, op := range m.Operations {
		path, literal, _ := strings.Cut(op.URI, "?")
		rt := route{op: op}
		rt.query, _ = url.ParseQuery(literal)
		for _, part := range splitPath(path) {
			if name, ok := strings.CutPrefix(part, "{"); ok {
				name = strings.TrimSuffix(name, "}")
				rt.segments = append(rt.segments, segment{label: name})
				rt.greedy = name == "Resource" || name == "ResourceArn"
				continue
			}
			rt.segments = append(rt.segments, segment{literal: part})
			rt.greedy = false
		}
		key := routeKey(op.Method, rt.prefix())
		r.routes[key] = append(r.routes[key], rt)
	}
	for _, list := range r.routes {
		slices.SortFunc(list, func(a, b route) int {
			if d := b.literals() - a.literals(); d != 0 {
				return d
			}
			return strings.Compare(a.op.name, b.op.name)
		})
	}
	return r
}

// maxPrefix is how many literals routes are kept by.
const maxPrefix = 2

// prefix is the literals that the path begins with.
func (rt *route) prefix() (literals []string) {
	for _, s := range rt.segments {
		if s.label != "" || len(literals) == maxPrefix {
			break
		}
		literals = append(literals, s.literal)
	}
	return literals
}

func (rt *route) literals() int {
	n := len(rt.query)
	for _, s := range rt.segments {
		if s.label == "" {
			n++
		}
	}
	return n
}

// splitPath cuts an escaped path at its slashes. A trailing one, which old SDKs send, does not count.
func splitPath(path string) []string {
	path = strings.TrimPrefix(path, "/")
	path = strings.TrimSuffix(path, "/")
	if path == "" {
		return nil
	}
	return strings.Split(path, "/")
}

func routeKey(method string, parts []string) string {
	return method + " " + strings.Join(parts, "/")
}

func (r *router) find(req *http.Request) (incoming, error) {
	parts := splitPath(req.URL.EscapedPath())
	var query url.Values
	if req.URL.RawQuery != "" {
		var err error
		if query, err = url.ParseQuery(req.URL.RawQuery); err != nil {
			return incoming{}, thaw.Errorf(thaw.CodeSerialization, "The query string cannot be read: %v.", err)
		}
	}
	for n := min(len(parts), maxPrefix); n > 0; n-- {
		for _, rt := range r.routes[routeKey(req.Method, parts[:n])] {
			if labels, ok := rt.match(parts, query); ok {
				return incoming{op: rt.op, labels: labels, query: query}, nil
			}
		}
	}
	return incoming{}, thaw.Errorf(thaw.CodeUnknownOperation, "%s has no operation at %s %s.",
		serviceTitle(r.service), req.Method, req.URL.EscapedPath())
}

func (rt *route) match(parts []string, query url.Values) (map[string]string, bool) {
	if len(parts) != len(rt.segments) && (!rt.greedy || len(parts) < len(rt.segments)) {
		return nil, false
	}
	var labels map[string]string
	for i, s := range rt.segments {
		if s.label == "" {
			if parts[i] != s.literal {
				return nil, false
			}
			continue
		}
		value := parts[i]
		if rt.greedy && i == len(rt.segments)-1 {
			value = strings.Join(parts[i:], "/")
		}
		value, err := url.PathUnescape(value)
		if err != nil || value == "" {
			return nil, false
		}
		if labels == nil {
			labels = make(map[string]string, 2)
		}
		labels[s.label] = value
	}
	for key, want := range rt.query {
		if !slices.Equal(query[key], want) {
			return nil, false
		}
	}
	return labels, true
}
