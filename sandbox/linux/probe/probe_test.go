package probe

import (
	"context"
	"os"
	"testing"
	"time"
)

func TestProbe(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	caps := Probe(ctx)
	seen := map[string]bool{}
	for _, c := range caps {
		t.Logf("%-22s %-5v %s", c.Name, c.Present, c.Detail)
		if c.Name == "" || c.WithoutIt == "" || seen[c.Name] {
			t.Errorf("bad entry %+v", c)
		}
		if !c.Present && c.Detail == "" {
			t.Errorf("%s is missing and nothing says why", c.Name)
		}
		seen[c.Name] = true
		if c.Name == "root" && c.Present != (os.Geteuid() == 0) {
			t.Errorf("root: %+v", c)
		}
		if c.Name == "a whole sandbox" && !c.Present && os.Geteuid() == 0 {
			t.Errorf("no sandbox: %s", c.Detail)
		}
	}
}

func TestProbeThatIsCutShort(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, c := range Probe(ctx) {
		if c.Name == "a whole sandbox" && c.Present {
			t.Error("made a sandbox after the end")
		}
	}
}

func TestAtLeast(t *testing.T) {
	for _, c := range []struct {
		release, least string
		want           bool
	}{
		{"6.18.44-fc", "5.12", true}, {"5.12.0", "5.12", true}, {"5.11.99", "5.12", false}, {"4.18.0-513.el8", "5.12", false},
		{"5.12-rc1", "5.12", true}, {"6.1", "5.19", true}, {"", "5.12", false}, {"10.0", "5.12", true},
	} {
		if got := atLeast(c.release, c.least); got != c.want {
			t.Errorf("atLeast(%q, %q) = %v", c.release, c.least, got)
		}
	}
}
