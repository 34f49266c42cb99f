package linux

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"

	"thaw/sandbox"
	"thaw/sandbox/linux/network"
)

// withNetwork opens a driver over a pool of real namespaces.
func withNetwork(t *testing.T) *Driver {
	t.Helper()
	var id [3]byte
	rand.Read(id[:])
	pool, err := network.Open(t.Context(), network.Config{Instance: "t" + hex.EncodeToString(id[:]), Dir: t.TempDir()})
	if errors.Is(err, network.ErrUnsupported) || errors.Is(err, network.ErrNotPermitted) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var run sync.WaitGroup
	run.Go(func() { pool.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		run.Wait()
		if err := pool.Close(); err != nil {
			t.Error(err)
		}
	})
	return open(t, func(c *Config) {
		c.Network = sandbox.NetworkNAT
		c.Networks = AcquireFunc(func(ctx context.Context, key string) (Namespace, error) { return pool.Acquire(ctx, key) })
	})
}

func TestRuntimeAPIListener(t *testing.T) {
	needRoot(t)
	for _, c := range []struct {
		name string
		open func(*testing.T) *Driver
	}{
		{"nat", withNetwork},
		{"none", func(t *testing.T) *Driver { return open(t) }},
		{"host", func(t *testing.T) *Driver { return open(t, func(c *Config) { c.Network = sandbox.NetworkHost }) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := c.open(t)
			spec := python(`
import os, urllib.request
print(urllib.request.urlopen('http://' + os.environ['AWS_LAMBDA_RUNTIME_API'] + '/next').read().decode())`)
			spec.RuntimeAPI = true
			p := start(t, d, spec)
			out := collect(p)
			server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "event "+r.URL.Path) })}
			go server.Serve(p.Listener())
			defer server.Close()
			if exit := wait(t, p); exit != (sandbox.ExitStatus{}) || out() != "event /next\n" {
				t.Errorf("exit %+v: %s", exit, out())
			}
		})
	}
}

func TestHostIsReachedUnderItsName(t *testing.T) {
	needRoot(t)
	d := withNetwork(t)
	l, err := net.Listen("tcp4", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	var server sync.WaitGroup
	defer server.Wait()
	defer l.Close()
	server.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			io.WriteString(c, "hello from the host")
			c.Close()
		}
	})
	_, port, _ := net.SplitHostPort(l.Addr().String())
	out, exit := outcome(t, d, python(`
import socket, sys
print(socket.create_connection(('host.thaw.internal', int(sys.argv[1])), 10).recv(100).decode())`, port))
	if out != "hello from the host\n" {
		t.Errorf("exit %+v: %s", exit, out)
	}
}

// Two environments of one version share a network and nothing else; those of two versions share nothing.
func TestNetworkKeys(t *testing.T) {
	needRoot(t)
	d := withNetwork(t)
	ns := func(key string) string {
		spec := python("import os; print(os.readlink('/proc/self/ns/net'))")
		spec.NetworkKey = key
		out, _ := outcome(t, d, spec)
		return out
	}
	keep := python("import time; time.sleep(10000)")
	keep.NetworkKey = "a"
	start(t, d, keep)
	first, second, other := ns("a"), ns("a"), ns("b")
	if !strings.HasPrefix(first, "net:[") || first != second || first == other {
		t.Errorf("%q %q %q", first, second, other)
	}
}

func TestAFailureToJoinTheNetworkLeavesNothing(t *testing.T) {
	needRoot(t)
	d := withNetwork(t)
	before := look(t, d)
	d.fail = func(s Step) error {
		if s == StepJoin {
			return errors.New("boom")
		}
		return nil
	}
	_, err := d.Start(t.Context(), python(""))
	var se *StepError
	if !errors.As(err, &se) || se.Step != StepJoin {
		t.Errorf("got %v", err)
	}
	if after := look(t, d); after.processes != before.processes || after.groups != before.groups {
		t.Errorf("before %+v, after %+v", before, after)
	}
}
