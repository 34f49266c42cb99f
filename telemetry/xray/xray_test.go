package xray

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

const root = "1-5759e988-bd862e3fe1be46a994272793"

func TestParse(t *testing.T) {
	for header, want := range map[string]struct {
		decision Decision
		parent   bool
		ok       bool
	}{
		"Root=" + root: {Undecided, false, true},
		"Root=" + root + ";Parent=53995c3f42cd8ad8;Sampled=1":    {Sampled, true, true},
		"Root=" + root + "; Parent=53995c3f42cd8ad8 ; Sampled=0": {NotSampled, true, true},
		"Self=1-2-3;Root=" + root + ";Sampled=?;Lineage=a:1|b:2": {Undecided, false, true},
		"Root=" + root + ";Parent=53995c3f42cd8ad;Sampled=2":     {Undecided, false, true},
		"Sampled=1":                           {Sampled, false, false},
		"Root=2" + root[1:]:                   {Undecided, false, false},
		"Root=" + strings.ToUpper(root) + "0": {Undecided, false, false},
		"":                                    {Undecided, false, false},
	} {
		h, ok := Parse(header)
		if ok != want.ok || h.Decision != want.decision || (h.Parent != [8]byte{}) != want.parent {
			t.Errorf("%s: %+v, %t", header, h, ok)
		}
	}
}

func TestRewriteKeepsWhatItDoesNotKnow(t *testing.T) {
	const header = "Self=1-67891234-12456789abcdef012345678;Root=" + root + ";Parent=53995c3f42cd8ad8;Lineage=a:1|b:2"
	h, _ := Parse(header)
	h.Decision = Sampled
	if got := h.Rewrite(header); got != "Root="+root+";Parent=53995c3f42cd8ad8;Sampled=1;Self=1-67891234-12456789abcdef012345678;Lineage=a:1|b:2" {
		t.Error(got)
	}
}

func TestFromW3C(t *testing.T) {
	for in, want := range map[string]string{
		"00-5759e988bd862e3fe1be46a994272793-53995c3f42cd8ad8-01":       "Root=" + root + ";Parent=53995c3f42cd8ad8;Sampled=1",
		"00-5759e988bd862e3fe1be46a994272793-53995c3f42cd8ad8-00":       "Root=" + root + ";Parent=53995c3f42cd8ad8;Sampled=0",
		"01-5759e988bd862e3fe1be46a994272793-53995c3f42cd8ad8-03-later": "Root=" + root + ";Parent=53995c3f42cd8ad8;Sampled=1",
		"00-5759e988bd862e3fe1be46a994272793-53995c3f42cd8ad8-01-more":  "",
		"ff-5759e988bd862e3fe1be46a994272793-53995c3f42cd8ad8-01":       "",
		"00-00000000000000000000000000000000-53995c3f42cd8ad8-01":       "",
		"00-5759e988bd862e3fe1be46a994272793-0000000000000000-01":       "",
		"00-5759E988BD862E3FE1BE46A994272793-53995c3f42cd8ad8-01":       "",
		"00-5759e988bd862e3fe1be46a99427279g-53995c3f42cd8ad8-01":       "",
		"": "",
	} {
		if got := FromW3C(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func TestSampler(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	random := rand.New(rand.NewPCG(1, 2))
	taken := func(s *Sampler, active bool) (n int) {
		for range 20_000 {
			var id [16]byte
			for i := range id {
				id[i] = byte(random.Uint32())
			}
			first := s.Sample(id, active, now)
			if first {
				n++
			} else if s.Sample(id, active, now) {
				t.Fatal("decided in another way the second time")
			}
		}
		return n
	}
	for _, c := range []struct {
		share    float64
		active   bool
		low, top int
	}{{0, false, 0, 0}, {1, false, 20_000, 20_000}, {0.1, false, 1800, 2200}, {0, true, 850, 1150}, {0.5, true, 9600, 10_400}} {
		if n := taken(NewSampler(c.share), c.active); n < c.low || n > c.top {
			t.Errorf("%+v: %d", c, n)
		}
	}
	s := NewSampler(0)
	none := [16]byte{8: 255}
	if !s.Sample(none, true, now) || s.Sample(none, true, now) || !s.Sample(none, true, now.Add(time.Second)) {
		t.Error("not the first of each second")
	}
	if s.Sample(none, true, now) || s.Sample(none, true, now.Add(time.Second)) || !s.Sample(none, true, now.Add(-time.Hour)) {
		t.Error("a late request begins a second anew, or a clock that was set back is not followed")
	}
}

func FuzzParse(f *testing.F) {
	f.Add("Root=" + root + ";Parent=53995c3f42cd8ad8;Sampled=1;Lineage=a:1")
	f.Add("00-5759e988bd862e3fe1be46a994272793-53995c3f42cd8ad8-01")
	f.Fuzz(func(t *testing.T, s string) {
		if made := FromW3C(s); made != "" {
			s = made
		}
		h, ok := Parse(s)
		if !ok {
			return
		}
		if again, ok := Parse(h.Rewrite(s)); !ok || again != h {
			t.Errorf("%q: %+v became %+v", s, h, again)
		}
	})
}
