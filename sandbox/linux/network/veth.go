package network

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

const loopbackIndex = 1 // lo is the first link of every network namespace

// netns is one namespace that this process holds.
type netns struct {
	fd   int
	slot uint32
	link int // index of the host's end, 0 when loopback only
	addr netip.Addr
}

// create makes the namespace with the given number, and undoes itself on failure.
func (h *host) create(slot uint32) (ns *netns, err error) {
	ns = &netns{fd: -1, slot: slot}
	defer func() {
		if err != nil {
			if ns.fd >= 0 {
				unix.Close(ns.fd)
			}
			ns = nil
		}
	}()
	err = onThread(h.ns, func() error {
		if e := unix.Unshare(unix.CLONE_NEWNET); e != nil {
			return permitted(fmt.Errorf("unshare: %w", e))
		}
		return nil
	}, func() error {
		var e error
		if ns.fd, e = openCurrentNamespace(); e != nil {
			return e
		}
		return h.configureInside(slot)
	})
	if err != nil || h.loopbackOnly {
		return ns, err
	}
	ns.addr = slotAddr(h.prefix, slot)
	ns.link, err = h.configureHostEnd(slot)
	return ns, err
}

// configureInside runs on a thread inside the new namespace. With the namespace everything made here goes, the
// host's end of the pair included.
func (h *host) configureInside(slot uint32) error {
	in, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("netlink inside the namespace: %w", err)
	}
	defer in.Close()
	if err := in.LinkSetUp(&netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: loopbackIndex}}); err != nil {
		return fmt.Errorf("bring lo up: %w", err)
	}
	if h.loopbackOnly {
		return nil
	}
	// Before eth0 exists, so that lo keeps ::1.
	if err := disableIPv6("default"); err != nil {
		return err
	}
	addr := slotAddr(h.prefix, slot)
	gateway := hostAddr(h.prefix)
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "eth0"
	attrs.MTU = h.mtu
	attrs.HardwareAddr = hardwareAddr(addr, insideEnd)
	veth := netlink.NewVeth(attrs)
	veth.PeerName = h.linkName(slot)
	veth.PeerHardwareAddr = hardwareAddr(addr, hostEnd)
	veth.PeerNamespace = netlink.NsFd(h.ns)
	if err := in.LinkAdd(veth); err != nil {
		return fmt.Errorf("make the veth pair %s: %w", veth.PeerName, unsupported(err))
	}
	return configureEnd(in, veth.Index, addr, gateway, veth.PeerHardwareAddr, true)
}

// configureHostEnd finds the pair's other end, which appeared in the host's namespace, and gives it its address.
func (h *host) configureHostEnd(slot uint32) (index int, err error) {
	name := h.linkName(slot)
	link, err := h.nl.LinkByName(name)
	if err != nil {
		return 0, fmt.Errorf("find %s: %w", name, err)
	}
	if err := disableIPv6(name); err != nil {
		return 0, err
	}
	addr := slotAddr(h.prefix, slot)
	index = link.Attrs().Index
	return index, configureEnd(h.nl, index, hostAddr(h.prefix), addr, hardwareAddr(addr, insideEnd), false)
}

// configureEnd gives one end of a pair its address and route. The neighbour is entered for good: the kernel bounds
// learnt neighbours of all namespaces together (gc_thresh3, 1,024 by default), permanent ones are not counted.
func configureEnd(h *netlink.Handle, index int, local, peer netip.Addr, peerMAC net.HardwareAddr, defaultRoute bool) error {
	link := &netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: index}}
	peerNet := &net.IPNet{IP: peer.AsSlice(), Mask: net.CIDRMask(32, 32)}
	if err := h.AddrAdd(link, &netlink.Addr{
		IPNet: &net.IPNet{IP: local.AsSlice(), Mask: net.CIDRMask(32, 32)},
		Peer:  peerNet,
	}); err != nil {
		return fmt.Errorf("add address %s: %w", local, err)
	}
	if err := h.LinkSetUp(link); err != nil {
		return fmt.Errorf("bring the link of %s up: %w", local, err)
	}
	if err := h.NeighSet(&netlink.Neigh{LinkIndex: index, State: netlink.NUD_PERMANENT, IP: peer.AsSlice(), HardwareAddr: peerMAC}); err != nil {
		return fmt.Errorf("enter the neighbour %s: %w", peer, err)
	}
	if !defaultRoute {
		return nil
	}
	if err := h.RouteAdd(&netlink.Route{LinkIndex: index, Gw: peer.AsSlice()}); err != nil {
		return fmt.Errorf("add the default route by %s: %w", peer, err)
	}
	return nil
}

