package linux

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
)

// services are names for the ports that functions connect to, in the words of their users rather than of /etc/services.
var services = map[uint16]string{
	22: "ssh", 25: "smtp", 53: "dns", 80: "http", 389: "ldap", 443: "https", 465: "smtps", 587: "smtp", 1433: "sqlserver", 1521: "oracle",
	2181: "zookeeper", 3306: "mysql", 4222: "nats", 5432: "postgres", 5672: "amqp", 6379: "redis", 8125: "statsd", 8126: "datadog",
	9042: "cassandra", 9092: "kafka", 9200: "elasticsearch", 11211: "memcached", 27017: "mongodb", 50051: "grpc",
}

// sockets tells every socket of the process's network namespace, by inode.
func (e *examination) sockets() (map[string]string, error) {
	all := map[string]string{}
	for _, protocol := range []string{"tcp", "tcp6", "udp", "udp6", "unix", "netlink"} {
		b, err := os.ReadFile(e.dir + "/net/" + protocol)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		for line := range strings.Lines(string(b)) {
			if inode, words := tellSocket(protocol, strings.Fields(line)); inode != "" {
				all[inode] = words
			}
		}
	}
	return all, nil
}

// tellSocket puts one line of /proc/net into words; nothing for a heading.
func tellSocket(protocol string, f []string) (inode, words string) {
	switch {
	case protocol == "unix" && len(f) >= 7:
		if len(f) > 7 {
			return f[6], "init holds the Unix socket " + f[7]
		}
		return f[6], "init holds a Unix socket"
	case protocol == "netlink" && len(f) >= 10:
		return f[9], "init holds a netlink socket"
	case protocol == "unix" || protocol == "netlink" || len(f) < 10:
		return "", ""
	}
	local, lok := parseAddress(f[1])
	remote, rok := parseAddress(f[2])
	if !lok || !rok {
		return "", ""
	}
	name := strings.ToUpper(strings.TrimSuffix(protocol, "6"))
	const listening = "0A"
	switch {
	case name == "TCP" && f[3] == listening:
		return f[9], fmt.Sprintf("init listens on TCP port %d", local.Port())
	case remote.Port() == 0:
		return f[9], fmt.Sprintf("init opened %s port %d", name, local.Port())
	}
	words = fmt.Sprintf("init opened a %s connection to %s", name, remote)
	if service, known := services[remote.Port()]; known {
		words += " (" + service + ")"
	}
	return f[9], words
}

// parseAddress reads an address as /proc/net has it: words of 32 bits in the host's order, and a port in hexadecimal.
func parseAddress(s string) (netip.AddrPort, bool) {
	words, port, _ := strings.Cut(s, ":")
	b, err := hex.DecodeString(words)
	p, perr := strconv.ParseUint(port, 16, 16)
	if err != nil || perr != nil || len(b)%4 != 0 {
		return netip.AddrPort{}, false
	}
	for i := 0; i < len(b); i += 4 {
		slices.Reverse(b[i : i+4]) // both architectures are little-endian
	}
	addr, ok := netip.AddrFromSlice(b)
	return netip.AddrPortFrom(addr.Unmap(), uint16(p)), ok
}
