package metricmath

import (
	"fmt"
	"strings"
)

// maxNesting bounds how deep an expression's brackets and signs may nest.
const maxNesting = 100

// expression is a node of a parsed expression.
type expression interface{}

type (
	numberNode float64
	textNode   string
	nameNode   string // of a query, or a word such as REPEAT
	listNode   []expression
	unaryNode  struct{ operand expression } // a minus
	binaryNode struct {
		operator    string
		left, right expression
	}
	callNode struct {
		name      string
		arguments []expression
	}
)

// parse reads an expression. Its errors say what is wrong and where.
func parse(text string) (expression, error) {
	tokens, err := lex(text)
	if err != nil {
		return nil, err
	}
	p := parser{tokens: tokens}
	e, err := p.binary(0)
	if err != nil {
		return nil, err
	}
	if t := p.peek(); t.kind != tokenEnd {
		return nil, p.unexpected(t)
	}
	return e, nil
}

type parser struct {
	tokens []token
	at     int
	depth  int
}

func (p *parser) peek() token { return p.tokens[p.at] }

func (p *parser) take() token {
	t := p.tokens[p.at]
	if t.kind != tokenEnd {
		p.at++
	}
	return t
}

func (p *parser) unexpected(t token) error {
	return fmt.Errorf("%v is not expected at character %d", t, t.at+1)
}

// levels are the operators from those that bind least, all of which take the operand on the left first.
var levels = [][]string{{"||", "OR"}, {"&&", "AND"}, {"==", "!=", "<=", ">=", "<", ">"}, {"+", "-"}, {"*", "/"}}

// spellings gives an operator one name.
var spellings = map[string]string{"OR": "||", "AND": "&&"}

func (p *parser) operator(level int) (string, bool) {
	t := p.peek()
	if t.kind != tokenSign && t.kind != tokenName {
		return "", false
	}
	for _, o := range levels[level] {
		if t.text == o {
			if other, ok := spellings[o]; ok {
				o = other
			}
			return o, true
		}
	}
	return "", false
}

func (p *parser) binary(level int) (expression, error) {
	if level == len(levels) {
		return p.power()
	}
	left, err := p.binary(level + 1)
	for err == nil {
		o, ok := p.operator(level)
		if !ok {
			return left, nil
		}
		p.take()
		var right expression
		right, err = p.binary(level + 1)
		left = binaryNode{o, left, right}
	}
	return nil, err
}

// power binds more than a minus before it and takes the operand on the right first.
func (p *parser) power() (expression, error) {
	p.depth++
	defer func() { p.depth-- }()
	if p.depth > maxNesting {
		return nil, fmt.Errorf("it nests deeper than %d", maxNesting)
	}
	if t := p.peek(); t.kind == tokenSign && (t.text == "-" || t.text == "+") {
		p.take()
		operand, err := p.power()
		if err != nil || t.text == "+" {
			return operand, err
		}
		return unaryNode{operand}, nil
	}
	base, err := p.primary()
	if t := p.peek(); err != nil || t.kind != tokenSign || t.text != "^" {
		return base, err
	}
	p.take()
	exponent, err := p.power()
	return binaryNode{"^", base, exponent}, err
}

func (p *parser) primary() (expression, error) {
	switch t := p.take(); {
	case t.kind == tokenNumber:
		return numberNode(t.number), nil
	case t.kind == tokenText:
		return textNode(t.text), nil
	case t.kind == tokenName:
		if next := p.peek(); next.kind == tokenSign && next.text == "(" {
			p.take()
			arguments, err := p.list(")")
			return callNode{strings.ToUpper(t.text), arguments}, err
		}
		return nameNode(t.text), nil
	case t.kind == tokenSign && t.text == "(":
		e, err := p.binary(0)
		if end := p.take(); err == nil && end.text != ")" {
			return nil, p.unexpected(end)
		}
		return e, err
	case t.kind == tokenSign && t.text == "[":
		elements, err := p.list("]")
		return listNode(elements), err
	default:
		return nil, p.unexpected(t)
	}
}

// list reads elements up to the closing bracket.
func (p *parser) list(closing string) ([]expression, error) {
	var elements []expression
	if t := p.peek(); t.kind == tokenSign && t.text == closing {
		p.take()
		return nil, nil
	}
	for {
		e, err := p.binary(0)
		if err != nil {
			return nil, err
		}
		elements = append(elements, e)
		switch t := p.take(); {
		case t.kind == tokenSign && t.text == closing:
			return elements, nil
		case t.kind != tokenSign || t.text != ",":
			return nil, p.unexpected(t)
		}
	}
}

// walk calls visit for a node and all below it.
func walk(e expression, visit func(expression)) {
	visit(e)
	switch e := e.(type) {
	case unaryNode:
		walk(e.operand, visit)
	case binaryNode:
		walk(e.left, visit)
		walk(e.right, visit)
	case listNode:
		for _, x := range e {
			walk(x, visit)
		}
	case callNode:
		for _, x := range e.arguments {
			walk(x, visit)
		}
	}
}
