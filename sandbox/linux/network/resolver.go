package network

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"
)

// Resolver is name resolution that works inside a namespace.
type Resolver struct {
	// Source is the file that it was taken from.
	Source string
	// Conf is the text for /etc/resolv.conf inside.
	Conf []byte
	// Servers are its name servers, IPv4 all of them.
	Servers []netip.Addr
}

// resolverFiles are read in this order. Where a local stub answers for the host, its upstream servers are in a file
// of its own: resolv.conf(5), systemd-resolved.service(8), NetworkManager.conf(5).
var resolverFiles = []string{
	"/etc/resolv.conf",
	"/run/systemd/resolve/resolv.conf",
	"/run/NetworkManager/no-stub-resolv.conf",
}

const maxResolverFile = 64 << 10

// HostResolver takes the host's resolver configuration, without name servers that a namespace cannot reach: those on
// the host's loopback and those of IPv6. If none is left it returns ErrNoResolver; a host whose only resolver
// listens on loopback (dnsmasq, unbound) can let it listen on HostAddr as well.
func HostResolver() (Resolver, error) {
	return resolverFrom(resolverFiles)
}

func resolverFrom(files []string) (Resolver, error) {
	for _, name := range files {
		b, err := readBounded(name, maxResolverFile)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return Resolver{}, err
		}
		conf, servers := reachable(b)
		if len(servers) > 0 {
			return Resolver{Source: name, Conf: conf, Servers: servers}, nil
		}
	}
	return Resolver{}, fmt.Errorf("%w (looked in %s)", ErrNoResolver, strings.Join(files, ", "))
}

// reachable drops comments, unreachable name servers and nothing else.
func reachable(text []byte) (conf []byte, servers []netip.Addr) {
	var out bytes.Buffer
	lines := bufio.NewScanner(bytes.NewReader(text))
	lines.Buffer(nil, maxResolverFile+1)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) == 0 || strings.HasPrefix(fields[0], "#") || strings.HasPrefix(fields[0], ";") {
			continue
		}
		if fields[0] == "nameserver" {
			if len(fields) < 2 {
				continue
			}
			a, err := netip.ParseAddr(fields[1])
			if err != nil || !a.Unmap().Is4() || a.Unmap().IsLoopback() || a.Unmap().IsUnspecified() {
				continue
			}
			servers = append(servers, a.Unmap())
			fields = []string{"nameserver", a.Unmap().String()}
		}
		out.WriteString(strings.Join(fields, " "))
		out.WriteByte('\n')
	}
	return out.Bytes(), servers
}

func readBounded(name string, limit int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, limit))
}
