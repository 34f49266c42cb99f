package network

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// host is what a pool has in the host's network namespace: its links, its table, its claim on the instance's name.
type host struct {
	instance     string
	dir          string
	loopbackOnly bool
	prefix       netip.Prefix
	mtu          int
	group        uint32          // marks links that are being removed
	ns           int             // the host's network namespace
	nl           *netlink.Handle // nil when loopback only
	claim        *os.File
}

var linkPattern = regexp.MustCompile(`^th[a-z0-9]{1,8}-[0-9a-f]{4}$`)

const claimSuffix = ".instance"

// openHost claims the instance, removes what dead instances left and sets up the filter and forwarding. cfg has its
// defaults; the prefix that was chosen is in the result.
func openHost(ctx context.Context, cfg Config) (h *host, err error) {
	h = &host{instance: cfg.Instance, dir: cfg.Dir, loopbackOnly: cfg.LoopbackOnly, ns: -1}
	defer func() {
		if err != nil {
			h.release()
			h = nil
		}
	}()
	if h.ns, err = openCurrentNamespace(); err != nil {
		return h, err
	}
	if err = h.mayMakeNamespaces(); err != nil || h.loopbackOnly {
		return h, err
	}
	if h.nl, err = netlink.NewHandle(unix.NETLINK_ROUTE); err != nil {
		return h, unsupported(fmt.Errorf("netlink: %w", err))
	}
	if err = h.chooseGroup(); err != nil {
		return h, err
	}
	unlock, err := lockHost(ctx, h.dir)
	if err != nil {
		return h, err
	}
	defer unlock()
	return h, h.setUp(cfg)
}

// setUp needs the host lock.
func (h *host) setUp(cfg Config) (err error) {
	if h.claim, err = claimInstance(h.dir, h.instance); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, h.tearDown())
		}
	}()
	others, err := h.sweep()
	if err != nil {
		return err
	}
	taken, mtu, err := h.survey()
	if err != nil {
		return err
	}
	resolver, err := HostResolver()
	if err != nil && !errors.Is(err, ErrNoResolver) {
		return err
	}
	for _, a := range resolver.Servers {
		taken = append(taken, netip.PrefixFrom(a, a.BitLen()))
	}
	h.mtu = mtu
	if h.prefix, err = choosePrefix(cfg.Prefix, append(taken, others...)); err != nil {
		return err
	}
	if _, err = h.claim.WriteAt([]byte(h.prefix.String()), 0); err != nil {
		return err
	}
	closed, err := enableForwarding(h.dir)
	if err != nil {
		return fmt.Errorf("turn on forwarding: %w", err)
	}
	r := &rules{
		instance: h.instance, prefix: h.prefix, denyHostPorts: cfg.DenyHostPorts, deny: cfg.Deny,
		resolvers: resolver.Servers, closed: closed, maxConnections: cfg.MaxConnections, maxNamespaces: cfg.Max,
	}
	if r.maxConnections == 0 {
		r.maxConnections = defaultConnections()
	}
	return r.table()
}

// close undoes openHost; every namespace must be destroyed before.
func (h *host) close() error {
	var err error
	if h.claim != nil {
		// Not bounded by a context: whoever holds the host lock does so for milliseconds, and dies with it.
		unlock, lockErr := lockHost(context.Background(), h.dir) //nolint:forbidigo // see above
		if lockErr != nil {
			err = lockErr
		} else {
			err = h.tearDown()
			unlock()
		}
	}
	h.release()
	return err
}

// tearDown needs the host lock. It goes on after an error, to leave as little as possible.
func (h *host) tearDown() error {
	err := errors.Join(h.deleteInstanceLinks(h.instance), deleteTable(h.instance))
	alive, e := livingInstances(h.dir)
	err = errors.Join(err, e)
	if e == nil && len(alive) == 1 { // this one
		err = errors.Join(err, restoreForwarding(h.dir))
	}
	return errors.Join(err, os.Remove(h.claim.Name()))
}

