package runtimes

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
	"unicode"
	"unicode/utf8"

	"thaw"
)

// A frame is one byte of type, the length of its meta, the length of its body (both four bytes, big-endian), then the
// meta and the body.
//
// From the host: P, become a template; it is answered by P, parked, or X. I, one event; meta is request id, deadline in Unix milliseconds, function ARN, trace id, client
// context and Cognito identity, joined by NUL bytes; body is the event.
//
// From the runtime: T, at most once and before R or X, where init is measured; meta is as R's, body what ParseProfile reads. R, initialised; meta is when the bootstrap began to load the user's module, in Unix microseconds; X, failed to initialise; S, the response (body); F, a function error; D, a function
// error after which the runtime ends. X, F and D carry the error's type as meta and the error object as body.
const (
	frameInvoke    = 'I'
	framePark      = 'P'
	frameProfile   = 'T'
	frameReady     = 'R'
	frameInitError = 'X'
	frameSuccess   = 'S'
	frameError     = 'F'
	frameLastError = 'D'

	frameHeader  = 9
	maxFrameMeta = 256 * 1024
)

// ErrProtocol is what a runtime gets for bytes that are not frames, or not the frames that belong there. The
// environment cannot be used again.
var ErrProtocol = errors.New("runtimes: the runtime broke the protocol")

// ErrNotTaken is io.EOF of a runtime that had gone before it took the event: another environment may serve it.
var ErrNotTaken = fmt.Errorf("runtimes: the runtime ended before it took the event: %w", io.EOF)

// readBuffers holds the buffers of the environments that wait for a response now: idle ones keep none.
var readBuffers = sync.Pool{New: func() any { return new([16 * 1024]byte) }}

// trustedBody is the length up to which a frame's claim is believed before its bytes have come.
const trustedBody = 1024 * 1024

type frames struct {
	conn  *net.UnixConn
	head  []byte
	parts [2][]byte
	out   net.Buffers
	// cancelled gets one value when the current call's context has ended and the deadline was set because of that.
	cancelled chan struct{}
	onCancel  func()
	// up and profile are what the runtime told of its init; valid after WaitInit.
	up      time.Time
	profile []byte
	// early is what came with a profile and is not yet read.
	early []byte
}

// NewFrames speaks frames on one end of a socketpair, whose other end is the descriptor 3 of a runtime that uses one of
// the embedded bootstraps. The connection belongs to the Conn from then on.
func NewFrames(conn *net.UnixConn) Conn {
	f := &frames{conn: conn, cancelled: make(chan struct{}, 1)}
	f.onCancel = func() {
		f.conn.SetDeadline(time.Unix(1, 0))
		f.cancelled <- struct{}{}
	}
	return f
}

func (f *frames) WaitInit(ctx context.Context) error {
	return f.during(ctx, func() error {
		kind, meta, body, err := f.read()
		if err == nil && kind == frameProfile {
			f.tellUp(meta)
			f.profile = body
			kind, meta, body, err = f.read()
		}
		switch {
		case err != nil:
			return err
		case kind == frameReady:
			f.tellUp(meta)
			return nil
		case kind == frameInitError:
			return functionError(meta, body)
		}
		return fmt.Errorf("%w: frame %q during init", ErrProtocol, kind)
	})
}

func (f *frames) tellUp(meta string) {
	if us, err := strconv.ParseInt(meta, 10, 64); err == nil {
		f.up = time.UnixMicro(us)
	}
}

func (f *frames) Invoke(ctx context.Context, event *Event) (response []byte, err error) {
	stop := f.arm(ctx)
	response, err = f.invoke(event)
	return response, f.disarm(ctx, stop, err)
}

func (f *frames) invoke(event *Event) ([]byte, error) {
	if err := f.writeInvoke(event); errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET) {
		return nil, ErrNotTaken
	} else if err != nil {
		return nil, err
	}
	kind, meta, body, err := f.read()
	if errors.Is(err, syscall.ECONNRESET) {
		return nil, ErrNotTaken // the kernel says so of a peer that has gone with bytes left unread: the event
	}
	if err != nil {
		return nil, err
	}
	switch kind {
	case frameSuccess:
		return body, nil
	case frameError:
		return nil, functionError(meta, body)
	case frameLastError:
		return nil, &lastError{functionError(meta, body)}
	}
	return nil, fmt.Errorf("%w: frame %q as a response", ErrProtocol, kind)
}

