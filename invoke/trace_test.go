package invoke

import (
	"strings"
	"testing"
	"time"

	"thaw"
	"thaw/telemetry/xray"
)

func TestTraceHead(t *testing.T) {
	if got := TraceHead(&Request{TraceID: "Root=1-5-6"}); got != "Root=1-5-6" {
		t.Errorf("the caller's trace became %q", got)
	}
	r := &Request{Start: time.Unix(0x5759e988, 0)}
	one, other := TraceHead(r), TraceHead(r)
	if h, ok := xray.Parse(one); one == other || !ok || h.Decision != xray.Undecided || !strings.HasPrefix(one, "Root=1-5759e988-") {
		t.Errorf("%q, %q", one, other)
	}
}

func TestHead(t *testing.T) {
	const (
		root   = "Root=1-5759e988-bd862e3fe1be46a994272793"
		parent = ";Parent=53995c3f42cd8ad8"
	)
	onlyActive := func(_ [16]byte, active bool, _ time.Time) bool { return active }
	for _, c := range []struct {
		name, in string
		sample   Sample
		active   bool
		decision xray.Decision
		same     bool // the header is passed on as it came
		caller   bool // the caller's segment is remembered
	}{
		{"new, no traces", "", nil, true, xray.NotSampled, false, false},
		{"new, active", "", onlyActive, true, xray.Sampled, false, false},
		{"new, passive", "", onlyActive, false, xray.NotSampled, false, false},
		{"sampled, no traces", root + parent + ";Sampled=1", nil, false, xray.Sampled, true, false},
		{"sampled", root + parent + ";Sampled=1", onlyActive, false, xray.Sampled, false, true},
		{"not sampled", root + parent + ";Sampled=0", onlyActive, true, xray.NotSampled, true, false},
		{"undecided, passive", root + parent, onlyActive, false, xray.NotSampled, false, false},
		{"undecided, active", root + parent + ";Sampled=?;Lineage=a:1", onlyActive, true, xray.Sampled, false, true},
		{"undecided, no traces", root, nil, true, xray.NotSampled, false, false},
	} {
		v := thaw.Version{TracingMode: "PassThrough"}
		if c.active {
			v.TracingMode = thaw.TracingActive
		}
		i := New(Config{Sample: c.sample})
		got, caller := i.head(&Request{TraceID: c.in, Start: time.Unix(0x5759e988, 0)}, &v)
		h, ok := xray.Parse(got)
		if !ok || h.Decision != c.decision || (got == c.in) != c.same || (caller != [8]byte{}) != c.caller || c.caller && h.Parent == caller {
			t.Errorf("%s: %q, caller %x", c.name, got, caller)
		}
		if _, lineage := xray.CutLineage(c.in); lineage != "" && !strings.HasSuffix(got, ";Lineage="+lineage) {
			t.Errorf("%s: the lineage is gone from %q", c.name, got)
		}
	}
	if got, _ := New(Config{Sample: onlyActive}).head(&Request{TraceID: "nonsense"}, &thaw.Version{}); got != "nonsense" {
		t.Errorf("what is no trace became %q", got)
	}
}
