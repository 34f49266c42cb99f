package placement

import (
	"io"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"thaw/sandbox"
	"thaw/sandbox/sandboxtest"
)

// watchedPackages counts who holds the package "quick".
type watchedPackages struct {
	*fakePackages
	quick *atomic.Int64
}

func (w watchedPackages) Retain(digest string) func() {
	release := w.fakePackages.Retain(digest)
	if digest != "quick" {
		return release
	}
	w.quick.Add(1)
	return func() { release(); w.quick.Add(-1) }
}

// registers is a runtime whose init registers an internal extension, where the function is named so.
func registers(spec *sandbox.Spec, _ io.Writer) error {
	if !slices.Contains(spec.Env, "AWS_LAMBDA_FUNCTION_NAME=slow") {
		return nil
	}
	base := ""
	for _, v := range spec.Env {
		if address, ok := strings.CutPrefix(v, "AWS_LAMBDA_RUNTIME_API="); ok {
			base = "http://" + address + "/2020-01-01/extension/"
		}
	}
	ask := func(method, path, name, value string) (*http.Response, error) {
		r, err := http.NewRequest(method, base+path, strings.NewReader("{}")) //nolint:noctx // the environment's end ends it
		if err != nil {
			return nil, err
		}
		r.Header.Set(name, value)
		r.Close = true
		return http.DefaultClient.Do(r)
	}
	registered, err := ask(http.MethodPost, "register", "Lambda-Extension-Name", "x")
	if err != nil {
		return err
	}
	registered.Body.Close()
	id := registered.Header.Get("Lambda-Extension-Identifier")
	go func() {
		if next, err := ask(http.MethodGet, "event/next", "Lambda-Extension-Identifier", id); err == nil {
			next.Body.Close()
		}
	}()
	return nil
}

// However many environments take the time that extensions have to end, another function's ends at once.
func TestSlowEndingsHoldNobodyUp(t *testing.T) {
	quick := &atomic.Int64{}
	r := newRig(t, sandboxtest.Runtime{Init: registers, Handle: crashing}, func(c *Config) {
		c.MaxEnvironments, c.MaxSpares, c.MaxTemplates = 200, 0, 0
		c.Packages = watchedPackages{c.Packages.(*fakePackages), quick}
		c.Sandbox.Driver.(*sandboxtest.Driver).Listen = true
	})
	const many = slowEndings + 2*endingWorkers
	slow, other := r.deploy("slow", "slow", 1), r.deploy("quick", "quick", 1)
	last := r.acquire(t, other, true)
	leases := make([]Lease, many)
	for i := range leases {
		leases[i] = r.acquire(t, slow, true)
		if !leases[i].Extended() {
			t.Fatal("it has no extension")
		}
	}
	for _, l := range leases {
		r.Release(l)
	}
	held := quick.Load() // the environment, and what may become of the version
	r.Release(last)
	eventually(t, "the other function's ends", func() bool { return quick.Load() < held })
	if open := r.driver.Open.Load(); open < many {
		t.Errorf("it ended when %d of %d others had", many-open, many)
	}
}
