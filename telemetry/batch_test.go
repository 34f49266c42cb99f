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

func TestMetaRoundTrip(t *testing.T) {
	at := time.UnixMicro(1_700_000_000_123_456)
	for _, want := range []Meta{
		{Kind: Written, Stream: "2026/01/31/[$LATEST]0123", From: at, To: at.Add(time.Second), Events: 3},
		{Kind: Written, Stream: "a b\n\r\x00/", From: at, To: at, Events: 1},
		{Kind: Written, Stream: "empty"},
		{Kind: StreamDeleted, Stream: "x"},
		{Kind: GroupDeleted},
	} {
		got, err := ParseMeta(want.String())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	}
	meta, data := EncodeBatch("s", []Event{{At: at.Add(time.Hour), Message: "a"}, {At: at, Message: "b"}})
	if diff := cmp.Diff(Meta{Kind: Written, Stream: "s", From: at, To: at.Add(time.Hour), Events: 2}, meta); diff != "" {
		t.Error(diff)
	}
	_, outside := EncodeBatch("s", []Event{{At: at, Lineage: "f:1", Message: "a"}, {At: at, Message: "b"}})
	var lineages []string
	if err := DecodeBatch(outside, func(e Event) error { lineages = append(lineages, e.RequestID+e.Lineage); return nil }); err != nil || lineages[0] != "f:1" || lineages[1] != "" {
		t.Errorf("%q, %v", lineages, err)
	}
	again, err := BatchMeta(data)
	if diff := cmp.Diff(meta, again); diff != "" || err != nil {
		t.Error(diff, err)
	}
}

func FuzzParseMeta(f *testing.F) {
	f.Add("w 1 2 3 /6162")
	f.Add("g 0 0 0 /")
	f.Fuzz(func(t *testing.T, text string) {
		m, err := ParseMeta(text)
		if err != nil {
			return
		}
		if again, err := ParseMeta(m.String()); err != nil || again != m {
			t.Errorf("%q: %v and %v, %v", text, m, again, err)
		}
	})
}
