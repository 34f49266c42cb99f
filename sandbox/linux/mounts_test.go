package linux

import (
	"slices"
	"strings"
	"testing"

	"thaw/sandbox"
)

// What protects read-only places from a function is, first, that it does not own them; that the mounts say so as well
// is seen only by looking at them.
func TestMountsAreReadOnlyAndInert(t *testing.T) {
	needRoot(t)
	d := open(t)
	spec := python("print(open('/proc/self/mounts').read())")
	spec.Mounts = []sandbox.Mount{{Source: t.TempDir(), Target: "/var/task"}, {Source: "/usr/lib", Target: "/usr/lib"}}
	out, exit := outcome(t, d, spec)
	if exit != (sandbox.ExitStatus{}) {
		t.Fatalf("exit %+v: %s", exit, out)
	}
	var points []string
	for _, line := range lines(out) {
		f := strings.Fields(line)
		if len(f) < 4 {
			t.Fatalf("line %q", line)
		}
		point, flags := f[1], strings.Split(f[3], ",")
		points = append(points, point)
		writable := point == "/tmp" || point == "/dev/shm"
		if slices.Contains(flags, "ro") == writable || !slices.Contains(flags, "nosuid") {
			t.Errorf("%s has %v", point, flags)
		}
		// The device nodes are in the root itself.
		if !slices.Contains(flags, "nodev") && point != "/" && !strings.HasPrefix(point, "/proc/") {
			t.Errorf("%s has %v", point, flags)
		}
		if point == "/proc" && !slices.Contains(flags, "hidepid=invisible") && !slices.Contains(flags, "hidepid=2") {
			t.Errorf("%s has %v", point, flags)
		}
	}
	for _, want := range []string{"/", "/usr", "/proc", "/proc/keys", "/tmp", "/dev/shm", "/var/task"} {
		if !slices.Contains(points, want) {
			t.Errorf("nothing is mounted at %s", want)
		}
	}
	if slices.Contains(points, "/usr/lib") {
		t.Error("a mount of what is there anyway")
	}
}

func TestMountsThatAreRefused(t *testing.T) {
	needRoot(t)
	d := open(t)
	dir := t.TempDir()
	for _, m := range []sandbox.Mount{
		{Source: dir, Target: "/proc/x"}, {Source: dir, Target: "/tmp"}, {Source: dir, Target: "/dev/x"}, {Source: dir, Target: "relative"},
		{Source: dir, Target: "/opt/../etc"}, {Source: "relative", Target: "/opt"}, {Source: dir + "/absent", Target: "/opt"},
		{Source: dir, Target: "/usr/absent-here"},
	} {
		spec := python("")
		spec.Mounts = []sandbox.Mount{m}
		if p, err := d.Start(t.Context(), spec); err == nil {
			p.Close()
			t.Errorf("%+v was taken", m)
		}
	}
	for _, change := range []func(*sandbox.Spec){
		func(s *sandbox.Spec) { s.Args = nil }, func(s *sandbox.Spec) { s.Args[0] = "python3" },
		func(s *sandbox.Spec) { s.MemoryMB = 0 }, func(s *sandbox.Spec) { s.TmpMB = 0 }, func(s *sandbox.Spec) { s.Dir = "tmp" },
		func(s *sandbox.Spec) { s.Env = []string{"A=\x00"} },
		func(s *sandbox.Spec) { s.Env = []string{"A=" + strings.Repeat("x", maxMessage)} },
		func(s *sandbox.Spec) { s.Env = make([]string, maxStrings) },
	} {
		spec := python("")
		change(spec)
		if p, err := d.Start(t.Context(), spec); err == nil {
			p.Close()
			t.Errorf("%+v was taken", spec.Args)
		}
	}
}
