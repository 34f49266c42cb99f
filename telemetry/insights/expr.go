package insights

import (
	"math"
	"net/netip"
	"regexp"
	"strings"
	"time"
	"unicode/utf8"
)

// maxText bounds what a function of texts makes, bytes; the longest message has as many.
const maxText = 256 << 10

// expr is a part of a query that has a value for each row.
type expr interface{ eval(r *row) value }

type (
	constant   struct{ v value }
	field      string
	either     struct{ a, b expr }
	both       struct{ a, b expr }
	not        struct{ e expr }
	arithmetic struct {
		operator byte
		a, b     expr
	}
	compare struct {
		operator string
		a, b     expr
	}
	matches struct {
		e      expr
		regexp *regexp.Regexp
	}
	among struct {
		e    expr
		list []expr
	}
	call struct {
		scalar func(args []value) value
		args   []expr
	}
	dateBin struct {
		at     expr
		period time.Duration
		up     bool
	}
)

// labelled is an expression as it was written, which may be the name of a column of stats.
type labelled struct {
	text string
	e    expr
}

func (l labelled) eval(r *row) value {
	if r.event == nil {
		if v, ok := r.set[l.text]; ok {
			return v
		}
	}
	return l.e.eval(r)
}

func (c constant) eval(*row) value { return c.v }
func (f field) eval(r *row) value  { return r.get(string(f)) }
func (e either) eval(r *row) value { return boolean(truth(e.a.eval(r)) || truth(e.b.eval(r))) }
func (e both) eval(r *row) value   { return boolean(truth(e.a.eval(r)) && truth(e.b.eval(r))) }
func (e not) eval(r *row) value    { return boolean(!truth(e.e.eval(r))) }

func (e arithmetic) eval(r *row) value {
	a, okA := toNumber(e.a.eval(r))
	b, okB := toNumber(e.b.eval(r))
	if !okA || !okB {
		return nil
	}
	switch e.operator {
	case '+':
		return finite(a + b)
	case '-':
		return finite(a - b)
	case '*':
		return finite(a * b)
	case '/':
		return finite(a / b)
	case '%':
		return finite(math.Mod(a, b))
	}
	return finite(math.Pow(a, b))
}

func (e compare) eval(r *row) value {
	a, b := e.a.eval(r), e.b.eval(r)
	if a == nil || b == nil {
		return boolean(e.operator == "!=" && (a == nil) != (b == nil))
	}
	c := compareValues(a, b)
	switch e.operator {
	case "=":
		return boolean(c == 0)
	case "!=":
		return boolean(c != 0)
	case "<":
		return boolean(c < 0)
	case "<=":
		return boolean(c <= 0)
	case ">":
		return boolean(c > 0)
	}
	return boolean(c >= 0)
}

func (e matches) eval(r *row) value {
	v := e.e.eval(r)
	return boolean(v != nil && e.regexp.MatchString(toText(v)))
}

func (e among) eval(r *row) value {
	v := e.e.eval(r)
	if v == nil {
		return boolean(false)
	}
	for _, one := range e.list {
		if other := one.eval(r); other != nil && compareValues(v, other) == 0 {
			return boolean(true)
		}
	}
	return boolean(false)
}

func (e call) eval(r *row) value {
	args := make([]value, len(e.args))
	for i, a := range e.args {
		args[i] = a.eval(r)
	}
	return e.scalar(args)
}

func (e dateBin) eval(r *row) value {
	ms, ok := toNumber(e.at.eval(r))
	if !ok || math.Abs(ms) > 1<<52 {
		return nil
	}
	period := e.period.Milliseconds()
	low := int64(math.Floor(ms/float64(period))) * period
	if e.up && float64(low) < ms {
		low += period
	}
	return moment(low)
}

// function is one that gives a value for the values of its arguments.
type function struct {
	least, most int // arguments; most 0: any number
	fn          func(args []value) value
}

func numeric(fn func(float64) float64) function {
	return function{1, 1, func(args []value) value {
		n, ok := toNumber(args[0])
		if !ok {
			return nil
		}
		return finite(fn(n))
	}}
}

func textual(fn func(string) value) function {
	return function{1, 1, func(args []value) value {
		if args[0] == nil {
			return nil
		}
		return fn(toText(args[0]))
	}}
}

