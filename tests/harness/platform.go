// Package harness runs the shipped binary for whole-program tests: it starts and kills platforms, deploys functions from
// source text, and compares what the machine holds before and after.
package harness

import (
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/lambda"

	"thaw/internal/ownbody"
)

// Patience is how long a test waits for something that must happen.
const Patience = 60 * time.Second

// Root is the project's root directory.
func Root() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Dir(filepath.Dir(filepath.Dir(file)))
}

// Binary is the program under test: THAW_BIN, else bin/thaw, which `make build` makes.
func Binary(t testing.TB) string {
	t.Helper()
	path := os.Getenv("THAW_BIN")
	if path == "" {
		path = filepath.Join(Root(), "bin", "thaw")
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%v: run `make build` first", err)
	}
	return path
}

// Platform is one `thaw up`.
type Platform struct {
	URL  string
	Data string
	Log  *Output
	cmd  *exec.Cmd
	done chan struct{}
	err  error
	t    testing.TB
}

// Output collects what a program prints.
type Output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write appends.
func (o *Output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

// String is all so far.
func (o *Output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// FreeAddress is a loopback address that nobody listens on now. Its port is none that the kernel gives to connections (32768 and
// above): a client that tries again and again while the platform is down could be given the very port that it dials, and
// would be connected with itself.
func FreeAddress(t testing.TB) string {
	t.Helper()
	for range 1000 {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 15000+rand.IntN(32768-15000)))
		if err == nil {
			defer l.Close()
			return l.Addr().String()
		}
	}
	t.Fatal("no free port was found")
	return ""
}

// Options are what differs between platforms under test.
type Options struct {
	Data   string   // empty: a new one
	Listen string   // empty: a free loopback address; another one is called on 127.0.0.1
	Config string   // YAML, empty: none
	Args   []string // more arguments of `thaw up`
	Attr   *syscall.SysProcAttr
}

// Start starts a platform and waits until it is healthy. It is stopped at the test's end, and must then end well.
func Start(t testing.TB, o Options) *Platform {
	t.Helper()
	p := Launch(t, o)
	p.WaitHealthy()
	return p
}

// Launch starts a platform without waiting.
func Launch(t testing.TB, o Options) *Platform {
	t.Helper()
	if o.Data == "" {
		o.Data = t.TempDir()
	}
	address := FreeAddress(t)
	if o.Listen != "" {
		_, port, err := net.SplitHostPort(o.Listen)
		if err != nil {
			t.Fatal(err)
		}
		address = net.JoinHostPort("127.0.0.1", port)
	} else {
		o.Listen = address
	}
	args := []string{"up", "--listen", o.Listen, "--data", o.Data}
	if o.Config != "" {
		file := filepath.Join(t.TempDir(), "thaw.yaml")
		if err := os.WriteFile(file, []byte(o.Config), 0o600); err != nil {
			t.Fatal(err)
		}
		args = append(args, "--config", file)
	}
	p := &Platform{URL: "http://" + address, Data: o.Data, Log: &Output{}, done: make(chan struct{}), t: t}
	p.cmd = exec.Command(Binary(t), append(args, o.Args...)...)
	p.cmd.Stdout, p.cmd.Stderr = p.Log, p.Log
	p.cmd.SysProcAttr = o.Attr
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { p.err = p.cmd.Wait(); close(p.done) }()
	t.Cleanup(func() {
		p.Stop()
		if t.Failed() {
			t.Logf("the platform's log:\n%s", p.Log)
		}
	})
	return p
}

// WaitHealthy waits for GET /_thaw/health.
func (p *Platform) WaitHealthy() {
	p.t.Helper()
	Eventually(p.t, "the platform is healthy", func() bool {
		select {
		case <-p.done:
			p.t.Fatalf("the platform ended: %v\n%s", p.err, p.Log)
		default:
		}
		response, err := http.Get(p.URL + "/_thaw/health")
		if err != nil {
			return false
		}
		defer response.Body.Close()
		io.Copy(io.Discard, response.Body)
		return response.StatusCode == http.StatusOK
	})
}

