package network

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

const (
	loopbackIndex   = 1 // lo is the first link of every network namespace
	carrierPatience = 5 * time.Second
)

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
		if err != nil && ns.fd >= 0 {
			err = errors.Join(err, h.destroy([]*netns{ns}))
		}
	}()
	var in *netlink.Handle // its socket belongs to the namespace wherever it is used
	err = onThread(h.ns, unshareNetwork, func() (err error) {
		if ns.fd, err = openCurrentNamespace(); err != nil {
			return err
		}
		if !h.loopbackOnly {
			// Before eth0 exists, so that lo keeps ::1.
			if err := disableIPv6("default"); err != nil {
				return err
			}
		}
		in, err = netlink.NewHandle(unix.NETLINK_ROUTE)
		return err
	})
	if in != nil {
		defer in.Close()
	}
	if err != nil {
		return ns, err
	}
	if err := in.LinkSetUp(&netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: loopbackIndex}}); err != nil {
		return ns, fmt.Errorf("bring lo up: %w", err)
	}
	if !h.loopbackOnly {
		ns.addr = slotAddr(h.prefix, slot)
		err = h.connect(ns, in)
	}
	return ns, err
}

func unshareNetwork() error {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return permitted(fmt.Errorf("unshare: %w", err))
	}
	return nil
}

// connect makes the pair of links between the namespace and the host.
func (h *host) connect(ns *netns, in *netlink.Handle) error {
	gateway := hostAddr(h.prefix)
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "eth0"
	attrs.MTU = h.mtu
	attrs.HardwareAddr = hardwareAddr(ns.addr, insideEnd)
	attrs.NumTxQueues, attrs.NumRxQueues = 1, 1 // the kernel's default is one per processor, for each of the ends
	veth := netlink.NewVeth(attrs)
	veth.PeerName = h.linkName(ns.slot)
	veth.PeerHardwareAddr = hardwareAddr(ns.addr, hostEnd)
	veth.PeerNamespace = netlink.NsFd(h.ns)
	if err := in.LinkAdd(veth); err != nil {
		return fmt.Errorf("make the veth pair %s: %w", veth.PeerName, unsupported(err))
	}
	link, err := h.nl.LinkByName(veth.PeerName)
	if err != nil {
		return fmt.Errorf("find %s: %w", veth.PeerName, err)
	}
	ns.link = link.Attrs().Index
	if err := disableIPv6(veth.PeerName); err != nil {
		return err
	}
	if err := configureEnd(h.nl, ns.link, gateway, ns.addr, veth.HardwareAddr); err != nil {
		return err
	}
	if err := configureEnd(in, veth.Index, ns.addr, gateway, veth.PeerHardwareAddr); err != nil {
		return err
	}
	if err := in.RouteAdd(&netlink.Route{LinkIndex: veth.Index, Gw: gateway.AsSlice()}); err != nil {
		return fmt.Errorf("add the default route by %s: %w", gateway, err)
	}
	return h.waitUntilUp(ns.link)
}

// waitUntilUp waits for the end that was brought up first. It had no carrier then, and the kernel lets packets
// through it only after a worker of its own has seen the carrier; until then they are lost in silence.
func (h *host) waitUntilUp(index int) error {
	pause := 50 * time.Microsecond
	for waited := time.Duration(0); waited < carrierPatience; waited += pause {
		link, err := h.nl.LinkByIndex(index)
		if err != nil {
			return fmt.Errorf("look at link %d: %w", index, err)
		}
		if link.Attrs().OperState == netlink.OperUp {
			return nil
		}
		time.Sleep(pause) //nolint:forbidigo // polls with a deadline; one link is asked sooner than a subscription to all is made
		pause = min(2*pause, 10*time.Millisecond)
	}
	return fmt.Errorf("link %d got no carrier in %s", index, carrierPatience)
}

// configureEnd gives one end of a pair its address, and with it the route to the other. The neighbour is entered for good: the kernel bounds
// learnt neighbours of all namespaces together (gc_thresh3, 1,024 by default), permanent ones are not counted.
func configureEnd(h *netlink.Handle, index int, local, peer netip.Addr, peerMAC net.HardwareAddr) error {
	link := &netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: index}}
	host := net.CIDRMask(32, 32)
	if err := h.AddrAdd(link, &netlink.Addr{
		IPNet: &net.IPNet{IP: local.AsSlice(), Mask: host},
		Peer:  &net.IPNet{IP: peer.AsSlice(), Mask: host},
	}); err != nil {
		return fmt.Errorf("add address %s: %w", local, err)
	}
	if err := h.LinkSetUp(link); err != nil {
		return fmt.Errorf("bring the link of %s up: %w", local, err)
	}
	if err := h.NeighSet(&netlink.Neigh{LinkIndex: index, State: netlink.NUD_PERMANENT, IP: peer.AsSlice(), HardwareAddr: peerMAC}); err != nil {
		return fmt.Errorf("enter the neighbour %s: %w", peer, err)
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
