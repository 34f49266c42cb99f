package insights

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Query is a query that was read.
type Query struct{ commands []command }

// command is one of: setFields, keep, extract, aggregate, order, first, unique.
type command any

type (
	// setFields computes fields; only: these are all that is shown (display).
	setFields struct {
		list []named
		only bool
	}
	keep    struct{ expr expr }
	extract struct {
		from   expr
		regexp *regexp.Regexp
		names  []string // of the groups; empty: none
	}
	aggregate struct {
		list []named
		by   []named
		aggs []*aggregation
	}
	order  struct{ list []sortKey }
	first  struct{ n int }
	unique struct{ fields []expr }
)

type named struct {
	name string
	expr expr
}

type sortKey struct {
	expr expr
	desc bool
}

// commands that AWS has and that are not there.
var missing = []string{
	"pattern", "diff", "unmask", "anomaly", "unnest", "source", "filterindex", "lookup", "join", "addtotals", "fillmissing", "relevantfields",
	"subquery", "append", "top", "rare", "eval", "where", "head", "appendcols", "expand", "flatten", "makemv",
}

type parser struct {
	*scanner

	depth int
	// aggs gathers the aggregate functions of a stats command; nil elsewhere.
	aggs *[]*aggregation
}

// Parse reads a query. The error is a sentence for its author.
func Parse(query string) (*Query, error) {
	p := &parser{scanner: newScanner(query)}
	q := &Query{}
	for more := true; more; {
		c, err := p.command()
		if p.err != nil {
			err = p.err
		}
		if err != nil {
			return nil, err
		}
		if q.commands = append(q.commands, c); len(q.commands) > maxCommands {
			return nil, fmt.Errorf("the query has more than %d commands", maxCommands)
		}
		if more = p.take("|"); !more && p.next.kind != atEnd {
			return nil, p.unexpected(`"|" or the end`)
		}
	}
	return q, nil
}

func (p *parser) command() (command, error) {
	if p.next.kind != name {
		return nil, p.unexpected("a command")
	}
	begin := p.next.begin
	word := strings.ToLower(p.advance().text)
	switch word {
	case "fields", "display":
		list, err := p.list()
		return setFields{list, word == "display"}, err
	case "filter":
		e, err := p.expression()
		return keep{e}, err
	case "parse":
		return p.parse()
	case "stats":
		return p.stats()
	case "sort", "order":
		return p.sort()
	case "limit":
		n, err := strconv.Atoi(p.next.text)
		if p.next.kind != number || err != nil || n < 1 || n > MaxRows {
			return nil, fmt.Errorf("limit wants a number from 1 to %d", MaxRows)
		}
		p.advance()
		return first{n}, nil
	case "dedup":
		return p.dedup()
	}
	for _, other := range missing {
		if word == other {
			return nil, fmt.Errorf("the command %s is %w", word, ErrNotImplemented)
		}
	}
	return nil, fmt.Errorf("there is no command %s (character %d): fields, filter, parse, stats, sort, limit, display, dedup", word, begin+1)
}

// list takes expressions with names, separated by commas.
func (p *parser) list() ([]named, error) {
	var list []named
	for {
		begin := p.next.begin
		e, err := p.expression()
		if err != nil {
			return nil, err
		}
		n := named{strings.TrimSpace(p.query[begin:p.next.begin]), e}
		if f, ok := e.(field); ok {
			n.name = string(f)
		}
		if p.take("as") {
			if p.next.kind != name {
				return nil, p.unexpected("a name")
			}
			n.name = p.advance().text
		}
		list = append(list, n)
		if !p.take(",") {
			return list, nil
		}
	}
}

