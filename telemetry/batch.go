package telemetry

import (
	"encoding/binary"
	"errors"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Event is one log event as a reader sees it.
type Event struct {
	At        time.Time
	Stream    string
	RequestID string // the invocation during which it was written; empty during init
	Lineage   string // of the chain of requests that it was written in, as a trace has it; empty: none is known
	Message   string // ends with a newline where the writer wrote one
}

// A batch is what one environment wrote in a short while, as one message of the store:
//
//	uvarint length of the stream's name, the name, then per event
//	varint  Unix time in µs, as difference to the event before
//	uvarint 0: the request id of the event before; n+1: an id of n bytes follows, with the lineage behind a space, if any
//	uvarint length of the message, the message
type batch struct {
	data   []byte
	header int // bytes before the first event
	lastAt int64
	lastID string
	// The earliest and the latest time, µs, and the number of events.
	from, to int64
	events   int
}

// Kind says what an entry of a log group is.
type Kind byte

// The kinds of entries. The last two end what came before them: a stream's, and all of the group.
const (
	Written       Kind = 'w' // events, or none: then a stream was created
	StreamDeleted Kind = 's'
	GroupDeleted  Kind = 'g'
)

// Meta describes a stored batch to readers that need not see its events.
type Meta struct {
	Kind     Kind
	Stream   string    // empty with GroupDeleted
	From, To time.Time // of the earliest and the latest event; zero without events
	Events   int
}

// String is the stored form: kind, times in µs, number of events and, behind a slash, the stream's name, which may hold
// anything.
func (m Meta) String() string {
	var from, to int64
	if m.Events > 0 {
		from, to = m.From.UnixMicro(), m.To.UnixMicro()
	}
	b := make([]byte, 0, 64+len(m.Stream))
	b = append(b, byte(m.Kind), ' ')
	b = append(strconv.AppendInt(b, from, 10), ' ')
	b = append(strconv.AppendInt(b, to, 10), ' ')
	b = append(strconv.AppendInt(b, int64(m.Events), 10), ' ', '/')
	return string(appendEscaped(b, m.Stream))
}

const hexDigits = "0123456789ABCDEF"

// appendEscaped writes every byte that is not a visible ASCII character, and %, as % and two hex digits.
func appendEscaped(b []byte, text string) []byte {
	for i := range len(text) {
		if c := text[i]; c > ' ' && c < 0x7f && c != '%' {
			b = append(b, c)
		} else {
			b = append(b, '%', hexDigits[c>>4], hexDigits[c&15])
		}
	}
	return b
}

// ParseMeta undoes String.
func ParseMeta(text string) (Meta, error) {
	parts := strings.Split(text, " ")
	if len(parts) != 5 || len(parts[0]) != 1 {
		return Meta{}, errBatch
	}
	m := Meta{Kind: Kind(parts[0][0])}
	var numbers [3]int64
	for i := range numbers {
		var err error
		if numbers[i], err = strconv.ParseInt(parts[i+1], 10, 64); err != nil {
			return Meta{}, errBatch
		}
	}
	name, ok := strings.CutPrefix(parts[4], "/")
	stream, err := url.PathUnescape(name)
	if err != nil || !ok || numbers[2] < 0 {
		return Meta{}, errBatch
	}
	m.Stream, m.Events = stream, int(numbers[2])
	if m.Events > 0 {
		m.From, m.To = time.UnixMicro(numbers[0]), time.UnixMicro(numbers[1])
	}
	return m, nil
}

// EncodeBatch makes a batch of events of one stream, in their order, and its description. Event.Stream is not looked at.
func EncodeBatch(stream string, events []Event) (meta Meta, data []byte) {
	var b batch
	b.reset(stream)
	for _, e := range events {
		b.add(e.At, withLineage(e.RequestID, e.Lineage), []byte(e.Message))
	}
	return b.meta(stream), b.data
}

// DecodeBatch calls fn for each event of a batch, in order, and stops at the first error.
func DecodeBatch(data []byte, fn func(Event) error) error { return decodeBatch(data, fn) }

// BatchMeta describes a batch that was stored without a description.
func BatchMeta(data []byte) (Meta, error) {
	stream, _, ok := takeString(data)
	if !ok {
		return Meta{}, errBatch
	}
	var b batch
	b.reset(stream)
	err := decodeBatch(data, func(e Event) error { b.note(e.At.UnixMicro()); return nil })
	return b.meta(stream), err
}

var errBatch = errors.New("telemetry: damaged log batch")

func (b *batch) reset(stream string) {
	b.data = binary.AppendUvarint(b.data[:0], uint64(len(stream)))
	b.data = append(b.data, stream...)
	b.header = len(b.data)
	b.lastAt, b.lastID = 0, ""
	b.from, b.to, b.events = 0, 0, 0
}

func (b *batch) note(us int64) {
	if b.events == 0 {
		b.from, b.to = us, us
	}
	b.from, b.to = min(b.from, us), max(b.to, us)
	b.events++
}

func (b *batch) meta(stream string) Meta {
	m := Meta{Kind: Written, Stream: stream, Events: b.events}
	if b.events > 0 {
		m.From, m.To = time.UnixMicro(b.from), time.UnixMicro(b.to)
	}
	return m
}

func (b *batch) empty() bool { return len(b.data) == b.header }

func (b *batch) add(at time.Time, requestID string, message []byte) {
	us := at.UnixMicro()
	b.note(us)
	b.data = binary.AppendVarint(b.data, us-b.lastAt)
	b.lastAt = us
	if requestID == b.lastID {
		b.data = append(b.data, 0)
	} else {
		b.data = binary.AppendUvarint(b.data, uint64(len(requestID))+1)
		b.data = append(b.data, requestID...)
		b.lastID = requestID
	}
	b.data = binary.AppendUvarint(b.data, uint64(len(message)))
	b.data = append(b.data, message...)
}

// decodeBatch calls fn for each event of a batch, in order, and stops at the first error.
func decodeBatch(data []byte, fn func(Event) error) error {
	stream, data, ok := takeString(data)
	if !ok {
		return errBatch
	}
	event := Event{Stream: stream}
	var at int64
	for len(data) > 0 {
		delta, n := binary.Varint(data)
		if n <= 0 {
			return errBatch
		}
		data = data[n:]
		at += delta
		event.At = time.UnixMicro(at)
		idLength, n := binary.Uvarint(data)
		if n <= 0 {
			return errBatch
		}
		data = data[n:]
		if idLength > 0 {
			if idLength-1 > uint64(len(data)) {
				return errBatch
			}
			event.RequestID, event.Lineage, _ = strings.Cut(string(data[:idLength-1]), " ")
			data = data[idLength-1:]
		}
		if event.Message, data, ok = takeString(data); !ok {
			return errBatch
		}
		if err := fn(event); err != nil {
			return err
		}
	}
	return nil
}

// withLineage is a request id as a batch keeps it.
func withLineage(requestID, lineage string) string {
	if lineage == "" {
		return requestID
	}
	return requestID + " " + lineage
}

func takeString(data []byte) (s string, rest []byte, ok bool) {
	length, n := binary.Uvarint(data)
	if n <= 0 || length > uint64(len(data)-n) {
		return "", nil, false
	}
	data = data[n:]
	return string(data[:length]), data[length:], true
}