// destroy takes the links away, even where processes still hold their namespace, and gives the namespaces up. It
// returns when the links are gone.
func (h *host) destroy(batch []*netns) error {
	var links []int
	var err error
	for _, ns := range batch {
		if ns.link != 0 {
			links = append(links, ns.link)
		}
	}
	if len(links) > 0 {
		err = deleteLinks(h.nl, h.group, links)
	}
	for _, ns := range batch {
		err = errors.Join(err, unix.Close(ns.fd))
	}
	return err
}

// deleteLinks removes links as one group, in one request: the kernel waits for a grace period per request, tens of
// milliseconds, not per link. group must be a number that no other link of the host has.
func deleteLinks(h *netlink.Handle, group uint32, links []int) error {
	var err error
	for _, index := range links {
		e := h.LinkSetGroup(&netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: index}}, int(group))
		if e != nil && !errors.Is(e, unix.ENODEV) {
			err = errors.Join(err, fmt.Errorf("mark link %d for removal: %w", index, e))
		}
	}
	req := nl.NewNetlinkRequest(unix.RTM_DELLINK, unix.NLM_F_ACK)
	req.AddData(nl.NewIfInfomsg(unix.AF_UNSPEC))
	req.AddData(nl.NewRtAttr(unix.IFLA_GROUP, nl.Uint32Attr(group)))
	_, e := req.Execute(unix.NETLINK_ROUTE, 0)
	if e != nil && !errors.Is(e, unix.ENODEV) {
		err = errors.Join(err, fmt.Errorf("remove links: %w", e))
	}
	return err
}

func (h *host) linkName(slot uint32) string {
	return fmt.Sprintf("%s%04x", linkPrefix(h.instance), slot)
}

const (
	insideEnd = 0x02 // locally administered
	hostEnd   = 0x06
)

// hardwareAddr is fixed, not random: udev replaces random addresses of new links, which would make the permanent
// neighbours wrong.
func hardwareAddr(a netip.Addr, end byte) net.HardwareAddr {
	b := a.As4()
	return net.HardwareAddr{end, 0x74, b[0], b[1], b[2], b[3]}
}

// disableIPv6 acts on the calling thread's network namespace, as /proc/sys/net does.
func disableIPv6(link string) error {
	err := writeSysctl("ipv6/conf/"+link+"/disable_ipv6", "1")
	if errors.Is(err, os.ErrNotExist) {
		return nil // a kernel without IPv6
	}
	return err
}

// permitted turns the kernel's refusals into ErrNotPermitted.
func permitted(err error) error {
	if errors.Is(err, os.ErrPermission) || errors.Is(err, unix.EROFS) {
		return fmt.Errorf("%w: %w", ErrNotPermitted, err)
	}
	return unsupported(err)
}

// unsupported turns the kernel's answers to what it does not know into ErrUnsupported.
func unsupported(err error) error {
	for _, e := range []error{unix.EOPNOTSUPP, unix.EPROTONOSUPPORT, unix.EAFNOSUPPORT, unix.ENOSYS} {
		if errors.Is(err, e) {
			return fmt.Errorf("%w: %w", ErrUnsupported, err)
		}
	}
	return err
}
