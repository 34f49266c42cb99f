package network

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"regexp"

	"thaw/internal/metadata"
)

// Errors that callers tell apart. Each is wrapped with what exactly went wrong.
var (
	// ErrNotPermitted: making network namespaces or configuring the host's network is not allowed to this process.
	// The caller may go on without namespaces of its own.
	ErrNotPermitted = errors.New("network namespaces need root (CAP_SYS_ADMIN and CAP_NET_ADMIN)")
	// ErrUnsupported: the kernel lacks what is needed: nftables, veth, network namespaces. The caller may go on with
	// loopback-only namespaces or none.
	ErrUnsupported = errors.New("the kernel lacks a network feature")
	// ErrInUse: a living process has opened the same instance.
	ErrInUse = errors.New("the network instance is in use by another process")
	// ErrPrefix: no address range could be used, or the one that was asked for collides with the host's routes.
	ErrPrefix = errors.New("no usable address range for network namespaces")
	// ErrExhausted: Config.Max namespaces exist.
	ErrExhausted = errors.New("all network namespaces are in use")
	// ErrClosed: the pool was closed.
	ErrClosed = errors.New("the network pool is closed")
	// ErrReleased: the namespace was used after its Release.
	ErrReleased = errors.New("the network namespace was released")
	// ErrNoResolver: the host's name servers are all on its loopback, where a namespace cannot reach them.
	ErrNoResolver = errors.New("the host has no name server that a network namespace can reach")
)

// DefaultDir is where the instances on a host find one another.
const DefaultDir = "/run/thaw/network"

// Config says how a Pool is made. Only Instance is required.
type Config struct {
	// Instance tells apart the pools on one host: 1 to 8 of a-z and 0-9. It is part of each link's and the table's
	// name.
	Instance string
	// Dir is a directory that all instances on the host share; it holds locks and what ip_forward was. A reboot must
	// empty it, as it resets what is recorded there. Default DefaultDir.
	Dir string
	// Prefix is the range of the namespaces' addresses: IPv4, /16 to /28. Default: the first of a few private ranges
	// that no route, name server or other instance of the host uses.
	Prefix netip.Prefix
	// Pool is how many namespaces Run keeps made ahead, 0 for none.
	Pool int
	// Max bounds the namespaces that exist at a time. Default 4,096, or what Prefix has addresses for.
	Max int
	// DenyHostPorts are TCP and UDP ports of the host itself that namespaces cannot reach.
	DenyHostPorts []uint16
	// Deny lists destinations beyond the host that namespaces cannot reach. nil means those of package metadata; an empty slice
	// that is not nil denies none.
	Deny []netip.Prefix
	// MaxConnections bounds what the host tracks at a time for one namespace, so that one function cannot fill the
	// host's connection table. Default: an eighth of that table.
	MaxConnections int
	// LoopbackOnly asks for namespaces that reach nothing but themselves. Prefix, the filter and forwarding are not
	// used then.
	LoopbackOnly bool
	// Log receives what happens in the background: a namespace that could not be made ahead or removed. Default:
	// nowhere.
	Log *slog.Logger
}

const (
	defaultMax    = 4096
	minPrefixBits = 16 // a link's name has room for four hex digits
	maxPrefixBits = 28
)

var instancePattern = regexp.MustCompile(`^[a-z0-9]{1,8}$`)

// withDefaults validates before anything is touched.
func (c Config) withDefaults() (Config, error) {
	if !instancePattern.MatchString(c.Instance) {
		return c, fmt.Errorf("network instance %q: want 1 to 8 of a-z and 0-9", c.Instance)
	}
	if c.Dir == "" {
		c.Dir = DefaultDir
	}
	if c.Pool < 0 || c.Max < 0 || c.MaxConnections < 0 {
		return c, fmt.Errorf("network pool of %d, at most %d, with %d connections: want no negative number", c.Pool, c.Max, c.MaxConnections)
	}
	if c.Max == 0 {
		c.Max = defaultMax
	}
	if c.Prefix.IsValid() {
		if !c.Prefix.Addr().Is4() || c.Prefix.Bits() < minPrefixBits || c.Prefix.Bits() > maxPrefixBits {
			return c, fmt.Errorf("%w: %s: want IPv4, /%d to /%d", ErrPrefix, c.Prefix, minPrefixBits, maxPrefixBits)
		}
		c.Prefix = c.Prefix.Masked()
	}
	if c.Deny == nil {
		c.Deny = metadata.IPv4()
	}
	for _, d := range c.Deny {
		if !d.IsValid() || !d.Addr().Is4() {
			return c, fmt.Errorf("denied destination %s: want an IPv4 prefix; IPv6 never leaves a namespace", d)
		}
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Pool > c.Max {
		return c, fmt.Errorf("network pool of %d namespaces made ahead exceeds the bound of %d", c.Pool, c.Max)
	}
	return c, nil
}

func linkPrefix(instance string) string { return "th" + instance + "-" }
func tableName(instance string) string  { return "thaw-" + instance }
