package invoke

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"thaw"
	"thaw/sandbox"
	"thaw/sandbox/sandboxtest"
)

// inside is an internal extension of a process that is a goroutine: after each event it waits for done.
func inside(t *testing.T, done <-chan struct{}) func(*sandbox.Spec, io.Writer) error {
	call := func(base, method, path, id, body string) (*http.Response, error) {
		r, err := http.NewRequestWithContext(context.WithoutCancel(t.Context()), method, base+path, strings.NewReader(body))
		if err != nil {
			return nil, err
		}
		r.Header.Set("Lambda-Extension-Name", "inside")
		r.Header.Set("Lambda-Extension-Identifier", id)
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		response, err := client.Do(r)
		if err == nil {
			response.Body.Close()
		}
		return response, err
	}
	return func(spec *sandbox.Spec, _ io.Writer) error {
		base := ""
		for _, pair := range spec.Env {
			if address, ok := strings.CutPrefix(pair, "AWS_LAMBDA_RUNTIME_API="); ok {
				base = "http://" + address + "/2020-01-01/extension/"
			}
		}
		registered, err := call(base, http.MethodPost, "register", "", `{"events":["INVOKE"]}`)
		if err != nil {
			return err
		}
		id := registered.Header.Get("Lambda-Extension-Identifier")
		go func() {
			for {
				if _, err := call(base, http.MethodGet, "event/next", id, ""); err != nil {
					return
				}
				if _, ok := <-done; !ok {
					return
				}
			}
		}()
		return nil
	}
}

// The caller has its answer before the extension is done; the permit, the environment and the record come after.
func TestExtensionsGoOnAfterTheAnswer(t *testing.T) {
	done := make(chan struct{})
	records := make(chan thaw.Invocation, 3)
	driver := &sandboxtest.Driver{Listen: true, Runtime: sandboxtest.Runtime{Init: inside(t, done)}}
	i := newInvokerOn(t, catalog{"f": function("f")}, driver, 1)
	i.cfg.Record = func(r *thaw.Invocation) { records <- *r }
	t.Cleanup(func() { close(done) })

	request := func() *Request {
		return &Request{Function: thaw.FunctionRef{Name: "f"}, Payload: []byte(`1`), RequestID: "id", Start: time.Now(), Responds: true}
	}
	first, err := i.Invoke(t.Context(), request())
	if err != nil || string(first.Payload) != `1` {
		t.Fatal(first, err)
	}
	if _, err := i.Invoke(t.Context(), request()); err == nil || !strings.Contains(err.Error(), "Rate") {
		t.Errorf("the permit was given back before the extension was done: %v", err)
	}
	answered := first.Answered()
	i.Responded(first, answered, answered.Add(time.Second))
	select {
	case r := <-records:
		t.Fatalf("recorded before the extension was done: %+v", r)
	default:
	}
	done <- struct{}{}
	i.Drain(t.Context())
	r := <-records
	if r.PostRuntime <= 0 || r.PostRuntime >= r.Duration || r.Phases[thaw.PhaseRespond].Length != time.Second || r.Failed {
		t.Errorf("record %+v", r)
	}
	if r.Phases[thaw.PhaseHandler].Length+r.PostRuntime != r.Duration {
		t.Errorf("handler %v and extensions %v are not %v", r.Phases[thaw.PhaseHandler].Length, r.PostRuntime, r.Duration)
	}
	addUp(t, &r, answered.Add(time.Second).Sub(r.Start)) // the caller did not wait for extensions

	// Who wants the log's tail waits for REPORT.
	tailed := request()
	tailed.LogTail, tailed.Responds = true, false
	go func() { done <- struct{}{} }()
	second, err := i.Invoke(t.Context(), tailed)
	if err != nil || !strings.Contains(string(second.LogTail), "REPORT RequestId: id") {
		t.Errorf("%v, tail %q", err, second.LogTail)
	}
	if r := <-records; r.PostRuntime <= 0 || second.Answered().Sub(r.Start) != r.Phases.End()+r.PostRuntime {
		t.Errorf("record %+v", r)
	}
}

// An extension that is not done by the function's timeout has it time out, although the caller has its answer.
func TestExtensionsTimeOut(t *testing.T) {
	done := make(chan struct{})
	records := make(chan thaw.Invocation, 1)
	f := function("f")
	f.Config.Timeout = 1
	f.Running = &f.Config
	driver := &sandboxtest.Driver{Listen: true, Runtime: sandboxtest.Runtime{Init: inside(t, done)}}
	i := newInvokerOn(t, catalog{"f": f}, driver, 1)
	i.cfg.Record = func(r *thaw.Invocation) { records <- *r }
	t.Cleanup(func() { close(done) })
	response, err := i.Invoke(t.Context(), &Request{Function: thaw.FunctionRef{Name: "f"}, Payload: []byte(`1`), RequestID: "id", Start: time.Now()})
	if err != nil || response.FunctionError || string(response.Payload) != `1` {
		t.Fatal(response, err)
	}
	if r := <-records; !r.TimedOut || !r.Failed || r.ErrorType != thaw.ErrorTimedOut {
		t.Errorf("record %+v", r)
	}
}
