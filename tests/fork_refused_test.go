package tests

import "testing"

// TestRefusedForks has a function that denies its own template the namespaces of a fork, by a filter of system calls, as AppArmor or a
// setting of the machine does to all: it is served by boots, and says why.
func TestRefusedForks(t *testing.T) {
	s := startForking(t)
	s.python(t, "refused", `
import ctypes, platform, struct
unshare = {'x86_64': 272, 'aarch64': 97}[platform.machine()]
code = b''.join(struct.pack('=HBBI', *i) for i in [(0x20, 0, 0, 0), (0x15, 0, 1, unshare), (0x06, 0, 0, 0x50001), (0x06, 0, 0, 0x7fff0000)])
buffer = ctypes.create_string_buffer(code)
program = ctypes.create_string_buffer(struct.pack('=HxxxxxxQ', 4, ctypes.addressof(buffer)))
assert ctypes.CDLL(None).prctl(22, 2, ctypes.byref(program)) == 0
def handler(event, context):
    return True
`, deployed{})
	s.unforked(t, "refused", "unsupported", "the kernel refuses user namespaces")
}
