package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"

	"github.com/aws/smithy-go"

	"thaw"
)

// Exit codes of the program. They are part of its interface and do not change.
const (
	ExitOK          = 0
	ExitFailed      = 1   // the function failed, or the platform refused the request
	ExitUsage       = 2   // the command line, or a file that it names, is wrong
	ExitUnreachable = 3   // nothing answers at the endpoint
	ExitNotFound    = 4   // no such function or queue
	ExitTimeout     = 5   // the platform did not finish in time
	ExitInterrupted = 130 // the shell's own code for an interrupt
)

// Error is a failure as the user sees it: what happened, why, and what to type next.
type Error struct {
	What string // a clause without a full stop: "cannot deploy hello"
	Why  string // the reason, may be empty
	Next string // a command to type next, may be empty
	Exit int    // one of the Exit constants
	Err  error  // the cause, for errors.Is and errors.As; never shown
}

// Error is what happened and why, on one line.
func (e *Error) Error() string {
	if e.Why == "" {
		return e.What
	}
	return e.What + ": " + e.Why
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

func usage(what, next string) *Error {
	return &Error{What: what, Next: next, Exit: ExitUsage}
}

// report shows err, if there is one, and gives the exit code.
func (p *program) report(err *Error) int {
	if err == nil {
		return ExitOK
	}
	if p.json {
		p.writeJSON(p.io.Err, &errorJSON{Version: jsonVersion, Error: errorBody{
			What: err.What, Why: err.Why, Next: err.Next, ExitCode: err.Exit,
		}})
		return err.Exit
	}
	fmt.Fprintf(p.io.Err, "thaw: %s\n", err.Error())
	if err.Next != "" {
		fmt.Fprintf(p.io.Err, "  next: %s\n", err.Next)
	}
	return err.Exit
}

type errorJSON struct {
	Version int       `json:"version"`
	Error   errorBody `json:"error"`
}

type errorBody struct {
	What     string `json:"what"`
	Why      string `json:"why,omitempty"`
	Next     string `json:"next,omitempty"`
	ExitCode int    `json:"exit_code"`
}

// remote turns the failure of a request into an *Error. function may be empty.
func (p *program) remote(ctx context.Context, what, function string, err error) *Error {
	if ctx.Err() != nil {
		return &Error{What: "interrupted", Exit: ExitInterrupted, Err: err}
	}
	if api, ok := errors.AsType[smithy.APIError](err); ok {
		return refused(what, function, thaw.ErrorCode(api.ErrorCode()), api.ErrorMessage(), err)
	}
	netErr, isNet := errors.AsType[net.Error](err)
	if isNet {
		return &Error{
			What: "cannot reach the platform at " + p.target(),
			Why:  innermost(netErr),
			Next: "thaw up        (or name a running one with --endpoint URL)",
			Exit: ExitUnreachable,
			Err:  err,
		}
	}
	return &Error{What: what, Why: err.Error(), Exit: ExitFailed, Err: err}
}

// refused is the platform's own error, with the next step that usually helps.
func refused(what, function string, code thaw.ErrorCode, message string, err error) *Error {
	e := &Error{What: what, Why: fmt.Sprintf("%s (%s)", strings.TrimSuffix(message, "."), code), Exit: ExitFailed, Err: err}
	switch code {
	case thaw.CodeResourceNotFound, "QueueDoesNotExist", "AWS.SimpleQueueService.NonExistentQueue":
		e.Next, e.Exit = "thaw list", ExitNotFound
	case thaw.CodeResourceConflict, thaw.CodeResourceNotReady:
		e.Next = "wait for the update to end and type it again; see: thaw list"
	case thaw.CodeTooManyRequests:
		e.Next = "type it again in a moment"
	case thaw.CodeUnrecognizedClient, thaw.CodeInvalidSignature, thaw.CodeMissingAuthentication, thaw.CodeIncompleteSignature:
		e.Next = "export AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY as this platform knows them"
	case thaw.CodeService, thaw.CodeInternal:
		e.Next = "look at what thaw up printed"
		if function != "" {
			e.Next = "thaw logs " + function
		}
	}
	return e
}

// innermost strips the wrapping of the HTTP client, which repeats the URL.
func innermost(err error) string {
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err
	}
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return op.Err.Error()
	}
	return err.Error()
}

// jsonVersion is the version of every JSON document that the program writes.
const jsonVersion = 1

// writeJSON writes v on one or more lines. A reader that has gone away is not an error worth a message.
func (p *program) writeJSON(w interface{ Write([]byte) (int, error) }, v any) {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	_ = enc.Encode(v)
}