// Park is for Parker.
func (f *frames) Park(ctx context.Context) error {
	return f.during(ctx, func() error {
		if _, err := f.conn.Write([]byte{framePark, 0, 0, 0, 0, 0, 0, 0, 0}); err != nil {
			return err
		}
		kind, meta, body, err := f.read()
		switch {
		case err != nil:
			return err
		case kind == framePark:
			return nil
		case kind == frameInitError:
			return functionError(meta, body)
		}
		return fmt.Errorf("%w: frame %q for parked", ErrProtocol, kind)
	})
}

// RuntimeUp is when the bootstrap began to load the user's module, as it told; zero if it did not.
func (f *frames) RuntimeUp() time.Time { return f.up }

// TakeProfile is for Profiler.
func (f *frames) TakeProfile() []byte {
	told := f.profile
	f.profile = nil
	return told
}

func (f *frames) Close() error { return f.conn.Close() }

func (f *frames) during(ctx context.Context, call func() error) error {
	stop := f.arm(ctx)
	return f.disarm(ctx, stop, call())
}

// arm makes the end of ctx interrupt the connection. A context that has a deadline but no Done channel needs no timer
// beside the connection's own.
func (f *frames) arm(ctx context.Context) (stop func() bool) {
	if ctx.Done() == nil {
		deadline, _ := ctx.Deadline()
		f.conn.SetDeadline(deadline)
		return nil
	}
	return context.AfterFunc(ctx, f.onCancel)
}

// disarm undoes arm and says what err means to the caller.
func (f *frames) disarm(ctx context.Context, stop func() bool, err error) error {
	if stop != nil && !stop() {
		<-f.cancelled
		f.conn.SetDeadline(time.Time{})
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, os.ErrDeadlineExceeded) && ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, os.ErrDeadlineExceeded) && stop == nil:
		return context.DeadlineExceeded
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, net.ErrClosed):
		return io.EOF
	}
	return err
}

func (f *frames) writeInvoke(event *Event) error {
	head := f.head[:0]
	head = append(head, frameInvoke, 0, 0, 0, 0, 0, 0, 0, 0)
	head = append(head, event.RequestID...)
	head = append(head, 0)
	head = strconv.AppendInt(head, event.DeadlineMS, 10)
	for _, field := range [...]string{event.FunctionARN, event.TraceID, event.ClientContext, event.CognitoIdentity} {
		head = append(head, 0)
		head = append(head, field...)
	}
	f.head = head
	meta := len(head) - frameHeader
	if meta > maxFrameMeta {
		return fmt.Errorf("runtimes: an event's context of %d bytes is more than %d", meta, maxFrameMeta)
	}
	binary.BigEndian.PutUint32(head[1:], uint32(meta))
	binary.BigEndian.PutUint32(head[5:], uint32(len(event.Payload)))
	f.parts = [2][]byte{head, event.Payload}
	f.out = f.parts[:]
	_, err := f.out.WriteTo(f.conn)
	f.parts = [2][]byte{}
	return err
}