// trims takes a text and, if given, the characters to be cut off instead of white space.
func trims(fn func(s, cutset string) string) function {
	return function{1, 2, func(args []value) value {
		cutset := " \t\r\n"
		if len(args) == 2 {
			cutset = toText(args[1])
		}
		if args[0] == nil {
			return nil
		}
		return fn(toText(args[0]), cutset)
	}}
}

func extreme(least bool) function {
	return function{1, 0, func(args []value) value {
		var best value
		for _, a := range args {
			n, ok := toNumber(a)
			if !ok {
				continue
			}
			if best == nil || (n < best.(float64)) == least {
				best = n
			}
		}
		return best
	}}
}

func address(fn func(netip.Addr) bool) function {
	return textual(func(s string) value {
		a, err := netip.ParseAddr(s)
		return boolean(err == nil && fn(a))
	})
}

func subnet(fn func(netip.Addr) bool) function {
	return function{2, 2, func(args []value) value {
		if args[0] == nil || args[1] == nil {
			return nil
		}
		a, err1 := netip.ParseAddr(toText(args[0]))
		p, err2 := netip.ParsePrefix(toText(args[1]))
		return boolean(err1 == nil && err2 == nil && fn(a) && p.Contains(a))
	}}
}

var functions = map[string]function{
	"abs": numeric(math.Abs), "ceil": numeric(math.Ceil), "floor": numeric(math.Floor), "log": numeric(math.Log), "sqrt": numeric(math.Sqrt),
	"greatest": extreme(false), "least": extreme(true),

	"ispresent": {1, 1, func(args []value) value { return boolean(args[0] != nil) }},
	"coalesce": {1, 0, func(args []value) value {
		for _, a := range args {
			if a != nil {
				return a
			}
		}
		return nil
	}},

	"isempty": {1, 1, func(args []value) value { return boolean(args[0] == nil || toText(args[0]) == "") }},
	"isblank": {1, 1, func(args []value) value { return boolean(args[0] == nil || strings.TrimSpace(toText(args[0])) == "") }},
	"strlen":  textual(func(s string) value { return float64(utf8.RuneCountInString(s)) }),
	"toupper": textual(func(s string) value { return strings.ToUpper(s) }),
	"tolower": textual(func(s string) value { return strings.ToLower(s) }),
	"trim":    trims(strings.Trim), "ltrim": trims(strings.TrimLeft), "rtrim": trims(strings.TrimRight),
	"concat": {1, 0, func(args []value) value {
		var b strings.Builder
		for _, a := range args {
			if b.Len() < maxText {
				b.WriteString(toText(a))
			}
		}
		return b.String()
	}},
	"strcontains": {2, 2, func(args []value) value {
		return boolean(args[0] != nil && strings.Contains(toText(args[0]), toText(args[1])))
	}},
	"replace": {3, 3, func(args []value) value {
		if args[0] == nil {
			return nil
		}
		s, from, to := toText(args[0]), toText(args[1]), toText(args[2])
		if from == "" || len(s)+strings.Count(s, from)*len(to) > maxText {
			return s
		}
		return strings.ReplaceAll(s, from, to)
	}},
	"substr": {2, 3, func(args []value) value {
		if args[0] == nil {
			return nil
		}
		s := []rune(toText(args[0]))
		begin, ok := toNumber(args[1])
		if !ok {
			return nil
		}
		from := int(min(max(begin, 0), float64(len(s))))
		to := len(s)
		if len(args) == 3 {
			length, ok := toNumber(args[2])
			if !ok {
				return nil
			}
			to = from + int(min(max(length, 0), float64(len(s)-from)))
		}
		return string(s[from:to])
	}},

	"frommillis": {1, 1, func(args []value) value {
		n, ok := toNumber(args[0])
		if !ok || math.Abs(n) > 1<<52 {
			return nil
		}
		return moment(n)
	}},
	"tomillis": numeric(func(n float64) float64 { return n }),
	"now":      {0, 0, func([]value) value { return float64(time.Now().Unix()) }},

	"isvalidip":      address(func(netip.Addr) bool { return true }),
	"isvalidipv4":    address(netip.Addr.Is4),
	"isvalidipv6":    address(netip.Addr.Is6),
	"isipinsubnet":   subnet(func(netip.Addr) bool { return true }),
	"isipv4insubnet": subnet(netip.Addr.Is4),
	"isipv6insubnet": subnet(netip.Addr.Is6),
}
