package runtimes

import (
	"bytes"
	"encoding/binary"
	"time"
)

// MaxMessage bounds one log message, in bytes: AWS's bound of a log event. A longer one is split.
const MaxMessage = 256 * 1024

// What may be claimed as a message's time; CloudWatch Logs refuses events beyond the same bounds.
const (
	oldestMessage = 14 * 24 * time.Hour
	newestMessage = 2 * time.Hour
)

// MessageTime is when a message was written, as far as who wrote it is to be believed: now, where it claims more than 14 days ago
// or two hours ahead.
func MessageTime(claimed time.Time) time.Time {
	if now := time.Now(); now.Sub(claimed) > oldestMessage || claimed.Sub(now) > newestMessage {
		return now
	}
	return claimed
}

const (
	messageMagic  = "\xa5\x5a\x00\x03"
	messageHeader = 16
	// maxMessageFrame is the greatest length that a frame's header may claim; what claims more is not a frame.
	maxMessageFrame = 64 * 1024 * 1024
)

// Output takes the one output pipe of an environment apart into log messages. Text is split at newlines, one message a
// line, without its newline; empty lines are dropped. A bootstrap's message of several lines comes as a frame and stays
// whole: four bytes a55a0003, the length in four bytes, the time in microseconds since 1970 in eight (big-endian), then
// the message, whose one trailing newline is dropped. A frame may begin in the middle of a line, which ends there.
//
// Output is not safe for concurrent use. What it keeps between two writes is bounded by MaxMessage.
type Output struct {
	emit  func(message []byte, at time.Time)
	state outputState
	// pending is a line without its end, a frame's header so far, or a frame's message so far.
	pending []byte
	// frameLeft is how many bytes of the current frame's message are to come; frameAt is its time.
	frameLeft int
	frameAt   time.Time
}

type outputState int

const (
	inText outputState = iota
	inHeader
	inFrame
)

// NewOutput makes an Output that passes each message to emit, with the time at which it was written or, for text, was
// read. The message is emit's only until it returns.
func NewOutput(emit func(message []byte, at time.Time)) *Output { return &Output{emit: emit} }

// Write takes what was read from the pipe. It never fails.
func (o *Output) Write(data []byte) (int, error) {
	n := len(data)
	for len(data) > 0 {
		switch o.state {
		case inText:
			data = o.text(data)
		case inHeader:
			data = o.header(data)
		case inFrame:
			data = o.frame(data)
		}
	}
	return n, nil
}

// Flush passes on what has no end yet: for the end of an invocation and of the environment.
func (o *Output) Flush() {
	at := o.frameAt
	if o.state != inFrame {
		at = time.Now()
	}
	o.state = inText
	o.pass(o.pending, at)
}

// text takes one line, or what there is of it, and returns what follows.
func (o *Output) text(data []byte) []byte {
	if k := splitMagic(o.pending, data); k > 0 {
		o.pass(o.pending[:len(o.pending)-k], time.Now())
		o.pending = append(o.pending, messageMagic[:k]...)
		o.state = inHeader
		return data
	}
	line, rest, ended := data, data[len(data):], false
	if end := bytes.IndexByte(data, '\n'); end >= 0 {
		line, rest, ended = data[:end], data[end+1:], true
	}
	if begin := bytes.Index(line, []byte(messageMagic)); begin >= 0 {
		line, rest, ended = data[:begin], data[begin:], true
		o.state = inHeader
	}
	if room := MaxMessage - len(o.pending); len(line) > room {
		line, rest, ended = data[:room], data[room:], true
		o.state = inText
	}
	switch {
	case !ended:
		o.pending = append(o.pending, line...)
	case len(o.pending) == 0:
		o.pass(line, time.Now())
	default:
		o.pass(append(o.pending, line...), time.Now())
	}
	return rest
}

// splitMagic tells how many bytes of a frame's magic end pending when the rest of it begins data.
func splitMagic(pending, data []byte) int {
	for k := len(messageMagic) - 1; k > 0; k-- {
		if bytes.HasSuffix(pending, []byte(messageMagic[:k])) && bytes.HasPrefix(data, []byte(messageMagic[k:])) {
			return k
		}
	}
	return 0
}

// header collects a frame's header, of which the magic is known to be there.
func (o *Output) header(data []byte) []byte {
	n := min(messageHeader-len(o.pending), len(data))
	o.pending = append(o.pending, data[:n]...)
	if len(o.pending) < messageHeader {
		return data[n:]
	}
	length := binary.BigEndian.Uint32(o.pending[4:])
	if length > maxMessageFrame {
		o.state = inText
		return data[n:]
	}
	o.frameLeft = int(length)
	o.frameAt = time.UnixMicro(int64(binary.BigEndian.Uint64(o.pending[8:])))
	o.pending = o.pending[:0]
	o.state = inFrame
	if length == 0 {
		o.state = inText
	}
	return data[n:]
}

// frame takes a frame's message, or what there is of it.
func (o *Output) frame(data []byte) []byte {
	n := min(o.frameLeft, len(data), MaxMessage-len(o.pending))
	o.frameLeft -= n
	piece, rest := data[:n], data[n:]
	if o.frameLeft > 0 && len(o.pending)+n < MaxMessage {
		o.pending = append(o.pending, piece...)
		return rest
	}
	if len(o.pending) > 0 {
		piece = append(o.pending, piece...)
	}
	if o.frameLeft == 0 {
		piece = bytes.TrimSuffix(piece, []byte("\n"))
		o.state = inText
	}
	o.pass(piece, o.frameAt)
	return rest
}

// pass hands a message on and forgets what was kept. A large buffer is given back: most environments are idle most of
// the time.
func (o *Output) pass(message []byte, at time.Time) {
	if message = bytes.TrimSuffix(message, []byte("\r")); len(message) > 0 {
		o.emit(message, at)
	}
	if cap(o.pending) > 4096 {
		o.pending = nil
	}
	o.pending = o.pending[:0]
}
