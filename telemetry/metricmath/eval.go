package metricmath

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"

	"thaw"
)

// evaluation is one run of a plan.
type evaluation struct {
	ctx      context.Context //nolint:containedctx // of one run, which is over when Run returns
	plan     *Plan
	source   Source
	from, to int64 // seconds since 1970; what is in the future is cut off
	region   string
	account  string

	values map[string]value // by query, those that are done
	query  *Query           // the expression that is being evaluated
	loaded int              // values that were read
	made   int              // values that expressions have made
	work   int              // values that expressions have looked at
	found  int              // metrics that were searched for
	dry    bool             // only what the types of things are is wanted
}

// failure is a mistake of the expression, in words that follow "Error in expression 'id': ".
func failure(format string, args ...any) error {
	return thaw.Errorf(thaw.CodeValidation, format, args...)
}

func (e *evaluation) eval(x expression) (value, error) {
	switch x := x.(type) {
	case numberNode:
		return float64(x), nil
	case textNode:
		return text(x), nil
	case nameNode:
		return e.name(string(x))
	case unaryNode:
		return e.bounded(e.binary(binaryNode{"*", numberNode(-1), x.operand}))
	case binaryNode:
		return e.bounded(e.binary(x))
	case listNode:
		return e.list(x)
	case callNode:
		return e.bounded(e.call(x))
	}
	return nil, fmt.Errorf("no such expression as %T", x)
}

// bounded counts what expressions have made, and ends the run when that is too much for one request.
func (e *evaluation) bounded(v value, err error) (value, error) {
	e.made += size(v)
	if err == nil && e.made > maxMade {
		err = tooMany(maxMade)
	}
	return v, err
}

// takes counts what an operation looks at, and ends the run when that is too much for one request, or nobody waits for it.
func (e *evaluation) takes(operands ...value) error {
	for _, v := range operands {
		e.work += size(v)
	}
	switch {
	case e.work > maxWork:
		return thaw.Errorf(thaw.CodeParameterCombination, "The expressions calculate with more than %d datapoints. You may reduce them by increasing Period, decreasing the time range, or leaving expressions out.", maxWork)
	case e.dry:
		return nil
	}
	return e.ctx.Err()
}

// seriesCost is what a series takes beside its values, in values.
const seriesCost = 8

// size is how much memory a value takes, and how much work it makes, in values of series.
func size(v value) int {
	switch v := v.(type) {
	case *series:
		return seriesCost + len(v.values)
	case list:
		n := 0
		for _, s := range v {
			n += seriesCost + len(s.values)
		}
		return n
	}
	return 1
}

func tooMany(limit int) error {
	return thaw.Errorf(thaw.CodeParameterCombination, "You have requested more than %d datapoints. You may reduce them by increasing Period, or decreasing the time range.", limit)
}

// words are what functions take beside values.
var words = []string{"REPEAT", "LINEAR", "ASC", "DESC", "AVG", "MIN", "MAX", "SUM"}

func (e *evaluation) name(name string) (value, error) {
	if v, ok := e.values[name]; ok {
		return v, nil
	}
	if slices.Contains(words, name) {
		return word(name), nil
	}
	return nil, failure("'%s' is neither a query of this request nor a function. Give the query that it names, or write a function with brackets.", name)
}

// list makes an array of series: [m1, m2].
func (e *evaluation) list(x listNode) (value, error) {
	all := list{}
	for _, element := range x {
		v, err := e.eval(element)
		if err != nil {
			return nil, err
		}
		switch v := v.(type) {
		case *series:
			all = append(all, v)
		case list:
			all = append(all, v...)
		default:
			return nil, failure("An array takes time series, not %s.", kindOf(v))
		}
		if len(all) > maxSeries {
			return nil, failure("An array can have %d time series.", maxSeries)
		}
	}
	return all, nil
}

// kindOf names what a value is.
func kindOf(v value) string {
	switch v.(type) {
	case float64:
		return "a scalar"
	case *series:
		return "a time series"
	case list:
		return "an array of time series"
	case text:
		return "a text"
	default:
		return "a word"
	}
}

