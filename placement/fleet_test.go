package placement

import (
	"testing"
	"time"

	"thaw/sandbox"
)

// A start that nobody waits for any more has made a spare: the environments that have served are used before it.
func TestUnaskedStartIsSpare(t *testing.T) {
	f := &fleet{live: map[string]*Instance{}}
	served := &Instance{Environment: &sandbox.Environment{ID: "served", Served: 1}}
	fresh := &Instance{Environment: &sandbox.Environment{ID: "fresh"}}
	for _, instance := range []*Instance{served, fresh} {
		if !f.offer(instance, time.Now()) {
			t.Fatal("not kept")
		}
	}
	if got := f.take(); got != served {
		t.Errorf("took %s", got.ID)
	}
	if got := f.take(); got != fresh {
		t.Error("the spare was not kept")
	}
}
