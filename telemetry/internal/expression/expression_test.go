package expression

import (
	"regexp"
	"strings"
	"testing"
)

func TestBudget(t *testing.T) {
	for text, ok := range map[string]bool{
		``: true, `a`: true, `(?i)error.*timeout`: true, `\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}`: true, `[a-z]{1,40}`: true,
		`[ab]{1000}`: false, `([ab]{30}){30}`: false, `a{500}b{500}`: false, strings.Repeat("a", 1100): false, `(`: false,
	} {
		b := Budget(1000)
		if _, err := b.Compile(text, false); (err == nil) != ok {
			t.Errorf("%.30s: %v", text, err)
		}
	}
	groups := strings.Repeat("(.)", 40)
	b := Budget(1000)
	if _, err := b.Compile(groups, true); err == nil {
		t.Error("groups cost nothing")
	}
	if _, err := b.Compile(groups, false); err != nil {
		t.Error(err)
	}
	if b >= 1000 {
		t.Error("nothing was taken")
	}
}

func FuzzCompile(f *testing.F) {
	f.Add(`a{2,5}(b|c)*`)
	f.Add(`((a{100}){10}){1}`)
	f.Fuzz(func(t *testing.T, text string) {
		b := Budget(1000)
		r, err := b.Compile(text, true)
		if err == nil {
			r.MatchString(text)
		} else if _, bad := regexp.Compile(text); bad != nil && b != 1000 {
			t.Error("one that cannot be read cost something")
		}
	})
}
