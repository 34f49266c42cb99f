package linux

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"thaw/sandbox"
)

const tcpTable = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0 100 0 0 10 0
   1: 0100007F:1F90 0100007F:C350 01 00000000:00000000 00:00000000 00000000     0        0 2 1 0 20 4 30 10 -1
   2: 0100007F:C350 0100007F:1F90 01 00000000:00000000 00:00000000 00000000  1234        0 3 1 0 20 4 30 10 -1
   3: 0000000000000000FFFF00000100007F:C351 0000000000000000FFFF00000100007F:1F90 01 00000000:00000000 00:00000000 00000000  1235        0 3 1 0 20 4 30 10 -1
`

func TestOwnerInATable(t *testing.T) {
	for _, c := range []struct {
		from, to int
		user     uint32
		found    bool
	}{{50000, 8080, 1234, true}, {50001, 8080, 1235, true}, {8080, 50000, 0, true}, {50002, 8080, 0, false}} {
		if user, found := ownerIn(strings.NewReader(tcpTable), c.from, c.to); user != c.user || found != c.found {
			t.Errorf("%d to %d: %d, %t", c.from, c.to, user, found)
		}
	}
}

func FuzzOwnerIn(f *testing.F) {
	f.Add(tcpTable, 50000)
	f.Fuzz(func(_ *testing.T, table string, port int) { ownerIn(strings.NewReader(table), port, 8080) })
}

// The kernel tells whose a connection is, over a socket of either family, and that one that has ended is nobody's, whoever
// listens on its port.
func TestOwnerOf(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if !kernelKnows(l.Addr()) {
		t.Skip("the kernel has no tcp_diag")
	}
	port := func(a net.Addr) netip.AddrPort { return a.(*net.TCPAddr).AddrPort() }
	for _, address := range []string{"127.0.0.1", "[::ffff:127.0.0.1]"} {
		fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if address == "127.0.0.1" {
			unix.Close(fd)
			fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		}
		if err != nil {
			t.Skip(err)
		}
		to := int(port(l.Addr()).Port())
		var there unix.Sockaddr = &unix.SockaddrInet6{Port: to, Addr: netip.MustParseAddr("::ffff:127.0.0.1").As16()}
		if address == "127.0.0.1" {
			there = &unix.SockaddrInet4{Port: to, Addr: [4]byte{127, 0, 0, 1}}
		}
		const owner = 54321
		if os.Geteuid() == 0 {
			if err := unix.Fchown(fd, owner, -1); err != nil {
				t.Fatal(err)
			}
		}
		if err := unix.Connect(fd, there); err != nil {
			t.Fatal(err)
		}
		c, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		from, ours := port(c.RemoteAddr()), port(c.LocalAddr())
		if user, err := ownerOf(from, ours); err != nil || user != owner && os.Geteuid() == 0 {
			t.Errorf("%s: %d, %v", address, user, err)
		}
		if _, err := ownerOf(netip.AddrPortFrom(from.Addr(), from.Port()^1), ours); err == nil {
			t.Errorf("%s: somebody has a connection that is not there", address)
		}
		unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}) // it is reset: nothing stays of it
		unix.Close(fd)
		c.Close()
		late, err := net.Listen("tcp4", from.String())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ownerOf(from, ours); err == nil {
			t.Errorf("%s: a listener passes for the connection", address)
		}
		late.Close()
	}
}

func FuzzParseOwner(f *testing.F) {
	f.Add(make([]byte, diagAnswer))
	f.Fuzz(func(_ *testing.T, answer []byte) {
		if len(answer) >= diagAnswer { // socketOf gives no shorter one
			parseOwner(answer, 1, 2)
		}
	})
}

// BenchmarkPeer is what a connection costs beyond its acceptance: what there is in the network beside it counts for nothing.
func BenchmarkPeer(b *testing.B) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	dial := func() (net.Conn, net.Conn) {
		c, err := (&net.Dialer{}).DialContext(b.Context(), "tcp4", l.Addr().String())
		if err != nil {
			b.Fatal(err)
		}
		a, err := l.Accept()
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { c.Close(); a.Close() })
		return c, a
	}
	_, accepted := dial()
	for range 2000 {
		dial()
	}
	for name, p := range map[string]*peerListener{
		"asked": {ns: hostNetwork{}}, "table": {tables: "/proc/self/net/"},
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if !p.owns(accepted) && os.Geteuid() == 0 {
					b.Fatal("not its own")
				}
			}
		})
	}
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

// A function that connects again and again to a listener which takes nothing has the kernel keep few of its connections.
func TestListenerBoundsWhoWaits(t *testing.T) {
	needRoot(t)
	d := open(t, func(c *Config) { c.Network = sandbox.NetworkHost })
	spec := python(`
import os, socket
host, port = os.environ["AWS_LAMBDA_RUNTIME_API"].split(":")
held, made = [], 0
for _ in range(600):
    s = socket.socket(); s.setblocking(False); s.connect_ex((host, int(port))); held.append(s)
for s in held:
    try: s.getpeername(); made += 1
    except OSError: pass
print(made)`)
	spec.RuntimeAPI = true
	p := start(t, d, spec)
	out := collect(p)
	wait(t, p)
	if made, err := strconv.Atoi(strings.TrimSpace(out())); err != nil || made < backlog/2 || made > 2*backlog {
		t.Errorf("%s connections, %v", out(), err)
	}
}
