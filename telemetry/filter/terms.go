package filter

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"thaw/telemetry/internal/expression"
)

// term is one word, phrase or regular expression of a pattern of terms.
type term struct {
	text     string
	regexp   *regexp.Regexp // nil: text
	optional bool           // one of these is enough, if the pattern has no others
	excluded bool
}

func (t *term) in(message string) bool {
	if t.regexp != nil {
		return t.regexp.MatchString(message)
	}
	return strings.Contains(message, t.text)
}

// matchTerms wants all terms without a sign, none with a minus, and one with a question mark where no other is wanted.
func matchTerms(terms []term, message string) bool {
	wanted, optional, found := 0, 0, false
	for i := range terms {
		t := &terms[i]
		switch {
		case t.excluded:
			if t.in(message) {
				return false
			}
			wanted++
		case t.optional:
			optional++
			found = found || t.in(message)
		default:
			if !t.in(message) {
				return false
			}
			wanted++
		}
	}
	return wanted > 0 || optional == 0 || found
}

// parser reads a pattern from its beginning.
type parser struct {
	text    string
	at      int
	regexps int
	budget  expression.Budget
	depth   int
}

func (p *parser) skip() {
	for p.at < len(p.text) && (p.text[p.at] == ' ' || p.text[p.at] == '\t' || p.text[p.at] == '\n' || p.text[p.at] == '\r') {
		p.at++
	}
}

func (p *parser) peek() byte {
	if p.at < len(p.text) {
		return p.text[p.at]
	}
	return 0
}

// take passes what the text goes on with, if that is want.
func (p *parser) take(want string) bool {
	if strings.HasPrefix(p.text[p.at:], want) {
		p.at += len(want)
		return true
	}
	return false
}

func (p *parser) terms() (*Pattern, error) {
	out := &Pattern{}
	for {
		p.skip()
		if p.at == len(p.text) {
			return out, nil
		}
		var t term
		switch p.peek() {
		case '?':
			t.optional = true
			p.at++
		case '-':
			t.excluded = true
			p.at++
		}
		var err error
		switch p.peek() {
		case '"':
			t.text, err = p.quoted()
		case '%':
			t.regexp, err = p.regexp()
		default:
			t.text, err = p.word()
		}
		if err != nil {
			return nil, err
		}
		if t.text == "" && t.regexp == nil {
			return nil, fmt.Errorf("a term is missing at character %d", p.at+1)
		}
		out.terms = append(out.terms, t)
	}
}

// word takes letters, digits and what AWS lets stand without quotes.
func (p *parser) word() (string, error) {
	begin := p.at
	for p.at < len(p.text) && !strings.ContainsRune(" \t\r\n", rune(p.text[p.at])) {
		if c := p.text[p.at]; c < 0x80 && !isWord(c) && !strings.ContainsRune("-.:/@#=;,*+$!&|<>'_~", rune(c)) {
			return "", fmt.Errorf("the character %q at %d needs double quotes around its term", c, p.at+1)
		}
		p.at++
	}
	return p.text[begin:p.at], nil
}

func isWord(c byte) bool {
	return c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= 0x80
}

// quoted takes a text in double quotes, in which a backslash takes the next character as it is.
func (p *parser) quoted() (string, error) {
	var b strings.Builder
	for p.at++; p.at < len(p.text); p.at++ {
		switch c := p.text[p.at]; c {
		case '"':
			p.at++
			return b.String(), nil
		case '\\':
			if p.at+1 < len(p.text) && (p.text[p.at+1] == '"' || p.text[p.at+1] == '\\') {
				p.at++
			}
			b.WriteByte(p.text[p.at])
		default:
			b.WriteByte(c)
		}
	}
	return "", errors.New("a double quote is not closed")
}

// regexpCharacters are those that AWS takes in a regular expression beside letters and digits.
const regexpCharacters = ":_#=@/;,-^$?[]{}|\\*+. "

// regexp takes a regular expression between percent signs.
func (p *parser) regexp() (*regexp.Regexp, error) {
	begin := p.at + 1
	end := strings.IndexByte(p.text[begin:], '%')
	if end <= 0 {
		return nil, errors.New("a regular expression needs a percent sign at both ends, and something between")
	}
	text := p.text[begin : begin+end]
	for i := range len(text) {
		c := text[i]
		if c >= 0x80 || !isWord(c) && !strings.ContainsRune(regexpCharacters, rune(c)) && (i == 0 || text[i-1] != '\\') {
			return nil, fmt.Errorf("the character %q is not supported in a regular expression", c)
		}
	}
	r, err := p.budget.Compile(text, false)
	if err != nil {
		return nil, fmt.Errorf("the regular expression cannot be used: %w", err)
	}
	p.at = begin + end + 1
	p.regexps++
	return r, nil
}
