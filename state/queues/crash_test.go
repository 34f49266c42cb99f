package queues

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"thaw/state"
)

// Environment variables that make the test binary the process that is killed.
const (
	crashDir  = "THAW_TEST_CRASH_DIR"
	crashSync = "THAW_TEST_CRASH_SYNC" // not empty: each write waits for the disk
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(crashDir); dir != "" {
		fmt.Fprintln(os.Stderr, workUntilKilled(dir))
		os.Exit(1)
	}
	goleak.VerifyTestMain(m)
}

// Queues of the crash test. Messages of the first die after two receives.
const (
	crashPlain = "sqs/plain"
	crashDead  = "sqs/dead"
	crashFIFO  = "sqs/ordered.fifo"
)

// crashBody is of many lengths, and shows if parts of it do not belong together.
func crashBody(id string) []byte {
	return []byte(strings.Repeat(id+" ", 1+int(tag(id)%200)))
}

// worker is the process that is killed. It says what was acknowledged, a line each.
type worker struct {
	mu     sync.Mutex
	failed chan error
}

func (w *worker) say(format string, v ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	fmt.Printf(format+"\n", v...)
}

func (w *worker) loop(fn func() error) {
	go func() {
		for {
			if err := fn(); err != nil {
				w.failed <- err
				return
			}
		}
	}()
}

func workUntilKilled(dir string) error {
	ctx := context.Background()
	store, err := state.Open(ctx, state.Config{Dir: dir, SyncAlways: os.Getenv(crashSync) != ""})
	if err != nil {
		return err
	}
	e, err := Open(ctx, store, Config{})
	if err != nil {
		return err
	}
	for _, info := range []Info{
		{Name: crashPlain, Options: Options{Visibility: 20 * time.Millisecond, DeadLetter: crashDead, MaxReceives: 2}},
		{Name: crashDead, Options: Options{Visibility: 50 * time.Millisecond}},
		{Name: crashFIFO, Options: Options{FIFO: true, Visibility: 400 * time.Millisecond}},
	} {
		if _, err := e.Create(ctx, info); err != nil && !errors.Is(err, state.ErrExists) {
			return err
		}
	}
	plain, _ := e.Queue(crashPlain)
	dead, _ := e.Queue(crashDead)
	fifo, _ := e.Queue(crashFIFO)
	if err := sendAgain(fifo, dir); err != nil {
		return err
	}
	w := &worker{failed: make(chan error)}
	go func() { w.failed <- e.Run(ctx) }()
	run := time.Now().UnixNano()
	for producer := range 8 {
		n := 0
		w.loop(func() error {
			pace(plain)
			n++
			id := fmt.Sprintf("p/%d/%d/%d", run, producer, n)
			sent := plain.Send(ctx, Message{ID: id, Body: crashBody(id), Meta: []byte(id)})[0]
			if sent.Err == nil {
				w.say("sent %s", id)
			}
			return sent.Err
		})
	}
	for group := range 5 { // one producer each, so that the order is known; each message is sent twice
		n := 0
		w.loop(func() error {
			pace(fifo)
			n++
			id := fmt.Sprintf("f/%d/%d/%d", run, group, n)
			for range 2 {
				if sent := fifo.Send(ctx, Message{ID: id, Group: fmt.Sprint(group), Dedup: id, Body: crashBody(id), Meta: []byte(id)})[0]; sent.Err != nil {
					return sent.Err
				}
			}
			w.say("sent %s", id)
			return nil
		})
	}
	for range 4 {
		w.consume(plain, 5)
		w.consume(fifo, 7)
	}
	w.consume(dead, 3)
	return <-w.failed
}

// pace keeps producers from getting far ahead of the consumers: what piles up is looked through after every kill.
func pace(q *Queue) {
	for q.Depth().Visible > 1000 {
		<-time.After(time.Millisecond)
	}
}

// sendAgain sends what an earlier process sent to the FIFO queue, which must know it.
func sendAgain(fifo *Queue, dir string) error {
	text, err := os.ReadFile(filepath.Join(dir, "again"))
	if err != nil {
		return err
	}
	for id := range strings.FieldsSeq(string(text)) {
		group := strings.Split(id, "/")[2]
		if sent := fifo.Send(context.Background(), Message{ID: id, Group: group, Dedup: id, Body: crashBody(id), Meta: []byte(id)})[0]; sent.Err != nil || !sent.Duplicate {
			return fmt.Errorf("message %s is taken for a new one: %+v", id, sent)
		}
	}
	return nil
}

// consume receives and deletes, all but every so-manieth message.
func (w *worker) consume(q *Queue, every int) {
	ctx := context.Background()
	n := 0
	w.loop(func() error {
		start := time.Now()
		got, err := q.Receive(ctx, 1+n%10, 10*time.Millisecond, nil)
		if err != nil {
			return err
		}
		for _, r := range got {
			if string(r.Meta) != r.ID || string(r.Body) != string(crashBody(r.ID)) {
				return fmt.Errorf("message %s is torn: %q", r.ID, r.Body)
			}
			if n++; n%every == 0 { // it comes again, or dies
				if n%2 == 0 {
					if err := q.Return(ctx, r.Handle, 0, []byte("note")); err != nil && !errors.Is(err, ErrNotInFlight) && !errors.Is(err, ErrHandle) {
						return err
					}
				}
				break
			}
			if time.Since(start) > 150*time.Millisecond {
				break // so late that somebody else may have it
			}
			w.say("deleting %s %s", q.Name(), r.ID)
			switch err := q.Delete(ctx, r.Handle); {
			case err == nil:
				w.say("deleted %s %s", q.Name(), r.ID)
			case !errors.Is(err, ErrHandle):
				return err
			}
		}
		return nil
	})
}

