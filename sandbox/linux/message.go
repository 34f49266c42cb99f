package linux

import (
	"encoding/binary"
	"errors"
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

// The messages to pid 1 and its replies. native/init.c has the same numbers and layout.

type opcode uint8

const (
	opFail opcode = iota
	opMount
	opSetattr
	opPivot
	opUnshare
	opNetNS
	opLoopUp
	opListen
	opHost
	opLimit
	opKeyring
	opFilter
	opRun
	opWatch
	opPIDNS
	opProc
	opMountNS
	opMove
)

const (
	replyReady   = 'R'
	replyStarted = 'S'
	replyFailed  = 'F'
	replyExited  = 'E'

	maxMessage    = 256 << 10
	maxStrings    = 4096
	maxFilter     = 4096
	runHasChannel = 1
	runIsTemplate = 2
)

// op is one operation before it is encoded.
type op struct {
	code opcode
	step Step
	n    uint32
	a, b uint64
	s    [4]string
	blob []byte
	flag uint16
}

var errTooLong = errors.New("arguments and environment are too long")

// message is a list of operations under construction. fail, when set, is the test's hook: an error for a step puts a
// failing operation in the place of the step's own.
type message struct {
	buf  []byte
	fail func(Step) error
}

func (m *message) add(o op) {
	if m.fail != nil && o.code != opRun && m.fail(o.step) != nil {
		o = op{code: opFail, step: o.step, n: uint32(syscall.EIO)}
	}
	b := binary.NativeEndian.AppendUint16(m.buf, 0)
	b[len(b)-2], b[len(b)-1] = byte(o.code), byte(o.step)
	b = binary.NativeEndian.AppendUint16(b, o.flag)
	b = binary.NativeEndian.AppendUint32(b, o.n)
	b = binary.NativeEndian.AppendUint64(b, o.a)
	b = binary.NativeEndian.AppendUint64(b, o.b)
	strings := 0
	for _, s := range o.s {
		strings += len(s) + 1
	}
	b = binary.NativeEndian.AppendUint32(b, uint32(strings))
	b = binary.NativeEndian.AppendUint32(b, uint32(len(o.blob)))
	for _, s := range o.s {
		b = append(append(b, s...), 0)
	}
	b = append(b, o.blob...)
	for len(b)%8 != 0 {
		b = append(b, 0)
	}
	m.buf = b
}

func (m *message) mount(step Step, source, target, fstype string, flags uint64, data string) {
	m.add(op{code: opMount, step: step, a: flags, s: [4]string{source, target, fstype, data}})
}

// bind mounts source with everything below it at target and gives all of it the attributes.
func (m *message) bind(step Step, source, target string, attr uint64) {
	m.mount(step, source, target, "", unix.MS_BIND|unix.MS_REC, "")
	m.add(op{code: opSetattr, step: step, a: attr, s: [4]string{1: target}})
}

// run is the last operation of a message: it starts the command.
func (m *message) run(r runArgs) error {
	var blob []byte
	for _, list := range [][]string{r.args, r.env} {
		for _, s := range list {
			for i := range len(s) {
				if s[i] == 0 {
					return fmt.Errorf("NUL byte in %q", s)
				}
			}
			blob = append(append(blob, s...), 0)
		}
	}
	o := op{
		code: opRun, step: StepClone, n: uint32(len(r.args)), blob: blob,
		a: uint64(r.uid) | uint64(r.gid)<<32,
		b: uint64(r.shimID) | uint64(r.shimID)<<32,
		s: [4]string{r.dir, r.uidMap, r.gidMap, ""},
	}
	if r.channel {
		o.flag |= runHasChannel
	}
	if r.template {
		o.flag |= runIsTemplate
	}
	if m.fail != nil {
		for step := StepClone; step <= StepExec; step++ {
			if m.fail(step) != nil {
				o.s[3] = string('0' + byte(step-StepClone))
				break
			}
		}
	}
	m.add(o)
	if len(r.args)+len(r.env) > maxStrings || len(m.buf) > maxMessage {
		return errTooLong
	}
	return nil
}

type runArgs struct {
	args, env      []string
	dir            string
	uid, gid       uint32 // inside the runtime's user namespace
	uidMap, gidMap string
	shimID         uint32 // what pid 1 becomes, 0: stays
	channel        bool
	template       bool // in the host's user namespace; the id maps are not used
}

// reply is pid 1's answer.
type reply struct {
	kind  byte
	step  Step
	value int32
}

const replySize = 8

func parseReply(b []byte) (reply, error) {
	if len(b) != replySize {
		return reply{}, fmt.Errorf("reply of %d bytes", len(b))
	}
	r := reply{kind: b[0], step: Step(b[1]), value: int32(binary.NativeEndian.Uint32(b[4:]))}
	switch r.kind {
	case replyReady, replyStarted, replyFailed, replyExited:
		return r, nil
	}
	return reply{}, fmt.Errorf("unknown reply %q", b[0])
}