// read reads one frame. body is the caller's; it is a *thaw.FunctionError instead when it is over thaw.MaxResponse, and
// then the connection is at the frame's end all the same.
func (f *frames) read() (kind byte, meta string, body []byte, err error) {
	buffer := readBuffers.Get().(*[16 * 1024]byte)
	defer readBuffers.Put(buffer)
	have := copy(buffer[:], f.early)
	f.early = nil
	for have < frameHeader {
		n, err := f.conn.Read(buffer[have:])
		have += n
		if err != nil && have > 0 {
			return 0, "", nil, unexpected(err)
		}
		if err != nil {
			return 0, "", nil, err
		}
	}
	kind = buffer[0]
	metaLen := binary.BigEndian.Uint32(buffer[1:])
	bodyLen := binary.BigEndian.Uint32(buffer[5:])
	if !knownFrame(kind) {
		return 0, "", nil, fmt.Errorf("%w: frame type %#x", ErrProtocol, kind)
	}
	if metaLen > maxFrameMeta {
		return 0, "", nil, fmt.Errorf("%w: %d bytes of meta", ErrProtocol, metaLen)
	}
	rest := buffer[frameHeader:have]
	if kind == frameProfile {
		if bodyLen > maxProfile {
			return 0, "", nil, fmt.Errorf("%w: %d bytes of a profile", ErrProtocol, bodyLen)
		}
		if whole := int(metaLen + bodyLen); len(rest) > whole {
			f.early = bytes.Clone(rest[whole:]) // the frame that follows it at once
			rest = rest[:whole]
		}
	}
	if int64(len(rest)) > int64(metaLen)+int64(bodyLen) {
		return 0, "", nil, fmt.Errorf("%w: bytes after a frame", ErrProtocol)
	}
	if metaLen > 0 {
		metaBytes, err := f.take(&rest, metaLen)
		if err != nil {
			return 0, "", nil, err
		}
		meta = string(metaBytes)
	}
	if bodyLen > thaw.MaxResponse {
		if _, err := io.CopyN(io.Discard, onlyReader{f.conn}, int64(bodyLen)-int64(len(rest))); err != nil {
			return 0, "", nil, unexpected(err)
		}
		return 0, "", nil, responseTooLarge()
	}
	body, err = f.take(&rest, bodyLen)
	return kind, meta, body, err
}

// take returns the next n bytes: from rest first, which it advances, then from the connection.
func (f *frames) take(rest *[]byte, n uint32) ([]byte, error) {
	have := min(uint32(len(*rest)), n)
	taken := make([]byte, have, min(n, max(have, trustedBody)))
	copy(taken, *rest)
	*rest = (*rest)[have:]
	for have < n {
		if have == uint32(cap(taken)) {
			grown := make([]byte, have, min(n, 2*have))
			copy(grown, taken)
			taken = grown
		}
		read, err := f.conn.Read(taken[have:cap(taken)])
		have += uint32(read)
		taken = taken[:have]
		if err != nil && have < n {
			return nil, unexpected(err)
		}
	}
	return taken, nil
}

func knownFrame(kind byte) bool {
	switch kind {
	case frameProfile, frameReady, framePark, frameInitError, frameSuccess, frameError, frameLastError:
		return true
	}
	return false
}

// unexpected turns the end of the stream within a frame into io.ErrUnexpectedEOF.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, net.ErrClosed) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// onlyReader hides everything but Read, so that io.CopyN does not try splice.
type onlyReader struct{ io.Reader }

// lastError is a function error after which the runtime ends.
type lastError struct{ *thaw.FunctionError }

func (e *lastError) Unwrap() error        { return e.FunctionError }
func (e *lastError) Is(target error) bool { return target == io.EOF }

// functionError makes the platform's error of what a runtime reported, which need not be what it should.
func functionError(kind string, body []byte) *thaw.FunctionError {
	kind = cleanErrorType(kind)
	if !json.Valid(body) {
		body = errorObject(kind, "")
	}
	return &thaw.FunctionError{Type: kind, Payload: body}
}

// cleanErrorType keeps what can stand in a log line: an error's type is the name of a class in the user's code.
func cleanErrorType(kind string) string {
	if kind == "" || len(kind) > 256 || !utf8.ValidString(kind) || strings.ContainsFunc(kind, unicode.IsControl) {
		return thaw.ErrorFunctionUnknown
	}
	return kind
}

func errorObject(kind, message string) []byte {
	object, _ := json.Marshal(struct {
		Type    string `json:"errorType"`
		Message string `json:"errorMessage"`
	}{kind, message})
	return object
}

func responseTooLarge() *thaw.FunctionError {
	return &thaw.FunctionError{
		Type: thaw.ErrorResponseTooLarge,
		Payload: errorObject(thaw.ErrorResponseTooLarge,
			fmt.Sprintf("Response payload size exceeded maximum allowed payload size (%d bytes).", thaw.MaxResponse)),
	}
}
