package metricmath

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"thaw/telemetry/metrics"
)

const (
	searchPeriod = 5 * time.Minute // where neither the function nor the query says
	searchPage   = 1000            // metrics that are looked at together
	maxFound     = 500             // metrics that one search gives
	searchCost   = 20              // what it takes to look for a word in a metric, in values of series
)

// search is SEARCH('{Namespace,Dimension} terms', 'Statistic', period): an array of all metrics that match, after the user
// guide's page "CloudWatch search expression syntax".
func search(e *evaluation, a []value) (value, error) {
	pattern, ok := a[0].(text)
	if !ok {
		return nil, &mismatch{0}
	}
	name, ok := a[1].(text)
	if !ok {
		return nil, &mismatch{1}
	}
	period := cmp.Or(e.query.Period, searchPeriod)
	if len(a) > 2 {
		seconds, ok := a[2].(float64)
		if !ok {
			return nil, &mismatch{2}
		}
		if period = time.Duration(seconds) * time.Second; period < time.Second || seconds > 1e6 {
			return nil, failure("A period of %v seconds is not possible in SEARCH.", seconds)
		}
	}
	statistic, ok := metrics.ParseStatistic(string(name))
	if !ok {
		return nil, failure("The value %s in SEARCH is not a valid statistic.", name)
	}
	q, err := parseSearch(string(pattern))
	if err != nil {
		return nil, failure("SEARCH has an expression that cannot be read: %v", err)
	}
	if e.dry {
		return list{}, nil
	}
	found, err := q.find(e)
	if err != nil {
		return nil, err
	}
	if e.found += len(found); e.found > maxSeries {
		return nil, failure("The searches of one request can give %d metrics, and give more. Search for fewer.", maxSeries)
	}
	out := make(list, len(found))
	for i, m := range found {
		stat := &Stat{Metric: m, Period: period, Statistic: statistic}
		points, err := e.read(stat)
		if err != nil {
			return nil, err
		}
		out[i] = seriesOf(points, stat)
		out[i].label = distinct(found, &found[i])
	}
	return out, nil
}

// distinct is what tells a metric from the others that a search has found: its name and dimensions where they differ.
func distinct(all []metrics.Metric, m *metrics.Metric) string {
	var parts []string
	if slices.ContainsFunc(all, func(other metrics.Metric) bool { return other.Name != m.Name }) {
		parts = append(parts, m.Name)
	}
	for _, d := range m.Dimensions {
		if slices.ContainsFunc(all, func(other metrics.Metric) bool { v, _ := dimension(&other, d.Name); return v != d.Value }) {
			parts = append(parts, d.Value)
		}
	}
	if len(parts) == 0 {
		return m.Name
	}
	return strings.Join(parts, " ")
}

// searchQuery is a parsed search expression.
type searchQuery struct {
	schema     bool
	namespace  string
	dimensions []string // in order
	words      int
	match      func(m *metrics.Metric) bool // for one goroutine
}

func (q *searchQuery) find(e *evaluation) (found []metrics.Metric, err error) {
	for after := ""; ; {
		page, next, err := e.source.List(e.ctx, metrics.Filter{Namespace: q.namespace}, after, searchPage)
		if err != nil {
			return nil, err
		}
		for i := range page {
			if !q.fits(&page[i]) {
				continue
			}
			e.work += searchCost * (1 + q.words)
			if q.match(&page[i]) {
				found = append(found, page[i])
			}
			if len(found) == maxFound {
				return found, nil
			}
		}
		if err := e.takes(); err != nil {
			return nil, err
		}
		if next == "" {
			return found, nil
		}
		after = next
	}
}

// fits reports whether a metric has the dimensions of the schema; its namespace is asked for.
func (q *searchQuery) fits(m *metrics.Metric) bool {
	return !q.schema || slices.EqualFunc(m.Dimensions, q.dimensions, func(d metrics.Dimension, name string) bool { return d.Name == name }) // both are in order
}

// parseSearch reads {Namespace,Dimension,…} and terms, either of which may be missing.
func parseSearch(text string) (*searchQuery, error) {
	q := &searchQuery{}
	text = strings.TrimSpace(text)
	if rest, ok := strings.CutPrefix(text, "{"); ok {
		schema, after, ok := strings.Cut(rest, "}")
		if !ok {
			return nil, fmt.Errorf("the schema has no closing brace")
		}
		parts := strings.Split(schema, ",")
		for i, p := range parts {
			if parts[i] = strings.Trim(strings.TrimSpace(p), `"`); parts[i] == "" {
				return nil, fmt.Errorf("the schema has an empty name")
			}
		}
		q.schema, q.namespace, q.dimensions = true, parts[0], parts[1:]
		slices.Sort(q.dimensions)
		text = strings.TrimLeft(after, ", \t") // a comma may follow, as in examples of the user guide
	}
	p := searchParser{words: searchWords(text), known: make(knownWords)}
	q.words = len(p.words)
	if len(p.words) == 0 {
		if !q.schema {
			return nil, fmt.Errorf("it is empty")
		}
		q.match = func(*metrics.Metric) bool { return true }
		return q, nil
	}
	var err error
	if q.match, err = p.any(0, ""); err == nil && p.at < len(p.words) {
		err = fmt.Errorf("'%s' is not expected", p.words[p.at])
	}
	return q, err
}

