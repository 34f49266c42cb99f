package template

import (
	"strings"
	"testing"

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
