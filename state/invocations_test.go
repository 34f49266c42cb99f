package state

import (
	"testing"
	"time"
)

// TestInvocationsLeaveNoReaders reads often and sees that the engine keeps none of the readers.
func TestInvocationsLeaveNoReaders(t *testing.T) {
	i := open(t, Config{Dir: t.TempDir()}).Invocations(InvocationsConfig{})
	if err := i.Append(t.Context(), []InvocationBatch{{Shelf: "warm.1", Data: []byte("a")}, {Shelf: "starts.1", Data: []byte("b")}}); err != nil {
		t.Fatal(err)
	}
	for n := range 20 {
		read, none := 0, []string{"warm.2"}
		count := func(time.Time, []byte) error { read++; return nil }
		if err := i.Read(t.Context(), nil, time.Time{}, time.Time{}, count); err != nil || read != 2 {
			t.Fatalf("%d: %d batches, %v", n, read, err)
		}
		if err := i.Read(t.Context(), none, time.Time{}, time.Time{}, count); err != nil || read != 2 {
			t.Fatalf("%d: %d batches, %v", n, read, err)
		}
	}
	info, err := i.opened.records.Info(t.Context())
	if err != nil || info.State.Consumers != 0 {
		t.Errorf("%d readers are left, %v", info.State.Consumers, err)
	}
}