func (p *parser) parse() (command, error) {
	x := extract{from: field("@message")}
	if p.next.kind == name {
		x.from = field(p.advance().text)
	}
	var err error
	glob := p.next.kind == text
	switch {
	case glob:
		pattern := p.advance().text
		parts := strings.Split(pattern, "*")
		var b strings.Builder
		b.WriteString("(?s)")
		for i, part := range parts {
			if i > 0 && i == len(parts)-1 && part == "" {
				b.WriteString("(.*)")
			} else if i > 0 {
				b.WriteString("(.*?)")
			}
			b.WriteString(regexp.QuoteMeta(part))
		}
		if x.regexp, err = p.budget.Compile(b.String(), true); err != nil {
			err = fmt.Errorf("the pattern of parse cannot be used: %w", err)
		}
	case p.is("/"):
		x.regexp, err = p.regexp(true)
	default:
		err = p.unexpected("a pattern in quotes or a regular expression between slashes")
	}
	if err != nil {
		return nil, err
	}
	x.names = x.regexp.SubexpNames()[1:]
	if !p.take("as") {
		if glob {
			return nil, p.unexpected(`"as" and the names of the fields`)
		}
		return x, nil
	}
	names := 0
	for {
		if p.next.kind != name {
			return nil, p.unexpected("a name")
		}
		if names >= len(x.names) {
			return nil, fmt.Errorf("the pattern has %d places, and more names", len(x.names))
		}
		x.names[names] = p.advance().text
		names++
		if !p.take(",") {
			break
		}
	}
	if names < len(x.names) {
		return nil, fmt.Errorf("the pattern has %d places, and %d names", len(x.names), names)
	}
	return x, nil
}

func (p *parser) stats() (command, error) {
	a := aggregate{}
	p.aggs = &a.aggs
	var err error
	a.list, err = p.list()
	p.aggs = nil
	if err != nil {
		return nil, err
	}
	if len(a.aggs) == 0 {
		return nil, fmt.Errorf("stats wants a function such as count(*), avg or max")
	}
	if p.take("by") {
		a.by, err = p.list()
	}
	return a, err
}

func (p *parser) sort() (command, error) {
	p.take("by")
	var o order
	// A column of stats can be named as it was written there: sort count(*) desc.
	p.aggs = new([]*aggregation)
	defer func() { p.aggs = nil }()
	for {
		begin := p.next.begin
		e, err := p.expression()
		if err != nil {
			return nil, err
		}
		e = labelled{strings.TrimSpace(p.query[begin:p.next.begin]), e}
		desc := p.take("desc")
		if !desc {
			p.take("asc")
		}
		o.list = append(o.list, sortKey{e, desc})
		if !p.take(",") {
			return o, nil
		}
	}
}

func (p *parser) dedup() (command, error) {
	var u unique
	for {
		if p.next.kind != name {
			return nil, p.unexpected("a field")
		}
		u.fields = append(u.fields, field(p.advance().text))
		if len(u.fields) > maxDedup {
			return nil, fmt.Errorf("dedup takes up to %d fields", maxDedup)
		}
		if !p.take(",") {
			return u, nil
		}
	}
}

// expression takes or, and, not, comparisons, sums, products, powers and what they are made of.
func (p *parser) expression() (expr, error) {
	if p.depth++; p.depth > maxDepth {
		return nil, fmt.Errorf("the query nests deeper than %d", maxDepth)
	}
	defer func() { p.depth-- }()
	a, err := p.conjunction()
	for err == nil && p.take("or") {
		var b expr
		b, err = p.conjunction()
		a = either{a, b}
	}
	return a, err
}

func (p *parser) conjunction() (expr, error) {
	a, err := p.negation()
	for err == nil && p.take("and") {
		var b expr
		b, err = p.negation()
		a = both{a, b}
	}
	return a, err
}

func (p *parser) negation() (expr, error) {
	if p.take("not") {
		if p.depth++; p.depth > maxDepth {
			return nil, fmt.Errorf("the query nests deeper than %d", maxDepth)
		}
		defer func() { p.depth-- }()
		e, err := p.negation()
		return not{e}, err
	}
	return p.comparison()
}

