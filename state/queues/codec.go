package queues

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"time"
)

// What is stored. A message's data is its Meta, preceded by its length, and its Body; what the index needs of it is its
// envelope, in a header, so that the index is read without the bodies. Operations on messages are records of their own,
// several in one, in the same header and without data. The stream is therefore one log of everything, in order.
//
// Both are a version byte and then numbers as varints and texts with their length, in base64.

// header is the one header that this package writes. Its values have no characters that a header could not have.
const header = "Thaw"

const codecVersion = 1

var errCorrupt = errors.New("not what this version of thaw writes")

var encoding = base64.RawURLEncoding

// envelope is what is known of a message without its data.
type envelope struct {
	id       string
	group    string
	dedup    string
	sent     int64  // milliseconds since 1970
	visible  int64  // the delay it was sent with, milliseconds
	deadFrom string // name of the queue it died in
	// origin is the message it was moved from, and the number of its queue; that one is gone as soon as this one is there.
	origin      uint64
	originQueue uint64
}

// tag tells messages apart that have the same sequence, which happens where a power cut took the first of them.
func tag(id string) uint32 {
	h := fnv.New32a()
	h.Write([]byte(id)) //nolint:errcheck // it does not fail
	return h.Sum32()
}

type writer []byte

func (w *writer) number(n uint64) { *w = binary.AppendUvarint(*w, n) }
func (w *writer) signed(n int64)  { *w = binary.AppendVarint(*w, n) }
func (w *writer) text(s string)   { w.number(uint64(len(s))); *w = append(*w, s...) }

type reader struct {
	b   []byte
	bad bool
}

func (r *reader) number() uint64 {
	n, size := binary.Uvarint(r.b)
	if size <= 0 {
		r.b, r.bad = nil, true
		return 0
	}
	r.b = r.b[size:]
	return n
}

func (r *reader) signed() int64 {
	n, size := binary.Varint(r.b)
	if size <= 0 {
		r.b, r.bad = nil, true
		return 0
	}
	r.b = r.b[size:]
	return n
}

func (r *reader) text() string {
	n := r.number()
	if n > uint64(len(r.b)) {
		r.b, r.bad = nil, true
		return ""
	}
	s := string(r.b[:n])
	r.b = r.b[n:]
	return s
}

// start begins reading a value of the header.
func start(value string) (reader, error) {
	b, err := encoding.DecodeString(value)
	if err != nil || len(b) == 0 || b[0] != codecVersion {
		return reader{}, errCorrupt
	}
	return reader{b: b[1:]}, nil
}

func (e *envelope) encode() string {
	w := writer{codecVersion}
	w.text(e.id)
	w.text(e.group)
	w.text(e.dedup)
	w.signed(e.sent)
	w.number(uint64(e.visible))
	w.text(e.deadFrom)
	w.number(e.origin)
	w.number(e.originQueue)
	return encoding.EncodeToString(w)
}

func decodeEnvelope(value string) (envelope, error) {
	r, err := start(value)
	if err != nil {
		return envelope{}, err
	}
	e := envelope{id: r.text(), group: r.text(), dedup: r.text(), sent: r.signed()}
	e.visible, e.deadFrom = int64(min(r.number(), maxHidden)), r.text()
	e.origin, e.originQueue = r.number(), r.number()
	if r.bad {
		return envelope{}, errCorrupt
	}
	return e, nil
}

// encodeData gives a message's data.
func encodeData(meta, body []byte) []byte {
	data := make([]byte, 0, binary.MaxVarintLen32+len(meta)+len(body))
	data = binary.AppendUvarint(data, uint64(len(meta)))
	data = append(data, meta...)
	return append(data, body...)
}

// decodeData undoes encodeData without a copy.
func decodeData(data []byte) (meta, body []byte, err error) {
	n, size := binary.Uvarint(data)
	if size <= 0 || n > uint64(len(data)-size) {
		return nil, nil, errCorrupt
	}
	data = data[size:]
	if n > 0 {
		meta = data[:n:n]
	}
	return meta, data[n:], nil
}

