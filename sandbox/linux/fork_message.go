package linux

import (
	"encoding/binary"
	"fmt"
	"syscall"
)

// The messages between the host and what a template forks. runtimes/native/fork.c has the same numbers and layout.
const (
	forkRequest   = 'F'
	forkHere      = 'H'
	forkUnshared  = 'U'
	forkGo        = 'G'
	forkStart     = 'B'
	forkStarted   = 'S'
	forkFailed    = 'F'
	forkFailNone  = 0xff
	forkFirstPart = StepForkUnshare
)

// Who pid 1 of a forked environment is in its user namespace; functions are functionUID and functionGID.
const (
	reaperUID = functionUID - 1
	reaperGID = functionGID - 1
)

// forkFail is the part that a test wants to fail.
func (d *Driver) forkFail() byte {
	if d.fail != nil {
		for step := forkFirstPart; step < endForkSteps; step++ {
			if d.fail(step) != nil {
				return byte(step - forkFirstPart)
			}
		}
	}
	return forkFailNone
}

func goMessage(fail byte) []byte {
	b := []byte{forkGo, fail, 0, 0}
	b = binary.NativeEndian.AppendUint32(b, reaperUID)
	return binary.NativeEndian.AppendUint32(b, reaperGID)
}

func startMessage(fail byte, filter []byte, env []string) ([]byte, error) {
	var variables []byte
	for _, pair := range env {
		for i := range len(pair) {
			if pair[i] == 0 {
				return nil, fmt.Errorf("NUL byte in %q", pair)
			}
		}
		variables = append(append(variables, pair...), 0)
	}
	if len(variables) > maxMessage {
		return nil, errTooLong
	}
	b := []byte{forkStart, fail, 0, 0}
	for _, n := range []int{functionUID, functionGID, len(filter), len(variables)} {
		b = binary.NativeEndian.AppendUint32(b, uint32(n))
	}
	return append(append(b, filter...), variables...), nil
}

// parseForkReply gives the kind of a reply, or its failure as an error.
func parseForkReply(b []byte) (byte, error) {
	if len(b) != replySize {
		return 0, fmt.Errorf("reply of %d bytes", len(b))
	}
	if b[0] != forkFailed {
		return b[0], nil
	}
	step := forkFirstPart + Step(b[1])
	if step >= endForkSteps {
		return 0, fmt.Errorf("reply of step %d", b[1])
	}
	return 0, &StepError{Step: step, Err: syscall.Errno(binary.NativeEndian.Uint32(b[4:]))}
}
