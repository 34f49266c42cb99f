package alarms

import (
	"slices"
	"strings"
	"testing"

	"thaw"
)

func TestRules(t *testing.T) {
	states := map[string]State{"a": InAlarm, "b": OK, "c": Insufficient, "with space": InAlarm, "arn:aws:cloudwatch:eu-west-1:123456789012:alarm:a": InAlarm, "x)y": OK}
	for text, want := range map[string]bool{
		"TRUE":                              true,
		"FALSE":                             false,
		"ALARM(a)":                          true,
		"ALARM( a )":                        true,
		`ALARM("a")`:                        true,
		"OK(a)":                             false,
		"ALARM(b)":                          false,
		"INSUFFICIENT_DATA(c)":              true,
		"ALARM(with space)":                 true,
		`OK("x)y")`:                         true,
		"ALARM(a) AND OK(b)":                true,
		"ALARM(a) AND NOT OK(b)":            false,
		"ALARM(b) OR ALARM(a)":              true,
		"NOT ALARM(gone)":                   true,
		"OK(gone)":                          false,
		"(ALARM(b) OR ALARM(a)) AND OK(b)":  true,
		"ALARM(b) AND ALARM(b) OR ALARM(a)": true,  // OR binds weakest
		"ALARM(a) OR ALARM(a) AND ALARM(b)": true,  // as before
		"NOT ALARM(b) AND ALARM(b)":         false, // NOT binds strongest
		"NOT (ALARM(b) AND ALARM(b))":       true,
		"NOT NOT ALARM(a)":                  true,
		"((TRUE))":                          true,
		"ALARM(a)\n  AND\tOK(b)":            true,
		"ALARM(arn:aws:cloudwatch:eu-west-1:123456789012:alarm:a)": true,
	} {
		r, err := ParseRule(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got := r.Holds(func(ref string) State { return states[ref] }); got != want {
			t.Errorf("%s is %v", text, got)
		}
	}
}

func TestRuleChildren(t *testing.T) {
	r, err := ParseRule(`ALARM(b) OR OK("a") AND NOT ALARM(b)`)
	if err != nil || !slices.Equal(r.Children, []string{"b", "a"}) {
		t.Errorf("%v, %v", r, err)
	}
}

func TestWrongRules(t *testing.T) {
	children := func(n int) string {
		var list []string
		for i := range n {
			list = append(list, "ALARM("+strings.Repeat("a", i+1)+")")
		}
		return strings.Join(list, " OR ")
	}
	for text, words := range map[string]string{
		"":                        "character 1",
		"ALARM":                   "an opening parenthesis is expected at character 6",
		"ALARM(":                  "a closing parenthesis",
		"ALARM()":                 "an alarm's name",
		`ALARM("")`:               "an alarm's name",
		`ALARM("a)`:               "a closing quotation mark",
		`ALARM(a"b)`:              "an alarm's name",
		"ALARM(a) ALARM(b)":       "AND, OR or the end is expected at character 10",
		"ALARM(a) AND":            "character 13",
		"AND ALARM(a)":            "character 1",
		"alarm(a)":                "character 1",
		"(ALARM(a)":               "a closing parenthesis",
		"ALARM(a))":               "the end",
		"TRUEFALSE":               "character 1",
		"ÄÖ":                      "character 1",
		"AT_LEAST(1, ALARM, (a))": "AT_LEAST",
		strings.Repeat("(", 200) + "TRUE" + strings.Repeat(")", 200): "levels",
		strings.Repeat("NOT ", 200) + "TRUE":                         "levels",
		strings.Repeat("TRUE OR ", 500) + "TRUE":                     "500 elements",
		children(101):                                                "100 alarms",
	} {
		_, err := ParseRule(text)
		code := thaw.CodeValidation
		if words == "AT_LEAST" {
			code = thaw.CodeNotImplemented
		}
		if thaw.CodeOf(err) != code || !strings.Contains(err.Error(), words) {
			t.Errorf("%.40s: %v", text, err)
		}
	}
	if _, err := ParseRule(children(100)); err != nil {
		t.Error(err)
	}
}

func FuzzParseRule(f *testing.F) {
	f.Add(`(ALARM(a) OR OK("b c")) AND NOT INSUFFICIENT_DATA(arn:aws:cloudwatch:eu-west-1:123456789012:alarm:a)`)
	f.Add("TRUE")
	f.Add("NOT (FALSE")
	f.Fuzz(func(t *testing.T, text string) {
		r, err := ParseRule(text)
		if err != nil {
			if code := thaw.CodeOf(err); code != thaw.CodeValidation && code != thaw.CodeNotImplemented {
				t.Fatalf("%v", err)
			}
			return
		}
		if len(r.Children) > maxChildren {
			t.Errorf("%d children", len(r.Children))
		}
		asked := map[string]bool{}
		for _, s := range []State{OK, InAlarm, Insufficient, ""} {
			r.Holds(func(ref string) State { asked[ref] = true; return s })
		}
		for ref := range asked {
			if !slices.Contains(r.Children, ref) {
				t.Errorf("%q is no child", ref)
			}
		}
	})
}
