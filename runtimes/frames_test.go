package runtimes

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"thaw"
)

func frame(kind byte, meta, body string) []byte {
	out := []byte{kind}
	out = binary.BigEndian.AppendUint32(out, uint32(len(meta)))
	out = binary.BigEndian.AppendUint32(out, uint32(len(body)))
	return append(append(out, meta...), body...)
}

// header claims lengths that need not be true.
func header(kind byte, meta, body uint32) []byte {
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32([]byte{kind}, meta), body)
}

// framesPair gives the host's Conn and the runtime's raw end.
func framesPair(t testing.TB) (Conn, net.Conn) {
	t.Helper()
	host, file := socketpair(t)
	defer file.Close()
	child, err := net.FileConn(file)
	if err != nil {
		t.Fatal(err)
	}
	conn := NewFrames(host)
	t.Cleanup(func() {
		conn.Close()
		child.Close()
	})
	return conn, child
}

// readFrame reads one frame as a runtime does.
func readFrame(r io.Reader) (kind byte, meta, body string, err error) {
	head := make([]byte, frameHeader)
	if _, err := io.ReadFull(r, head); err != nil {
		return 0, "", "", err
	}
	rest := make([]byte, binary.BigEndian.Uint32(head[1:])+binary.BigEndian.Uint32(head[5:]))
	_, err = io.ReadFull(r, rest)
	n := binary.BigEndian.Uint32(head[1:])
	return head[0], string(rest[:n]), string(rest[n:]), err
}

func TestFramesInvoke(t *testing.T) {
	conn, child := framesPair(t)
	ctx := testContext(t)
	child.Write(frame('R', "", ""))
	if err := conn.WaitInit(ctx); err != nil {
		t.Fatal(err)
	}
	for _, size := range []int{0, 1, 16*1024 - frameHeader, 16*1024 - frameHeader + 1, trustedBody, trustedBody + 1, thaw.MaxResponse} {
		payload := strings.Repeat("x", size)
		go func() {
			kind, meta, body, err := readFrame(child)
			if kind != 'I' || meta != "id\x00123\x00arn\x00trace\x00client\x00identity" || err != nil {
				t.Errorf("%c %q %v", kind, meta, err)
			}
			child.Write(frame('S', "", body))
		}()
		response, err := conn.Invoke(ctx, &Event{"id", 123, "arn", "trace", "client", "identity", []byte(payload)})
		if err != nil || string(response) != payload {
			t.Errorf("%d bytes: %d bytes, %v", size, len(response), err)
		}
	}
}

