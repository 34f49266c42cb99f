package insights

import (
	"fmt"
	"regexp"
	"strings"

	"thaw/telemetry/internal/expression"
)

// kind of a token.
type kind byte

const (
	atEnd  kind = iota
	name        // of a field, a function or a command; also what is in backquotes
	number      // with a unit: a period
	text        // in quotes
	symbol
)

type token struct {
	kind   kind
	text   string
	quoted bool // a name in backquotes is never a keyword
	begin  int  // where it stands
	end    int
}

// scanner cuts a query into tokens, one ahead.
type scanner struct {
	query string
	next  token
	err   error

	budget expression.Budget
}

func newScanner(query string) *scanner {
	s := &scanner{query: query, budget: maxSteps}
	s.scan(0)
	return s
}

// is reports whether the next token is a keyword or a symbol.
func (s *scanner) is(word string) bool {
	switch s.next.kind {
	case symbol:
		return s.next.text == word
	case name:
		return !s.next.quoted && strings.EqualFold(s.next.text, word)
	}
	return false
}

// take passes the next token if it is a keyword or a symbol.
func (s *scanner) take(word string) bool {
	if !s.is(word) {
		return false
	}
	s.advance()
	return true
}

// want takes a keyword or a symbol that has to be there.
func (s *scanner) want(word string) error {
	if s.take(word) {
		return nil
	}
	return s.unexpected(fmt.Sprintf("%q", word))
}

func (s *scanner) unexpected(wanted string) error {
	if s.err != nil {
		return s.err
	}
	found := fmt.Sprintf("%q", s.query[s.next.begin:s.next.end])
	if s.next.kind == atEnd {
		found = "the end of the query"
	}
	return fmt.Errorf("unexpected %s at character %d, where %s should be", found, s.next.begin+1, wanted)
}

func (s *scanner) advance() token {
	t := s.next
	s.scan(t.end)
	return t
}

// symbols, the longer ones first.
var symbols = []string{"!=", "<=", ">=", "=~", "(", ")", "[", "]", ",", "|", "=", "<", ">", "+", "-", "*", "/", "%", "^"}

// scan finds the token that begins at or behind at.
func (s *scanner) scan(at int) {
	q := s.query
	for at < len(q) && (isSpace(q[at]) || q[at] == '#') {
		if q[at] == '#' { // a comment up to the end of the line
			for at < len(q) && q[at] != '\n' {
				at++
			}
			continue
		}
		at++
	}
	s.next = token{begin: at, end: at}
	if at == len(q) {
		return
	}
	end := at
	switch c := q[at]; {
	case isNameStart(c):
		for end < len(q) && isName(q[end]) {
			end++
		}
		s.next = token{name, q[at:end], false, at, end}
	case isDigit(c) || c == '.' && at+1 < len(q) && isDigit(q[at+1]):
		for end < len(q) && (isName(q[end]) || (q[end] == '+' || q[end] == '-') && (q[end-1] == 'e' || q[end-1] == 'E')) {
			end++
		}
		s.next = token{number, q[at:end], false, at, end}
	case c == '"' || c == '\'' || c == '`':
		s.quoted(at)
	default:
		for _, sym := range symbols {
			if strings.HasPrefix(q[at:], sym) {
				s.next = token{symbol, sym, false, at, at + len(sym)}
				return
			}
		}
		s.next = token{symbol, q[at : at+1], false, at, at + 1}
		s.fail(fmt.Errorf("unexpected character %q at %d", c, at+1))
	}
}

func (s *scanner) fail(err error) {
	if s.err == nil {
		s.err = err
	}
}

func (s *scanner) quoted(at int) {
	q, quote := s.query, s.query[at]
	var b strings.Builder
	for i := at + 1; i < len(q); i++ {
		switch {
		case q[i] == quote:
			kind := text
			if quote == '`' {
				kind = name
			}
			s.next = token{kind, b.String(), true, at, i + 1}
			return
		case q[i] == '\\' && i+1 < len(q) && (q[i+1] == quote || q[i+1] == '\\'):
			i++
		}
		b.WriteByte(q[i])
	}
	s.fail(fmt.Errorf("the quote at character %d is not closed", at+1))
	s.next = token{text, b.String(), true, at, len(q)}
}

// regexp takes a regular expression between slashes, which begins with the next token. With groups, fields are made of it.
func (s *scanner) regexp(groups bool) (*regexp.Regexp, error) {
	begin := s.next.begin + 1
	for i := begin; i < len(s.query); i++ {
		switch s.query[i] {
		case '\\':
			i++
		case '/':
			r, err := s.budget.Compile(strings.ReplaceAll(s.query[begin:i], `\/`, "/"), groups)
			if err != nil {
				return nil, fmt.Errorf("the regular expression at character %d cannot be used: %w", begin, err)
			}
			s.scan(i + 1)
			return r, nil
		}
	}
	return nil, fmt.Errorf("the regular expression at character %d is not closed", begin)
}

func isSpace(c byte) bool { return c == ' ' || c == '\t' || c == '\n' || c == '\r' }
func isDigit(c byte) bool { return c >= '0' && c <= '9' }

func isNameStart(c byte) bool {
	return c == '@' || c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= 0x80
}

func isName(c byte) bool { return isNameStart(c) || isDigit(c) || c == '.' }
