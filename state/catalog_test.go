package state

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"

	"thaw"
)

// TestNewestRevisionWins applies histories of a function in every way in which local answers and the feed can interleave
// and expects the end of the history each time.
func TestNewestRevisionWins(t *testing.T) {
	type step struct {
		rev  uint64
		gone bool
	}
	history := []step{{1, false}, {2, false}, {5, true}, {8, false}, {9, true}, {12, false}}
	for seed := range uint64(2000) {
		r := rand.New(rand.NewPCG(seed, 0))
		end := 1 + r.IntN(len(history))
		var local []step // any subset, in any order
		for _, i := range r.Perm(end) {
			if r.IntN(2) == 0 {
				local = append(local, history[i])
			}
		}
		c := newCatalog()
		apply := func(s step, feed bool) {
			f := &thaw.Function{Name: "f", Config: thaw.Version{Generation: s.rev}}
			if s.gone {
				f = nil
			}
			c.apply("f", f, s.rev, feed)
		}
		var trace []string
		for feed := history[:end]; len(feed) > 0 || len(local) > 0; {
			if len(feed) == 0 || len(local) > 0 && r.IntN(2) == 0 {
				trace = append(trace, fmt.Sprint("local ", local[0]))
				apply(local[0], false)
				local = local[1:]
			} else {
				trace = append(trace, fmt.Sprint("feed ", feed[0]))
				apply(feed[0], true)
				feed = feed[1:]
			}
		}
		f, rev, ok := c.get("f")
		want := history[end-1]
		if ok == want.gone || ok && (rev != want.rev || f.Config.Generation != want.rev) {
			t.Fatalf("%v ends with %v at %d, want %v", trace, f, rev, want)
		}
	}
}

func TestWatcherKeepsNewestAndEveryDeletion(t *testing.T) {
	one, two := &thaw.Function{Name: "a"}, &thaw.Function{Name: "a"}
	gone := func(name string) Change { return Change{Name: name} }
	here := func(name string, f *thaw.Function) Change { return Change{name, f} }
	for _, test := range []struct {
		what     string
		add, get []Change
	}{
		{"an update takes the place of an update", []Change{here("a", one), here("b", one), here("a", two)}, []Change{here("a", two), here("b", one)}},
		{"a deletion takes the place of an update", []Change{here("a", one), gone("a")}, []Change{gone("a")}},
		{"a deletion stays before the new function", []Change{gone("a"), here("a", two)}, []Change{gone("a"), here("a", two)}},
		{"the queue is bounded", []Change{gone("a"), here("a", one), gone("a"), here("a", one), gone("a"), here("a", two)}, []Change{gone("a"), here("a", two)}},
	} {
		w := &watcher{last: map[string]int{}, wake: make(chan struct{}, 1)}
		for _, c := range test.add {
			w.add(c)
		}
		got := w.take()
		if len(got) > 2*2 {
			t.Errorf("%s: %d changes wait", test.what, len(got))
		}
		// Deletions in a row say the same once.
		var squeezed []Change
		for _, c := range got {
			if n := len(squeezed); n == 0 || squeezed[n-1] != c {
				squeezed = append(squeezed, c)
			}
		}
		if diff := cmp.Diff(test.get, squeezed); diff != "" {
			t.Errorf("%s: %s", test.what, diff)
		}
	}
}
