package extensions

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"thaw"
	"thaw/runtimes"
)

const (
	pathRegister = "/2020-01-01/extension/register"
	pathNext     = "/2020-01-01/extension/event/next"
)

func refused(kind, message string) string {
	return fmt.Sprintf(`{"errorMessage":%q,"errorType":%q}`, message, kind)
}

// Texts and states are those of AWS's runtime interface emulator.
func TestRegisterRefusals(t *testing.T) {
	e := serve(t)
	e.expect(403, refused("Extension.InvalidExtensionName", "Empty extension name"), "POST", pathRegister, "{}")
	e.expect(403, refused("InvalidRequestFormat", "unexpected end of JSON input"), "POST", pathRegister, "", headerName, "a")
	e.expect(403, refused("InvalidRequestFormat", "configurationKeys are deprecated; use environment variables instead"), "POST", pathRegister,
		`{"configurationKeys":["a"]}`, headerName, "a")
	e.expect(403, refused("Extension.InvalidEventType", "SHUTDOWN: ShutdownEventNotSupportedForInternalExtension"), "POST", pathRegister,
		`{"events":["SHUTDOWN"]}`, headerName, "a")
	e.expect(403, refused("Extension.InvalidEventType", "SLEEP: ErrorInvalidEventType"), "POST", pathRegister, `{"events":["SLEEP"]}`, headerName, "a")
	e.expect(200, `{"functionVersion":"$LATEST","functionName":"f","handler":"app.handler"}`, "POST", pathRegister, "{}", headerName, "a")
	e.expect(403, refused("Extension.InvalidExtensionState", "Extension with this name already registered"), "POST", pathRegister, "{}", headerName, "a")
	e.expect(200, `{"functionVersion":"$LATEST","functionName":"f","handler":"app.handler","accountId":"000000000000"}`, "POST", pathRegister, "{}",
		headerName, "b", headerFeatures, "other, accountId")
	for n := 2; n < MaxExtensions; n++ {
		e.mustRegister(fmt.Sprint("more-", n))
	}
	e.expect(403, refused("Extension.TooManyExtensions", "Extension limit (10) reached"), "POST", pathRegister, "{}", headerName, "c")

	e.expect(403, refused("Extension.MissingExtensionIdentifier", "Missing Lambda-Extension-Identifier header"), "GET", pathNext, "")
	e.expect(403, refused("Extension.InvalidExtensionIdentifier", "Invalid Lambda-Extension-Identifier"), "GET", pathNext, "", headerIdentifier, "x")
	stranger := uuid.NewString()
	e.expect(403, refused("Extension.UnknownExtensionIdentifier", "Unknown extension "+stranger), "GET", pathNext, "", headerIdentifier, stranger)
	if status, _, text := e.do("GET", "/2018-06-01/runtime/invocation/next", ""); status != 404 || !strings.Contains(text, "UnknownPath") {
		t.Errorf("the runtime's API: %d %s", status, text)
	}
}

func TestRegistrationCloses(t *testing.T) {
	e := serve(t)
	if err := e.Ready(timeout(t)); err != nil || !e.Empty() {
		t.Fatal(err)
	}
	e.expect(403, refused("Extension.RegistrationClosed", "Extension registration closed already"), "POST", pathRegister, "{}", headerName, "late")
	if !e.Empty() {
		t.Error("a late one counts")
	}
}

