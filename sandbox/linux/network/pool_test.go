package network

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

func currentInode(t testing.TB) uint64 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat("/proc/thread-self/ns/net", &st); err != nil {
		t.Fatal(err)
	}
	return st.Ino
}

func inodeOf(t testing.TB, n *Namespace) (ino uint64) {
	inside(t, n)(func() error { ino = currentInode(t); return nil })
	return ino
}

// run keeps the stock for the length of the test.
func run(t testing.TB, p *Pool) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("run: %v", err)
		}
	})
}

func stocked(t testing.TB, p *Pool, want int) {
	t.Helper()
	eventually(t, func() (bool, string) {
		p.mu.Lock()
		defer p.mu.Unlock()
		return len(p.free) == want && p.making == 0 && len(p.dying) == 0 && !p.removing,
			fmt.Sprintf("%d made ahead, want %d", len(p.free), want)
	})
}

func TestOneNamespacePerKey(t *testing.T) {
	p := openPool(t, Config{LoopbackOnly: true, Pool: 2})
	run(t, p)
	stocked(t, p, 2)
	a1, a2, b := acquire(t, p, "a"), acquire(t, p, "a"), acquire(t, p, "b")
	if inodeOf(t, a1) != inodeOf(t, a2) {
		t.Error("two references of one key lead to two namespaces")
	}
	if inodeOf(t, a1) == inodeOf(t, b) || inodeOf(t, b) == currentInode(t) {
		t.Error("two keys share a namespace, or one has the host's")
	}
	stocked(t, p, 2)

	old := inodeOf(t, a1)
	keep, err := unix.Dup(a1.lease.ns.fd) // so that the kernel cannot give its number to the next one
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(keep)
	a1.Release()
	a1.Release()
	if err := a1.Do(func() error { return nil }); !errors.Is(err, ErrReleased) {
		t.Errorf("Do after Release: %v, want ErrReleased", err)
	}
	if inodeOf(t, a2) != old {
		t.Error("a second Release of one reference took the other's namespace")
	}
	a2.Release()
	if again := acquire(t, p, "a"); inodeOf(t, again) == old {
		t.Error("a released namespace was handed out again")
	}
}

func TestAcquireWaits(t *testing.T) {
	p := openPool(t, Config{LoopbackOnly: true})
	stall := func(on bool) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.making = 0
		if on {
			p.making = maxMakers // as if all were busy
		}
		p.kick()
	}
	waiting := func(want int) {
		t.Helper()
		eventually(t, func() (bool, string) {
			p.mu.Lock()
			defer p.mu.Unlock()
			refs := 0
			for _, l := range p.held {
				refs += l.refs
			}
			return refs == want, fmt.Sprintf("%d wait, want %d", refs, want)
		})
	}
	stall(true)
	ctx, cancel := context.WithCancel(context.Background())
	gone := make(chan error)
	go func() { _, err := p.Acquire(ctx, "gives up"); gone <- err }()
	waiting(1)
	got := make(chan *Namespace)
	for range 2 {
		go func() {
			n, err := p.Acquire(context.Background(), "stays")
			if err != nil {
				t.Error(err)
			}
			got <- n
		}()
	}
	waiting(3)
	cancel()
	if err := <-gone; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
	stall(false)
	a, b := <-got, <-got
	if a == nil || b == nil || a.lease != b.lease {
		t.Error("two that waited for one key got two namespaces")
	}
	p.mu.Lock()
	if len(p.waiting) != 0 || len(p.held) != 1 || len(p.slots.used) != 1 {
		t.Errorf("%d waiting, %d held, %d slots, want 0, 1, 1", len(p.waiting), len(p.held), len(p.slots.used))
	}
	p.mu.Unlock()
}

func TestExhausted(t *testing.T) {
	p := openPool(t, Config{LoopbackOnly: true, Max: 2})
	acquire(t, p, "a")
	b := acquire(t, p, "b")
	if _, err := p.Acquire(context.Background(), "c"); !errors.Is(err, ErrExhausted) {
		t.Fatalf("got %v, want ErrExhausted", err)
	}
	b.Release()
	stocked(t, p, 0)
	acquire(t, p, "c")
}

