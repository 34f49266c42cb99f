// Command go-extension is an external Lambda extension: it runs beside a function, hears of each invocation and of the
// end, and takes the function's telemetry. What it hears it writes to its standard output, which is in the function's log.
//
// It needs nothing but the standard library, so that it shows the requests themselves.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"
)

// extensionsAPI is a client of the APIs that an environment offers to its extensions.
type extensionsAPI struct {
	base string // http://HOST:PORT
	id   string // given by register
}

// call makes one request and decodes its answer into answer, unless that is nil.
func (a *extensionsAPI) call(ctx context.Context, method, path string, header http.Header, body, answer any) (http.Header, error) {
	var payload bytes.Buffer
	if body != nil {
		if err := json.NewEncoder(&payload).Encode(body); err != nil {
			return nil, err
		}
	}
	r, err := http.NewRequestWithContext(ctx, method, a.base+path, &payload)
	if err != nil {
		return nil, err
	}
	for name := range header {
		r.Header.Set(name, header.Get(name))
	}
	if a.id != "" {
		r.Header.Set("Lambda-Extension-Identifier", a.id)
	}
	response, err := http.DefaultClient.Do(r) //nolint:forbidigo // next has no time limit
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	told, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, err
	}
	if response.StatusCode/100 != 2 {
		return nil, fmt.Errorf("%s %s: %s: %s", method, path, response.Status, told)
	}
	if answer == nil {
		return response.Header, nil
	}
	return response.Header, json.Unmarshal(told, answer)
}

// register says the extension's name, which has to be its file's, and what events it wants.
func (a *extensionsAPI) register(ctx context.Context, name string) error {
	header := http.Header{}
	header.Set("Lambda-Extension-Name", name)
	got, err := a.call(ctx, http.MethodPost, "/2020-01-01/extension/register", header, map[string]any{"events": []string{"INVOKE", "SHUTDOWN"}}, nil)
	if err != nil {
		return err
	}
	a.id = got.Get("Lambda-Extension-Identifier")
	return nil
}

// subscribe has the platform send telemetry to a port of this program.
func (a *extensionsAPI) subscribe(ctx context.Context, port int) error {
	_, err := a.call(ctx, http.MethodPut, "/2022-07-01/telemetry", nil, map[string]any{
		"schemaVersion": "2022-12-13",
		"types":         []string{"platform", "function"},
		"buffering":     map[string]int{"timeoutMs": 25},
		"destination":   map[string]string{"protocol": "HTTP", "URI": fmt.Sprintf("http://sandbox.localdomain:%d", port)},
	}, nil)
	return err
}

// event is what next gives.
type event struct {
	Type     string `json:"eventType"`
	ID       string `json:"requestId"`
	Reason   string `json:"shutdownReason"`
	Deadline int64  `json:"deadlineMs"`
}

func (a *extensionsAPI) next(ctx context.Context) (e event, err error) {
	_, err = a.call(ctx, http.MethodGet, "/2020-01-01/extension/event/next", nil, nil, &e)
	return e, err
}

// collect writes each telemetry event as one line.
func collect(out io.Writer) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var events []struct {
			Type   string          `json:"type"`
			Record json.RawMessage `json:"record"`
		}
		if err := json.NewDecoder(r.Body).Decode(&events); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		for _, e := range events {
			fmt.Fprintf(out, "telemetry %s %s\n", e.Type, e.Record)
		}
	}
}

func run(ctx context.Context, out io.Writer, name, api string) error {
	a := &extensionsAPI{base: "http://" + api}
	if err := a.register(ctx, name); err != nil {
		return err
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", ":4243")
	if err != nil {
		return err
	}
	server := &http.Server{Handler: collect(out), ReadHeaderTimeout: time.Minute}
	go server.Serve(listener) //nolint:errcheck // it serves until the program ends
	if err := a.subscribe(ctx, 4243); err != nil {
		return err
	}
	for {
		e, err := a.next(ctx)
		switch {
		case err != nil:
			return err
		case e.Type == "SHUTDOWN":
			fmt.Fprintf(out, "extension SHUTDOWN %s\n", e.Reason)
			return nil
		}
		fmt.Fprintf(out, "extension %s %s\n", e.Type, e.ID)
	}
}

func main() {
	api := os.Getenv("AWS_LAMBDA_RUNTIME_API")
	err := errors.New("AWS_LAMBDA_RUNTIME_API is not set: this program runs in a Lambda environment")
	if api != "" {
		err = run(context.Background(), os.Stdout, filepath.Base(os.Args[0]), api)
	}
	if err != nil {
		log.Fatal(err)
	}
}
