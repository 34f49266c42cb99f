package linux

import (
	"fmt"
	"testing"
	"time"
)

// Hierarchies come and go while an environment is looked at: another platform has one, as do container engines.
func TestForksWhileHierarchiesComeAndGo(t *testing.T) {
	needRoot(t)
	d := open(t)
	p := park(t, d, specOf(t, hello("python3.11", "")))
	stop, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		for n := 0; ; n++ {
			select {
			case <-stop:
				ended <- nil
				return
			case <-time.After(time.Millisecond):
			}
			f, err := favorMoves(fmt.Sprintf("test-%d", n))
			if err != nil {
				ended <- err
				return
			}
			f.Close()
		}
	}()
	for range 50 {
		c, err := forkOne(within(t), p)
		if err != nil {
			t.Error(err)
			break
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
	close(stop)
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestOwnPlace(t *testing.T) {
	for cgroups, want := range map[string]string{
		"0::/a\n":                     ":/a\n",
		"9:name=moves-x:/\n0::/a\n":   ":/a\n",
		"4:cpu,cpuacct:/b\n0::/\n":    "cpu,cpuacct:/b\n:/\n",
		"3:cpuset:/\n2:memory:/c:d\n": "memory:/c:d\n",
	} {
		if got := ownPlace(cgroups); got != want {
			t.Errorf("%q: %q, want %q", cgroups, got, want)
		}
	}
}
