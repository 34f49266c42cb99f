package main

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"

	"thaw/scripts/platform"
)

// sleeps is how long an invocation of python-sleep lasts: what its callers wait for longer, the platform added.
const sleeps = 100 * time.Millisecond

// pythonSleep is the code of python-sleep.
//
//go:embed functions/python-sleep/app.py
var pythonSleep []byte

// sleepBursts are how many first requests python-sleep gets at once.
var sleepBursts = []int{10, 100, 500, 1000}

// roomForAll lets a node hold a thousand environments, made as spares too, for which it never uses the last quarter of its
// places, and does not have it reckon with half of the memory that each may have as long as it has not seen what they use. The account's concurrency and the
// scaling rate are 1,000 by default, AWS's own, which is as much as is asked for here.
const roomForAll = "  max: 1500\n  memory: 100000000000\n"

// sleepMemory is python-sleep's, MB: what Lambda gives a function that asks for none.
const sleepMemory = 128

// measurePlane measures what the platform does under load: bursts from none, arrivals as they come in nature, many idle
// environments, automatic scaling, and the locks of the path of a request.
func measurePlane(ctx context.Context, o *options, examples []platform.Example, f *findings) error {
	at := slices.IndexFunc(examples, func(e platform.Example) bool { return e.Name == "python-echo" })
	if at < 0 {
		return errors.New("no python-echo among the examples")
	}
	dir, err := os.MkdirTemp("", "thaw-bench-sleep-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	// The platform opens the code as another user.
	if err := errors.Join(os.Chmod(dir, 0o755), os.WriteFile(filepath.Join(dir, "app.py"), pythonSleep, 0o644)); err != nil {
		return err
	}
	echo, sleep := examples[at], examples[at]
	sleep.Name, sleep.Dir, sleep.Memory = "python-sleep", dir, sleepMemory
	for _, measure := range []func() error{
		func() error { return measureSleepBursts(ctx, o, &sleep, f) },
		func() error { return measureArrivals(ctx, o, &sleep, f) },
		func() error { return measureIdle(ctx, o, &echo, f) },
		func() error { return measureStep(ctx, o, &sleep, f) },
		func() error { return measureContention(ctx, o, f) },
	} {
		if err := measure(); err != nil {
			return err
		}
	}
	return nil
}

func measureSleepBursts(ctx context.Context, o *options, sleep *platform.Example, f *findings) error {
	return withSettings(ctx, o, defaultSpares+roomForAll, func(p *platform.Platform) error {
		for _, size := range sleepBursts {
			size = o.scale(size)
			say(fmt.Sprintf("a burst of %d to %s", size, sleep.Name))
			b, err := measureBurst(ctx, p, *sleep, size, sleeps)
			if err != nil {
				return fmt.Errorf("burst of %d to %s: %w", size, sleep.Name, err)
			}
			f.Bursts = append(f.Bursts, *b)
		}
		return nil
	})
}

// anyKey is what AWS's SDK signs with; a loopback platform does not look at it.
var (
	anyKey    = credentials.NewStaticCredentialsProvider("thaw-bench", "thaw-bench", "")
	anyRegion = "us-east-1"
)

func endpointOf(p *platform.Platform) *string { return aws.String(p.URL) }

// spentCPU is the CPU time of the platform and of the processes below it.
type spentCPU struct {
	platform time.Duration
	below    map[int]time.Duration // of those that run, by process
	reaped   time.Duration         // of those that have ended
}

func cpuOf(p *platform.Platform) (s spentCPU, err error) {
	pids, err := descendants(p.PID)
	if err != nil {
		return s, err
	}
	s.below = make(map[int]time.Duration, len(pids))
	for _, pid := range append(pids, p.PID) {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil && pid != p.PID {
			continue // it has ended
		}
		own, reaped, err := processCPU(stat)
		if err != nil {
			return s, err
		}
		s.reaped += reaped
		if pid == p.PID {
			s.platform = own
			continue
		}
		threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
		if err != nil {
			return s, err
		}
		for _, thread := range threads {
			if text, err := os.ReadFile(thread); err == nil { // else it has ended
				s.below[pid] += threadCPU(text)
			}
		}
	}
	return s, nil
}

// since is what was spent after an earlier reading.
func (s spentCPU) since(earlier spentCPU) (platform, below time.Duration) {
	below = s.reaped - earlier.reaped
	for _, spent := range s.below {
		below += spent
	}
	for _, spent := range earlier.below {
		below -= spent // those that have ended since are among the reaped ones with all that they spent
	}
	return s.platform - earlier.platform, below
}

// tick is the unit of the times in /proc/PID/stat (USER_HZ, 100 a second for every program on Linux).
const tick = 10 * time.Millisecond

// processCPU is the CPU time, user's and system's, of all threads of a process, those that have ended included, and of
// the processes that it has waited for.
func processCPU(stat []byte) (own, reaped time.Duration, err error) {
	// Behind the name in parentheses, which may hold anything, the state is first; utime, stime, cutime and cstime are 12th to 15th.
	words := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(words) < 15 {
		return 0, 0, fmt.Errorf("%q is not what /proc/PID/stat holds", stat)
	}
	var ticks [4]int64
	var errs [4]error
	for i := range ticks {
		ticks[i], errs[i] = strconv.ParseInt(string(words[11+i]), 10, 64)
	}
	return time.Duration(ticks[0]+ticks[1]) * tick, time.Duration(ticks[2]+ticks[3]) * tick, errors.Join(errs[:]...)
}

// threadCPU is the first number of a thread's schedstat: what it ran for, in ns. The ticks of /proc/PID/stat would be too
// coarse for an environment that ran for a few ms.
func threadCPU(schedstat []byte) time.Duration {
	first, _, _ := bytes.Cut(schedstat, []byte(" "))
	ns, _ := strconv.ParseInt(string(first), 10, 64) // the kernel writes numbers
	return time.Duration(ns)
}
