package network

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const patience = 30 * time.Second // the kernel removes the namespaces of a whole machine one batch after another

// place is a network namespace that a test makes around the one that plays the host.
type place struct {
	t    testing.TB
	home int
	fd   int
}

// do runs fn on a thread in the place.
func (p *place) do(fn func() error) {
	p.t.Helper()
	if err := p.try(fn); err != nil {
		p.t.Fatal(err)
	}
}

func (p *place) try(fn func() error) error {
	return onThread(p.home, func() error { return unix.Setns(p.fd, unix.CLONE_NEWNET) }, fn)
}

// join makes a place that is connected to the host by the link host<name>, with addresses out of a /24, whose .1 is
// the host's and whose .2 is the place's. The place has no route but to that /24.
func join(t testing.TB, name, net24 string, more ...string) *place {
	t.Helper()
	p := &place{t: t}
	var err error
	if p.home, err = openCurrentNamespace(); err != nil {
		t.Fatal(err)
	}
	err = onThread(p.home, func() error { return unix.Unshare(unix.CLONE_NEWNET) }, func() error {
		if p.fd, err = openCurrentNamespace(); err != nil {
			return err
		}
		veth := netlink.NewVeth(netlink.NewLinkAttrs())
		veth.Name, veth.PeerName, veth.PeerNamespace = "eth0", name, netlink.NsFd(p.home)
		if err := netlink.LinkAdd(veth); err != nil {
			return err
		}
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		if err := netlink.LinkSetUp(lo); err != nil {
			return err
		}
		for _, a := range more {
			if err := netlink.AddrAdd(lo, mustAddr(t, a)); err != nil {
				return err
			}
		}
		return upWith(t, "eth0", net24+".2/24")
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := upWith(t, name, net24+".1/24"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if link, err := netlink.LinkByName(name); err == nil {
			netlink.LinkDel(link)
		}
		unix.Close(p.fd)
		unix.Close(p.home)
	})
	return p
}

// joinOutside makes the place that the host's default route leads to.
func joinOutside(t testing.TB, more ...string) *place {
	t.Helper()
	p := join(t, "uplink", "198.51.100", more...)
	link, err := netlink.LinkByName("uplink")
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Gw: net.IPv4(198, 51, 100, 2)}); err != nil {
		t.Fatal(err)
	}
	return p
}

func upWith(t testing.TB, name, addr string) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	if err := netlink.AddrAdd(link, mustAddr(t, addr)); err != nil {
		return err
	}
	return netlink.LinkSetUp(link)
}

func mustAddr(t testing.TB, s string) *netlink.Addr {
	a, err := netlink.ParseAddr(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// openPool opens a pool that is closed with the test.
func openPool(t testing.TB, cfg Config) *Pool {
	t.Helper()
	needHost(t)
	if cfg.Instance == "" {
		cfg.Instance = "t1"
	}
	if cfg.Dir == "" {
		cfg.Dir = t.TempDir()
	}
	p, err := Open(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return p
}

func acquire(t testing.TB, p *Pool, key string) *Namespace {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	n, err := p.Acquire(ctx, key)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Release)
	return n
}

// greet listens for TCP and tells each client the address that it came from. in runs the listening itself.
func greet(t testing.TB, in func(func() error), addr string) netip.AddrPort {
	t.Helper()
	var l net.Listener
	in(func() (err error) { l, err = net.Listen("tcp4", addr); return err })
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			io.WriteString(c, c.RemoteAddr().String())
			c.Close()
		}
	}()
	return l.Addr().(*net.TCPAddr).AddrPort()
}

// atHome is greet's in for the host itself.
func atHome(t testing.TB) func(func() error) {
	return func(fn func() error) {
		t.Helper()
		if err := fn(); err != nil {
			t.Fatal(err)
		}
	}
}

func inside(t testing.TB, n *Namespace) func(func() error) {
	return func(fn func() error) {
		t.Helper()
		if err := n.Do(fn); err != nil {
			t.Fatal(err)
		}
	}
}

// call connects to a greeter and returns the address that the greeter saw.
func call(addr netip.AddrPort, timeout time.Duration) (netip.AddrPort, error) {
	c, err := net.DialTimeout("tcp4", addr.String(), timeout)
	if err != nil {
		return netip.AddrPort{}, err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(timeout))
	b, err := io.ReadAll(c)
	if err != nil {
		return netip.AddrPort{}, err
	}
	return netip.ParseAddrPort(string(b))
}

func mustCall(t testing.TB, n *Namespace, addr netip.AddrPort) (seen netip.AddrPort) {
	t.Helper()
	err := n.Do(func() (err error) { seen, err = call(addr, patience); return err })
	if err != nil {
		t.Fatalf("%s must be reached: %v", addr, err)
	}
	return seen
}

// eventually polls until ok or until patience ends; what says what is wrong meanwhile.
func eventually(t testing.TB, ok func() (bool, string)) {
	t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		good, what := ok()
		if good {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal(what)
		}
	}
}

// traces is all that a pool may leave behind, as text: links, nftables tables, forwarding.
func traces(t testing.TB) string {
	t.Helper()
	var out []string
	links, err := whole(netlink.LinkList)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		out = append(out, "link "+l.Attrs().Name)
	}
	for _, name := range tableNames(t) {
		out = append(out, "table "+name)
	}
	err = walkSysctl(func(name, value string) { out = append(out, name+"="+value) })
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(out)
	return strings.Join(out, "\n")
}

// untouched fails the test if the host is not what it was.
func untouched(t testing.TB, before string) {
	t.Helper()
	if after := traces(t); after != before {
		t.Errorf("the host has changed (-was +is):\n%s", cmp.Diff(strings.Split(before, "\n"), strings.Split(after, "\n")))
	}
}

// walkSysctl calls fn with each IPv4 setting of each interface, and ip_forward.
func walkSysctl(fn func(name, value string)) error {
	v, err := readSysctl(ipForward)
	if err != nil {
		return err
	}
	fn(ipForward, v)
	const dir = "/proc/sys/net/ipv4/conf/"
	ifs, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, i := range ifs {
		files, err := os.ReadDir(dir + i.Name())
		if errors.Is(err, os.ErrNotExist) { // the link went away meanwhile
			continue
		}
		if err != nil {
			return err
		}
		for _, f := range files {
			v, err := readSysctl("ipv4/conf/" + i.Name() + "/" + f.Name())
			if errors.Is(err, os.ErrPermission) || errors.Is(err, os.ErrNotExist) {
				continue
			}
			if err != nil {
				return err
			}
			fn(fmt.Sprintf("%s/%s", i.Name(), f.Name()), v)
		}
	}
	return nil
}

func tableNames(t testing.TB) (names []string) {
	t.Helper()
	conn, err := nftables.New()
	if err != nil {
		t.Fatal(err)
	}
	tables, err := conn.ListTables()
	if err != nil {
		t.Fatal(err)
	}
	for _, table := range tables {
		names = append(names, table.Name)
	}
	return names
}