// TestFramesAnswers plays what a runtime, well-meaning or not, may send in answer to an event.
func TestFramesAnswers(t *testing.T) {
	type pieces [][]byte
	split := func(data []byte) (p pieces) {
		for _, b := range data {
			p = append(p, []byte{b})
		}
		return p
	}
	function := func(kind string) func(error) bool {
		return func(err error) bool {
			failure, ok := errors.AsType[*thaw.FunctionError](err)
			return ok && failure.Type == kind && !errors.Is(err, io.EOF)
		}
	}
	is := func(target error) func(error) bool { return func(err error) bool { return errors.Is(err, target) } }
	for name, test := range map[string]struct {
		send   pieces
		closes bool
		want   func(error) bool
	}{
		"success in single bytes":  {send: split(frame('S', "", "{}")), want: is(nil)},
		"meta on success":          {send: pieces{frame('S', "ignored", "{}")}, want: is(nil)},
		"function error":           {send: pieces{frame('F', "E", `{"errorType":"E"}`)}, want: function("E")},
		"without type":             {send: pieces{frame('F', "", `{}`)}, want: function(thaw.ErrorFunctionUnknown)},
		"type with a newline":      {send: pieces{frame('F', "E\nREPORT", `{}`)}, want: function(thaw.ErrorFunctionUnknown)},
		"error that is no JSON":    {send: pieces{frame('F', "E", `{`)}, want: function("E")},
		"last error":               {send: pieces{frame('D', "E", `{}`)}, want: func(err error) bool { return errors.Is(err, io.EOF) && !function("E")(err) }},
		"too large":                {send: pieces{header('S', 0, thaw.MaxResponse+1), make([]byte, thaw.MaxResponse+1)}, want: function(thaw.ErrorResponseTooLarge)},
		"garbage":                  {send: pieces{[]byte("HTTP/1.1 200 OK\r\n")}, want: is(ErrProtocol)},
		"frame of the host":        {send: pieces{frame('I', "", "")}, want: is(ErrProtocol)},
		"ready again":              {send: pieces{frame('R', "", "")}, want: is(ErrProtocol)},
		"meta beyond its bound":    {send: pieces{header('F', maxFrameMeta+1, 0)}, want: is(ErrProtocol)},
		"everything beyond bounds": {send: pieces{header('F', 1<<32-1, 1<<32-1)}, want: is(ErrProtocol)},
		"two answers":              {send: pieces{append(frame('S', "", "1"), frame('S', "", "2")...)}, want: is(ErrProtocol)},
		"nothing":                  {closes: true, want: is(io.EOF)},
		"half a header":            {send: pieces{[]byte("S\x00\x00")}, closes: true, want: is(io.ErrUnexpectedEOF)},
		"half a meta":              {send: pieces{header('F', 10, 0), []byte("x")}, closes: true, want: is(io.ErrUnexpectedEOF)},
		"half a body":              {send: pieces{header('S', 0, 10), []byte("x")}, closes: true, want: is(io.ErrUnexpectedEOF)},
		"half of too much":         {send: pieces{header('S', 0, 1<<32-1), []byte("x")}, closes: true, want: is(io.ErrUnexpectedEOF)},
	} {
		t.Run(name, func(t *testing.T) {
			conn, child := framesPair(t)
			go func() {
				readFrame(child)
				for _, piece := range test.send {
					child.Write(piece)
				}
				if test.closes {
					child.Close()
				}
			}()
			if _, err := conn.Invoke(testContext(t), &Event{}); !test.want(err) {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestFramesInit(t *testing.T) {
	for name, test := range map[string]struct {
		send []byte
		want func(error) bool
	}{
		"ready":      {frame('R', "", ""), func(err error) bool { return err == nil }},
		"failed":     {frame('X', "E", "{}"), func(err error) bool { f, ok := errors.AsType[*thaw.FunctionError](err); return ok && f.Type == "E" }},
		"gone":       {nil, func(err error) bool { return errors.Is(err, io.EOF) }},
		"unexpected": {frame('S', "", "{}"), func(err error) bool { return errors.Is(err, ErrProtocol) }},
	} {
		conn, child := framesPair(t)
		child.Write(test.send)
		child.Close()
		if err := conn.WaitInit(testContext(t)); !test.want(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestFramesContext(t *testing.T) {
	conn, child := framesPair(t)
	for range 3 { // an ended context must not spoil the connection for what comes after
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		if err := conn.WaitInit(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
		cancel()
	}
	child.Write(frame('R', "", ""))
	if err := conn.WaitInit(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		readFrame(child)
		cancel()
	}()
	if _, err := conn.Invoke(ctx, &Event{}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	// A runtime that does not read must not hold the host either.
	ctx, cancel = context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := conn.Invoke(ctx, &Event{Payload: make([]byte, thaw.MaxPayload)}); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}

func TestFramesEnds(t *testing.T) {
	conn, child := framesPair(t)
	child.Close()
	if _, err := conn.Invoke(t.Context(), &Event{}); !errors.Is(err, ErrNotTaken) {
		t.Error(err)
	}
	conn, _ = framesPair(t)
	ended := make(chan error)
	go func() { ended <- conn.WaitInit(context.Background()) }()
	conn.Close()
	if err := <-ended; !errors.Is(err, io.EOF) {
		t.Error(err)
	}
	conn, child = framesPair(t)
	go func() {
		child.Read(make([]byte, 1)) // the rest stays unread, which makes the socket say ECONNRESET
		child.Close()
	}()
	if _, err := conn.Invoke(t.Context(), &Event{Payload: make([]byte, 1024)}); !errors.Is(err, io.EOF) {
		t.Error(err)
	}
}

// FuzzFrames sends any bytes as an answer. Nothing may hang, panic, or be taken for more than it is.
func FuzzFrames(f *testing.F) {
	f.Add(frame('S', "", "{}"))
	f.Add(frame('F', "E", `{"errorType":"E"}`))
	f.Add(header('S', 0, 1<<32-1))
	f.Add(append(frame('S', "x", "1"), 0))
	f.Fuzz(func(t *testing.T, data []byte) {
		conn, child := framesPair(t)
		go func() {
			readFrame(child)
			child.Write(data)
			child.Close()
		}()
		response, err := conn.Invoke(testContext(t), &Event{})
		failure, isFailure := errors.AsType[*thaw.FunctionError](err)
		switch {
		case err == nil && (data[0] != 'S' || !bytes.HasSuffix(data, response)):
			t.Errorf("%q was taken for the response %q", data, response)
		case isFailure && strings.ContainsAny(failure.Type, "\r\n"):
			t.Errorf("type %q", failure.Type)
		case err != nil && !isFailure && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, ErrProtocol):
			t.Errorf("%v", err)
		}
	})
}

// BenchmarkFrames is the host's side alone, with an echo in the same process as the runtime.
func BenchmarkFrames(b *testing.B) {
	for _, size := range []int{100, 64 * 1024} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			conn, child := framesPair(b)
			go func() {
				buffer := make([]byte, size+1024)
				for {
					have := 0
					for have < frameHeader || have < frameHeader+int(binary.BigEndian.Uint32(buffer[1:])+binary.BigEndian.Uint32(buffer[5:])) {
						n, err := child.Read(buffer[have:])
						if err != nil {
							return
						}
						have += n
					}
					meta := int(binary.BigEndian.Uint32(buffer[1:]))
					at := meta // the answer's header goes right before the body
					copy(buffer[at:], header('S', 0, uint32(size)))
					child.Write(buffer[at:have])
				}
			}()
			event := &Event{RequestID: "8c5b1d4e-0000-4000-8000-000000000000", DeadlineMS: time.Now().UnixMilli(), FunctionARN: "arn:aws:lambda:us-east-1:000000000000:function:echo", Payload: make([]byte, size)}
			ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
			defer cancel()
			b.ReportAllocs()
			for b.Loop() {
				if _, err := conn.Invoke(ctx, event); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkWarm is one invocation of a real interpreter, outside any sandbox.
func BenchmarkWarm(b *testing.B) {
	for _, in := range benchmarkInterpreters() {
		b.Run(in.Language+in.Version, func(b *testing.B) {
			c := startEcho(b, in)
			event := &Event{RequestID: "8c5b1d4e-0000-4000-8000-000000000000", DeadlineMS: time.Now().Add(time.Hour).UnixMilli(), FunctionARN: "arn:aws:lambda:us-east-1:000000000000:function:echo", Payload: []byte(`{"message":"hello","count":3}`)}
			ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
			defer cancel()
			b.ReportAllocs()
			for b.Loop() {
				if _, err := c.conn.Invoke(ctx, event); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkStart is from exec to the runtime's readiness for a function that does nothing; "plain" is the interpreter's
// own start and end with an empty program.
func BenchmarkStart(b *testing.B) {
	for _, in := range benchmarkInterpreters() {
		b.Run(in.Language+in.Version, func(b *testing.B) {
			for b.Loop() {
				c := startEcho(b, in)
				b.StopTimer()
				c.conn.Close()
				c.cmd.Process.Kill()
				c.wait(b)
				b.StartTimer()
			}
		})
		b.Run(in.Language+in.Version+"/plain", func(b *testing.B) {
			flag := "-e"
			if in.Language == "python" {
				flag = "-c"
			}
			for b.Loop() {
				if _, err := exec.Command(in.Path, flag, "0").CombinedOutput(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// benchmarkInterpreters are the newest ones in /usr.
func benchmarkInterpreters() (chosen []Interpreter) {
	for _, language := range []string{"python", "nodejs", "ruby"} {
		for _, in := range registry().Interpreters() {
			if in.Language == language && in.Unusable == "" && in.Prefix == "" {
				chosen = append(chosen, in)
				break
			}
		}
	}
	return chosen
}

func startEcho(t testing.TB, in Interpreter) *child {
	t.Helper()
	dir := t.TempDir()
	name, text := map[string]string{"python": "index.py", "nodejs": "index.js", "ruby": "index.rb"}[in.Language], map[string]string{
		"python": "def handler(event, context):\n    return event\n",
		"nodejs": "exports.handler = async (event) => event;\n",
		"ruby":   "def handler(event:, context:)\n  event\nend\n",
	}[in.Language]
	if err := os.WriteFile(dir+"/"+name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	v := &thaw.Version{Function: "echo", Number: thaw.Latest, Runtime: "test", MemorySize: 256, Handler: "index.handler"}
	c := startRuntime(t, launchFor(t, in, v), v, dir)
	if err := c.conn.WaitInit(t.Context()); err != nil {
		t.Fatal(err)
	}
	return c
}

// An error's type ends up in log lines, metrics and spans: it is text without control characters.
func TestErrorTypeIsText(t *testing.T) {
	for kind, want := range map[string]string{
		"ValueError": "ValueError", "Größe.Fehler": "Größe.Fehler",
		"": thaw.ErrorFunctionUnknown, "a\nb": thaw.ErrorFunctionUnknown, "a\x9bb": thaw.ErrorFunctionUnknown, "a\u009bb": thaw.ErrorFunctionUnknown,
		"\xff": thaw.ErrorFunctionUnknown, strings.Repeat("x", 257): thaw.ErrorFunctionUnknown,
	} {
		if got := cleanErrorType(kind); got != want {
			t.Errorf("%q became %q", kind, got)
		}
	}
}
