package linux

import (
	"errors"
	"io"
	"strings"
	"syscall"
	"testing"

	"thaw/sandbox"
)

const helloGo = `package main

import "os"

func main() {
	os.NewFile(3, "channel").WriteString("hello")
	select {}
}
`

func TestGoProgramAnswersOnItsChannel(t *testing.T) {
	needRoot(t)
	d := open(t)
	dir := buildGo(t, helloGo)
	p := start(t, d, &sandbox.Spec{
		Args: []string{"/var/task/bootstrap"}, Dir: "/var/task", MemoryMB: 128, TmpMB: 512, Channel: true,
		Mounts: []sandbox.Mount{{Source: dir, Target: "/var/task"}},
	})
	b := make([]byte, 5)
	if _, err := io.ReadFull(p.Channel(), b); err != nil || string(b) != "hello" {
		t.Fatalf("channel: %q, %v", b, err)
	}
	p.Kill()
	if got := wait(t, p); got.Signal != syscall.SIGKILL.String() {
		t.Errorf("exit %+v", got)
	}
}

func TestExitStatus(t *testing.T) {
	needRoot(t)
	d := open(t)
	for _, c := range []struct {
		name, script string
		want         sandbox.ExitStatus
	}{
		{"success", "pass", sandbox.ExitStatus{}},
		{"code", "import sys; sys.exit(7)", sandbox.ExitStatus{Code: 7}},
		{"signal", "import os; os.kill(os.getpid(), 11)", sandbox.ExitStatus{Signal: "segmentation fault"}},
		{"killed by itself", "import os; os.kill(os.getpid(), 9)", sandbox.ExitStatus{Signal: "killed"}},
		{"terminated", "import os; os.kill(os.getpid(), 15)", sandbox.ExitStatus{Signal: "terminated"}},
		{"daemon left", "import os\nif os.fork() == 0:\n  os.setsid(); __import__('time').sleep(1000)\nos._exit(3)", sandbox.ExitStatus{Code: 3}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if out, got := outcome(t, d, python(c.script)); got != c.want {
				t.Errorf("exit %+v, want %+v; output %s", got, c.want, out)
			}
		})
	}
}

func TestMissingCommand(t *testing.T) {
	needRoot(t)
	d := open(t)
	spec := python("")
	spec.Args = []string{"/var/task/absent"}
	_, err := d.Start(t.Context(), spec)
	if !errors.Is(err, sandbox.ErrEntrypoint) || !errors.Is(err, syscall.ENOENT) || !strings.Contains(err.Error(), "exec") {
		t.Errorf("got %v", err)
	}
}
