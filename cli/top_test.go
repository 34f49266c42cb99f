package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/creack/pty"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"thaw"
)

// Two pages of the native API: a function with reserved concurrency and three versions, and one without either.
const (
	fakeTotals = `"node":{"environments":13,"max_environments":1000,"by":{"busy":4,"idle":2,"spares":3,"wanted":4,"starts":1,"provisioned":3},` +
		`"memory":412090368,"max_memory":20220739584,"templates":3,"max_templates":100},"account":{"limit":1000,"claimed":25,"unreserved":2},`
	fakePageOne = `{` + fakeTotals + `"functions":[{"name":"checkout","function_version":"$LATEST","state":"Active","reserved_concurrency":20,
		"usage":{"on_demand":1,"provisioned":2,"invocations":INVOCATIONS,"errors":3,"throttles":7,"spilled_over":4,"starts":{"provisioned":PROVISIONED,"warm":100,"fork":1,"boot":3}},
		"template":{"state":"ready"},"environments":{"busy":0,"idle":0,"spares":2,"wanted":2,"starts":0,"provisioned":0},"provisioned":{"wanted":0,"allocated":0,"available":0},
		"versions":[
		{"version":"$LATEST","state":"Active","environments":{"busy":0,"idle":0,"spares":2,"wanted":2,"starts":0,"provisioned":0},"provisioned":{"wanted":0,"allocated":0,"available":0},"memory":57671680},
		{"version":"2","state":"Active","environments":{"busy":3,"idle":1,"spares":0,"wanted":2,"starts":1,"provisioned":3},"provisioned":{"wanted":5,"allocated":5,"available":5},"memory":261095424}]}],
		"after":"checkout"}`
	fakePageTwo = `{` + fakeTotals + `"functions":[
		{"name":"audit","function_version":"$LATEST","state":"Inactive","usage":{"on_demand":0,"provisioned":0,"invocations":0,"errors":0,"throttles":0,"spilled_over":0,"starts":{}},
		"versions":[{"version":"$LATEST","state":"Inactive","environments":{},"provisioned":{}}]},
		{"name":"resize","function_version":"$LATEST","state":"Active","usage":{"on_demand":1,"provisioned":0,"invocations":12,"errors":0,"throttles":900,"spilled_over":0,"starts":{"warm":11,"spare":1}},
		"versions":[{"version":"$LATEST","state":"Active","environments":{"busy":1,"idle":1,"spares":1,"wanted":2,"starts":0,"provisioned":0},"provisioned":{"wanted":0,"allocated":0,"available":0}}]}]}`
)

// fakePages has the first function invoked 300 times between two readings.
func fakePages(after string, n int) string {
	if after != "" {
		return fakePageTwo
	}
	return strings.NewReplacer("INVOCATIONS", fmt.Sprint(504+n*300), "PROVISIONED", fmt.Sprint(400+n*300)).Replace(fakePageOne)
}

func (f *fakePlatform) nativeList(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	after := r.URL.Query().Get("after")
	pages := f.pages
	if pages == nil {
		pages = fakePages
	}
	_, _ = io.WriteString(w, pages(after, f.readings))
	if after == "" {
		f.readings++
	}
}

func TestTopEmpty(t *testing.T) {
	f := newFakePlatform(t)
	f.pages = func(string, int) string { return `{` + fakeTotals + `"functions":[]}` }
	if got := run(t, t.Context(), "", testDeps(f.URL), "top", "--once"); got.exit != ExitOK || !strings.Contains(got.out, "no functions yet; next: thaw deploy DIR\n") {
		t.Errorf("%+v", got)
	}
}

// TestTopEndlessPages has a platform whose pages go round.
func TestTopEndlessPages(t *testing.T) {
	f := newFakePlatform(t)
	f.pages = func(string, int) string { return `{` + fakeTotals + `"functions":[],"after":"x"}` }
	if got := run(t, t.Context(), "", testDeps(f.URL), "top", "--once"); got.exit != ExitFailed || !strings.Contains(got.errOut, errEndlessPages.Error()) {
		t.Errorf("%+v", got)
	}
}

// readings makes two readings of one function a second apart.
func twoReadings(before, after string) (*reading, *reading) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	read := func(at time.Time, text string) *reading {
		r := &reading{at: at, account: accountView{Limit: 1000, Claimed: 30}}
		if err := json.Unmarshal([]byte(text), &r.functions); err != nil {
			panic(err)
		}
		return r
	}
	return read(at, before), read(at.Add(2*time.Second), after)
}

