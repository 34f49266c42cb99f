package network

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
)

// refused is how long a test waits for what must not come. What is rejected fails at once; only what is dropped in
// silence costs this time.
const refused = 300 * time.Millisecond

func TestOutsideIsReachedInTheHostsName(t *testing.T) {
	needHost(t)
	outside := joinOutside(t)
	n := acquire(t, openPool(t, Config{}), "f")
	server := greet(t, outside.do, "198.51.100.2:0")
	if seen := mustCall(t, n, server); seen.Addr() != netip.MustParseAddr("198.51.100.1") {
		t.Errorf("the outside saw %s, want the host's 198.51.100.1", seen)
	}
}

func TestHostIsReachedAtHostAddr(t *testing.T) {
	p := openPool(t, Config{})
	n := acquire(t, p, "f")
	if n.HostAddr() != p.HostAddr() || !p.Prefix().Contains(n.HostAddr()) {
		t.Fatalf("HostAddr %s is not the pool's %s", n.HostAddr(), p.HostAddr())
	}
	server := greet(t, atHome(t), "0.0.0.0:0")
	if seen := mustCall(t, n, netip.AddrPortFrom(n.HostAddr(), server.Port())); seen.Addr() != n.Addr() {
		t.Errorf("the host saw %s, want the namespace's %s", seen, n.Addr())
	}
	other := acquire(t, p, "g")
	if other.HostAddr() != n.HostAddr() || other.Addr() == n.Addr() {
		t.Errorf("namespaces at %s and %s see the host at %s and %s, want two addresses and one host",
			n.Addr(), other.Addr(), n.HostAddr(), other.HostAddr())
	}
	mustCall(t, other, netip.AddrPortFrom(other.HostAddr(), server.Port()))
}

func TestLoopbackInsideIsTheNamespacesOwn(t *testing.T) {
	n := acquire(t, openPool(t, Config{}), "f")
	server := greet(t, inside(t, n), "127.0.0.1:0")
	mustCall(t, n, server)
	if _, err := call(server, refused); err == nil {
		t.Error("a listener on the namespace's loopback was reached from the host's")
	}
}

