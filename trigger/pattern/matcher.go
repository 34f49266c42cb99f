package pattern

import (
	"net/netip"
	"strconv"
	"strings"
	"unicode/utf8"
)

type op uint8

const (
	opExists op = iota
	opString
	opAddress // a string that is an address: other ways to write it match too
	opNumber
	opRange
	opWord // true, false, null
	opPrefix
	opSuffix
	opFold
	opFoldPrefix
	opFoldSuffix
	opWildcard
	opNetwork
	opNone // anything-but
)

// matcher is one alternative of a field.
type matcher struct {
	op    op
	text  string
	runes int // of text, for the two that ignore case at an end

	low, high         int64 // millionths; opNumber has its value in low
	openLow, openHigh bool
	exact             bool // opNumber: low is set

	network netip.Prefix
	parts   []string // opWildcard: what stands between the asterisks, at least two
	none    []matcher
}

// match tells whether a value is this alternative. Its time is in proportion to the lengths of the two.
func (m *matcher) match(s *scalar) bool {
	switch m.op {
	case opExists:
		return true
	case opNumber:
		if s.kind != 'n' {
			return false
		}
		return s.text == m.text || s.exact && m.exact && s.micros == m.low
	case opRange:
		return s.kind == 'n' && s.exact &&
			(s.micros > m.low || s.micros == m.low && !m.openLow) &&
			(s.micros < m.high || s.micros == m.high && !m.openHigh)
	case opWord:
		return s.kind == 'o' && s.text == m.text
	case opNone:
		for i := range m.none {
			if m.none[i].match(s) {
				return false
			}
		}
		return true
	}
	return s.kind == 's' && m.matchString(s.text)
}

func (m *matcher) matchString(s string) bool {
	switch m.op {
	case opString:
		return s == m.text
	case opPrefix:
		return strings.HasPrefix(s, m.text)
	case opSuffix:
		return strings.HasSuffix(s, m.text)
	case opFold:
		return strings.EqualFold(s, m.text)
	case opFoldPrefix:
		n := 0
		for range m.runes {
			_, size := utf8.DecodeRuneInString(s[n:])
			n += size
		}
		return strings.EqualFold(s[:n], m.text)
	case opFoldSuffix:
		n := len(s)
		for range m.runes {
			_, size := utf8.DecodeLastRuneInString(s[:n])
			n -= size
		}
		return strings.EqualFold(s[n:], m.text)
	case opWildcard:
		return m.matchParts(s)
	case opAddress, opNetwork:
		if m.op == opAddress && s == m.text {
			return true
		}
		addr, ok := parseAddress(s)
		return ok && m.network.Contains(addr)
	}
	return false
}

// matchParts needs no second try: what comes first in the text leaves the most for the parts that follow.
func (m *matcher) matchParts(s string) bool {
	last := len(m.parts) - 1
	s, ok := strings.CutPrefix(s, m.parts[0])
	if !ok {
		return false
	}
	for _, part := range m.parts[1:last] {
		i := strings.Index(s, part)
		if i < 0 {
			return false
		}
		s = s[i+len(part):]
	}
	return strings.HasSuffix(s, m.parts[last])
}

// parseWildcard splits a text at its asterisks. A backslash makes an asterisk or a backslash an ordinary character. pos is
// where the text is wrong, counted as AWS does: with its opening quote.
func parseWildcard(text string) (parts []string, wrong string, pos int) {
	var part strings.Builder
	for i := 0; i < len(text); i++ {
		switch c := text[i]; c {
		case '*':
			if strings.HasPrefix(text[i+1:], "*") {
				return nil, "Consecutive wildcard characters", i + 1
			}
			parts = append(parts, part.String())
			part.Reset()
		case '\\':
			if i++; i == len(text) || text[i] != '*' && text[i] != '\\' {
				return nil, "Invalid escape character", i
			}
			part.WriteByte(text[i])
		default:
			part.WriteByte(c)
		}
	}
	return append(parts, part.String()), "", 0
}

// wildcard makes a matcher of parseWildcard's parts.
func wildcard(parts []string) matcher {
	if len(parts) == 1 {
		return matcher{op: opString, text: parts[0]}
	}
	return matcher{op: opWildcard, parts: parts}
}

// ofString is what a string in a pattern's list matches.
func ofString(text string) matcher {
	if addr, ok := parseAddress(text); ok {
		return matcher{op: opAddress, text: text, network: netip.PrefixFrom(addr, addr.BitLen())}
	}
	return matcher{op: opString, text: text}
}

// ofNumber is what a number in a pattern's list matches.
func ofNumber(text string) matcher {
	micros, exact := toMicros(text)
	return matcher{op: opNumber, text: text, low: micros, exact: exact}
}

func parseAddress(s string) (netip.Addr, bool) {
	const longest = len("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff")
	if len(s) > longest {
		return netip.Addr{}, false
	}
	addr, err := netip.ParseAddr(s)
	return addr, err == nil && addr.Zone() == "" && !addr.Is4In6()
}

// parseNetwork reads the argument of cidr, and says what is wrong with it.
func parseNetwork(text string) (netip.Prefix, string) {
	address, bits, ok := strings.Cut(text, "/")
	if !ok || bits == "" || strings.Contains(bits, "/") {
		return netip.Prefix{}, "Malformed CIDR, one '/' required"
	}
	n, err := strconv.Atoi(bits)
	if err != nil {
		return netip.Prefix{}, "Malformed CIDR, mask bits must be an integer"
	}
	if n < 0 {
		return netip.Prefix{}, "Malformed CIDR, mask bits must not be negative"
	}
	addr, ok := parseAddress(address)
	switch {
	case !ok && strings.Trim(address, "0123456789.") != "" && strings.Trim(address, "0123456789abcdefABCDEF:") != "":
		return netip.Prefix{}, "Nonstandard IP address: " + address
	case !ok:
		return netip.Prefix{}, "Invalid IP address: " + address
	case n > addr.BitLen() && addr.Is4():
		return netip.Prefix{}, "IPv4 mask bits must be < 33"
	case n > addr.BitLen():
		return netip.Prefix{}, "IPv6 mask bits must be < 129"
	}
	return netip.PrefixFrom(addr, n).Masked(), ""
}

// Bounds of the numbers that are compared as numbers, in millionths.
const (
	lowest  = -5e15
	highest = 5e15
)

// toMicros gives a JSON number in millionths. It tells whether the number is one that AWS compares: between -5e9 and 5e9,
// with at most 6 decimals.
func toMicros(text string) (int64, bool) {
	digits, negative := strings.CutPrefix(text, "-")
	exponent := 0
	if i := strings.IndexAny(digits, "eE"); i >= 0 {
		var err error
		if exponent, err = strconv.Atoi(digits[i+1:]); err != nil || exponent > 1e6 || exponent < -1e6 {
			return 0, strings.Trim(digits[:i], "0.") == ""
		}
		digits = digits[:i]
	}
	whole, decimals, _ := strings.Cut(digits, ".")
	digits = strings.TrimLeft(whole+decimals, "0")
	scale := len(decimals) - exponent // the number is digits / 10^scale
	all := len(digits)
	digits = strings.TrimRight(digits, "0")
	scale -= all - len(digits)
	switch {
	case digits == "":
		return 0, true
	case scale > 6, len(digits)-scale > 10:
		return 0, false
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil {
		return 0, false
	}
	for range 6 - scale {
		n *= 10
	}
	if n > highest {
		return 0, false
	}
	if negative {
		n = -n
	}
	return n, true
}