// An invocation goes to those that asked for it, and ends when all of them ask for more.
func TestInvocation(t *testing.T) {
	e := serve(t)
	a, b := e.mustRegister("a", "INVOKE"), e.mustRegister("b")
	ready := make(chan error, 1)
	go func() { ready <- e.Ready(timeout(t)) }()
	gotA, gotB := e.next(a), e.next(b)
	if err := within(t, ready); err != nil {
		t.Fatal(err)
	}
	e.Begin(&runtimes.Event{RequestID: "one", DeadlineMS: 7, FunctionARN: "arn:f", TraceID: "Root=1"}, time.Now())
	const want = `{"eventType":"INVOKE","deadlineMs":7,"requestId":"one","invokedFunctionArn":"arn:f","tracing":{"type":"X-Amzn-Trace-Id","value":"Root=1"}}`
	if got := within(t, gotA); got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
	select {
	case got := <-gotB:
		t.Errorf("b got %s", got)
	default:
	}
	past, cancel := context.WithCancel(t.Context())
	cancel()
	if err := e.Done(past); !errors.Is(err, context.Canceled) {
		t.Errorf("done before the extension is: %v", err)
	}
	e.next(a)
	if err := e.Done(timeout(t)); err != nil {
		t.Error(err)
	}
	e.expect(403, refused("Extension.MissingHeader", headerErrorType+" not found"), "POST", "/2020-01-01/extension/exit/error", "{}", headerIdentifier, a)
	e.expect(202, `{"status":"OK"}`, "POST", "/2020-01-01/extension/exit/error", "{}", headerIdentifier, a, headerErrorType, "Extension.Lost\xe9")
	if err := e.Done(timeout(t)); !strings.Contains(fmt.Sprint(err), "Extension.ExitError") {
		t.Errorf("after an error: %v", err)
	}
	e.expect(403, refused("Extension.InvalidExtensionState",
		"State transition from ExitError to Ready failed for extension "+a+". Error: State transition is not allowed"), "GET", pathNext, "", headerIdentifier, a)
	e.Describe()
	if want := "EXTENSION\tName: a\tState: ExitError\tEvents: [INVOKE]\tError Type: Extension.Lost?\n"; !strings.Contains(e.log.String(), want) {
		t.Errorf("log %q, want %q", e.log, want)
	}
}

// An extension that asks a second time has given up the first call, of which the platform need not know.
func TestNextAgain(t *testing.T) {
	e := serve(t)
	a := e.mustRegister("a", "INVOKE")
	first := e.next(a)
	if err := e.Ready(timeout(t)); err != nil {
		t.Fatal(err)
	}
	second := e.next(a)
	if got := within(t, first); !strings.Contains(got, "InvalidExtensionState") {
		t.Errorf("got %s", got)
	}
	e.Begin(&runtimes.Event{RequestID: "one"}, time.Now())
	if got := within(t, second); !strings.Contains(got, `"requestId":"one"`) {
		t.Errorf("got %s", got)
	}
}

func TestFailureEndsWaiting(t *testing.T) {
	e := serve(t)
	a := e.mustRegister("a", "INVOKE")
	limited, release := e.Context(timeout(t))
	defer release()
	waiting := make(chan error, 1)
	go func() { waiting <- e.Ready(timeout(t)) }()
	e.expect(202, `{"status":"OK"}`, "POST", "/2020-01-01/extension/init/error", "{}", headerIdentifier, a, headerErrorType, "Extension.NoKey")
	failure, ok := errors.AsType[*thaw.FunctionError](within(t, waiting))
	if !ok || failure.Type != "Extension.InitError" || e.Failure() != failure {
		t.Errorf("%v, %v", failure, e.Failure())
	}
	within(t, limited.Done())
}

func TestCloseEndsWaiting(t *testing.T) {
	e := serve(t, "x")
	waiting := make(chan error, 1)
	go func() { waiting <- e.Launch(timeout(t)) }()
	e.Close()
	if err := within(t, waiting); err == nil {
		t.Error("launched")
	}
}

func TestTooManyFiles(t *testing.T) {
	names := make([]string, MaxExtensions+1)
	for i := range names {
		names[i] = fmt.Sprint("x", i)
	}
	e := serve(t, names...)
	failure, ok := errors.AsType[*thaw.FunctionError](e.Launch(timeout(t)))
	if !ok || failure.Type != "Extension.LaunchError" {
		t.Errorf("%v", failure)
	}
}

// An extension that hangs up just when an event is handed to it does not keep the platform from giving it the next.
func TestHangingUpDoesNotLockTheHost(t *testing.T) {
	e := serve(t)
	e.mustRegister("a", "INVOKE")
	x := e.extensions[0]
	taken, back := make(chan []byte), make(chan struct{})
	go func() {
		defer close(back)
		for body := range taken { // as serveNext does
			e.takeBack(x, body)
			back <- struct{}{}
		}
	}()
	given := make(chan struct{})
	go func() {
		defer close(given)
		for range 300_000 {
			taken <- []byte("first")
			e.mu.Lock()
			x.give([]byte("second"))
			e.mu.Unlock()
			<-back
			<-x.deliver
		}
		close(taken)
	}()
	within(t, given)
	within(t, back)
}
