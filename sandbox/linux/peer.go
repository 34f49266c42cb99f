package linux

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A network is shared by the environments of a version, and the host's by everything on it. Which of them a connection comes
// from the kernel tells: each has a host user of its own.

// guarded gives the listener that takes connections of this sandbox's user only. It is to be called in the listener's network.
func (s *shim) guarded(l net.Listener, ns Namespace) net.Listener {
	if s.id == 0 {
		return l // not root: every sandbox has the caller's own user
	}
	p := &peerListener{Listener: l, ns: ns, user: s.id}
	if !kernelKnows(l.Addr()) {
		p.tables = fmt.Sprintf("/proc/%d/net/", s.pid)
	}
	return p
}

// peerListener closes every connection whose other end is not the user's.
type peerListener struct {
	net.Listener
	ns     Namespace
	tables string // directory of the network's tables, where the kernel has no better answer; else empty
	user   uint32
}

// Accept waits for the next connection of the user.
func (l *peerListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if l.owns(c) {
			return c, nil
		}
		c.Close()
	}
}

// owns asks the kernel for the user of a connection's other end. One that is not there has gone.
func (l *peerListener) owns(c net.Conn) bool {
	theirs, ok := c.RemoteAddr().(*net.TCPAddr)
	ours, isTCP := c.LocalAddr().(*net.TCPAddr)
	if !ok || !isTCP {
		return false
	}
	if l.tables != "" {
		return l.ownsByTable(theirs.Port, ours.Port)
	}
	user := uint32(0)
	err := l.ns.Do(func() (err error) {
		user, err = ownerOf(theirs.AddrPort(), ours.AddrPort())
		return err
	})
	return err == nil && user == l.user
}

// Sizes and numbers of linux/inet_diag.h, sock_diag(7).
const (
	diagByFamily  = 20 // SOCK_DIAG_BY_FAMILY
	diagRequest   = unix.NLMSG_HDRLEN + 56
	diagAnswer    = unix.NLMSG_HDRLEN + 72
	diagState     = unix.NLMSG_HDRLEN + 1
	diagRequestID = unix.NLMSG_HDRLEN + 8 // struct inet_diag_sockid, and where the answer has its own
	diagAnswerID  = unix.NLMSG_HDRLEN + 4
	diagUser      = unix.NLMSG_HDRLEN + 64
	tcpListen     = 10
)

var errNoPeer = errors.New("sandbox: there is no such connection")

// kernelKnows reports whether the kernel can be asked for a socket, as it cannot without its tcp_diag.
func kernelKnows(listener net.Addr) bool {
	l, ok := listener.(*net.TCPAddr)
	if !ok {
		return false
	}
	_, err := socketOf(l.AddrPort(), netip.AddrPortFrom(netip.IPv4Unspecified(), 0))
	return err == nil
}

// ownerOf gives the user of the TCP socket from one IPv4 address to another in the thread's network. A program may reach an
// IPv4 address over a socket of IPv6, which is found as well.
func ownerOf(from, to netip.AddrPort) (user uint32, err error) {
	answer, err := socketOf(from, to)
	if err != nil {
		return 0, err
	}
	return parseOwner(answer, from.Port(), to.Port())
}

// socketOf asks the kernel for a socket. The tables in /proc/net say the same, but reading them takes as long as there are
// sockets in the network, of which a function may have tens of thousands.
func socketOf(from, to netip.AddrPort) (answer []byte, err error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_INET_DIAG)
	if err != nil {
		return nil, fmt.Errorf("sandbox: ask for sockets: %w", err)
	}
	defer unix.Close(fd)
	var request [diagRequest]byte
	binary.NativeEndian.PutUint32(request[0:], diagRequest)
	binary.NativeEndian.PutUint16(request[4:], diagByFamily)
	binary.NativeEndian.PutUint16(request[6:], unix.NLM_F_REQUEST)
	body := request[unix.NLMSG_HDRLEN:]
	body[0], body[1] = unix.AF_INET, unix.IPPROTO_TCP
	binary.NativeEndian.PutUint32(body[4:], ^uint32(0)) // every state
	id := request[diagRequestID:]
	binary.BigEndian.PutUint16(id[0:], from.Port())
	binary.BigEndian.PutUint16(id[2:], to.Port())
	source, destination := from.Addr().Unmap().As4(), to.Addr().Unmap().As4()
	copy(id[4:], source[:])
	copy(id[20:], destination[:])
	for i := 40; i < 48; i++ {
		id[i] = 0xff // no cookie
	}
	// The kernel answers within the call; the limit is for a kernel that does not.
	limit := unix.NsecToTimeval(int64(time.Second))
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit); err != nil {
		return nil, fmt.Errorf("sandbox: ask for sockets: %w", err)
	}
	if err := unix.Sendto(fd, request[:], 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return nil, fmt.Errorf("sandbox: ask for sockets: %w", err)
	}
	answer = make([]byte, 512)
	n, _, err := unix.Recvfrom(fd, answer, 0)
	if err != nil {
		return nil, fmt.Errorf("sandbox: ask for sockets: %w", err)
	}
	if n < diagAnswer || binary.NativeEndian.Uint16(answer[4:]) != diagByFamily {
		return nil, errNoPeer // the other answer there is says so
	}
	return answer[:n], nil
}

// parseOwner takes the user from the kernel's answer, if that is about a connection with these ports rather than about a
// listener that could take it.
func parseOwner(answer []byte, from, to uint16) (user uint32, err error) {
	id := answer[diagAnswerID:]
	if answer[diagState] == tcpListen || binary.BigEndian.Uint16(id) != from || binary.BigEndian.Uint16(id[2:]) != to {
		return 0, errNoPeer
	}
	return binary.NativeEndian.Uint32(answer[diagUser:]), nil
}

// ownsByTable looks the connection's other end up in the network's tables.
func (l *peerListener) ownsByTable(from, to int) bool {
	// A program may reach an IPv4 address over a socket of IPv6.
	for _, table := range []string{"tcp", "tcp6"} {
		f, err := os.Open(l.tables + table)
		if err != nil {
			continue
		}
		user, found := ownerIn(f, from, to)
		f.Close()
		if found {
			return user == l.user
		}
	}
	return false
}

// ownerIn finds the socket from one port of 127.0.0.1 to another in a table of the form of /proc/net/tcp (proc(5)), and
// gives its user.
func ownerIn(table io.Reader, from, to int) (user uint32, found bool) {
	local, remote := loopbackPort(from), loopbackPort(to)
	for lines := bufio.NewScanner(table); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) < 8 || !strings.HasSuffix(fields[1], local) || !strings.HasSuffix(fields[2], remote) {
			continue
		}
		id, err := strconv.ParseUint(fields[7], 10, 32)
		return uint32(id), err == nil
	}
	return 0, false
}

// loopbackPort is how 127.0.0.1 and a port end in the tables: the address as the machine's own number, both machines that
// this runs on being little-endian.
func loopbackPort(port int) string { return fmt.Sprintf("0100007F:%04X", port) }
