package main

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"thaw/scripts/platform"
	"thaw/state"
	"thaw/state/queues"
)

func TestEventBody(t *testing.T) {
	var e eventSide
	body := e.body("run", 7)
	var sent struct {
		Run  string
		N    int
		Sent float64
	}
	if err := json.Unmarshal([]byte(body), &sent); err != nil || len(body) != eventSize || sent.Run != "run" || sent.N != 7 || sent.Sent < 1e9 {
		t.Errorf("%d bytes, %+v, %v", len(body), sent, err)
	}
}

func TestPacedCallsEachOnce(t *testing.T) {
	var mu sync.Mutex
	seen := map[int]int{}
	_, err := paced(t.Context(), 50, 10_000, func(n int) error {
		mu.Lock()
		defer mu.Unlock()
		seen[n]++
		return nil
	})
	if err != nil || len(seen) != 50 || seen[0] != 1 || seen[49] != 1 {
		t.Errorf("%v %v", seen, err)
	}
	failure := errors.New("refused")
	if _, err := paced(t.Context(), 5, 10_000, func(int) error { return failure }); !errors.Is(err, failure) {
		t.Error(err)
	}
	ended, end := context.WithCancel(t.Context())
	end()
	if _, err := paced(ended, 5, 1, func(int) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// TestSaid reads a log with lines of this run, of another one, of neither, and one twice.
func TestSaid(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for _, message := range []string{
			"START RequestId: 1\n", `{"run": "a", "n": 1, "ms": 1.5}` + "\n", `{"run": "b", "n": 1, "ms": 9}`, `{"run": "a", "n": 1, "ms": 90}`, `{"run": "a", "n": 2, "ms": 3}`,
		} {
			_ = json.NewEncoder(w).Encode(map[string]string{"message": message})
		}
	}))
	defer server.Close()
	e := &eventSide{p: &platform.Platform{URL: server.URL}, http: server.Client()}
	took, again, err := e.arrived(t.Context(), "a", 2)
	if err != nil || again != 1 || len(took) != 2 || took[0].Microseconds() != 1500 || took[1].Milliseconds() != 3 {
		t.Errorf("%v %d %v", took, again, err)
	}
}

func TestFillBacklog(t *testing.T) {
	dir := t.TempDir()
	if err := fillBacklog(t.Context(), dir, "2500"); err != nil {
		t.Fatal(err)
	}
	store, err := state.Open(t.Context(), state.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	all, err := queues.Open(t.Context(), store, queues.Config{})
	if err != nil {
		t.Fatal(err)
	}
	q, ok := all.Queue(backlogName)
	if !ok || q.Depth().Visible != 2500 || q.Depth().Bytes < 2500*eventSize {
		t.Fatalf("%v", ok)
	}
	if used, err := diskUse(dir); err != nil || used < 2500*eventSize {
		t.Errorf("%d bytes on disk, %v", used, err)
	}
}
