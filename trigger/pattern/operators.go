package pattern

// numeric reads the argument of numeric: an operator and a number, or a lower and an upper bound.
func (c *compiler) numeric(arg *value) (matcher, error) {
	m := matcher{op: opRange, low: lowest, high: highest}
	if arg.kind != '[' {
		return m, c.src.errorAt(arg.seen(), "Value of numeric must be an array.")
	}
	// at is the place of an item, or of the array's end.
	at := func(i int) int {
		if i < len(arg.items) {
			return arg.items[i].seen()
		}
		return arg.end
	}
	item := func(i int) (kind byte, text string) {
		if i >= len(arg.items) {
			return 0, "]"
		}
		v := arg.items[i]
		switch v.kind {
		case '{', '[':
			return v.kind, string(v.kind)
		}
		return v.kind, v.text
	}
	// bound reads the number at i. Places of what is wrong with a text are behind it.
	bound := func(i int, operator string) (int64, error) {
		kind, text := item(i)
		if kind != 'n' {
			return 0, c.src.errorAt(at(i), "Value of %s must be numeric", operator)
		}
		micros, ok := toMicros(text)
		if !ok {
			return 0, c.src.errorAt(arg.end, "%s", notComparable)
		}
		return micros, nil
	}
	kind, operator := item(0)
	if kind != 's' {
		return m, c.src.errorAt(at(0), "Invalid member in numeric match: %s", operator)
	}
	var err error
	more, length := tooMany, 2
	switch operator {
	case "=":
		m.low, err = bound(1, "equals")
		m.high = m.low
	case "<", "<=":
		m.high, err = bound(1, operator)
		m.openHigh = operator == "<"
	case ">", ">=":
		m.low, err = bound(1, operator)
		m.openLow = operator == ">"
		if err != nil || len(arg.items) == 2 {
			break
		}
		more, length = "Too many terms in numeric range expression", 4
		kind, upper := item(2)
		switch {
		case kind != 's':
			return m, c.src.errorAt(at(2), "Bad value in numeric range: %s", upper)
		case upper != "<" && upper != "<=":
			return m, c.src.errorAt(arg.items[2].end, "Bad numeric range operator: %s", upper)
		}
		m.high, err = bound(3, upper)
		m.openHigh = upper == "<"
		if err == nil && len(arg.items) == 4 && m.low >= m.high {
			err = c.src.errorAt(arg.end, "Bottom must be less than top")
		}
	default:
		return m, c.src.errorAt(arg.items[0].end, "Unrecognized numeric range operator: %s", operator)
	}
	if err == nil && len(arg.items) > length {
		err = c.src.errorAt(at(length), "%s", more)
	}
	return m, err
}

const notComparable = "Value must be between -5.0E9 and 5.0E9, inclusive, with at most 6 decimals"

// anythingBut reads the argument of anything-but: a string, a number, a list of either, or an object with one operator
// whose argument is a string or a list of strings.
func (c *compiler) anythingBut(arg *value) (matcher, error) {
	m := matcher{op: opNone}
	operator, more := "", 0
	if arg.kind == '{' {
		if len(arg.members) == 0 {
			return m, c.src.errorAt(arg.end, "Anything-But expression name not found")
		}
		if len(arg.members) > 1 {
			more = arg.members[1].value.seen()
		}
		operator, arg = arg.members[0].name, arg.members[0].value
		switch operator {
		case "equals-ignore-case", "prefix", "suffix", "wildcard":
		default:
			return m, c.src.errorAt(arg.seen(), "Unsupported anything-but pattern: %s", operator)
		}
	}
	items := []*value{arg}
	switch arg.kind {
	case '[':
		items = arg.items
	case 's', 'n':
	default:
		return m, c.src.errorAt(arg.seen(), "Value of anything-but must be an array or single string/number value.")
	}
	numbers := 0
	for _, item := range items {
		if item.kind == 'n' {
			numbers++
		}
		one, err := c.but(item, operator, arg)
		if err != nil {
			return m, err
		}
		m.none = append(m.none, one)
	}
	switch {
	case operator == "" && (len(items) == 0 || numbers != 0 && numbers != len(items)):
		return m, c.src.errorAt(arg.end, "Inside anything but list, either all values are number or string, mixed type is not supported")
	case more > 0:
		return m, c.src.errorAt(more, tooMany)
	}
	return m, nil
}

// but reads one thing that anything-but excludes; arg is the whole argument, the item itself or a list with it. What is
// wrong inside a list AWS says with the place twice.
func (c *compiler) but(item *value, operator string, arg *value) (matcher, error) {
	fail := func(pos int, reason string) (matcher, error) {
		if item != arg {
			reason += c.src.place(pos)
		}
		return matcher{}, c.src.errorAt(pos, "%s", reason)
	}
	switch {
	case operator == "" && item.kind == 's':
		return matcher{op: opString, text: item.text}, nil
	case operator == "" && item.kind == 'n':
		m := ofNumber(item.text)
		switch {
		case !m.exact && item == arg:
			return m, &Error{Reason: notComparable}
		case !m.exact:
			return m, c.src.errorAt(item.end, notComparable)
		}
		return m, nil
	case operator == "":
		return fail(item.seen(), "Inside anything but list, start|null|boolean is not supported.")
	case item.kind != 's' && operator == "equals-ignore-case":
		return fail(item.seen(), "Inside anything-but/equals-ignore-case list, number|start|null|boolean is not supported.")
	case item.kind != 's' && operator == "wildcard":
		return fail(item.seen(), "wildcard match pattern must be a string")
	case item.kind != 's':
		return fail(item.seen(), "prefix/suffix match pattern must be a string")
	}
	switch operator {
	case "equals-ignore-case":
		return c.text(item, opFold, operator)
	case "wildcard":
		return c.wildcard(item.text, arg.end)
	}
	if item.text == "" {
		return fail(item.end, "Null prefix/suffix not allowed")
	}
	if operator == "prefix" {
		return c.text(item, opPrefix, operator)
	}
	return c.text(item, opSuffix, operator)
}