// Each case is tried with the rule that denies it and, to show that the rule does it, without.
func TestDenied(t *testing.T) {
	needHost(t)
	outside := joinOutside(t, "169.254.169.254/32", "100.100.100.200/32", "203.0.113.9/32")
	server := greet(t, outside.do, "0.0.0.0:0")
	local := greet(t, atHome(t), "0.0.0.0:0")

	tests := []struct {
		name          string
		to            func(*Namespace) netip.AddrPort
		denied, given Config
	}{
		{"metadata",
			func(*Namespace) netip.AddrPort {
				return netip.AddrPortFrom(netip.MustParseAddr("169.254.169.254"), server.Port())
			},
			Config{}, Config{Deny: []netip.Prefix{}}},
		{"metadata of another provider",
			func(*Namespace) netip.AddrPort {
				return netip.AddrPortFrom(netip.MustParseAddr("100.100.100.200"), server.Port())
			},
			Config{}, Config{Deny: []netip.Prefix{}}},
		{"a destination of the configuration",
			func(*Namespace) netip.AddrPort {
				return netip.AddrPortFrom(netip.MustParseAddr("203.0.113.9"), server.Port())
			},
			Config{Deny: []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")}}, Config{}},
		{"a port of the host",
			func(n *Namespace) netip.AddrPort { return netip.AddrPortFrom(n.HostAddr(), local.Port()) },
			Config{DenyHostPorts: []uint16{1, local.Port(), local.Port()}}, Config{DenyHostPorts: []uint16{1}}},
		{"a port of the host by its other address",
			func(n *Namespace) netip.AddrPort {
				return netip.AddrPortFrom(netip.MustParseAddr("198.51.100.1"), local.Port())
			},
			Config{DenyHostPorts: []uint16{local.Port()}}, Config{}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			test.given.Instance = "given"
			given := acquire(t, openPool(t, test.given), "f")
			mustCall(t, given, test.to(given))

			test.denied.Instance = "denied"
			denied := acquire(t, openPool(t, test.denied), "f")
			err := denied.Do(func() error { _, err := call(test.to(denied), patience); return err })
			if !errors.Is(err, unix.ECONNREFUSED) && !errors.Is(err, unix.EHOSTUNREACH) {
				t.Errorf("%s answered %v, want a refusal at once", test.to(denied), err)
			}
		})
	}
}

func TestDeniedUDPPortOfTheHost(t *testing.T) {
	needHost(t)
	for _, deny := range []bool{false, true} {
		c, err := net.ListenPacket("udp4", "0.0.0.0:0")
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		port := c.LocalAddr().(*net.UDPAddr).AddrPort().Port()
		cfg := Config{Instance: "open"}
		if deny {
			cfg = Config{Instance: "deny", DenyHostPorts: []uint16{port}}
		}
		n := acquire(t, openPool(t, cfg), "f")
		inside(t, n)(func() error {
			out, err := net.Dial("udp4", netip.AddrPortFrom(n.HostAddr(), port).String())
			if err != nil {
				return err
			}
			defer out.Close()
			_, err = out.Write([]byte("x"))
			return err
		})
		if got := receives(t, c); got == deny {
			t.Errorf("denied %v: arrived %v", deny, got)
		}
	}
}

// A namespace must carry its very first packet, though the kernel switches a new link on in the background.
func TestFirstPacketArrives(t *testing.T) {
	p := openPool(t, Config{})
	for i := range uint32(300) {
		ns, err := p.host.create(i)
		if err != nil {
			t.Fatal(err)
		}
		var c net.PacketConn
		err = onThread(p.host.ns, func() error { return unix.Setns(ns.fd, unix.CLONE_NEWNET) },
			func() (err error) { c, err = net.ListenPacket("udp4", "0.0.0.0:7"); return err })
		if err != nil {
			t.Fatal(err)
		}
		if err := sendFrom(p.HostAddr(), netip.AddrPortFrom(ns.addr, 7)); err != nil {
			t.Fatal(err)
		}
		if !receives(t, c) {
			t.Errorf("the first packet to namespace %d was lost", i)
		}
		c.Close()
		unix.Close(ns.fd) // the kernel cleans up behind while the next is made
	}
}

// receives says whether a datagram comes.
func receives(t testing.TB, c net.PacketConn) bool {
	t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(refused)); err != nil {
		t.Fatal(err)
	}
	_, _, err := c.ReadFrom(make([]byte, 64))
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal(err)
	}
	return err == nil
}

func TestNamespacesDoNotReachEachOther(t *testing.T) {
	needHost(t)
	outside := joinOutside(t)
	dir := t.TempDir()
	p := openPool(t, Config{Instance: "one", Dir: dir})
	a, b := acquire(t, p, "a"), acquire(t, p, "b")
	other := acquire(t, openPool(t, Config{Instance: "two", Dir: dir}), "a")
	server := greet(t, inside(t, b), "0.0.0.0:8080")
	mustCall(t, b, netip.AddrPortFrom(b.Addr(), server.Port()))
	target := netip.AddrPortFrom(b.Addr(), server.Port())
	for name, n := range map[string]*Namespace{"of the same pool": a, "of another instance": other} {
		err := n.Do(func() error { _, err := call(target, refused); return err })
		if err == nil {
			t.Errorf("a namespace %s reached %s", name, target)
		}
	}
	// Nor does the outside answer for an address of the prefix that no namespace has.
	unused := netip.AddrPortFrom(addrAt(p.Prefix(), 5000), 8080)
	outside.do(func() error {
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		return netlink.AddrAdd(lo, mustAddr(t, unused.Addr().String()+"/32"))
	})
	greet(t, outside.do, unused.String())
	if err := a.Do(func() error { _, err := call(unused, refused); return err }); err == nil {
		t.Errorf("a namespace reached %s outside", unused)
	}

	// Without the filter both would be routed.
	if err := deleteTable("one"); err != nil {
		t.Fatal(err)
	}
	mustCall(t, a, target)
	outside.do(func() error {
		return netlink.RouteAdd(&netlink.Route{Dst: prefixNet(p.Prefix()), Gw: net.IPv4(198, 51, 100, 1)})
	})
	mustCall(t, a, unused)
}

