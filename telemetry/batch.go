package telemetry

import (
	"encoding/binary"
	"errors"
	"time"
)

// Event is one log event as a reader sees it.
type Event struct {
	At        time.Time
	Stream    string
	RequestID string // the invocation during which it was written; empty during init
	Message   string // ends with a newline where the writer wrote one
}

// A batch is what one environment wrote in a short while, as one message of the store:
//
//	uvarint length of the stream's name, the name, then per event
//	varint  Unix time in µs, as difference to the event before
//	uvarint 0: the request id of the event before; n+1: an id of n bytes follows
//	uvarint length of the message, the message
type batch struct {
	data   []byte
	header int // bytes before the first event
	lastAt int64
	lastID string
}

var errBatch = errors.New("telemetry: damaged log batch")

func (b *batch) reset(stream string) {
	b.data = binary.AppendUvarint(b.data[:0], uint64(len(stream)))
	b.data = append(b.data, stream...)
	b.header = len(b.data)
	b.lastAt, b.lastID = 0, ""
}

func (b *batch) empty() bool { return len(b.data) == b.header }

func (b *batch) add(at time.Time, requestID string, message []byte) {
	us := at.UnixMicro()
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
			event.RequestID, data = string(data[:idLength-1]), data[idLength-1:]
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

func takeString(data []byte) (s string, rest []byte, ok bool) {
	length, n := binary.Uvarint(data)
	if n <= 0 || length > uint64(len(data)-n) {
		return "", nil, false
	}
	data = data[n:]
	return string(data[:length]), data[length:], true
}