// TestTopRates looks at what happened between two readings.
func TestTopRates(t *testing.T) {
	const versions = `,"versions":[{"version":"1","provisioned":{"wanted":5,"allocated":4,"available":3},"environments":{"busy":1}},{"version":"$LATEST","environments":{"idle":2}}]`
	for _, c := range []struct {
		name, before, after string
		rate                float64
		recent              map[thaw.StartKind]int64
		limit               int64
	}{
		{
			name:   "more",
			before: `[{"name":"f","usage":{"invocations":10,"starts":{"warm":9,"fork":1}}}]`,
			after:  `[{"name":"f","usage":{"invocations":110,"starts":{"warm":106,"fork":4}}` + versions + `}]`,
			rate:   50, recent: map[thaw.StartKind]int64{"warm": 97, "fork": 3}, limit: 975,
		},
		{
			name:   "the platform was started again",
			before: `[{"name":"f","usage":{"invocations":100,"starts":{"warm":100}}}]`,
			after:  `[{"name":"f","reserved_concurrency":0,"usage":{"invocations":4,"starts":{"boot":1,"warm":3}}}]`,
			rate:   2, recent: map[thaw.StartKind]int64{"boot": 1, "warm": 3}, limit: 0,
		},
		{
			name: "a new function", before: `[]`,
			after: `[{"name":"f","usage":{"invocations":6,"starts":{"spare":6}}}]`,
			rate:  3, recent: map[thaw.StartKind]int64{"spare": 6}, limit: 970,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			before, after := twoReadings(c.before, c.after)
			v := compare(before, after, "load")
			row := v.Functions[0]
			if *row.PerSecond != c.rate || *v.PerSecond != c.rate || v.Interval != 2 || row.Limit != c.limit {
				t.Errorf("%v/s, %v/s in all, in %v s, limit %d", *row.PerSecond, *v.PerSecond, v.Interval, row.Limit)
			}
			if diff := cmp.Diff(c.recent, row.Recent); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestTopOrder(t *testing.T) {
	before, after := twoReadings(
		`[{"name":"a","usage":{"invocations":5}},{"name":"b","usage":{"invocations":90}}]`,
		`[{"name":"a","usage":{"invocations":25,"throttles":1}},{"name":"b","usage":{"on_demand":2,"invocations":91}},
		{"name":"c","usage":{"invocations":0,"throttles":9},"versions":[{"memory":9,"environments":{"spares":2}}]}]`)
	for order, want := range map[string]string{"load": "bac", "name": "abc", "rate": "abc", "environments": "cba", "memory": "cba", "throttles": "cab"} {
		got := ""
		for _, row := range compare(before, after, order).Functions {
			got += row.Name
		}
		if got != want {
			t.Errorf("by %s: %s, want %s", order, got, want)
		}
	}
}

func TestShares(t *testing.T) {
	for _, c := range []struct {
		starts map[thaw.StartKind]int64
		want   string
	}{
		{nil, "-"},
		{map[thaw.StartKind]int64{"warm": 3}, "w100"},
		{map[thaw.StartKind]int64{"warm": 9999, "boot": 1}, "w>99 b<1"},
		{map[thaw.StartKind]int64{"warm": 1, "provisioned": 1, "spare": 1, "fork": 1, "boot": 4}, "w12 p12 s12 f12 b50"},
	} {
		if got := sharesText(c.starts); got != c.want {
			t.Errorf("%v: %s, want %s", c.starts, got, c.want)
		}
	}
}

// TestTopPlain has tables one after the other where there is no terminal, without escapes.
func TestTopPlain(t *testing.T) {
	for _, args := range [][]string{{"top", "--interval", "100ms"}, {"top", "--interval", "100ms", "--json"}} {
		f := newFakePlatform(t)
		ctx, cancel := context.WithCancel(t.Context())
		lines := 2
		if len(args) == 3 {
			lines = 20
		}
		out := &cancelAfter{cancel: cancel, lines: lines}
		exit := Run(ctx, args, Streams{In: strings.NewReader(""), Out: out, Err: os.Stderr}, testDeps(f.URL))
		text := out.String()
		if exit != ExitOK || strings.Contains(text, "\x1b") {
			t.Errorf("%q: exit %d, %q", args, exit, text)
		}
		if len(args) == 4 {
			var first, second topView
			d := json.NewDecoder(strings.NewReader(text))
			if d.Decode(&first) != nil || d.Decode(&second) != nil || first.PerSecond != nil || second.Functions[0].Recent[thaw.StartProvisioned] != 300 {
				t.Errorf("%s", text)
			}
		} else if strings.Count(text, "FUNCTION ") != 2 || strings.Count(text, "p100 ") != 1 {
			t.Errorf("%s", text)
		}
		cancel()
	}
}

// emulator is the other side of a terminal.
type emulator struct {
	t       *testing.T
	control *os.File
	mu      sync.Mutex
	text    bytes.Buffer
}

func (e *emulator) read() {
	buffer := make([]byte, 4096)
	for {
		n, err := e.control.Read(buffer)
		e.mu.Lock()
		e.text.Write(buffer[:n])
		e.mu.Unlock()
		if err != nil {
			return
		}
	}
}

func (e *emulator) String() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.text.String()
}

// frame is the newest one that is complete.
func (e *emulator) frame() string {
	text := e.String()
	end := strings.LastIndex(text, clearBelow)
	if end < 0 {
		return ""
	}
	return text[strings.LastIndex(text[:end], cursorHome)+len(cursorHome) : end]
}

func (e *emulator) await(what string, ok func() bool) {
	e.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) { //nolint:forbidigo // polls
		if time.Now().After(deadline) {
			e.t.Fatalf("not within 20 s: %s\n%q", what, e.frame())
		}
	}
}

func (e *emulator) resize(width, height uint16) {
	e.t.Helper()
	if err := pty.Setsize(e.control, &pty.Winsize{Cols: width, Rows: height}); err != nil {
		e.t.Fatal(err)
	}
}

// onTerminal runs a command line on a terminal of that size.
func onTerminal(t *testing.T, ctx context.Context, endpoint string, width, height uint16, args ...string) (e *emulator, tty *os.File, ended <-chan int) {
	t.Helper()
	control, tty, err := pty.Open()
	if err != nil {
		t.Skip(err)
	}
	e = &emulator{t: t, control: control}
	e.resize(width, height)
	var reading sync.WaitGroup
	reading.Go(e.read)
	t.Cleanup(func() { tty.Close(); control.Close(); reading.Wait() })
	exit := make(chan int, 1)
	go func() { exit <- Run(ctx, args, Streams{In: tty, Out: tty, Err: tty}, testDeps(endpoint)) }()
	return e, tty, exit
}

func settings(t *testing.T, tty *os.File) *unix.Termios {
	t.Helper()
	s, err := unix.IoctlGetTermios(int(tty.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestTopOnTerminal uses it as a person does: looks, sorts, makes the window smaller and larger, and leaves.
func TestTopOnTerminal(t *testing.T) {
	f := newFakePlatform(t)
	e, tty, ended := onTerminal(t, t.Context(), f.URL, 180, 30, "top", "--interval", "100ms")
	e.await("two readings are shown", func() bool { return strings.Contains(e.frame(), "p100") })
	if raw := settings(t, tty); raw.Lflag&(unix.ICANON|unix.ECHO) != 0 {
		t.Errorf("keys are echoed or wait for a line: %+v", raw)
	}
	names := func() string {
		order := ""
		for line := range strings.Lines(e.frame()) {
			for _, name := range []string{"checkout", "resize", "audit"} {
				if strings.HasPrefix(line, name) {
					order += name[:1]
				}
			}
		}
		return order
	}
	if got := names(); got != "cra" {
		t.Errorf("in the order %q: %q", got, e.frame())
	}
	fmt.Fprint(e.control, "s")
	e.await("sorted by name", func() bool { return strings.Contains(e.frame(), "sorted by name") && names() == "acr" })

	longest := func() int {
		n := 0
		for line := range strings.SplitSeq(e.frame(), "\r\n") {
			n = max(n, len(strings.NewReplacer(inverse, "", plain, "", clearRest, "").Replace(line)))
		}
		return n
	}
	e.resize(60, 6)
	e.await("it fits a small window", func() bool {
		return longest() <= 60 && strings.Count(e.frame(), "\r\n") == 5 && strings.Contains(e.frame(), "and 4 more lines")
	})
	e.resize(180, 30)
	e.await("it uses a large one", func() bool { return longest() == 180 && strings.Contains(e.frame(), "resize") })

	// The platform goes away; what was there stays, and the reason is shown.
	f.Close()
	e.await("the failure is shown", func() bool { return strings.Contains(e.frame(), "connection refused; trying again") })
	if !strings.Contains(e.frame(), "checkout") {
		t.Errorf("%q", e.frame())
	}
	fmt.Fprint(e.control, "q")
	leaves(t, e, tty, ended)
}

// leaves waits for a good end that gives the terminal back.
func leaves(t *testing.T, e *emulator, tty *os.File, ended <-chan int) {
	t.Helper()
	select {
	case exit := <-ended:
		if exit != ExitOK {
			t.Errorf("exit %d: %q", exit, e.String())
		}
	case <-time.After(20 * time.Second):
		t.Fatal("it goes on")
	}
	e.await("the terminal's own screen is back", func() bool { return strings.HasSuffix(e.String(), leaveScreen) })
	if s := settings(t, tty); s.Lflag&(unix.ICANON|unix.ECHO|unix.ISIG) != unix.ICANON|unix.ECHO|unix.ISIG || s.Oflag&unix.OPOST == 0 {
		t.Errorf("the terminal is left as %+v", s)
	}
}

func TestTopEnds(t *testing.T) {
	f := newFakePlatform(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for name, end := range map[string]func(e *emulator){
		"Ctrl-C":    func(e *emulator) { fmt.Fprint(e.control, "\x03") },
		"a signal":  func(*emulator) { cancel() },
		"Q in caps": func(e *emulator) { fmt.Fprint(e.control, "Q") },
	} {
		t.Run(name, func(t *testing.T) {
			on := t.Context()
			if name == "a signal" {
				on = ctx
			}
			e, tty, ended := onTerminal(t, on, f.URL, 100, 20, "top")
			e.await("it is drawn", func() bool { return e.frame() != "" })
			end(e)
			leaves(t, e, tty, ended)
		})
	}
}