func TestOutsideDoesNotReachIn(t *testing.T) {
	needHost(t)
	outside := joinOutside(t)
	p := openPool(t, Config{})
	n := acquire(t, p, "f")
	server := greet(t, inside(t, n), "0.0.0.0:8080")
	outside.do(func() error {
		return netlink.RouteAdd(&netlink.Route{Dst: prefixNet(p.Prefix()), Gw: net.IPv4(198, 51, 100, 1)})
	})
	target := netip.AddrPortFrom(n.Addr(), server.Port())
	if err := outside.try(func() error { _, err := call(target, refused); return err }); err == nil {
		t.Error("the outside reached a listener inside")
	}
	host := greet(t, atHome(t), "0.0.0.0:0")
	if err := outside.try(func() error {
		_, err := call(netip.AddrPortFrom(p.HostAddr(), host.Port()), refused)
		return err
	}); err == nil {
		t.Error("the outside reached the host at the namespaces' address")
	}
	if err := deleteTable("t1"); err != nil {
		t.Fatal(err)
	}
	outside.do(func() error { _, err := call(target, patience); return err })
}

func prefixNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), 32)}
}

func TestForeignSourcesAreDropped(t *testing.T) {
	needHost(t)
	outside := joinOutside(t, "203.0.113.9/32")
	p := openPool(t, Config{})
	a, b := acquire(t, p, "a"), acquire(t, p, "b")

	var far net.PacketConn
	outside.do(func() (err error) { far, err = net.ListenPacket("udp4", "198.51.100.2:0"); return err })
	defer far.Close()
	near, err := net.ListenPacket("udp4", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	defer near.Close()

	tests := []struct {
		name   string
		source netip.Addr
		passes bool
	}{
		{"its own", a.Addr(), true},
		{"another namespace's", b.Addr(), false},
		{"one of the prefix that nobody has", addrAt(p.Prefix(), 200), false},
		{"the host's", p.HostAddr(), false},
		{"the host's outward", netip.MustParseAddr("198.51.100.1"), false},
		{"a stranger's", netip.MustParseAddr("203.0.113.9"), false},
		{"loopback", netip.MustParseAddr("127.0.0.1"), false},
	}
	for _, test := range tests {
		for _, to := range []struct {
			name string
			conn net.PacketConn
			addr netip.Addr
		}{{"outside", far, netip.MustParseAddr("198.51.100.2")}, {"host", near, p.HostAddr()}} {
			port := to.conn.LocalAddr().(*net.UDPAddr).AddrPort().Port()
			inside(t, a)(func() error { return sendFrom(test.source, netip.AddrPortFrom(to.addr, port)) })
			if got := receives(t, to.conn); got != test.passes {
				t.Errorf("source %s (%s) to the %s: arrived %v, want %v", test.name, test.source, to.name, got, test.passes)
			}
		}
	}
}

// sendFrom sends one datagram with the given source by a raw socket, which the tests may open and functions may not.
func sendFrom(source netip.Addr, to netip.AddrPort) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	payload := []byte("forged")
	udp := []byte{0x30, 0x39, byte(to.Port() >> 8), byte(to.Port()), 0, byte(8 + len(payload)), 0, 0}
	h := &ipv4.Header{Version: 4, Len: ipv4.HeaderLen, TotalLen: ipv4.HeaderLen + len(udp) + len(payload), TTL: 64,
		Protocol: unix.IPPROTO_UDP, Src: source.AsSlice(), Dst: to.Addr().AsSlice()}
	b, err := h.Marshal()
	if err != nil {
		return err
	}
	return unix.Sendto(fd, append(append(b, udp...), payload...), 0, &unix.SockaddrInet4{Addr: to.Addr().As4()})
}

