// Package platform runs bin/thaw as a child process for the programs that show and measure it: it starts `thaw up`, waits
// until it answers, runs verbs against it in process, and stops it. It is not for tests, which have tests/harness.
package platform

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"

	"thaw/cli"
)

// Config says what to start.
type Config struct {
	Binary string    // path of thaw
	Data   string    // its data directory
	Listen string    // host:port; FreeAddress finds one
	File   string    // its configuration file; empty: the embedded defaults
	Log    io.Writer // gets what it prints
}

// Platform is one running `thaw up`.
type Platform struct {
	URL string
	// Ready is how long it took from starting the process to the first answer of /_thaw/health.
	Ready time.Duration
	// PID is the process's id.
	PID int

	cmd  *exec.Cmd
	done chan struct{}
	err  error // how the process ended; valid after done
}

// startLimit and stopLimit are when a start and a stop have failed.
const (
	startLimit = 60 * time.Second
	stopLimit  = 30 * time.Second
)

// FreeAddress is a loopback address that nobody listens on at this moment.
func FreeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // it is closed at once
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// Start starts the platform and returns once it answers. ctx bounds the start alone.
func Start(ctx context.Context, cfg Config) (*Platform, error) {
	args := []string{"up", "--listen", cfg.Listen, "--data", cfg.Data}
	if cfg.File != "" {
		args = append(args, "--config", cfg.File)
	}
	p := &Platform{
		URL:  "http://" + cfg.Listen,
		cmd:  exec.Command(cfg.Binary, args...), //nolint:noctx // Stop ends it, in order
		done: make(chan struct{}),
	}
	p.cmd.Stdout, p.cmd.Stderr, p.cmd.WaitDelay = cfg.Log, cfg.Log, time.Second
	// A group of its own keeps the terminal's interrupt away, so that Stop is the only one who stops it. The death
	// signal comes with the end of the thread that started it, hence a thread of its own.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	begin := time.Now()
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer close(p.done)
		err := p.cmd.Start()
		started <- err
		if err == nil {
			p.err = p.cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	p.PID = p.cmd.Process.Pid
	if err := p.await(ctx, begin); err != nil {
		return nil, errors.Join(err, p.Stop())
	}
	return p, nil
}

// await polls /_thaw/health until it answers.
func (p *Platform) await(ctx context.Context, begin time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.URL+"/_thaw/health", http.NoBody)
		if err != nil {
			return err
		}
		if resp, err := client.Do(req); err == nil {
			_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<16)) // only the status matters
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				p.Ready = time.Since(begin)
				return nil
			}
		}
		select {
		case <-p.done:
			return errors.New("thaw up ended before it answered; what it printed says why")
		case <-ctx.Done():
			return fmt.Errorf("thaw up does not answer at %s: %w", p.URL, ctx.Err())
		case <-time.After(time.Millisecond):
		}
	}
}

// Done is closed when the process has ended.
func (p *Platform) Done() <-chan struct{} { return p.done }

// Stop asks the process to end and waits until it has. A process that does not end is killed, which is an error.
func (p *Platform) Stop() error {
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may have ended already
	select {
	case <-p.done:
	case <-time.After(stopLimit):
		_ = p.cmd.Process.Kill()
		<-p.done
		return fmt.Errorf("thaw up did not stop within %s and was killed", stopLimit)
	}
	if exit, ok := errors.AsType[*exec.ExitError](p.err); ok {
		return fmt.Errorf("thaw up: %w", exit)
	}
	return p.err
}

// Run runs one verb of the command line against the platform and decodes its JSON into result, if that is not nil.
func (p *Platform) Run(ctx context.Context, result any, args ...string) error {
	return runVerb(ctx, result, append([]string{"--endpoint", p.URL, "--json"}, args...))
}

func runVerb(ctx context.Context, result any, args []string) error {
	var out, errOut bytes.Buffer
	exit := cli.Run(ctx, args, cli.Streams{In: strings.NewReader(""), Out: &out, Err: &errOut}, cli.Deps{})
	if exit != cli.ExitOK {
		return fmt.Errorf("thaw %s: exit %d\n%s", strings.Join(args, " "), exit, errOut.String())
	}
	if result == nil {
		return nil
	}
	return json.Unmarshal(out.Bytes(), result)
}

// Doctor is what `thaw doctor` says about this machine.
func Doctor(ctx context.Context, binary string) (cli.Report, error) {
	var report cli.Report
	out, err := exec.CommandContext(ctx, binary, "doctor", "--json").Output()
	if err != nil {
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			err = fmt.Errorf("%w: %s", err, exit.Stderr)
		}
		return report, fmt.Errorf("thaw doctor: %w", err)
	}
	return report, json.Unmarshal(out, &report)
}

// Distribution is how long something took, in milliseconds, as `thaw bench --json` says it.
type Distribution struct {
	Count  int     `json:"count"`
	Median float64 `json:"median_ms"`
	Min    float64 `json:"min_ms"`
	P95    float64 `json:"p95_ms"`
	P99    float64 `json:"p99_ms"`
}

// Bench is the result of `thaw bench --json`.
type Bench struct {
	Starts map[string]int          `json:"starts"`
	Total  Distribution            `json:"total"`
	Phases map[string]Distribution `json:"phases"`
}
