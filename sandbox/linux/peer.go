package linux

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
)

// A network is shared by the environments of a version, and the host's by everything on it. Which of them a connection comes
// from the kernel tells: each has a host user of its own.

// guarded gives the listener that takes connections of this sandbox's user only.
func (s *shim) guarded(l net.Listener) net.Listener {
	if s.id == 0 {
		return l // not root: every sandbox has the caller's own user
	}
	return &peerListener{Listener: l, tables: fmt.Sprintf("/proc/%d/net/", s.pid), user: s.id}
}

// peerListener closes every connection whose other end is not the user's.
type peerListener struct {
	net.Listener
	tables string // directory of the network's tables
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

// owns looks the connection's other end up in the kernel's tables. One that is not there has gone.
func (l *peerListener) owns(c net.Conn) bool {
	theirs, ok := c.RemoteAddr().(*net.TCPAddr)
	ours, isTCP := c.LocalAddr().(*net.TCPAddr)
	if !ok || !isTCP {
		return false
	}
	// A program may reach an IPv4 address over a socket of IPv6.
	for _, table := range []string{"tcp", "tcp6"} {
		f, err := os.Open(l.tables + table)
		if err != nil {
			continue
		}
		user, found := ownerOf(f, theirs.Port, ours.Port)
		f.Close()
		if found {
			return user == l.user
		}
	}
	return false
}

// ownerOf finds the socket from one port of 127.0.0.1 to another in a table of the form of /proc/net/tcp (proc(5)), and
// gives its user.
func ownerOf(table io.Reader, from, to int) (user uint32, found bool) {
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