// tally is what the killed processes said.
type tally struct {
	sent    map[string]bool
	begun   map[string]bool // a deletion was begun
	deleted map[[2]string]bool
	ordered map[string]int // FIFO: the last number that was worked on, by run and group
	again   []string
}

func newTally() *tally {
	return &tally{sent: map[string]bool{}, begun: map[string]bool{}, deleted: map[[2]string]bool{}, ordered: map[string]int{}}
}

func (a *tally) note(t *testing.T, line string) {
	t.Helper()
	words := strings.Split(line, " ")
	id := words[len(words)-1]
	switch words[0] {
	case "sent":
		a.sent[id] = true
		if id[0] == 'f' {
			a.again = append(a.again, id)
		}
	case "deleting":
		a.begun[id] = true
		if id[0] == 'f' {
			if run, n := numbered(t, id); n < a.ordered[run] {
				t.Errorf("%s is given out after number %d", id, a.ordered[run])
			} else {
				a.ordered[run] = n
			}
		}
	case "deleted":
		a.deleted[[2]string{words[1], id}] = true
	default:
		t.Errorf("worker said %q", line)
	}
}

// numbered divides an id into what is numbered and the number.
func numbered(t *testing.T, id string) (run string, n int) {
	i := strings.LastIndexByte(id, '/')
	if _, err := fmt.Sscan(id[i+1:], &n); err != nil {
		t.Fatal(id, err)
	}
	return id[:i], n
}

func TestKillLosesNothing(t *testing.T) {
	rounds := 20
	if testing.Short() {
		rounds = 4
	}
	dir := t.TempDir()
	a := newTally()
	for round := range rounds {
		runAndKill(t, dir, a, 1+rand.IntN(2000), time.Duration(rand.IntN(300_000))*time.Microsecond, (*os.Process).Kill)
		verify(t, dir, a)
		if t.Failed() {
			t.Fatalf("after kill number %d", round+1)
		}
	}
	t.Logf("%d kills: %d messages sent, %d deleted, groups went on to %v", rounds, len(a.sent), len(a.deleted), len(a.ordered))
}

// runAndKill starts a worker, waits for some lines and then a moment that falls anywhere, and lets kill end it.
func runAndKill(t *testing.T, dir string, a *tally, count int, moment time.Duration, kill func(*os.Process) error) {
	t.Helper()
	a.again = a.again[max(0, len(a.again)-100):]
	must(t, os.WriteFile(filepath.Join(dir, "again"), []byte(strings.Join(a.again, "\n")), 0o600))
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), crashDir+"="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	lines := bufio.NewScanner(out)
	killed := make(chan error, 1)
	for n := 0; lines.Scan(); n++ {
		a.note(t, lines.Text())
		if n == count {
			time.AfterFunc(moment, func() { killed <- kill(cmd.Process) })
		}
	}
	var exit *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &exit) || exit.String() != "signal: killed" {
		t.Fatalf("worker ended by itself: %v", err)
	}
	must(t, <-killed)
}

// verify looks at what is there after a kill.
func verify(t *testing.T, dir string, a *tally) {
	t.Helper()
	store, err := state.Open(t.Context(), state.Config{Dir: dir})
	must(t, err)
	defer store.Close()
	e, err := Open(t.Context(), store, Config{})
	must(t, err)
	there := map[string]bool{}
	last := map[string]int{}
	for _, q := range e.List("", "", 100) {
		list, err := q.Peek(t.Context(), 0, 1<<20)
		must(t, err)
		seen := map[string]bool{}
		for _, r := range list {
			if a.deleted[[2]string{q.Name(), r.ID}] {
				t.Errorf("%s is back in %s after its deletion", r.ID, q.Name())
			}
			if seen[r.ID] {
				t.Errorf("%s is twice in %s", r.ID, q.Name())
			}
			if string(r.Meta) != r.ID || string(r.Body) != string(crashBody(r.ID)) {
				t.Errorf("%s is torn", r.ID)
			}
			seen[r.ID], there[r.ID] = true, true
			if q.Name() == crashFIFO {
				if run, n := numbered(t, r.ID); n <= last[run] {
					t.Errorf("%s stands after number %d", r.ID, last[run])
				} else {
					last[run] = n
				}
			}
		}
		if d := q.Depth(); d.Visible+d.InFlight+d.Delayed != len(list) {
			t.Errorf("%s has %d messages and a depth of %+v", q.Name(), len(list), d)
		}
	}
	for id := range a.sent {
		if !there[id] && !a.begun[id] {
			t.Errorf("%s is lost", id)
		}
	}
}
