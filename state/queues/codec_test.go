package queues

import (
	"bytes"
	"reflect"
	"testing"
	"time"
)

func TestCodec(t *testing.T) {
	env := envelope{id: "id", group: "g\r\n", dedup: "d", sent: -5, visible: 7, deadFrom: "sqs/a", origin: 1 << 60, originQueue: 3}
	got, err := decodeEnvelope(env.encode())
	if err != nil || got != env {
		t.Errorf("%+v became %+v, %v", env, got, err)
	}
	ops := []op{
		{kind: opState, queue: 1, seq: 2, tag: 3, receives: 4, first: 5, hidden: 6 * time.Millisecond, inFlight: true, note: "note"},
		{kind: opState, queue: 1, seq: 2, tag: 3},
		{kind: opDelete, queue: 1, seq: 2, tag: 1<<32 - 1},
		{kind: opDedup, queue: 1, seq: 2, dedup: "key", id: "id", sent: 9},
		{kind: opPurge, queue: 1, seq: 1<<64 - 1},
	}
	at, gotOps, err := decodeOps(encodeOps(77, ops))
	if err != nil || at != 77 || !reflect.DeepEqual(ops, gotOps) {
		t.Errorf("%+v became %+v at %d, %v", ops, gotOps, at, err)
	}
	for _, c := range [][2]string{{"", ""}, {"meta", ""}, {"", "body"}, {"meta", "body"}} {
		meta, body, err := decodeData(encodeData([]byte(c[0]), []byte(c[1])))
		if err != nil || string(meta) != c[0] || string(body) != c[1] {
			t.Errorf("%q became %q, %q, %v", c, meta, body, err)
		}
	}
	h := handle{queue: 1, seq: 2, tag: 3, receives: 4}
	if got, err := parseHandle(h.String()); err != nil || got != h {
		t.Errorf("%+v became %+v, %v", h, got, err)
	}
}

// TestSizeOfOps holds that a record of as many operations as fit is no larger than a header may be.
func TestSizeOfOps(t *testing.T) {
	const most = 1<<64 - 1
	for _, o := range []op{
		{kind: opState, queue: most, seq: most, tag: 1<<32 - 1, receives: 1<<32 - 1, first: 1 << 62, hidden: 1 << 62},
		{kind: opDelete, queue: most, seq: most, tag: 1<<32 - 1},
		{kind: opDedup, queue: most, seq: most, tag: 1<<32 - 1, sent: 1 << 62},
	} {
		if one, two := encodeOps(0, []op{o}), encodeOps(0, []op{o, o}); (len(two)-len(one))*3/4 > o.size() {
			t.Errorf("%+v takes %d bytes, not up to %d", o, (len(two)-len(one))*3/4, o.size())
		}
	}
	if maxRecord*4/3+100 > 1<<16 || MaxNote+64 > maxRecord || 2*MaxID+64 > maxRecord {
		t.Error("a record may be too large for a header")
	}
}

func FuzzEnvelope(f *testing.F) {
	f.Add((&envelope{id: "id", group: "g", dedup: "d", sent: 1, visible: 2, deadFrom: "q", origin: 3, originQueue: 4}).encode())
	f.Add("")
	f.Add("AQ")
	f.Fuzz(func(t *testing.T, value string) {
		env, err := decodeEnvelope(value)
		if err != nil {
			return
		}
		if again, err := decodeEnvelope(env.encode()); err != nil || again != env {
			t.Errorf("%+v became %+v, %v", env, again, err)
		}
	})
}

func FuzzOps(f *testing.F) {
	f.Add(encodeOps(1, []op{{kind: opState, queue: 1, seq: 2, tag: 3, receives: 4, first: 5, hidden: 6, inFlight: true, note: "n"}, {kind: opDelete, seq: 9}}))
	f.Add(encodeOps(-1, []op{{kind: opDedup, dedup: "k", id: "i", sent: 3}, {kind: opPurge, queue: 2, seq: 8}}))
	f.Add("AQ")
	f.Fuzz(func(t *testing.T, value string) {
		at, ops, err := decodeOps(value)
		if err != nil {
			return
		}
		atAgain, again, err := decodeOps(encodeOps(at, ops))
		if err != nil || at != atAgain || !reflect.DeepEqual(ops, again) {
			t.Errorf("%+v became %+v, %v", ops, again, err)
		}
	})
}

func FuzzHandle(f *testing.F) {
	f.Add(handle{queue: 1, seq: 2, tag: 3, receives: 4}.String())
	f.Add("")
	f.Fuzz(func(t *testing.T, text string) {
		h, err := parseHandle(text)
		if err != nil {
			return
		}
		if again, err := parseHandle(h.String()); err != nil || again != h {
			t.Errorf("%+v became %+v, %v", h, again, err)
		}
	})
}

func FuzzData(f *testing.F) {
	f.Add(encodeData([]byte("meta"), []byte("body")))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		meta, body, err := decodeData(data)
		if err != nil {
			return
		}
		if m, b, err := decodeData(encodeData(meta, body)); err != nil || !bytes.Equal(m, meta) || !bytes.Equal(b, body) {
			t.Errorf("%q and %q became %q and %q, %v", meta, body, m, b, err)
		}
	})
}