func (p *parser) comparison() (expr, error) {
	a, err := p.sum()
	if err != nil {
		return nil, err
	}
	for _, o := range []string{"=~", "!=", "<=", ">=", "=", "<", ">"} {
		if !p.is(o) {
			continue
		}
		p.advance()
		if o == "=~" || p.is("/") && (o == "=" || o == "!=") {
			r, err := p.pattern()
			if o == "!=" {
				return not{matches{a, r}}, err
			}
			return matches{a, r}, err
		}
		b, err := p.sum()
		return compare{o, a, b}, err
	}
	negated := p.take("not")
	var e expr
	switch {
	case p.take("like"):
		var r *regexp.Regexp
		r, err = p.pattern()
		e = matches{a, r}
	case p.take("in"):
		e, err = p.among(a)
	case negated:
		return nil, p.unexpected(`"like" or "in"`)
	default:
		return a, nil
	}
	if negated {
		e = not{e}
	}
	return e, err
}

// pattern takes a regular expression, or a text that is to be found as it is.
func (p *parser) pattern() (*regexp.Regexp, error) {
	if p.is("/") {
		return p.regexp(false)
	}
	if p.next.kind != text {
		return nil, p.unexpected("a text in quotes or a regular expression between slashes")
	}
	return regexp.Compile(regexp.QuoteMeta(p.advance().text))
}

func (p *parser) among(a expr) (expr, error) {
	if err := p.want("["); err != nil {
		return nil, err
	}
	in := among{a, nil}
	for !p.take("]") {
		e, err := p.sum()
		if err != nil {
			return nil, err
		}
		in.list = append(in.list, e)
		if !p.take(",") {
			if err := p.want("]"); err != nil {
				return nil, err
			}
			break
		}
	}
	return in, nil
}

func (p *parser) sum() (expr, error) {
	a, err := p.product()
	for err == nil && (p.is("+") || p.is("-")) {
		o := p.advance().text
		var b expr
		b, err = p.product()
		a = arithmetic{o[0], a, b}
	}
	return a, err
}

func (p *parser) product() (expr, error) {
	a, err := p.power()
	for err == nil && (p.is("*") || p.is("/") || p.is("%")) {
		o := p.advance().text
		var b expr
		b, err = p.power()
		a = arithmetic{o[0], a, b}
	}
	return a, err
}

func (p *parser) power() (expr, error) {
	a, err := p.operand()
	for err == nil && p.take("^") {
		var b expr
		b, err = p.operand()
		a = arithmetic{'^', a, b}
	}
	return a, err
}

func (p *parser) operand() (expr, error) {
	switch {
	case p.take("("):
		e, err := p.expression()
		if err == nil {
			err = p.want(")")
		}
		return e, err
	case p.take("-"):
		if p.depth++; p.depth > maxDepth {
			return nil, fmt.Errorf("the query nests deeper than %d", maxDepth)
		}
		defer func() { p.depth-- }()
		e, err := p.operand()
		return arithmetic{'-', constant{0.0}, e}, err
	}
	switch p.next.kind {
	case text:
		return constant{p.advance().text}, nil
	case number:
		t := p.advance()
		n, err := strconv.ParseFloat(t.text, 64)
		if err != nil {
			return nil, fmt.Errorf("%q at character %d is not a number", t.text, t.begin+1)
		}
		return constant{n}, nil
	case name:
		t := p.advance()
		if p.is("(") && !t.quoted {
			return p.call(t)
		}
		if !t.quoted && (strings.EqualFold(t.text, "true") || strings.EqualFold(t.text, "false")) {
			return constant{strings.ToLower(t.text)}, nil
		}
		return field(t.text), nil
	}
	return nil, p.unexpected("a field, a value or a function")
}