func TestConnectionsAreBounded(t *testing.T) {
	needHost(t)
	joinOutside(t)
	n := acquire(t, openPool(t, Config{MaxConnections: 5}), "f")
	var l net.Listener
	atHome(t)(func() (err error) { l, err = net.Listen("tcp4", "0.0.0.0:0"); return err })
	defer l.Close()
	target := netip.AddrPortFrom(n.HostAddr(), l.Addr().(*net.TCPAddr).AddrPort().Port()).String()
	made := 0
	err := n.Do(func() error {
		for range 50 {
			c, err := net.DialTimeout("tcp4", target, patience)
			if err != nil {
				return err
			}
			defer c.Close()
			made++
		}
		return nil
	})
	if made != 5 || !errors.Is(err, unix.EHOSTUNREACH) {
		t.Errorf("%d connections, then %v; want 5, then a refusal", made, err)
	}
	l.Close() // ends those that nobody accepted
	server := greet(t, atHome(t), "0.0.0.0:0")
	eventually(t, func() (bool, string) {
		err := n.Do(func() error {
			_, err := call(netip.AddrPortFrom(n.HostAddr(), server.Port()), patience)
			return err
		})
		return err == nil, "no connection after the others were closed"
	})
}

func TestNoIPv6ButLoopback(t *testing.T) {
	n := acquire(t, openPool(t, Config{}), "f")
	inside(t, n)(func() error {
		addrs, err := net.InterfaceAddrs()
		if err != nil {
			return err
		}
		var all []string
		for _, a := range addrs {
			all = append(all, a.String())
		}
		if got, want := strings.Join(all, " "), "127.0.0.1/8 "+n.Addr().String()+"/32 ::1/128"; got != want {
			t.Errorf("addresses inside: %s, want %s", got, want)
		}
		return nil
	})
	link, err := netlink.LinkByIndex(n.lease.ns.link)
	if err != nil {
		t.Fatal(err)
	}
	addrs, err := netlink.AddrList(link, netlink.FAMILY_V6)
	if err != nil || len(addrs) != 0 {
		t.Errorf("the host's end has %v (%v), want no IPv6 address", addrs, err)
	}
}

// A namespace has no IPv6; should it come by some all the same, nothing of it passes.
func TestIPv6IsDropped(t *testing.T) {
	n := acquire(t, openPool(t, Config{}), "f")
	give := func(name, addr, peer string, peerEnd byte) error {
		if err := writeSysctl("ipv6/conf/"+name+"/disable_ipv6", "0"); err != nil {
			return err
		}
		link, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		a := mustAddr(t, addr)
		a.Flags = unix.IFA_F_NODAD
		if err := netlink.AddrAdd(link, a); err != nil {
			return err
		}
		// Without a neighbour entered, the filter would already stop the multicast that looks for it.
		return netlink.NeighSet(&netlink.Neigh{LinkIndex: link.Attrs().Index, State: netlink.NUD_PERMANENT,
			IP: net.ParseIP(peer), HardwareAddr: hardwareAddr(n.Addr(), peerEnd)})
	}
	atHome(t)(func() error { return give("tht1-0000", "fd00:5::1/64", "fd00:5::2", insideEnd) })
	inside(t, n)(func() error { return give("eth0", "fd00:5::2/64", "fd00:5::1", hostEnd) })
	l, err := net.Listen("tcp6", "[fd00:5::1]:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dial := func(timeout time.Duration) error {
		return n.Do(func() error {
			c, err := net.DialTimeout("tcp6", l.Addr().String(), timeout)
			if err == nil {
				c.Close()
			}
			return err
		})
	}
	if dial(3*time.Second) == nil { // time for a repeated SYN: the first is lost while the address settles
		t.Error("IPv6 passed")
	}
	if err := deleteTable("t1"); err != nil {
		t.Fatal(err)
	}
	if err := dial(patience); err != nil {
		t.Errorf("without the filter: %v", err)
	}
}

func TestMulticastIsDropped(t *testing.T) {
	n := acquire(t, openPool(t, Config{}), "f")
	link, err := net.InterfaceByName("tht1-0000")
	if err != nil {
		t.Fatal(err)
	}
	group := &net.UDPAddr{IP: net.IPv4(224, 0, 0, 251), Port: 5353}
	c, err := net.ListenMulticastUDP("udp4", link, group)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, filtered := range []bool{true, false} {
		if !filtered {
			if err := deleteTable("t1"); err != nil {
				t.Fatal(err)
			}
		}
		inside(t, n)(func() error { return sendFrom(n.Addr(), group.AddrPort()) })
		if got := receives(t, c); got == filtered {
			t.Errorf("filtered %v: arrived %v", filtered, got)
		}
	}
}