var operators = map[string]func(x, y float64) float64{
	"+": func(x, y float64) float64 { return x + y },
	"-": func(x, y float64) float64 { return x - y },
	"*": func(x, y float64) float64 { return x * y },
	"/": func(x, y float64) float64 { return x / y },
	"^": math.Pow,

	"==": func(x, y float64) float64 { return truth(x == y) },
	"!=": func(x, y float64) float64 { return truth(x != y) },
	"<=": func(x, y float64) float64 { return truth(x <= y) },
	">=": func(x, y float64) float64 { return truth(x >= y) },
	"<":  func(x, y float64) float64 { return truth(x < y) },
	">":  func(x, y float64) float64 { return truth(x > y) },
	"&&": func(x, y float64) float64 { return truth(x != 0 && y != 0) },
	"||": func(x, y float64) float64 { return truth(x != 0 || y != 0) },
}

// truth is 1 or 0.
func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func (e *evaluation) binary(x binaryNode) (value, error) {
	left, err := e.eval(x.left)
	if err != nil {
		return nil, err
	}
	right, err := e.eval(x.right)
	if err != nil {
		return nil, err
	}
	if err := e.takes(left, right); err != nil {
		return nil, err
	}
	f := operators[x.operator]
	switch l := left.(type) {
	case float64:
		switch r := right.(type) {
		case float64:
			return f(l, r), nil
		case *series, list:
			return each(r, func(s *series) *series { return s.mapped(func(_ int64, v float64) float64 { return nan(l, f(l, v)) }) }), nil
		}
	case *series:
		switch r := right.(type) {
		case float64:
			return l.mapped(func(_ int64, v float64) float64 { return nan(r, f(v, r)) }), nil
		case *series:
			return paired(l, r, f), nil
		case list:
			return each(r, func(s *series) *series { return named(s, paired(l, s, f)) }), nil
		}
	case list:
		switch r := right.(type) {
		case float64:
			return each(l, func(s *series) *series { return s.mapped(func(_ int64, v float64) float64 { return nan(r, f(v, r)) }) }), nil
		case *series:
			return each(l, func(s *series) *series { return paired(s, r, f) }), nil
		}
	}
	return nil, failure("The operator %s does not take %s and %s.", x.operator, kindOf(left), kindOf(right))
}

// nan is no number where the scalar is none, such as the average of nothing, which a comparison would hide.
func nan(scalar, v float64) float64 {
	if math.IsNaN(scalar) {
		return scalar
	}
	return v
}

// named gives out the label and the metric of s.
func named(s, out *series) *series {
	out.label, out.stat = s.label, s.stat
	return out
}

// each applies f to a series or to each of a list.
func each(v value, f func(*series) *series) value {
	if s, ok := v.(*series); ok {
		return f(s)
	}
	all := v.(list)
	out := make(list, len(all))
	for i, s := range all {
		out[i] = f(s)
	}
	return out
}

func (e *evaluation) call(x callNode) (value, error) {
	f, ok := functions[x.name]
	switch {
	case slices.Contains(absent, x.name):
		return nil, thaw.Errorf(thaw.CodeNotImplemented, "The function %s is not implemented. Use other functions, which docs/telemetry.md lists.", x.name)
	case !ok:
		return nil, failure("Function '%s' not found", x.name)
	case len(x.arguments) < f.least || len(x.arguments) > f.most:
		return nil, failure("%s takes %s.", x.name, f.takes())
	}
	arguments := make([]value, len(x.arguments))
	for i, a := range x.arguments {
		var err error
		if arguments[i], err = e.eval(a); err != nil {
			return nil, err
		}
	}
	if err := e.takes(arguments...); err != nil {
		return nil, err
	}
	out, err := f.call(e, arguments)
	if e2, ok := err.(*mismatch); ok { //nolint:errorlint // it is never wrapped
		return nil, failure("%s does not take %s as argument %d; it takes %s.", x.name, kindOf(arguments[e2.index]), e2.index+1, f.takes())
	}
	return out, err
}

// mismatch is an argument of another kind than a function takes.
type mismatch struct{ index int }

func (*mismatch) Error() string { return "another kind of argument" }

// function is one that expressions can call.
type function struct {
	least, most int
	arguments   string // in words
	call        func(e *evaluation, arguments []value) (value, error)
}

func (f *function) takes() string {
	if f.arguments == "" {
		return "no arguments"
	}
	return f.arguments
}

// absent are the functions of CloudWatch that are not here: those of other services, and of machine learning.
var absent = strings.Fields("ANOMALY_DETECTION_BAND DB_PERF_INSIGHTS INSIGHT_RULE_METRIC LAMBDA SERVICE_QUOTA")