// Pid is the platform's process.
func (p *Platform) Pid() int { return p.cmd.Process.Pid }

// Done is closed when the process has ended.
func (p *Platform) Done() <-chan struct{} { return p.done }

// Kill ends the platform as kill -9 does.
func (p *Platform) Kill() {
	p.t.Helper()
	p.cmd.Process.Kill()
	<-p.done
}

// Stop asks the platform to end and waits for it. It must end with exit status 0, unless it has been killed.
func (p *Platform) Stop() {
	p.t.Helper()
	select {
	case <-p.done:
		return
	default:
	}
	p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(Patience):
		p.cmd.Process.Signal(syscall.SIGQUIT)
		<-p.done
		p.t.Errorf("the platform did not stop; its goroutines:\n%s", p.Log)
		return
	}
	if p.err != nil {
		p.t.Errorf("the platform stopped with %v", p.err)
	}
}

// Exit waits for the platform's end and gives its exit status.
func (p *Platform) Exit() int {
	p.t.Helper()
	select {
	case <-p.done:
	case <-time.After(Patience):
		p.t.Fatal("the platform does not end")
	}
	var exit *exec.ExitError
	if errors.As(p.err, &exit) {
		return exit.ExitCode()
	}
	return 0
}

// Lambda is a client of the platform that does not retry.
func (p *Platform) Lambda() *lambda.Client {
	return lambda.New(lambda.Options{
		BaseEndpoint: aws.String(p.URL), Region: "us-east-1", RetryMaxAttempts: 1, HTTPClient: ownbody.Client{},
		Credentials: credentials.NewStaticCredentialsProvider("thaw-test-access-key", "thaw-test-secret-key", ""),
	})
}

// Eventually polls until ok, and fails the test when that does not come.
func Eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(Patience)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not in time: %s", what)
		}
		<-time.After(5 * time.Millisecond)
	}
}

// Zip packs files by name; a name that ends in "+x" is packed without it, and executable.
func Zip(t testing.TB, files map[string]string) []byte {
	t.Helper()
	var buffer bytes.Buffer
	w := zip.NewWriter(&buffer)
	for name, text := range files {
		header := &zip.FileHeader{Name: strings.TrimSuffix(name, "+x"), Method: zip.Deflate}
		header.SetMode(0o644)
		if strings.HasSuffix(name, "+x") {
			header.SetMode(0o755)
		}
		f, err := w.CreateHeader(header)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(f, text); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buffer.Bytes()
}

// Clean runs a whole-program test with a comparison of the machine before and after.
func Clean(t *testing.T) {
	t.Helper()
	before := Snapshot(t)
	t.Cleanup(func() {
		var left string
		deadline := time.Now().Add(10 * time.Second)
		for {
			if left = before.Difference(Snapshot(t)); left == "" {
				return
			}
			if time.Now().After(deadline) {
				t.Errorf("left on the machine:\n%s", left)
				return
			}
			<-time.After(20 * time.Millisecond)
		}
	})
}

// Run runs a command and gives its standard output; a failure fails the test with its standard error.
func Run(ctx context.Context, t testing.TB, env []string, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), env...)
	var errors bytes.Buffer
	cmd.Stderr = &errors
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s%s", name, strings.Join(args, " "), err, out, errors.String())
	}
	return string(out)
}

// Env is what AWS clients need in their environment to find the platform.
func (p *Platform) Env() []string {
	return []string{
		"AWS_ENDPOINT_URL=" + p.URL, "AWS_REGION=us-east-1", "AWS_DEFAULT_REGION=us-east-1",
		"AWS_ACCESS_KEY_ID=thaw-test-access-key", "AWS_SECRET_ACCESS_KEY=thaw-test-secret-key",
		"AWS_MAX_ATTEMPTS=1", "AWS_PAGER=", "NO_PROXY=*",
	}
}
