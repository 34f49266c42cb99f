package alarms

import (
	"strings"

	"thaw"
)

// Bounds of a composite alarm's rule, after PutCompositeAlarm in the API reference; the depth is thaw's own.
const (
	maxElements = 500
	maxChildren = 100
	maxDepth    = 100
)

// Rule is the compiled AlarmRule of a composite alarm.
type Rule struct {
	root expression
	// Children are the names or ARNs of the alarms that it refers to, each once, in the order of the text.
	Children []string
}

// expression is a part of a rule. State tells the state of an alarm by the name or ARN in the rule; it is empty for one that is
// not there, which is in no state.
type expression interface {
	holds(state func(ref string) State) bool
}

type (
	constant  bool
	condition struct {
		ref   string
		state State
	}
	negation    struct{ of expression }
	conjunction []expression
	disjunction []expression
)

func (c constant) holds(func(string) State) bool        { return bool(c) }
func (c condition) holds(state func(string) State) bool { return state(c.ref) == c.state }
func (n negation) holds(state func(string) State) bool  { return !n.of.holds(state) }
func (all conjunction) holds(state func(string) State) bool {
	for _, e := range all {
		if !e.holds(state) {
			return false
		}
	}
	return true
}

func (some disjunction) holds(state func(string) State) bool {
	for _, e := range some {
		if e.holds(state) {
			return true
		}
	}
	return false
}

// Holds evaluates the rule; see expression.
func (r *Rule) Holds(state func(ref string) State) bool { return r.root.holds(state) }

// ParseRule reads an AlarmRule: ALARM(…), OK(…) and INSUFFICIENT_DATA(…) of names or ARNs, with or without double quotes, TRUE,
// FALSE, AND, OR, NOT and parentheses. NOT binds strongest, OR weakest. The error says what is wrong and where; its code is
// CodeValidation, or CodeNotImplemented for the function AT_LEAST.
func ParseRule(text string) (*Rule, error) {
	p := ruleParser{text: text, known: map[string]bool{}}
	root, err := p.or(0)
	if err != nil {
		return nil, err
	}
	if p.skip(); p.at < len(p.text) {
		return nil, p.wrong("AND, OR or the end")
	}
	return &Rule{root: root, Children: p.children}, nil
}

type ruleParser struct {
	text     string
	at       int
	elements int
	children []string
	known    map[string]bool
}

func (p *ruleParser) wrong(wanted string) error {
	return thaw.Errorf(thaw.CodeValidation, "AlarmRule is not correct: %s is expected at character %d.", wanted, len([]rune(p.text[:p.at]))+1)
}

func (p *ruleParser) skip() {
	for p.at < len(p.text) && strings.IndexByte(" \t\r\n", p.text[p.at]) >= 0 {
		p.at++
	}
}

// word takes a word of letters and underscores, or leaves everything where it is.
func (p *ruleParser) word() string {
	p.skip()
	end := p.at
	for end < len(p.text) && (p.text[end] >= 'A' && p.text[end] <= 'Z' || p.text[end] >= 'a' && p.text[end] <= 'z' || p.text[end] == '_') {
		end++
	}
	word := p.text[p.at:end]
	p.at = end
	return word
}

// keyword takes the word if it comes next.
func (p *ruleParser) keyword(word string) bool {
	at := p.at
	if p.word() == word {
		return true
	}
	p.at = at
	return false
}

func (p *ruleParser) symbol(c byte) bool {
	p.skip()
	if p.at < len(p.text) && p.text[p.at] == c {
		p.at++
		return true
	}
	return false
}

func (p *ruleParser) or(depth int) (expression, error) {
	return p.list("OR", func() (expression, error) {
		return p.list("AND", func() (expression, error) { return p.not(depth) }, func(l []expression) expression { return conjunction(l) })
	}, func(l []expression) expression { return disjunction(l) })
}

// list reads one or more parts with a keyword between them.
func (p *ruleParser) list(between string, part func() (expression, error), join func([]expression) expression) (expression, error) {
	var list []expression
	for {
		e, err := part()
		if err != nil {
			return nil, err
		}
		list = append(list, e)
		if !p.keyword(between) {
			break
		}
	}
	if len(list) == 1 {
		return list[0], nil
	}
	return join(list), nil
}

func (p *ruleParser) not(depth int) (expression, error) {
	if depth > maxDepth {
		return nil, thaw.Errorf(thaw.CodeValidation, "AlarmRule has more than %d levels.", maxDepth)
	}
	if p.keyword("NOT") {
		e, err := p.not(depth + 1)
		return negation{e}, err
	}
	if p.symbol('(') {
		if err := p.element(); err != nil {
			return nil, err
		}
		e, err := p.or(depth + 1)
		if err == nil && !p.symbol(')') {
			err = p.wrong("a closing parenthesis")
		}
		return e, err
	}
	return p.primary()
}

func (p *ruleParser) element() error {
	if p.elements++; p.elements > maxElements {
		return thaw.Errorf(thaw.CodeValidation, "AlarmRule has more than %d elements.", maxElements)
	}
	return nil
}

func (p *ruleParser) primary() (expression, error) {
	p.skip()
	at := p.at
	if err := p.element(); err != nil {
		return nil, err
	}
	switch word := p.word(); word {
	case "TRUE":
		return constant(true), nil
	case "FALSE":
		return constant(false), nil
	case "AT_LEAST":
		return nil, thaw.Errorf(thaw.CodeNotImplemented, "AT_LEAST in AlarmRule is not implemented. Combine ALARM, OK and INSUFFICIENT_DATA with AND, OR and NOT.")
	case string(OK), string(InAlarm), string(Insufficient):
		if !p.symbol('(') {
			return nil, p.wrong("an opening parenthesis")
		}
		ref, err := p.reference()
		if err != nil {
			return nil, err
		}
		if !p.known[ref] {
			p.known[ref] = true
			p.children = append(p.children, ref)
		}
		if len(p.children) > maxChildren {
			return nil, thaw.Errorf(thaw.CodeValidation, "AlarmRule refers to more than %d alarms.", maxChildren)
		}
		return condition{ref, State(word)}, nil
	}
	p.at = at
	return nil, p.wrong("ALARM, OK, INSUFFICIENT_DATA, TRUE, FALSE, NOT or a parenthesis")
}

// reference reads a name or an ARN and the parenthesis behind it.
func (p *ruleParser) reference() (string, error) {
	p.skip()
	begin := p.at
	if p.symbol('"') {
		end := strings.IndexByte(p.text[p.at:], '"')
		if end < 0 {
			return "", p.wrong("a closing quotation mark")
		}
		ref := p.text[p.at : p.at+end]
		p.at += end + 1
		if !p.symbol(')') {
			return "", p.wrong("a closing parenthesis")
		}
		if ref == "" {
			p.at = begin
			return "", p.wrong("an alarm's name")
		}
		return ref, nil
	}
	end := strings.IndexByte(p.text[p.at:], ')')
	if end < 0 {
		return "", p.wrong("a closing parenthesis")
	}
	ref := strings.TrimRight(p.text[p.at:p.at+end], " \t\r\n")
	if ref == "" || strings.ContainsAny(ref, "\"(") {
		return "", p.wrong("an alarm's name")
	}
	p.at += end + 1
	return ref, nil
}
