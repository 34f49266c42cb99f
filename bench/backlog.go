package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"thaw/scripts/platform"
	"thaw/state"
	"thaw/state/queues"
)

// How many messages wait, and how many are stored at a time.
const (
	backlogMessages = 1_000_000
	backlogChunk    = 1000
	backlogName     = "sqs/backlog"
)

// backlogResult is what a platform needs for the messages that wait, beside one with none.
type backlogResult struct {
	Messages            int
	Fill                time.Duration
	Disk                int64         // bytes of the data directory, without what an empty one has
	Memory, Without     int64         // the platform's resident memory, bytes
	Start, StartWithout time.Duration // from exec to the first answer
}

// fillBacklog is the child's side: it stores count messages of eventSize bytes in a data directory that no platform uses.
func fillBacklog(ctx context.Context, dir, count string) (err error) {
	n, err := strconv.Atoi(count)
	if err != nil {
		return err
	}
	store, err := state.Open(ctx, state.Config{Dir: dir})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	all, err := queues.Open(ctx, store, queues.Config{})
	if err != nil {
		return err
	}
	q, err := all.Create(ctx, queues.Info{Name: backlogName, Options: queues.Options{Visibility: 30 * time.Second, Retention: 4 * 24 * time.Hour}})
	if err != nil {
		return err
	}
	body := []byte(strings.Repeat("x", eventSize))
	for left := n; left > 0; left -= backlogChunk {
		messages := make([]queues.Message, min(left, backlogChunk))
		for i := range messages {
			messages[i].Body = body
		}
		for _, sent := range q.Send(ctx, messages...) {
			if sent.Err != nil {
				return sent.Err
			}
		}
	}
	return nil
}

// measureBacklog has a platform start with as many waiting messages, and one with none.
func measureBacklog(ctx context.Context, o *options) (*backlogResult, error) {
	r := &backlogResult{Messages: o.scale(backlogMessages)}
	dir, err := os.MkdirTemp("", "thaw-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	say("a start without a backlog")
	if r.StartWithout, r.Without, err = startOn(ctx, o, dir); err != nil {
		return nil, err
	}
	empty, err := diskUse(dir)
	if err != nil {
		return nil, err
	}
	say(fmt.Sprintf("the storing of %d messages", r.Messages))
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self, "-serve", "backlog", "-interpreter", strconv.Itoa(r.Messages), dir)
	cmd.Stderr = os.Stderr
	begin := time.Now()
	if err := cmd.Run(); err != nil {
		return nil, err
	}
	r.Fill = time.Since(begin)
	full, err := diskUse(dir)
	if err != nil {
		return nil, err
	}
	r.Disk = full - empty
	say("a start with the backlog")
	r.Start, r.Memory, err = startOn(ctx, o, dir)
	return r, err
}

// startOn starts a platform on a data directory that was used before, and gives how long that took and what memory it has
// when it has come to rest.
func startOn(ctx context.Context, o *options, dir string) (ready time.Duration, memory int64, err error) {
	err = withData(ctx, o, dir, func(p *platform.Platform) error {
		ready = p.Ready
		if err := wait(ctx, idleBefore); err != nil {
			return err
		}
		memory, err = residentMemory(p.PID)
		return err
	})
	return ready, memory, err
}

// diskUse is what the files below a directory hold, bytes.
func diskUse(dir string) (sum int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			sum += info.Size()
		}
		return err
	})
	return sum, err
}
