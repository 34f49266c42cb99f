package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"thaw"
	"thaw/scripts/platform"
)

// How many environments a measurement of memory is the difference of. What cannot be forked is larger, and starts slower.
const (
	forkedIdle = 95
	bootedIdle = 20
	fewIdle    = 5 // with the others no more than environments.spares may be; the first reading: what the function has once, such as its template, is in both
	settle     = time.Second
)

// memoryResult is what one environment that does nothing holds, in bytes.
type memoryResult struct {
	Function     string
	Environments int
	// Fresh are environments that have served nothing yet; Served have answered one event.
	Fresh, Served footprint
}

// footprint is the memory of environments, or of one.
type footprint struct {
	Private int64 // private pages of their processes
	Kernel  int64 // the kernel's own for them: slabs, stacks, page tables, per-CPU memory, and files in memory such as /tmp
}

func (f footprint) whole() int64 { return f.Private + f.Kernel }

func (f footprint) per(n int) footprint {
	return footprint{Private: f.Private / int64(n), Kernel: f.Kernel / int64(n)}
}

func (f footprint) since(earlier footprint) footprint {
	return footprint{Private: f.Private - earlier.Private, Kernel: f.Kernel - earlier.Kernel}
}

// measureMemory has the platform hold many spares of one function at a time, and has each serve one event then, which has it
// replaced: both differences, divided by the number, are what one environment holds.
func measureMemory(ctx context.Context, o *options, examples []platform.Example, f *findings) error {
	if os.Geteuid() != 0 {
		say("nothing of the memory: only root can read the pages of other users' processes")
		return nil
	}
	for i := range examples {
		e := &examples[i]
		say("memory of " + e.Name)
		count := bootedIdle
		if strings.HasPrefix(e.Runtime, "python") || strings.HasPrefix(e.Runtime, "nodejs") || strings.HasPrefix(e.Runtime, "ruby") {
			count = o.scale(forkedIdle)
		}
		m := memoryResult{Function: e.Name, Environments: count}
		var few footprint
		if err := withSpares(ctx, o, e, fewIdle, func(_ *platform.Platform, holds footprint) error { few = holds; return nil }); err != nil {
			return err
		}
		if err := withSpares(ctx, o, e, fewIdle+count, func(p *platform.Platform, many footprint) error {
			before, err := weigh(ctx, p)
			if err != nil {
				return err
			}
			m.Fresh = many.since(few).per(count)
			c, err := dial(ctx, &target{url: invokeURL(p, e.Name), headers: explain + startHeaders[thaw.StartSpare]})
			if err != nil {
				return err
			}
			defer c.Close()
			for range count {
				if err := c.call(); err != nil {
					return err
				}
			}
			if err := awaitSpares(ctx, p, e.Name, fewIdle+count); err != nil {
				return err
			}
			v, err := lookAt(ctx, p, e.Name)
			if err != nil {
				return err
			}
			served, err := weigh(ctx, p)
			if err != nil {
				return err
			}
			m.Served = served.since(before).per(max(v.Environments.Idle, 1))
			return nil
		}); err != nil {
			return err
		}
		f.Memory = append(f.Memory, m)
	}
	return nil
}

// withSpares runs fn against a platform that holds so many spares of one function and nothing else, and tells it what they
// hold together with what the function has once.
func withSpares(ctx context.Context, o *options, e *platform.Example, count int, fn func(p *platform.Platform, holds footprint) error) error {
	return withSettings(ctx, o, roomForAll+fmt.Sprintf("  spares: %d\n  max_spares: %d\n", count, count), func(p *platform.Platform) error {
		before, err := weigh(ctx, p)
		if err != nil {
			return err
		}
		if err := p.Deploy(ctx, e); err != nil {
			return err
		}
		if err := awaitSpares(ctx, p, e.Name, count); err != nil {
			return err
		}
		after, err := weigh(ctx, p)
		if err != nil {
			return err
		}
		return fn(p, after.since(before))
	})
}

// weigh reads the memory of the machine's kernel, and the private pages of what the platform started, after giving things the
// time to settle. The kernel's counters are the machine's: what else runs is in them, though not the memory of its programs.
func weigh(ctx context.Context, p *platform.Platform) (f footprint, err error) {
	if err := wait(ctx, settle); err != nil {
		return f, err
	}
	meminfo, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return f, err
	}
	for _, key := range []string{"SUnreclaim:", "KernelStack:", "PageTables:", "Percpu:", "Shmem:"} {
		f.Kernel += sumKB(meminfo, key)
	}
	pids, err := descendants(p.PID)
	if err != nil {
		return f, err
	}
	for _, pid := range pids {
		rollup, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
		if err != nil {
			continue // it has ended, or is about to
		}
		f.Private += sumKB(rollup, "Private_Clean:") + sumKB(rollup, "Private_Dirty:")
	}
	return f, nil
}

// sumKB is the bytes that a file in /proc tells in kB after a key, 0 without the key.
func sumKB(text []byte, key string) (n int64) {
	for line := range bytes.Lines(text) {
		if words := strings.Fields(string(line)); len(words) > 1 && words[0] == key {
			kb, _ := strconv.ParseInt(words[1], 10, 64) // the kernel writes numbers
			n += kb << 10
		}
	}
	return n
}

// descendants are the processes below one, which is not among them.
func descendants(root int) ([]int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	children := map[int][]int{}
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			continue // it has ended
		}
		// pid (name) state ppid: the name may hold anything, a parenthesis too.
		var state string
		var parent int
		if _, err := fmt.Sscan(string(stat[bytes.LastIndexByte(stat, ')')+1:]), &state, &parent); err == nil {
			children[parent] = append(children[parent], pid)
		}
	}
	var found []int
	for next := []int{root}; len(next) > 0; next = next[1:] {
		found = append(found, children[next[0]]...)
		next = append(next, children[next[0]]...)
	}
	return found, nil
}
