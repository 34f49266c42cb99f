package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	"thaw/cli"
)

// machine says what the numbers were measured on.
type machine struct {
	CPU          string
	Cores        int
	MemoryMB     int64
	Load         float64 // processes that wanted a core in the minute before, on average
	Kernel       string
	Go           string
	Thaw         string
	Interpreters []string
}

func look(ctx context.Context, binary string, report *cli.Report) (machine, error) {
	m := machine{CPU: "unknown CPU", Cores: runtime.NumCPU(), Go: runtime.Version()}
	var uname unix.Utsname
	if err := unix.Uname(&uname); err != nil {
		return m, err
	}
	m.Kernel = fmt.Sprintf("%s %s", unix.ByteSliceToString(uname.Sysname[:]), unix.ByteSliceToString(uname.Release[:]))
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return m, err
	}
	m.Load = float64(info.Loads[0]) / (1 << 16) // fixed point, after SI_LOAD_SHIFT
	m.MemoryMB = int64(info.Totalram) * int64(info.Unit) >> 20
	cpuinfo, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return m, err
	}
	for line := range strings.Lines(string(cpuinfo)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			m.CPU = strings.TrimSpace(value)
			break
		}
	}
	out, err := exec.CommandContext(ctx, binary, "version").Output()
	if err != nil {
		return m, fmt.Errorf("%s version: %w", binary, err)
	}
	m.Thaw = strings.TrimSpace(string(out))
	for _, i := range report.Interpreters {
		if i.Unusable == "" {
			m.Interpreters = append(m.Interpreters, i.Language+" "+i.Version)
		}
	}
	return m, nil
}
