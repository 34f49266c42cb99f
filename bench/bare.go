package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// The programs inside the relay: read a length and as many bytes from descriptor 3, write the same back, and nothing else.
var relayPrograms = map[string][]string{
	"relay-python": {"-c", `
import socket
s = socket.socket(fileno=3)
def read(n):
    data = s.recv(n)
    while len(data) < n:
        more = s.recv(n - len(data))
        if not more: raise SystemExit
        data += more
    return data
while True:
    head = s.recv(4)
    if not head: break
    while len(head) < 4: head += read(4 - len(head))
    s.sendall(head + read(int.from_bytes(head, "big")))
`},
	"relay-node": {"-e", `
const fs = require("fs");
const head = Buffer.alloc(4);
const read = (buffer, length) => {
  for (let at = 0; at < length; ) {
    const n = fs.readSync(3, buffer, at, length - at, null);
    if (n === 0) process.exit(0);
    at += n;
  }
};
for (;;) {
  read(head, 4);
  const length = head.readUInt32BE(0);
  const frame = Buffer.allocUnsafe(4 + length);
  head.copy(frame);
  const body = frame.subarray(4);
  read(body, length);
  for (let at = 0; at < frame.length; ) at += fs.writeSync(3, frame, at, frame.length - at);
}
`},
}

// serveBare is the child's side: it serves one of "echo" and relayPrograms on a free port, whose address it prints.
func serveBare(ctx context.Context, kind, interpreter string) error {
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(io.LimitReader(r.Body, maxFrame))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		_, _ = w.Write(body)
	})
	if kind != "echo" {
		program, ok := relayPrograms[kind]
		if !ok {
			return fmt.Errorf("no server for comparison is called %q", kind)
		}
		r, err := startRelay(ctx, interpreter, program)
		if err != nil {
			return err
		}
		defer r.close()
		handler = r.serve
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	fmt.Println(l.Addr())
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// maxFrame bounds what the relay carries.
const maxFrame = 1 << 20

// relay is one interpreter at the other end of a socketpair. One request at a time uses it.
type relay struct {
	mu   sync.Mutex
	conn net.Conn
	buf  []byte
	cmd  *exec.Cmd
}

func startRelay(ctx context.Context, interpreter string, program []string) (*relay, error) {
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "relay"), os.NewFile(uintptr(pair[1]), "interpreter")
	defer ours.Close()
	defer theirs.Close()
	conn, err := net.FileConn(ours)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, interpreter, program...)
	cmd.ExtraFiles = []*os.File{theirs}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return &relay{conn: conn, cmd: cmd}, nil
}

func (r *relay) close() {
	r.conn.Close()
	_ = r.cmd.Wait() // it ends with its socket; how does not matter
}

func (r *relay) serve(w http.ResponseWriter, req *http.Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	length := int(req.ContentLength)
	if length < 0 || length > maxFrame {
		http.Error(w, "no Content-Length", http.StatusLengthRequired)
		return
	}
	if cap(r.buf) < 4+length {
		r.buf = make([]byte, 4+length)
	}
	frame := r.buf[:4+length]
	binary.BigEndian.PutUint32(frame, uint32(length))
	_, err := io.ReadFull(req.Body, frame[4:])
	if err == nil {
		_, err = r.conn.Write(frame)
	}
	if err == nil {
		_, err = io.ReadFull(r.conn, frame)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	_, _ = w.Write(frame[4:])
}

// bare is a server for comparison, in a process of its own.
type bare struct {
	target
	cmd *exec.Cmd
}

// startBare starts this program again as the server and waits for its address.
func startBare(ctx context.Context, kind, interpreter string) (*bare, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self, "-serve", kind, "-interpreter", interpreter)
	cmd.Stderr = os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 5 * time.Second
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	b := &bare{cmd: cmd}
	line := make([]byte, 64)
	n, err := out.Read(line)
	address := strings.TrimSpace(string(line[:n]))
	if err != nil || address == "" {
		b.stop()
		return nil, fmt.Errorf("the %s server did not start: %w", kind, err)
	}
	b.url = "http://" + address + "/"
	return b, nil
}

func (b *bare) stop() {
	_ = b.cmd.Process.Signal(syscall.SIGTERM)
	_ = b.cmd.Wait() // it was asked to end; how does not matter
}
