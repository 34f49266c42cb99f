package linux

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"

	"thaw/sandbox"
)

const tcpTable = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0 100 0 0 10 0
   1: 0100007F:1F90 0100007F:C350 01 00000000:00000000 00:00000000 00000000     0        0 2 1 0 20 4 30 10 -1
   2: 0100007F:C350 0100007F:1F90 01 00000000:00000000 00:00000000 00000000  1234        0 3 1 0 20 4 30 10 -1
   3: 0000000000000000FFFF00000100007F:C351 0000000000000000FFFF00000100007F:1F90 01 00000000:00000000 00:00000000 00000000  1235        0 3 1 0 20 4 30 10 -1
`

func TestOwnerOf(t *testing.T) {
	for _, c := range []struct {
		from, to int
		user     uint32
		found    bool
	}{{50000, 8080, 1234, true}, {50001, 8080, 1235, true}, {8080, 50000, 0, true}, {50002, 8080, 0, false}} {
		if user, found := ownerOf(strings.NewReader(tcpTable), c.from, c.to); user != c.user || found != c.found {
			t.Errorf("%d to %d: %d, %t", c.from, c.to, user, found)
		}
	}
}

func FuzzOwnerOf(f *testing.F) {
	f.Add(tcpTable, 50000)
	f.Fuzz(func(_ *testing.T, table string, port int) { ownerOf(strings.NewReader(table), port, 8080) })
}

// Two environments in one network: neither reaches the other's listener.
func TestListenerRefusesNeighbours(t *testing.T) {
	needRoot(t)
	d := open(t, func(c *Config) { c.Network = sandbox.NetworkHost })
	const script = `
import os, sys, time, urllib.request
def get(address):
    try:
        with urllib.request.urlopen("http://" + address + "/", timeout=10) as r: return r.read().decode()
    except Exception as e: return "refused"
print(os.environ["AWS_LAMBDA_RUNTIME_API"], get(sys.argv[1] or os.environ["AWS_LAMBDA_RUNTIME_API"]), flush=True)
time.sleep(60)`
	serve := func(neighbour string) (address, got string) {
		spec := python(script, neighbour)
		spec.RuntimeAPI = true
		p := start(t, d, spec)
		server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "welcome") })}
		go server.Serve(p.Listener())
		t.Cleanup(func() { server.Close() })
		var line [256]byte
		n, err := p.Output().Read(line[:])
		if err != nil {
			t.Fatal(err)
		}
		address, got, _ = strings.Cut(strings.TrimSpace(string(line[:n])), " ")
		return address, got
	}
	first, got := serve("")
	if got != "welcome" {
		t.Errorf("its own listener: %s", got)
	}
	if _, got = serve(first); got != "refused" {
		t.Errorf("a neighbour's listener: %s", got)
	}
	// Nor does anybody else on the host.
	c, err := (&net.Dialer{}).DialContext(context.Background(), "tcp", first)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprint(c, "GET / HTTP/1.0\r\n\r\n")
	if n, _ := c.Read(make([]byte, 1)); n != 0 {
		t.Error("the host's own user is served")
	}
}