type opKind byte

const (
	opState  opKind = iota + 1 // a message has been received, or given back, or its visibility has changed
	opDelete                   // a message is gone
	opDedup                    // a deduplication id was used by a message that is gone
	opPurge                    // every message of the queue up to seq is gone
)

// op is one operation. Each says all that is to be known of the message, so that the newest one suffices.
type op struct {
	kind  opKind
	queue uint64
	seq   uint64
	tag   uint32

	// opState
	receives uint32
	first    int64         // first received, milliseconds since 1970
	hidden   time.Duration // from the record's time on, to the millisecond
	inFlight bool          // hidden because it was received, not delayed
	note     string

	// opDedup
	dedup string // as in the queue's memory of them
	id    string
	sent  int64
}

// size bounds what an op takes in a record.
func (o *op) size() int { return 64 + len(o.note) + len(o.dedup) + len(o.id) }

// encodeOps makes a record of operations decided at at, milliseconds since 1970.
func encodeOps(at int64, ops []op) string {
	w := writer{codecVersion}
	w.signed(at)
	for i := range ops {
		o := &ops[i]
		w = append(w, byte(o.kind))
		w.number(o.queue)
		w.number(o.seq)
		w.number(uint64(o.tag))
		switch o.kind {
		case opState:
			w.number(uint64(o.receives))
			w.signed(o.first)
			w.number(uint64(o.hidden.Milliseconds()))
			inFlight := byte(0)
			if o.inFlight {
				inFlight = 1
			}
			w = append(w, inFlight)
			w.text(o.note)
		case opDedup:
			w.text(o.dedup)
			w.text(o.id)
			w.signed(o.sent)
		case opDelete, opPurge:
		}
	}
	return encoding.EncodeToString(w)
}

func decodeOps(value string) (at int64, ops []op, err error) {
	r, err := start(value)
	if err != nil {
		return 0, nil, err
	}
	at = r.signed()
	for len(r.b) > 0 && !r.bad {
		o := op{kind: opKind(r.b[0])}
		r.b = r.b[1:]
		o.queue, o.seq, o.tag = r.number(), r.number(), uint32(r.number())
		switch o.kind {
		case opState:
			o.receives, o.first = uint32(r.number()), r.signed()
			o.hidden = time.Duration(min(r.number(), maxHidden)) * time.Millisecond
			o.inFlight = r.number() == 1
			o.note = r.text()
		case opDedup:
			o.dedup, o.id, o.sent = r.text(), r.text(), r.signed()
		case opDelete, opPurge:
		default:
			return 0, nil, fmt.Errorf("operation %d: %w", o.kind, errCorrupt)
		}
		ops = append(ops, o)
	}
	if r.bad {
		return 0, nil, errCorrupt
	}
	return at, ops, nil
}

// maxHidden bounds for how long anything is hidden, milliseconds: a hundred years, so that no sum overflows.
const maxHidden = 100 * 366 * 24 * 60 * 60 * 1000

// handle is what a receipt handle says: which receive of which message.
type handle struct {
	queue    uint64
	seq      uint64
	tag      uint32
	receives uint32
}

func (h handle) String() string {
	w := writer{codecVersion}
	w.number(h.queue)
	w.number(h.seq)
	w.number(uint64(h.tag))
	w.number(uint64(h.receives))
	w.number(uint64(h.check()))
	return encoding.EncodeToString(w)
}

// check makes a handle that was cut off or mistyped show. It keeps no secret.
func (h handle) check() uint32 {
	f := fnv.New32a()
	fmt.Fprint(f, h.queue, h.seq, h.tag, h.receives)
	return f.Sum32()
}

func parseHandle(s string) (handle, error) {
	r, err := start(s)
	if err != nil {
		return handle{}, ErrHandle
	}
	h := handle{queue: r.number(), seq: r.number(), tag: uint32(r.number()), receives: uint32(r.number())}
	if check := r.number(); r.bad || len(r.b) != 0 || check != uint64(h.check()) {
		return handle{}, ErrHandle
	}
	return h, nil
}
