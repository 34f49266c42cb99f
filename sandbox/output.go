package sandbox

import (
	"context"
	"os"
	"sync"
	"syscall"
	"time"

	"thaw"
	"thaw/runtimes"
)

// readSize is what one read of the output pipe takes at most: a pipe's default capacity.
const readSize = 64 << 10

// drainLimit bounds what the end of an invocation reads of output that comes without end.
const drainLimit = 4 * readSize

// keptLine is the longest line for which an environment keeps its buffer.
const keptLine = 4 << 10

// readBuffers serve all environments: an idle one keeps none.
var readBuffers = sync.Pool{New: func() any { b := make([]byte, readSize); return &b }}

// output moves what the process writes into the log. One goroutine follows the pipe; the end of an invocation drains it
// as well, so that everything written before the answer is logged before END.
type output struct {
	log  Log
	file *os.File
	raw  syscall.RawConn
	stop context.CancelFunc
	done chan struct{}

	mu        sync.Mutex
	tap       func(at time.Time, message []byte) // nil: only the log hears of messages
	parser    *runtimes.Output
	requestID string
	line      []byte
	least     level // what the log takes; messages below it are for the tap alone
}

func newOutput(file *os.File, log Log, v *thaw.Version) *output {
	ctx, cancel := context.WithCancel(context.Background()) //nolint:forbidigo // ends with close, not with a caller
	o := &output{log: log, file: file, stop: cancel, done: make(chan struct{}), least: leastLevel(v)}
	o.parser = runtimes.NewOutput(o.write)
	raw, err := file.SyscallConn()
	if err != nil {
		close(o.done)
		return o
	}
	o.raw = raw
	go o.follow(ctx)
	return o
}

// follow logs output as it comes. Where the log cannot keep up it waits, the pipe fills, and the function with it.
func (o *output) follow(ctx context.Context) {
	defer close(o.done)
	for ctx.Err() == nil {
		ended := false
		err := o.raw.Read(func(fd uintptr) bool {
			n, again := o.readOnce(int(fd))
			ended = n == 0 && !again
			return !again
		})
		if err != nil || ended {
			return
		}
		o.log.WaitRoom(ctx)
	}
}

// readOnce logs what one read gives. again means that there is nothing to read for now; n == 0 without it is the end.
func (o *output) readOnce(fd int) (n int, again bool) {
	buffer := readBuffers.Get().(*[]byte)
	defer readBuffers.Put(buffer)
	o.mu.Lock()
	defer o.mu.Unlock()
	for {
		n, err := syscall.Read(fd, *buffer)
		switch {
		case err == syscall.EINTR: //nolint:errorlint // a bare errno from a raw system call
			continue
		case err == syscall.EAGAIN: //nolint:errorlint // as above
			return 0, true
		case err != nil || n <= 0:
			return 0, false
		}
		o.parser.Write((*buffer)[:n]) //nolint:errcheck // never fails
		return n, false
	}
}

// write logs one message, with the newline that CloudWatch's events end with. The time is the function's word.
func (o *output) write(message []byte, at time.Time) {
	at = runtimes.MessageTime(at)
	o.line = append(append(o.line[:0], message...), '\n')
	if o.least == levelNone || levelOf(message) >= o.least {
		o.log.Write(at, o.requestID, o.line)
	}
	if o.tap != nil {
		o.tap(at, o.line)
	}
	if cap(o.line) > keptLine {
		o.line = nil
	}
}

// listen has fn hear of each message as well; nil ends that. fn must not block.
func (o *output) listen(fn func(at time.Time, message []byte)) {
	o.mu.Lock()
	o.tap = fn
	o.mu.Unlock()
}

// begin says which invocation the following output belongs to.
func (o *output) begin(requestID string) {
	o.mu.Lock()
	o.requestID = requestID
	o.mu.Unlock()
}

// drain logs what is in the pipe, and a last line without newline.
func (o *output) drain(requestID string) {
	if o.raw == nil {
		return
	}
	_ = o.raw.Control(func(fd uintptr) { // fails only when closed: nothing to drain then
		for total := 0; total < drainLimit; {
			n, again := o.readOnce(int(fd))
			if n == 0 || again {
				return
			}
			total += n
		}
	})
	o.mu.Lock()
	o.requestID = requestID
	o.parser.Flush()
	o.mu.Unlock()
}

func (o *output) close() {
	o.stop()
	o.file.Close() //nolint:errcheck // read end of a pipe
	<-o.done
}
