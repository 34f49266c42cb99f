package template

import (
	"fmt"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"thaw"
	"thaw/runtimes"
	"thaw/sandbox"
)

func TestWrappedRuntimesAreNotForked(t *testing.T) {
	plan := &sandbox.Plan{Version: &thaw.Version{Runtime: "python3.11"}, Launch: &runtimes.Launch{Wrapper: "/opt/wrapper"}}
	built, report, err := Build(t.Context(), nil, plan, "", Settings{})
	if err != nil || built != nil || report.State != StateUnsafe || len(report.Reasons) != 1 || !strings.Contains(report.Reasons[0], "/opt/wrapper (AWS_LAMBDA_EXEC_WRAPPER)") {
		t.Errorf("%v, %+v, %v", built, report, err)
	}
}

// TestReasonsArePlain: what a function calls its files, or says of its failure, reaches terminals and every explanation.
func TestReasonsArePlain(t *testing.T) {
	plan := &sandbox.Plan{Version: &thaw.Version{Runtime: "python3.11"}, Launch: &runtimes.Launch{TemplateArgs: []string{"x"}, Extensions: []string{"\x1b[2J" + strings.Repeat("\u00e4", 9000)}}}
	_, report, err := Build(t.Context(), nil, plan, "", Settings{})
	if err != nil || len(report.Reasons) != 1 {
		t.Fatalf("%+v, %v", report, err)
	}
	failure := &thaw.FunctionError{Type: "E", Payload: fmt.Appendf(nil, `{"errorMessage":"a\n\u001b]0;b\u009bc%s"}`, strings.Repeat("d", 9000))}
	for _, reason := range append(report.Reasons, Explain("init failed", failure)) {
		if len(reason) > maxReason+100 || strings.ContainsFunc(reason, unicode.IsControl) || !utf8.ValidString(reason) {
			t.Errorf("%q", reason)
		}
	}
}
