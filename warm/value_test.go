package warm

import (
	"testing"
	"time"
)

func TestWorth(t *testing.T) {
	const mb = 1 << 20
	forked := Worth(5*time.Millisecond, 2*mb, 1, 0, 0)
	for _, c := range []struct {
		name  string
		worth float64
		more  bool
	}{
		{"a slow init that is small", Worth(600*time.Millisecond, 30*mb, 1, 0, 0), true},
		{"a slow init that is large", Worth(600*time.Millisecond, 500*mb, 1, 0, 0), false},
		{"used less recently", Worth(5*time.Millisecond, 2*mb, 1, time.Minute, 0), false},
		{"the second", Worth(5*time.Millisecond, 2*mb, 1, 0, 1), false},
		{"used more often", Worth(5*time.Millisecond, 2*mb, 3, 0, 0), true},
		{"larger", Worth(5*time.Millisecond, 20*mb, 1, 0, 0), false},
	} {
		if (c.worth > forked) != c.more {
			t.Errorf("%s: %v, a fork's %v", c.name, c.worth, forked)
		}
	}
	if Worth(0, 0, 1, -time.Hour, 0) != 1 {
		t.Error("nothing known is not worth 1")
	}
}

func TestUsesFade(t *testing.T) {
	u := Uses{}.Add(8, epoch)
	if got := u.Size(epoch.Add(10 * time.Minute)); got != 4 {
		t.Errorf("%v uses after ten minutes", got)
	}
	if got := u.Add(1, epoch.Add(20*time.Minute)).Size(epoch.Add(20 * time.Minute)); got != 3 {
		t.Errorf("%v uses with one more after twenty", got)
	}
}

func TestFixedKeepAlive(t *testing.T) {
	e := Idle{Since: epoch}
	if k := Fixed(time.Minute); k.Expired(e, epoch.Add(time.Minute)) || !k.Expired(e, epoch.Add(time.Minute+1)) || k.Expired(e, epoch.Add(-time.Hour)) {
		t.Error("a minute is not a minute")
	}
}