// call takes a function's arguments.
func (p *parser) call(t token) (expr, error) {
	p.advance()
	fn := strings.ToLower(t.text)
	if kind, ok := aggregates[fn]; ok {
		return p.aggregateCall(t, fn, kind)
	}
	switch fn {
	case "bin", "datefloor", "dateceil":
		return p.dateCall(fn)
	case "now":
		return call{scalar: functions[fn].fn}, p.want(")")
	}
	f, ok := functions[fn]
	if !ok {
		return nil, fmt.Errorf("there is no function %s (character %d)", t.text, t.begin+1)
	}
	args, err := p.arguments()
	if err != nil {
		return nil, err
	}
	if len(args) < f.least || f.most > 0 && len(args) > f.most {
		return nil, fmt.Errorf("%s does not take %d arguments", fn, len(args))
	}
	return call{f.fn, args}, nil
}

func (p *parser) arguments() ([]expr, error) {
	var args []expr
	if p.take(")") {
		return nil, nil
	}
	for {
		e, err := p.expression()
		if err != nil {
			return nil, err
		}
		args = append(args, e)
		if p.take(",") {
			continue
		}
		return args, p.want(")")
	}
}

func (p *parser) aggregateCall(t token, fn string, kind aggregateKind) (expr, error) {
	if p.aggs == nil {
		return nil, fmt.Errorf("the function %s (character %d) can only be used in stats", fn, t.begin+1)
	}
	a := &aggregation{kind: kind, index: len(*p.aggs)}
	gather := p.aggs
	p.aggs = nil // none within another
	defer func() { p.aggs = gather }()
	var err error
	if fn == "count" && (p.take("*") || p.is(")")) {
		a.arg = constant{1.0}
	} else if a.arg, err = p.expression(); err != nil {
		return nil, err
	}
	if fn == "pct" || fn == "percentile" {
		if err := p.want(","); err != nil {
			return nil, err
		}
		a.percent, err = strconv.ParseFloat(p.next.text, 64)
		if p.next.kind != number || err != nil || a.percent < 0 || a.percent > 100 {
			return nil, fmt.Errorf("%s wants a number from 0 to 100 as its second argument", fn)
		}
		p.advance()
	}
	*gather = append(*gather, a)
	return a, p.want(")")
}

// dateCall takes bin(period), and datefloor and dateceil of a time and a period.
func (p *parser) dateCall(fn string) (expr, error) {
	d := dateBin{at: field("@timestamp"), up: fn == "dateceil"}
	if fn != "bin" || p.next.kind != number {
		var err error
		if d.at, err = p.expression(); err != nil {
			return nil, err
		}
		if err := p.want(","); err != nil {
			return nil, err
		}
	}
	t := p.advance()
	var err error
	if d.period, err = period(t); err != nil {
		return nil, err
	}
	return d, p.want(")")
}

// units of periods, after the page on datetime functions.
var units = []struct {
	names []string
	unit  time.Duration
}{
	{[]string{"ms", "msec"}, time.Millisecond},
	{[]string{"s", "sec"}, time.Second},
	{[]string{"m", "min"}, time.Minute},
	{[]string{"h", "hr"}, time.Hour},
	{[]string{"d"}, 24 * time.Hour},
	{[]string{"w"}, 7 * 24 * time.Hour},
	{[]string{"mo", "mon"}, 30 * 24 * time.Hour},
	{[]string{"q", "qtr"}, 91 * 24 * time.Hour},
	{[]string{"y", "yr"}, 365 * 24 * time.Hour},
}

func period(t token) (time.Duration, error) {
	i := 0
	for i < len(t.text) && isDigit(t.text[i]) {
		i++
	}
	n, err := strconv.ParseInt(t.text[:i], 10, 32)
	if t.kind == number && err == nil && n > 0 {
		for _, u := range units {
			for _, unit := range u.names {
				// No time in a log is further back than this.
				if strings.EqualFold(t.text[i:], unit) && time.Duration(n) <= 100*365*24*time.Hour/u.unit {
					return time.Duration(n) * u.unit, nil
				}
			}
		}
	}
	return 0, fmt.Errorf("%q at character %d is not a period such as 30s, 5m or 1h", t.text, t.begin+1)
}
