package filter

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// columns is a pattern of a space-delimited line. With rest at an index, any number of words stands there.
type columns struct {
	list []column
	rest int // -1: none
}

type column struct {
	name string
	test columnTest // nil: any word
}

// columnTest is what a column asks of its word.
type columnTest func(word string) bool

// match gives the words by the columns' names.
func (c *columns) match(message string) (map[string]string, bool) {
	words := split(message)
	n := len(c.list)
	if len(words) < n || c.rest < 0 && len(words) != n {
		return nil, false
	}
	found := make(map[string]string, n)
	for i, col := range c.list {
		word := words[i]
		if c.rest >= 0 && i >= c.rest {
			word = words[len(words)-n+i]
		}
		if col.test != nil && !col.test(word) {
			return nil, false
		}
		found[col.name] = word
	}
	return found, true
}

// split cuts a line at spaces; what stands in double quotes or in brackets is one word, without them.
func split(line string) []string {
	var words []string
	line = strings.TrimRight(line, "\r\n")
	for {
		line = strings.TrimLeft(line, " \t")
		if line == "" {
			return words
		}
		end := -1
		switch line[0] {
		case '"':
			end = strings.IndexByte(line[1:], '"')
		case '[':
			end = strings.IndexByte(line[1:], ']')
		}
		if end >= 0 && (end+2 == len(line) || line[end+2] == ' ' || line[end+2] == '\t') {
			words = append(words, line[1:1+end])
			line = line[end+2:]
			continue
		}
		if end = strings.IndexAny(line, " \t"); end < 0 {
			end = len(line)
		}
		words, line = append(words, line[:end]), line[end:]
	}
}

func (p *parser) space() (*Pattern, error) {
	p.at++
	c := &columns{rest: -1}
	for {
		p.skip()
		if p.take("...") {
			if c.rest >= 0 {
				return nil, errors.New("an ellipsis can stand only once")
			}
			c.rest = len(c.list)
		} else {
			col, err := p.column(len(c.list))
			if err != nil {
				return nil, err
			}
			c.list = append(c.list, col)
		}
		p.skip()
		switch {
		case p.take(","):
		case p.take("]"):
			if p.skip(); p.at < len(p.text) {
				return nil, errors.New("something follows the closing bracket")
			}
			return &Pattern{columns: c}, nil
		default:
			return nil, fmt.Errorf("a comma or the closing bracket is missing at character %d", p.at+1)
		}
	}
}

// column takes a name, or conditions on one name with && and ||, && binding closer, and parentheses.
func (p *parser) column(number int) (column, error) {
	col := column{}
	var err error
	if col.test, err = p.columnOr(&col); err == nil && col.name == "" {
		col.name = strconv.Itoa(number + 1)
	}
	return col, err
}

func (p *parser) columnOr(col *column) (columnTest, error) {
	var list []columnTest
	for {
		t, err := p.columnAnd(col)
		if err != nil {
			return nil, err
		}
		if t != nil {
			list = append(list, t)
		}
		if p.skip(); !p.take("||") {
			return join(list, disjunction), nil
		}
	}
}

func (p *parser) columnAnd(col *column) (columnTest, error) {
	var list []columnTest
	for {
		t, err := p.columnOne(col)
		if err != nil {
			return nil, err
		}
		if t != nil {
			list = append(list, t)
		}
		if p.skip(); !p.take("&&") {
			return join(list, conjunction), nil
		}
	}
}

func (p *parser) columnOne(col *column) (columnTest, error) {
	if p.skip(); p.take("(") {
		if p.depth++; p.depth > maxDepth {
			return nil, fmt.Errorf("its parentheses nest deeper than %d", maxDepth)
		}
		t, err := p.columnOr(col)
		if err != nil {
			return nil, err
		}
		p.depth--
		if p.skip(); !p.take(")") {
			return nil, fmt.Errorf("a closing parenthesis is missing at character %d", p.at+1)
		}
		return t, nil
	}
	name := p.name()
	p.skip()
	tested := strings.IndexByte("=!<>", p.peek()) >= 0 && p.at < len(p.text)
	switch {
	case name == "" && !tested:
		return nil, fmt.Errorf("a column's name is missing at character %d", p.at+1)
	case col.name == "":
		col.name = name
	case name != "" && name != col.name:
		return nil, fmt.Errorf("the column %s has a condition on %s", col.name, name)
	}
	if !tested {
		return nil, nil
	}
	t, err := p.test()
	if err != nil {
		return nil, err
	}
	return t.matchNumber, nil
}

// join makes one test of several, nil of none.
func join(list []columnTest, how func([]columnTest) columnTest) columnTest {
	switch len(list) {
	case 0:
		return nil
	case 1:
		return list[0]
	}
	return how(list)
}

func conjunction(tests []columnTest) columnTest {
	return func(word string) bool {
		for _, t := range tests {
			if !t(word) {
				return false
			}
		}
		return true
	}
}

func disjunction(tests []columnTest) columnTest {
	return func(word string) bool {
		for _, t := range tests {
			if t(word) {
				return true
			}
		}
		return false
	}
}
