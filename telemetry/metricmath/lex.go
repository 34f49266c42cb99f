package metricmath

import (
	"fmt"
	"strconv"
	"strings"
)

// maxExpression is the length of an expression, in characters (MetricExpression of CloudWatch's model).
const maxExpression = 2048

type tokenKind int

const (
	tokenEnd tokenKind = iota
	tokenNumber
	tokenName
	tokenText
	tokenSign // an operator, a bracket or a comma
)

type token struct {
	kind   tokenKind
	text   string // as it is written; of a text, what is between the quotes
	number float64
	at     int // where it begins, in bytes
}

// String is the token as a message names it.
func (t token) String() string {
	if t.kind == tokenEnd {
		return "the end"
	}
	return "'" + t.text + "'"
}

// signs are tried in this order: the longer ones first.
var signs = []string{"==", "!=", "<=", ">=", "&&", "||", "<", ">", "+", "-", "*", "/", "^", "(", ")", "[", "]", ","}

// lex cuts an expression into tokens, of which the last is the end.
func lex(text string) ([]token, error) {
	if len(text) > 4*maxExpression {
		return nil, fmt.Errorf("it is longer than %d characters", maxExpression)
	}
	var list []token
	for at := 0; ; {
		for at < len(text) && strings.IndexByte(" \t\r\n", text[at]) >= 0 {
			at++
		}
		if at == len(text) {
			return append(list, token{kind: tokenEnd, at: at}), nil
		}
		t, size, err := next(text[at:])
		if err != nil {
			return nil, fmt.Errorf("%w at character %d", err, at+1)
		}
		t.at = at
		list = append(list, t)
		at += size
	}
}

// next reads the token that a text begins with.
func next(text string) (t token, size int, err error) {
	switch c := text[0]; {
	case isDigit(c) || c == '.' && len(text) > 1 && isDigit(text[1]):
		size = numberLength(text)
		t = token{kind: tokenNumber, text: text[:size]}
		if t.number, err = strconv.ParseFloat(t.text, 64); err != nil {
			return t, 0, fmt.Errorf("'%s' is no number", t.text)
		}
		return t, size, nil
	case isLetter(c):
		for size < len(text) && (isLetter(text[size]) || isDigit(text[size])) {
			size++
		}
		return token{kind: tokenName, text: text[:size]}, size, nil
	case c == '\'' || c == '"':
		return quoted(text)
	}
	for _, s := range signs {
		if strings.HasPrefix(text, s) {
			return token{kind: tokenSign, text: s}, len(s), nil
		}
	}
	return t, 0, fmt.Errorf("'%s' is not part of an expression", text[:1])
}

// quoted reads a text in single or double quotes; a backslash takes the character behind it as it is.
func quoted(text string) (t token, size int, err error) {
	var b strings.Builder
	for i := 1; i < len(text); i++ {
		switch c := text[i]; {
		case c == text[0]:
			return token{kind: tokenText, text: b.String()}, i + 1, nil
		case c == '\\' && i+1 < len(text):
			i++
			b.WriteByte(text[i])
		default:
			b.WriteByte(c)
		}
	}
	return t, 0, fmt.Errorf("the text %s has no closing quote", text)
}

func numberLength(text string) int {
	i := 0
	digits := func() {
		for i < len(text) && isDigit(text[i]) {
			i++
		}
	}
	digits()
	if i < len(text) && text[i] == '.' {
		i++
		digits()
	}
	if i < len(text) && (text[i] == 'e' || text[i] == 'E') {
		rest := strings.TrimLeft(text[i+1:min(i+2, len(text))], "+-")
		begin := i + 2 - len(rest)
		if begin < len(text) && isDigit(text[begin]) {
			i = begin
			digits()
		}
	}
	return i
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

func isLetter(c byte) bool { return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || c == '_' }
