// Package expression bounds what the regular expressions of users cost. Go's engine takes time in proportion to the text and
// to the size of the expression, which repetitions make large: [ab]{1000} is seven characters and a thousand steps for each
// byte.
package expression

import (
	"fmt"
	"regexp"
	"regexp/syntax"
)

// Budget is how many steps for each byte of a text are left to the expressions of one pattern or query.
type Budget int

// Compile reads an expression and takes what it costs from the budget. With groups, what its groups find is asked for, which
// costs as much again for each of them.
func (b *Budget) Compile(text string, groups bool) (*regexp.Regexp, error) {
	tree, err := syntax.Parse(text, syntax.Perl)
	if err != nil {
		return nil, err
	}
	cost := size(tree)
	if groups {
		cost *= 1 + tree.MaxCap()
	}
	if cost > int(*b) {
		return nil, fmt.Errorf("it would take too long: write it shorter, with fewer groups or smaller counts of repetitions")
	}
	*b -= Budget(cost)
	return regexp.Compile(text)
}

// size is about how many instructions an expression has. Repetitions are not carried out for that. The parser bounds how deep
// an expression nests, and its counts to 1,000 within one another.
func size(tree *syntax.Regexp) int {
	n := 1
	if tree.Op == syntax.OpLiteral {
		n = len(tree.Rune)
	}
	for _, sub := range tree.Sub {
		n += size(sub)
	}
	if tree.Op == syntax.OpRepeat {
		n *= max(tree.Min, tree.Max, 1)
	}
	return n
}
