package awsapi

import (
	"regexp"
	"strings"
)

// A pattern is a Java regular expression of the model. It is satisfied by a text that match covers whole and refuse does
// not.
type pattern struct {
	accept *regexp.Regexp
	refuse *regexp.Regexp // nil: nothing
}

func (p pattern) match(s string) bool {
	return p.accept.MatchString(s) && (p.refuse == nil || !p.refuse.MatchString(s))
}

// lookarounds holds the model's expressions that look ahead or behind, which Go's regexp cannot: each as what must match
// and what must not.
var lookarounds = map[string][2]string{
	`((?!^\d+$)^[0-9a-zA-Z-_]+$)`:               {`[0-9a-zA-Z-_]+`, `\d+`},
	`(?!^[0-9]+$)([a-zA-Z0-9-_]+)`:              {`[a-zA-Z0-9-_]+`, `[0-9]+`},
	`(^(?!(system\x2e)))(^[_a-zA-Z0-9])([^$]*)`: {`[_a-zA-Z0-9][^$]*`, `system\x2e(?s:.)*`},
	`[0-9A-Za-z\.\-_]*(?<!\.)`:                  {`[0-9A-Za-z\.\-_]*`, `(?s:.)*\.`},
	`(?!((^[ ]+.*)|(.*([\u0000-\u001f]|[\u007f-\u009f]|[:/|])+.*)|(.*[ ]+$))).+`: {
		`.+`, ` .*|.*[\u0000-\u001f\u007f-\u009f:/|].*|.* `,
	},
	`^(?=[/\.\-_A-Za-z0-9]+)((?!aws\.).*)|(\$(\.[\w_-]+(\[(\d+|\*)\])*)*)$`: {
		`[/\.\-_A-Za-z0-9].*|\$(\.[\w_-]+(\[(\d+|\*)\])*)*`, `aws\..*`,
	},
	`^(?!\s*$).+`: {`.+`, `\s*`},
}

// spellings are what Java writes in another way than Go: a surrogate pair for what lies beyond the basic plane, and the
// name of a class.
var spellings = strings.NewReplacer(
	`\uD800\uDC00-\uDBFF\uDFFF`, `\x{10000}-\x{10FFFF}`,
	`\p{Print}`, `[[:print:]]`,
	`\/`, `/`,
)

// unicodeEscape is Java's \uXXXX. Where the models write five or six digits they mean a code point beyond the basic plane.
var unicodeEscape = regexp.MustCompile(`\\u(10[0-9A-Fa-f]{4}|1[0-9A-Fa-f]{4}|[0-9A-Fa-f]{4})`)

func compilePattern(java string) pattern {
	if pair, ok := lookarounds[java]; ok {
		return pattern{accept: whole(pair[0]), refuse: whole(pair[1])}
	}
	return pattern{accept: whole(java)}
}

// whole compiles an expression that must cover a text from end to end. An expression that does not compile is a mistake
// in the embedded model; a test compiles all of them.
func whole(java string) *regexp.Regexp {
	return regexp.MustCompile(`\A(?:` + unicodeEscape.ReplaceAllString(spellings.Replace(java), `\x{$1}`) + `)\z`)
}
