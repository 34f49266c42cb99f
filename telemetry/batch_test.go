package telemetry

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestBatchRoundTrip(t *testing.T) {
	base := time.UnixMicro(1_700_000_000_123_456)
	want := []Event{
		{At: base, Stream: "s", Message: "init\n"},
		{At: base.Add(time.Second), Stream: "s", RequestID: "r1", Message: "START\n"},
		{At: base.Add(time.Second), Stream: "s", RequestID: "r1", Message: "two\nlines"},
		{At: base.Add(-time.Hour), Stream: "s", RequestID: "r2", Message: ""}, // a clock that jumps back
		{At: base, Stream: "s", Message: "after"},
	}
	var b batch
	b.reset("s")
	if !b.empty() {
		t.Error("a new batch is not empty")
	}
	for _, e := range want {
		b.add(e.At, e.RequestID, []byte(e.Message))
	}
	var got []Event
	if err := decodeBatch(b.data, func(e Event) error { got = append(got, e); return nil }); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func FuzzDecodeBatch(f *testing.F) {
	var b batch
	b.reset("stream")
	b.add(time.UnixMicro(1), "id", []byte("message"))
	f.Add(b.data)
	f.Add([]byte{})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01})
	f.Fuzz(func(t *testing.T, data []byte) {
		size := 0
		err := decodeBatch(data, func(e Event) error { size += len(e.Message) + len(e.RequestID); return nil })
		if err == nil && size > len(data) {
			t.Errorf("%d bytes decoded to %d", len(data), size)
		}
	})
}
