package runtimes

import (
	"context"

	"thaw"
)

// Event is one invocation as a runtime gets it.
type Event struct {
	RequestID       string
	DeadlineMS      int64 // Unix time
	FunctionARN     string
	TraceID         string // the X-Amzn-Trace-Id value, may be empty
	ClientContext   string // JSON, may be empty
	CognitoIdentity string // JSON with cognitoIdentityId and cognitoIdentityPoolId, may be empty
	Payload         []byte
}

// Conn is the host's side of one environment's invoke channel: frames on a socketpair, or the HTTP Runtime API.
// Calls do not overlap: one WaitInit, then one Invoke at a time.
type Conn interface {
	// WaitInit returns when the runtime has initialised the user's module and asks for its first event. A failure
	// that the runtime reported is a *thaw.FunctionError; a runtime that went away, or a Conn that was closed, is io.EOF
	// or io.ErrUnexpectedEOF; ctx's end is ctx.Err(); bytes that are not the protocol's are ErrProtocol.
	WaitInit(ctx context.Context) error
	// Invoke passes one event and returns the response's JSON. A failure that the runtime reported is a
	// *thaw.FunctionError; the other errors are as for WaitInit. After anything but a response or a
	// *thaw.FunctionError the environment cannot be used again. A runtime that reports a failure and then ends, as
	// Node.js does after an exception that nothing caught, gives an error that is both: a *thaw.FunctionError to
	// errors.As and io.EOF to errors.Is. ErrNotTaken, which is io.EOF too, says that the event was not delivered.
	Invoke(ctx context.Context, event *Event) ([]byte, error)
	// Close releases the channel and unblocks the other calls.
	Close() error
}

// Profiler is a Conn whose runtime may have measured its init (Launch.ProfileArgs).
type Profiler interface {
	Conn
	// TakeProfile gives what the runtime told of its init, for ParseProfile, once: nil if it told nothing. It comes after
	// WaitInit, whatever that gave.
	TakeProfile() []byte
}

// Parker is a Conn whose runtime can become a template that environments are forked from. What NewFrames gives is one.
type Parker interface {
	Conn
	// Park has the runtime run the function's before-snapshot hooks and then wait to be forked; it comes after WaitInit,
	// and no other call but Close comes after it. When a hook fails, the error is a *thaw.FunctionError of type
	// Runtime.BeforeSnapshotError, and of type Runtime.ForkUnavailable when the interpreter cannot be forked here; its
	// payload says why. Other errors are as for WaitInit.
	//
	// In an environment that was forked, WaitInit returns when the after-restore hooks have run; one that fails is a
	// *thaw.FunctionError of type Runtime.AfterRestoreError.
	Park(ctx context.Context) error
}

var _ error = (*thaw.FunctionError)(nil)
