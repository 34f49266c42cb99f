package state

import (
	"fmt"
	"strings"
)

// maxName bounds a record's key and a log group's name, bytes. An ARN of a role has at most 564.
const maxName = 1024

const hexDigits = "0123456789ABCDEF"

// escapeName makes one token of a JetStream subject of any text: letters, digits, '-', '_' and '/' stand for
// themselves, every other byte is '=' and two hex digits.
func escapeName(name string) (string, error) {
	if name == "" || len(name) > maxName {
		return "", fmt.Errorf("name of %d bytes: a name has 1 to %d", len(name), maxName)
	}
	var b strings.Builder
	b.Grow(len(name) + 16)
	for i := range len(name) {
		c := name[i]
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '_', c == '/':
			b.WriteByte(c)
		default:
			b.WriteByte('=')
			b.WriteByte(hexDigits[c>>4])
			b.WriteByte(hexDigits[c&15])
		}
	}
	return b.String(), nil
}

// unescapeName undoes escapeName.
func unescapeName(token string) (string, error) {
	var b strings.Builder
	b.Grow(len(token))
	for i := 0; i < len(token); i++ {
		if token[i] != '=' {
			b.WriteByte(token[i])
			continue
		}
		if i+2 >= len(token) {
			return "", fmt.Errorf("name %q is cut off", token)
		}
		hi, lo := strings.IndexByte(hexDigits, token[i+1]), strings.IndexByte(hexDigits, token[i+2])
		if hi < 0 || lo < 0 {
			return "", fmt.Errorf("name %q has a bad escape", token)
		}
		b.WriteByte(byte(hi<<4 | lo))
		i += 2
	}
	return b.String(), nil
}
