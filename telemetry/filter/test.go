package filter

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// test compares a value with what the pattern says.
type test struct {
	operator string // = != < <= > >=
	text     string // with wildcards, *
	regexp   *regexp.Regexp
	number   float64
	numeric  bool // number counts
	quoted   bool
}

// operators, the longer ones first.
var operators = []string{"!=", "<=", ">=", "=", "<", ">"}

func (p *parser) operator() (string, bool) {
	p.skip()
	for _, o := range operators {
		if p.take(o) {
			return o, true
		}
	}
	return "", false
}

// test takes an operator and the value behind it.
func (p *parser) test() (test, error) {
	o, ok := p.operator()
	if !ok {
		return test{}, fmt.Errorf("an operator is missing at character %d: = != < <= > >=", p.at+1)
	}
	t := test{operator: o}
	p.skip()
	var err error
	switch p.peek() {
	case '"':
		t.text, err = p.quoted()
		t.quoted = true
	case '%':
		t.regexp, err = p.regexp()
	default:
		begin := p.at
		for p.at < len(p.text) && !strings.ContainsRune(" \t\r\n()[]{},|&=<>\"", rune(p.text[p.at])) {
			p.at++
		}
		if t.text = p.text[begin:p.at]; t.text == "" {
			err = fmt.Errorf("a value is missing at character %d", p.at+1)
		}
	}
	if err != nil {
		return test{}, err
	}
	if !t.quoted && t.regexp == nil {
		t.number, err = strconv.ParseFloat(t.text, 64)
		t.numeric = err == nil
	}
	if o != "=" && o != "!=" && !t.numeric {
		return test{}, fmt.Errorf("the operator %s wants a number behind it", o)
	}
	return t, nil
}

func (t *test) matchNumber(text string) bool {
	if !t.numeric {
		return t.matchText(text)
	}
	n, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return t.operator == "!="
	}
	switch t.operator {
	case "=":
		return n == t.number
	case "!=":
		return n != t.number
	case "<":
		return n < t.number
	case "<=":
		return n <= t.number
	case ">":
		return n > t.number
	}
	return n >= t.number
}

func (t *test) matchText(text string) bool {
	var same bool
	switch {
	case t.regexp != nil:
		same = t.regexp.MatchString(text)
	case t.operator != "=" && t.operator != "!=":
		return false // only numbers are greater or less
	default:
		same = wildcard(t.text, text)
	}
	return same == (t.operator == "=")
}

// wildcard reports whether text is as pattern says, in which * stands for any characters. It takes time in proportion to the
// lengths' product at most.
func wildcard(pattern, text string) bool {
	star, mark := -1, 0
	i, j := 0, 0
	for j < len(text) {
		switch {
		case i < len(pattern) && pattern[i] == '*':
			star, mark = i, j
			i++
		case i < len(pattern) && pattern[i] == text[j]:
			i++
			j++
		case star >= 0:
			mark++
			i, j = star+1, mark
		default:
			return false
		}
	}
	return strings.Trim(pattern[i:], "*") == ""
}
