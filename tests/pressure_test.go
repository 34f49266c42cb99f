package tests

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"thaw/tests/harness"
)

// TestFullNodeServesEveryFunction sends two functions more requests at once than the node has environments: each is
// answered, or refused with a time to come back at, and both functions are served.
func TestFullNodeServesEveryFunction(t *testing.T) {
	const requests = 20
	data := t.TempDir()
	t.Cleanup(func() { harness.NothingLeft(t, data) })
	p := harness.Start(t, harness.Options{Data: data, Config: forkConfig + "environments:\n  max: 4\n  ready: 1\n"})
	s := &stage{Platform: p, client: p.Lambda()}
	names := []string{"first", "second"}
	for _, name := range names {
		s.python(t, name, "import time\ndef handler(event, context):\n    time.sleep(0.2)\n    return event\n", deployed{})
	}
	var mu sync.Mutex
	served := map[string]int{}
	refused := 0
	round := func() {
		var calls sync.WaitGroup
		for n := range requests {
			name := names[n%len(names)]
			calls.Go(func() {
				a, err := s.tryCall(t.Context(), http.MethodPost, "/2015-03-31/functions/"+name+"/invocations", nil, strings.NewReader(fmt.Sprint(n)))
				mu.Lock()
				defer mu.Unlock()
				switch {
				case err != nil:
					t.Error(err)
				case a.status == http.StatusOK && a.payload == fmt.Sprint(n):
					served[name]++
				case a.status == http.StatusTooManyRequests && a.header.Get("Retry-After") != "" && strings.Contains(a.payload, "ConcurrentInvocationLimitExceeded"):
					refused++
				default:
					t.Errorf("%s: %d %v %s", name, a.status, a.header, a.payload)
				}
			})
		}
		calls.Wait()
	}
	for range 3 {
		round()
		if served["first"] == 0 || served["second"] == 0 {
			t.Errorf("served were %v, refused %d", served, refused)
		}
		clear(served)
	}
	if refused == 0 {
		t.Error("none of them was refused, although they were more than the node and its queue can take")
	}
}