// searchWords cuts at blanks and takes brackets, equals signs and quoted texts, with their quotes, as words.
func searchWords(text string) (words []string) {
	for i := 0; i < len(text); {
		begin := i
		switch c := text[i]; {
		case unicode.IsSpace(rune(c)):
			i++
			continue
		case c == '(' || c == ')' || c == '=':
			i++
		case c == '"':
			end := strings.IndexByte(text[i+1:], '"')
			if end < 0 {
				end = len(text) - i - 2
			}
			i += end + 2
		default:
			for i < len(text) && !strings.ContainsRune(" \t\r\n()=\"", rune(text[i])) {
				i++
			}
		}
		words = append(words, text[begin:min(i, len(text))])
	}
	return words
}

type matcher = func(m *metrics.Metric) bool

type searchParser struct {
	words []string
	at    int
	known knownWords // of those that look for the terms
}

// knownWords are the words of some names: metrics share most of their names, and each is looked for in by all terms.
type knownWords map[string][]string

func (k knownWords) of(name string) []string {
	words, ok := k[name]
	if !ok {
		if len(k) == searchPage {
			clear(k)
		}
		words = wordsOf(name)
		k[name] = words
	}
	return words
}

func (p *searchParser) peek() string {
	if p.at == len(p.words) {
		return ""
	}
	return p.words[p.at]
}

// any reads terms with OR between them; property is that of the whole bracket, as in MetricName=(a OR b).
func (p *searchParser) any(depth int, property string) (matcher, error) {
	left, err := p.all(depth, property)
	for err == nil && p.peek() == "OR" {
		p.at++
		var right matcher
		first := left
		if right, err = p.all(depth, property); err == nil {
			left = func(m *metrics.Metric) bool { return first(m) || right(m) }
		}
	}
	return left, err
}

// all reads terms with AND, or nothing, between them.
func (p *searchParser) all(depth int, property string) (matcher, error) {
	left, err := p.term(depth, property)
	for err == nil && p.peek() != "" && p.peek() != "OR" && p.peek() != ")" {
		if p.peek() == "AND" {
			p.at++
		}
		var right matcher
		first := left
		if right, err = p.term(depth, property); err == nil {
			left = func(m *metrics.Metric) bool { return first(m) && right(m) }
		}
	}
	return left, err
}

func (p *searchParser) term(depth int, property string) (matcher, error) {
	if depth > maxNesting {
		return nil, fmt.Errorf("it nests deeper than %d", maxNesting)
	}
	word := p.peek()
	p.at = min(p.at+1, len(p.words))
	switch word {
	case "", ")", "=", "AND", "OR":
		return nil, fmt.Errorf("a term is missing before '%s'", word)
	case "NOT":
		inner, err := p.term(depth+1, property)
		return func(m *metrics.Metric) bool { return !inner(m) }, err
	case "(":
		inner, err := p.any(depth+1, property)
		if err == nil && p.peek() != ")" {
			err = fmt.Errorf("a bracket is not closed")
		}
		p.at = min(p.at+1, len(p.words))
		return inner, err
	}
	if p.peek() == "=" && property == "" {
		p.at++
		return p.term(depth+1, strings.Trim(word, `"`))
	}
	return p.matchTerm(property, word), nil
}

// matchTerm matches a quoted term with a whole name or value, and another with names that have all of its words.
func (p *searchParser) matchTerm(property, term string) matcher {
	exact := strings.HasPrefix(term, `"`)
	term = strings.Trim(term, `"`)
	wanted := wordsOf(term)
	one := func(text string) bool {
		if exact {
			return text == term
		}
		have := p.known.of(text)
		for _, w := range wanted {
			if !slices.Contains(have, w) {
				return false
			}
		}
		return len(wanted) > 0
	}
	return func(m *metrics.Metric) bool {
		switch property {
		case "Namespace":
			return one(m.Namespace)
		case "MetricName":
			return one(m.Name)
		case "":
			return one(m.Namespace) || one(m.Name) || slices.ContainsFunc(m.Dimensions, func(d metrics.Dimension) bool { return one(d.Name) || one(d.Value) })
		}
		v, ok := dimension(m, property)
		return ok && one(v)
	}
}

// wordsOf are a name's words in small letters: runs of letters or digits, and in a name like CPUUtilization its parts.
func wordsOf(name string) (words []string) {
	runes := []rune(name)
	begin := 0
	cut := func(end int) {
		if end > begin {
			words = append(words, strings.ToLower(string(runes[begin:end])))
		}
		begin = end
	}
	for i, r := range runes {
		switch {
		case !unicode.IsLetter(r) && !unicode.IsDigit(r):
			cut(i)
			begin = i + 1
		case i == begin || i == 0:
		case unicode.IsDigit(r) != unicode.IsDigit(runes[i-1]):
			cut(i)
		case unicode.IsUpper(r) && !unicode.IsUpper(runes[i-1]):
			cut(i)
		case unicode.IsUpper(r) && i+1 < len(runes) && unicode.IsLower(runes[i+1]):
			cut(i)
		}
	}
	cut(len(runes))
	if whole := strings.ToLower(name); !slices.Contains(words, whole) {
		words = append(words, whole)
	}
	return words
}