func TestCloseWithReferences(t *testing.T) {
	needHost(t)
	before, names := traces(t), netNamespaces(t)
	p := openPool(t, Config{Pool: 2})
	run(t, p)
	stocked(t, p, 2)
	n := acquire(t, p, "f")
	started, finish := make(chan struct{}), make(chan struct{})
	done := make(chan error)
	go func() {
		done <- n.Do(func() error { close(started); <-finish; return nil })
	}()
	<-started
	closed := make(chan error)
	go func() { closed <- p.Close() }()
	eventually(t, func() (bool, string) {
		_, err := p.Acquire(context.Background(), "g")
		return errors.Is(err, ErrClosed), fmt.Sprintf("Acquire while closing: %v", err)
	})
	close(finish)
	if err := errors.Join(<-done, <-closed); err != nil {
		t.Fatal(err)
	}
	if err := n.Do(func() error { return nil }); !errors.Is(err, ErrClosed) {
		t.Errorf("Do after Close: %v, want ErrClosed", err)
	}
	n.Release()
	untouched(t, before)
	if now := netNamespaces(t); now != names {
		t.Errorf("%d namespaces, were %d", now, names)
	}
}

func TestDo(t *testing.T) {
	p := openPool(t, Config{LoopbackOnly: true})
	n := acquire(t, p, "f")
	home := currentInode(t)

	failure := errors.New("failure")
	if err := n.Do(func() error { return failure }); err != failure {
		t.Errorf("got %v, want the function's error", err)
	}
	if err := n.Do(func() error { runtime.Goexit(); return nil }); !errors.Is(err, errExited) {
		t.Errorf("got %v, want errExited", err)
	}

	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			if ino := inodeOf(t, n); ino == home {
				t.Error("the function ran in the host's namespace")
			}
		})
	}
	all.Wait()
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	for _, thread := range threads {
		var st unix.Stat_t
		if unix.Stat("/proc/self/task/"+thread.Name()+"/ns/net", &st) == nil && st.Ino != home {
			t.Errorf("thread %s stayed in a namespace", thread.Name())
		}
	}
}

// A thread that cannot return must end rather than run other code.
func TestThreadThatCannotReturnEnds(t *testing.T) {
	n := acquire(t, openPool(t, Config{LoopbackOnly: true}), "f")
	// The main thread would be parked by the runtime instead of ended. Of two at once only one can be on it, and is kept
	// there until the other is through.
	other := make(chan struct{})
	onMain := errors.New("on the main thread")
	enter := func() error {
		if unix.Gettid() == os.Getpid() {
			<-other
			return onMain
		}
		return unix.Setns(n.lease.ns.fd, unix.CLONE_NEWNET)
	}
	var tid atomic.Int64
	results := make(chan error, 2)
	for range cap(results) {
		go func() {
			results <- onThread(-1, enter, func() error { tid.Store(int64(unix.Gettid())); return nil })
		}()
	}
	if err := <-results; !errors.Is(err, unix.EBADF) {
		t.Errorf("got %v, want EBADF", err)
	}
	close(other)
	if err := <-results; !errors.Is(err, unix.EBADF) && !errors.Is(err, onMain) {
		t.Errorf("got %v, want EBADF", err)
	}
	eventually(t, func() (bool, string) {
		_, err := os.Stat(fmt.Sprintf("/proc/self/task/%d", tid.Load()))
		return errors.Is(err, os.ErrNotExist), "the thread lives on"
	})
}

func TestManyCyclesLeaveNothing(t *testing.T) {
	needHost(t)
	joinOutside(t)
	routines := goleak.IgnoreCurrent()
	files, names, before := openFiles(t), netNamespaces(t), traces(t)
	p, err := Open(context.Background(), Config{Instance: "t1", Dir: t.TempDir(), Pool: 3})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()

	var all sync.WaitGroup
	for worker := range 4 {
		all.Go(func() {
			for i := range 50 {
				n, err := p.Acquire(context.Background(), fmt.Sprintf("f%d", (worker+i)%5))
				if err != nil {
					t.Error(err)
					return
				}
				if err := n.Do(func() error { return nil }); err != nil {
					t.Error(err)
				}
				n.Release()
			}
		})
	}
	all.Wait()
	stocked(t, p, 3)
	p.mu.Lock()
	if len(p.held) != 0 || len(p.slots.used) != 3 {
		t.Errorf("%d held and %d slots used, want 0 and 3", len(p.held), len(p.slots.used))
	}
	p.mu.Unlock()

	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	untouched(t, before)
	if now := netNamespaces(t); now != names {
		t.Errorf("%d network namespaces, were %d", now, names)
	}
	if now := openFiles(t); now != files {
		t.Errorf("%d descriptors, were %d", now, files)
	}
	goleak.VerifyNone(t, routines)
}
