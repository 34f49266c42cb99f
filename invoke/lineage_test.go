package invoke

import (
	"strings"
	"testing"

	"thaw/telemetry/xray"
)

func TestDescend(t *testing.T) {
	for _, test := range []struct {
		trace, next string
		count       int
	}{
		{"", "Lineage=f:1", 0},
		{"Root=1;Parent=2;Sampled=0", "Root=1;Parent=2;Sampled=0;Lineage=f:1", 0},
		{"Root=1;Lineage=f:1", "Root=1;Lineage=f:2", 1},
		{"Root=1;Lineage=f:16;Self=3", "Root=1;Self=3;Lineage=f:17", 16},
		{"Lineage=g:2|f:3|h:1", "Lineage=g:2|f:4|h:1", 3},
		{"Lineage=g:2%7Cf:3%7ch:1", "Lineage=g:2|f:4|h:1", 3},
		{"Root=1;Lineage=g:2", "Root=1;Lineage=g:2|f:1", 0},
		{"Root=1;Lineage=f:x|g|:|h:99999999", "Root=1;Lineage=f:1", 0},
		{"Root=1;NoLineage=f:7", "Root=1;NoLineage=f:7;Lineage=f:1", 0},
	} {
		if next, count := descend(test.trace, "f"); next != test.next || count != test.count {
			t.Errorf("%q: %q, %d; want %q, %d", test.trace, next, count, test.next, test.count)
		}
	}
}

func TestFurthest(t *testing.T) {
	long := "Lineage=a:9;" + strings.Repeat("x", xray.MaxHeader)
	for want, traces := range map[string][]string{
		"":                      {"", long, "Lineage=a:7\nX: y", "Lineage=a:7\x00", "Lineage=ä:7"},
		"Root=1":                {"", "Root=1", "Root=2"},
		"Root=2;Lineage=a:1":    {"Root=1", "Root=2;Lineage=a:1", long},
		"Lineage=a:1%7Cb:12":    {"Lineage=a:3", "Lineage=a:1%7Cb:12", "Lineage=a:4|b:5", "Lineage=a:x|c:99999999"},
		"Root=9;Lineage=a:2|b:": {"Root=9;Lineage=a:2|b:", "Lineage=c:2"},
	} {
		if got := Furthest(traces); got != want {
			t.Errorf("%q: %q", traces, got)
		}
	}
	if got := Furthest(nil); got != "" {
		t.Errorf("of none: %q", got)
	}
}

func TestLineageIsBounded(t *testing.T) {
	trace := "Lineage=" + strings.Repeat("aaaaaaaa:1|", 1000)
	next, _ := descend(trace, "f")
	if n := strings.Count(next, "|"); n > maxLineage {
		t.Errorf("%d functions are counted", n+1)
	}
}

func FuzzDescend(f *testing.F) {
	f.Add("Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1;Lineage=a87bd80c:1|68fd508a:5")
	f.Add("Lineage=")
	f.Add(";;Lineage=a:1;Lineage=b:2")
	f.Fuzz(func(t *testing.T, trace string) {
		next, count := descend(trace, "0123abcd")
		again, more := descend(next, "0123abcd")
		if count < 1<<16-2 && more != count+1 {
			t.Errorf("%q: %d, then %q: %d, then %q", trace, count, next, more, again)
		}
	})
}
