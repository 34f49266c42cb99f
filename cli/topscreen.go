package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// The escapes that every terminal of this century knows: a screen of its own without a cursor and without wrapping, and back.
const (
	enterScreen = "\x1b[?1049h\x1b[?25l\x1b[?7l"
	leaveScreen = "\x1b[?7h\x1b[?25h\x1b[?1049l"
	cursorHome  = "\x1b[H"
	clearRest   = "\x1b[K" // of the line
	clearBelow  = "\x1b[J"
	inverse     = "\x1b[7m"
	plain       = "\x1b[0m"
)

// topPoll is how often keys and the terminal's size are looked at.
const topPoll = 50 * time.Millisecond

// screen is a terminal that is drawn on and that keys come from.
type screen struct {
	in, out *os.File
}

// screen is the terminal, nil where standard input or output is none.
func (p *program) screen() *screen {
	in, isFile := p.io.In.(*os.File)
	out, isFileToo := p.io.Out.(*os.File)
	if !isFile || !isFileToo || !term.IsTerminal(int(in.Fd())) || !term.IsTerminal(int(out.Fd())) {
		return nil
	}
	return &screen{in: in, out: out}
}

// watchLive draws readings until q, Ctrl-C or the end of ctx, and leaves the terminal as it was. A platform that stops
// answering is waited for: the top line says so.
func (p *program) watchLive(ctx context.Context, s *screen, f *topFlags, now *reading, look func(context.Context) (*reading, error)) error {
	was, err := term.MakeRaw(int(s.in.Fd()))
	if err != nil {
		return &Error{What: "cannot set up the terminal", Why: err.Error(), Next: "thaw top --once", Exit: ExitFailed, Err: err}
	}
	// Nothing can be done, and nowhere said, about a terminal that is gone.
	defer func() { _ = term.Restore(int(s.in.Fd()), was) }()
	fmt.Fprint(s.out, enterScreen)
	defer fmt.Fprint(s.out, leaveScreen)

	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	keys, readings := make(chan byte), make(chan looked)
	running.Go(func() { s.readKeys(ctx, keys) })
	running.Go(func() { lookEvery(ctx, f.interval, look, readings) })

	view, order, problem := compare(nil, now, f.sort), f.sort, ""
	resize := time.NewTicker(topPoll)
	defer resize.Stop()
	width, height := s.size()
	for {
		s.draw(view, order, problem, width, height)
		for idle := true; idle; {
			idle = false
			select {
			case <-ctx.Done():
				return nil // an interrupt is how watching ends
			case key, open := <-keys:
				switch {
				case !open, key == 'q', key == 'Q', key == ctrlC:
					return nil
				case key == 's', key == 'S':
					order = topOrders[(slices.Index(topOrders, order)+1)%len(topOrders)]
					view.sort(order)
				}
			case l := <-readings:
				if problem = ""; l.err != nil {
					problem = l.err.Error()
					break
				}
				view, now = compare(now, l.reading, order), l.reading
			case <-resize.C:
				w, h := s.size()
				idle = w == width && h == height
				width, height = w, h
			}
		}
	}
}

// ctrlC is what the key sends to a program that has asked for every key.
const ctrlC = 3

// size is the terminal's; 80 by 24 where it does not say.
func (s *screen) size() (width, height int) {
	width, height, err := term.GetSize(int(s.out.Fd()))
	if err != nil || width < 1 || height < 1 {
		return 80, 24
	}
	return width, height
}

// readKeys sends what is typed until ctx ends, and closes keys when the terminal is gone. It waits for keys before it reads,
// since a read cannot be called off.
func (s *screen) readKeys(ctx context.Context, keys chan<- byte) {
	defer close(keys)
	buffer := make([]byte, 64)
	for ctx.Err() == nil {
		waiting := []unix.PollFd{{Fd: int32(s.in.Fd()), Events: unix.POLLIN}}
		n, err := unix.Poll(waiting, int(topPoll.Milliseconds()))
		switch {
		case n == 0 || errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return
		}
		n, err = s.in.Read(buffer)
		if err != nil {
			return
		}
		for _, key := range buffer[:n] {
			select {
			case keys <- key:
			case <-ctx.Done():
				return
			}
		}
	}
}

// looked is a reading or why there is none.
type looked struct {
	reading *reading
	err     error
}

// lookEvery looks at each interval until ctx ends.
func lookEvery(ctx context.Context, interval time.Duration, look func(context.Context) (*reading, error), readings chan<- looked) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		r, err := look(ctx)
		select {
		case <-ctx.Done():
			return
		case readings <- looked{r, err}:
		}
	}
}

// draw writes one frame at once, so that a half of it is never seen.
func (s *screen) draw(view *topView, order, problem string, width, height int) {
	lines := view.lines()
	lines[topHead-2] = fmt.Sprintf("%s  sorted by %s; s: sort, q: quit", view.Time.Local().Format(time.TimeOnly), order)
	if problem != "" {
		lines[topHead-2] = printable(problem) + "; trying again"
	}
	if len(lines) > height {
		hidden := len(lines) - height + 1
		lines = append(lines[:height-1:height-1], fmt.Sprintf("and %d more lines", hidden))
	}
	var b strings.Builder
	b.WriteString(cursorHome)
	for i, line := range lines {
		line = line[:min(len(line), width)]
		if i == topHead-1 {
			line = inverse + line + strings.Repeat(" ", width-len(line)) + plain
		}
		if i > 0 {
			b.WriteString("\r\n")
		}
		b.WriteString(line + clearRest)
	}
	b.WriteString(clearBelow)
	io.WriteString(s.out, b.String()) //nolint:errcheck // a terminal that is gone ends the reading of its keys
}

// printable is text on one line, in characters of one byte that are not the terminal's own.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if r > unicode.MaxASCII || !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, text)
}