func TestLoopbackOnlyReachesNothing(t *testing.T) {
	needHost(t)
	joinOutside(t)
	before := traces(t)
	n := acquire(t, openPool(t, Config{LoopbackOnly: true}), "f")
	if n.HostAddr().IsValid() || n.Addr().IsValid() {
		t.Errorf("addresses %s, %s in a loopback-only namespace", n.HostAddr(), n.Addr())
	}
	mustCall(t, n, greet(t, inside(t, n), "127.0.0.1:0"))
	host := netip.AddrPortFrom(netip.MustParseAddr("198.51.100.1"), greet(t, atHome(t), "0.0.0.0:0").Port())
	if err := n.Do(func() error { _, err := call(host, patience); return err }); !errors.Is(err, unix.ENETUNREACH) {
		t.Errorf("calling the host: %v, want network unreachable", err)
	}
	inside(t, n)(func() error {
		links, err := net.Interfaces()
		if err == nil && (len(links) != 1 || links[0].Name != "lo") {
			t.Errorf("links inside: %v, want lo", links)
		}
		return err
	})
	untouched(t, before)
}

// What the host did not route between its neighbours before, it does not when thaw turns forwarding on.
func TestNeighboursAreStillNotRouted(t *testing.T) {
	needHost(t)
	outside := joinOutside(t)
	lan := join(t, "lan", "192.0.2")
	for _, way := range []struct {
		from    *place
		gateway net.IP
		to      string
	}{{outside, net.IPv4(198, 51, 100, 1), "192.0.2.0/24"}, {lan, net.IPv4(192, 0, 2, 1), "198.51.100.0/24"}} {
		_, dst, _ := net.ParseCIDR(way.to)
		way.from.do(func() error { return netlink.RouteAdd(&netlink.Route{Dst: dst, Gw: way.gateway}) })
	}
	server := greet(t, lan.do, "192.0.2.2:0")
	p := openPool(t, Config{})
	mustCall(t, acquire(t, p, "f"), server)
	if err := outside.try(func() error { _, err := call(server, refused); return err }); err == nil {
		t.Error("the host routes between its neighbours")
	}
	// An interface that appears later, as a container engine's bridge does, is not thaw's to judge.
	late := join(t, "late", "192.0.3")
	late.do(func() error {
		return netlink.RouteAdd(&netlink.Route{LinkIndex: 0, Gw: net.IPv4(192, 0, 3, 1)})
	})
	lan.do(func() error {
		_, dst, _ := net.ParseCIDR("192.0.3.0/24")
		return netlink.RouteAdd(&netlink.Route{Dst: dst, Gw: net.IPv4(192, 0, 2, 1)})
	})
	late.do(func() error { _, err := call(server, patience); return err })
}

func TestForwardingObstacles(t *testing.T) {
	needHost(t)
	openPool(t, Config{})
	if got, err := ForwardingObstacles(); err != nil || len(got) != 0 {
		t.Fatalf("got %v, %v on a host without another firewall", got, err)
	}
	conn, err := nftables.New()
	if err != nil {
		t.Fatal(err)
	}
	table := conn.AddTable(&nftables.Table{Name: "filter", Family: nftables.TableFamilyIPv4})
	policy := nftables.ChainPolicyDrop
	conn.AddChain(&nftables.Chain{Name: "FORWARD", Table: table, Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookForward, Priority: nftables.ChainPriorityFilter, Policy: &policy})
	if err := conn.Flush(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		conn.DelTable(table)
		if err := conn.Flush(); err != nil {
			t.Error(err)
		}
	}()
	if got, err := ForwardingObstacles(); err != nil || len(got) != 1 || got[0] != "filter FORWARD" {
		t.Errorf("got %v, %v, want the chain that drops", got, err)
	}
}