// release gives back descriptors.
func (h *host) release() {
	if h.claim != nil {
		h.claim.Close()
	}
	if h.nl != nil {
		h.nl.Close()
	}
	if h.ns >= 0 {
		unix.Close(h.ns)
	}
}

// mayMakeNamespaces makes a namespace and lets it go.
func (h *host) mayMakeNamespaces() error {
	return onThread(h.ns, unshareNetwork, func() error { return nil })
}

// sweep removes what dead instances left, and this one's own earlier life; it returns the prefixes of the living.
func (h *host) sweep() (taken []netip.Prefix, err error) {
	alive, err := livingInstances(h.dir)
	if err != nil {
		return nil, err
	}
	files, err := filepath.Glob(filepath.Join(h.dir, "*"+claimSuffix))
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), claimSuffix)
		if prefix, ok := alive[name]; ok && name != h.instance {
			if prefix.IsValid() {
				taken = append(taken, prefix)
			}
			continue
		}
		if err := errors.Join(h.deleteInstanceLinks(name), deleteTable(name)); err != nil {
			return nil, permitted(fmt.Errorf("remove what instance %s left: %w", name, err))
		}
		if name != h.instance {
			if err := os.Remove(file); err != nil {
				return nil, err
			}
		}
	}
	return taken, nil
}

// survey returns the ranges that the host's routes use, and the MTU of its way out.
func (h *host) survey() (taken []netip.Prefix, mtu int, err error) {
	mtu = 1500
	routes, err := whole(func() ([]netlink.Route, error) {
		return h.nl.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
	})
	if err != nil {
		return nil, 0, fmt.Errorf("list routes: %w", err)
	}
	for _, r := range routes {
		if r.Dst == nil || r.Dst.IP.IsUnspecified() {
			if link, err := h.nl.LinkByIndex(r.LinkIndex); err == nil {
				mtu = min(mtu, link.Attrs().MTU)
			}
			continue
		}
		if a, ok := netip.AddrFromSlice(r.Dst.IP.To4()); ok {
			ones, _ := r.Dst.Mask.Size()
			taken = append(taken, netip.PrefixFrom(a, ones))
		}
	}
	return taken, mtu, nil
}

// deleteInstanceLinks removes the host's ends of an instance's pairs, and with them the other ends.
func (h *host) deleteInstanceLinks(instance string) error {
	links, err := whole(h.nl.LinkList)
	if err != nil {
		return fmt.Errorf("list links: %w", err)
	}
	var mine []int
	for _, l := range links {
		name := l.Attrs().Name
		if linkPattern.MatchString(name) && strings.HasPrefix(name, linkPrefix(instance)) {
			mine = append(mine, l.Attrs().Index)
		}
	}
	if len(mine) == 0 {
		return nil
	}
	return deleteLinks(h.nl, h.group, mine)
}

// chooseGroup picks a number at random that no link has.
func (h *host) chooseGroup() error {
	links, err := whole(h.nl.LinkList)
	if err != nil {
		return fmt.Errorf("list links: %w", err)
	}
	for {
		h.group = 1<<16 + rand.Uint32N(1<<31-1<<16)
		if !slices.ContainsFunc(links, func(l netlink.Link) bool { return l.Attrs().Group == h.group }) {
			return nil
		}
	}
}

// whole repeats a listing that the kernel could not give in one piece because something changed meanwhile.
func whole[T any](list func() ([]T, error)) (all []T, err error) {
	for range 100 {
		if all, err = list(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	return all, err
}

// defaultConnections is an eighth of the host's connection table. The setting exists once the table does; before,
// the kernel's default for a machine of 1 GiB and more.
func defaultConnections() int {
	const kernelDefault = 65536
	s, err := readSysctl("netfilter/nf_conntrack_max")
	n, convErr := strconv.Atoi(s)
	if err != nil || convErr != nil || n <= 0 {
		n = kernelDefault
	}
	return max(n/8, 256)
}
