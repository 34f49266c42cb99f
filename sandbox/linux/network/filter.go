package network

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// rules is what one instance's table is made of.
type rules struct {
	instance       string
	prefix         netip.Prefix
	denyHostPorts  []uint16
	deny           []netip.Prefix
	resolvers      []netip.Addr // reached at port 53 even where deny covers them
	closed         []string     // interfaces that were not forwarding among each other before thaw
	maxConnections int
	maxNamespaces  int
}

// table replaces the instance's nftables table in one transaction: there is no moment with half of the rules.
func (r *rules) table() error {
	conn, err := nftables.New()
	if err != nil {
		return unsupported(fmt.Errorf("nftables: %w", err))
	}
	t := &nftables.Table{Name: tableName(r.instance), Family: nftables.TableFamilyINet}
	conn.AddTable(t) // so that deleting it cannot fail
	conn.DelTable(t)
	conn.AddTable(t)
	for _, build := range []func(*nftables.Conn, *nftables.Table) error{r.prerouting, r.input, r.forward, r.postrouting} {
		if err := build(conn, t); err != nil {
			return fmt.Errorf("nftables: %w", err)
		}
	}
	if err := conn.Flush(); err != nil {
		if errors.Is(err, unix.ENOENT) { // an expression that the kernel was built without
			return fmt.Errorf("%w: nftables: %w", ErrUnsupported, err)
		}
		return permitted(fmt.Errorf("nftables: %w", err))
	}
	return nil
}

// prerouting comes before connection tracking: what it drops costs no entry there.
func (r *rules) prerouting(conn *nftables.Conn, t *nftables.Table) error {
	priority := nftables.ChainPriorityRaw
	c := conn.AddChain(&nftables.Chain{Name: "prerouting", Table: t, Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookPrerouting, Priority: priority})
	add := func(parts ...[]expr.Any) {
		conn.AddRule(&nftables.Rule{Table: t, Chain: c, Exprs: expressions(parts...)})
	}

	from := r.fromNamespace()
	add(from, isIPv6(), drop())
	add(from, notUnicast(), drop())
	add(from, sourceHasNoRouteBack(), drop())
	// The answers to a namespace's connections still carry the host's address here, so whatever names a namespace
	// was sent by somebody who routes to it.
	add(r.notFromNamespace(), interfaceName(expr.MetaKeyIIFNAME, expr.CmpOpNeq, "lo\x00"), destination(r.prefix), drop())
	return nil
}

func (r *rules) input(conn *nftables.Conn, t *nftables.Table) error {
	c := conn.AddChain(&nftables.Chain{Name: "input", Table: t, Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookInput, Priority: nftables.ChainPriorityFilter})
	add := func(parts ...[]expr.Any) {
		conn.AddRule(&nftables.Rule{Table: t, Chain: c, Exprs: expressions(parts...)})
	}

	from := r.fromNamespace()
	add(from, establishedOrRelated(), accept())
	if len(r.denyHostPorts) > 0 {
		ports := &nftables.Set{Table: t, Name: "denied_ports", Constant: true, KeyType: nftables.TypeInetService}
		var elems []nftables.SetElement
		seen := make(map[uint16]bool)
		for _, p := range r.denyHostPorts {
			if !seen[p] {
				seen[p] = true
				elems = append(elems, nftables.SetElement{Key: binaryutil.BigEndian.PutUint16(p)})
			}
		}
		if err := conn.AddSet(ports, elems); err != nil {
			return err
		}
		add(from, protocol(unix.IPPROTO_TCP), destinationPortIn(ports), rejectTCP())
		add(from, protocol(unix.IPPROTO_UDP), destinationPortIn(ports), reject())
	}
	return r.limitConnections(conn, t, c, "input_connections")
}

func (r *rules) forward(conn *nftables.Conn, t *nftables.Table) error {
	c := conn.AddChain(&nftables.Chain{Name: "forward", Table: t, Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookForward, Priority: nftables.ChainPriorityFilter})
	add := func(parts ...[]expr.Any) {
		conn.AddRule(&nftables.Rule{Table: t, Chain: c, Exprs: expressions(parts...)})
	}

	from := r.fromNamespace()
	add(from, destination(r.prefix), reject())
	add(r.toNamespace(), establishedOrRelated(), accept())
	add(r.toNamespace(), drop())
	for _, a := range r.resolvers {
		dst := destination(netip.PrefixFrom(a, 32))
		add(from, dst, protocol(unix.IPPROTO_TCP), destinationPort(53), accept())
		add(from, dst, protocol(unix.IPPROTO_UDP), destinationPort(53), accept())
	}
	for _, d := range r.deny {
		add(from, destination(d), reject())
	}
	add(from, establishedOrRelated(), accept())
	if err := r.limitConnections(conn, t, c, "forward_connections"); err != nil {
		return err
	}
	if len(r.closed) > 0 {
		// Forwarding is on for namespaces only: what the host did not route before, it still does not.
		closed := &nftables.Set{Table: t, Name: "not_routed", Constant: true, KeyType: nftables.TypeIFName}
		var elems []nftables.SetElement
		for _, name := range r.closed {
			key := make([]byte, unix.IFNAMSIZ)
			copy(key, name)
			elems = append(elems, nftables.SetElement{Key: key})
		}
		if err := conn.AddSet(closed, elems); err != nil {
			return err
		}
		add(interfaceIn(expr.MetaKeyIIFNAME, closed), interfaceIn(expr.MetaKeyOIFNAME, closed), isIPv4(), drop())
	}
	return nil
}

func (r *rules) postrouting(conn *nftables.Conn, t *nftables.Table) error {
	c := conn.AddChain(&nftables.Chain{Name: "postrouting", Table: t, Type: nftables.ChainTypeNAT,
		Hooknum: nftables.ChainHookPostrouting, Priority: nftables.ChainPriorityNATSource})
	conn.AddRule(&nftables.Rule{Table: t, Chain: c, Exprs: expressions(
		isIPv4(), source(r.prefix),
		interfaceName(expr.MetaKeyOIFNAME, expr.CmpOpNeq, linkPrefix(r.instance)),
		[]expr.Any{&expr.Masq{}},
	)})
	return nil
}

// limitConnections rejects a namespace's new connections while it has as many as it may. Each chain counts its own:
// what goes to the host and what goes beyond.
func (r *rules) limitConnections(conn *nftables.Conn, t *nftables.Table, c *nftables.Chain, name string) error {
	set := &nftables.Set{Table: t, Name: name, Dynamic: true, KeyType: nftables.TypeIPAddr, Size: uint32(2 * r.maxNamespaces)}
	if err := conn.AddSet(set, nil); err != nil {
		return err
	}
	conn.AddRule(&nftables.Rule{Table: t, Chain: c, Exprs: expressions(r.fromNamespace(), stateNew(), []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: ipv4Source, Len: 4},
		&expr.Dynset{SrcRegKey: 1, SetName: set.Name, SetID: set.ID, Operation: unix.NFT_DYNSET_OP_ADD,
			Exprs: []expr.Any{&expr.Connlimit{Count: uint32(r.maxConnections), Flags: expr.NFT_CONNLIMIT_F_INV}}},
	}, reject())})
	return nil
}

// deleteTable removes an instance's table; one that is not there is no error.
func deleteTable(instance string) error {
	conn, err := nftables.New()
	if err != nil {
		return err
	}
	t := &nftables.Table{Name: tableName(instance), Family: nftables.TableFamilyINet}
	conn.AddTable(t)
	conn.DelTable(t)
	return conn.Flush()
}

// ForwardingObstacles names the base chains of other firewalls that drop forwarded packets unless a rule of theirs
// accepts them, as container engines set up: while there is one, namespaces reach the host but nothing beyond it
// until it accepts what comes from and goes to the links th<instance>-*. Rules of iptables-legacy are not seen.
func ForwardingObstacles() ([]string, error) {
	conn, err := nftables.New()
	if err != nil {
		return nil, err
	}
	chains, err := conn.ListChains()
	if err != nil {
		return nil, fmt.Errorf("list nftables chains: %w", err)
	}
	var names []string
	for _, c := range chains {
		if c.Hooknum != nil && *c.Hooknum == *nftables.ChainHookForward && c.Policy != nil && *c.Policy == nftables.ChainPolicyDrop &&
			(c.Table.Family == nftables.TableFamilyIPv4 || c.Table.Family == nftables.TableFamilyINet) {
			names = append(names, c.Table.Name+" "+c.Name)
		}
	}
	return names, nil
}

// The rest are the words that rules are made of: expressions on register 1.

// Offsets in the IPv4 header (RFC 791) and in TCP's and UDP's.
const (
	ipv4Source      = 12
	ipv4Destination = 16
	portDestination = 2
)

func expressions(parts ...[]expr.Any) (all []expr.Any) {
	for _, p := range parts {
		all = append(all, p...)
	}
	return all
}

func (r *rules) fromNamespace() []expr.Any {
	return interfaceName(expr.MetaKeyIIFNAME, expr.CmpOpEq, linkPrefix(r.instance))
}

func (r *rules) notFromNamespace() []expr.Any {
	return interfaceName(expr.MetaKeyIIFNAME, expr.CmpOpNeq, linkPrefix(r.instance))
}

func (r *rules) toNamespace() []expr.Any {
	return interfaceName(expr.MetaKeyOIFNAME, expr.CmpOpEq, linkPrefix(r.instance))
}

// interfaceName compares the first bytes of the name; a closing NUL makes it the whole name.
func interfaceName(key expr.MetaKey, op expr.CmpOp, name string) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: key, Register: 1},
		&expr.Cmp{Op: op, Register: 1, Data: []byte(name)},
	}
}

func interfaceIn(key expr.MetaKey, set *nftables.Set) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: key, Register: 1},
		&expr.Lookup{SourceRegister: 1, SetName: set.Name, SetID: set.ID},
	}
}

func isIPv6() []expr.Any { return family(unix.NFPROTO_IPV6) }
func isIPv4() []expr.Any { return family(unix.NFPROTO_IPV4) }

func family(f byte) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{f}},
	}
}

func notUnicast() []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyPKTTYPE, Register: 1},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: []byte{unix.PACKET_HOST}},
	}
}

func source(p netip.Prefix) []expr.Any { return address(ipv4Source, p) }

// destination matches IPv4 only, since rules of this table see both families.
func destination(p netip.Prefix) []expr.Any {
	return expressions(isIPv4(), address(ipv4Destination, p))
}

func address(offset uint32, p netip.Prefix) []expr.Any {
	p = p.Masked()
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: 4},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: net.CIDRMask(p.Bits(), 32), Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: p.Addr().AsSlice()},
	}
}

// sourceHasNoRouteBack matches when the way to the packet's source is not the link it came from.
func sourceHasNoRouteBack() []expr.Any {
	return []expr.Any{
		&expr.Fib{Register: 1, FlagSADDR: true, FlagIIF: true, ResultOIF: true},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: make([]byte, 4)},
	}
}

func protocol(p byte) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{p}},
	}
}

func loadDestinationPort() expr.Any {
	return &expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: portDestination, Len: 2}
}

func destinationPort(port uint16) []expr.Any {
	return []expr.Any{loadDestinationPort(),
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.BigEndian.PutUint16(port)}}
}

func destinationPortIn(set *nftables.Set) []expr.Any {
	return []expr.Any{loadDestinationPort(),
		&expr.Lookup{SourceRegister: 1, SetName: set.Name, SetID: set.ID}}
}

func establishedOrRelated() []expr.Any {
	return connectionState(expr.CtStateBitESTABLISHED | expr.CtStateBitRELATED)
}

func stateNew() []expr.Any { return connectionState(expr.CtStateBitNEW) }

func connectionState(bits uint32) []expr.Any {
	mask := binary.NativeEndian.AppendUint32(nil, bits)
	return []expr.Any{
		&expr.Ct{Key: expr.CtKeySTATE, Register: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: mask, Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: make([]byte, 4)},
	}
}

func accept() []expr.Any { return []expr.Any{&expr.Verdict{Kind: expr.VerdictAccept}} }
func drop() []expr.Any   { return []expr.Any{&expr.Verdict{Kind: expr.VerdictDrop}} }

// reject answers, so that a client inside fails at once instead of after its time-out: SDKs ask the metadata address
// for credentials when they find no others.
func reject() []expr.Any {
	return []expr.Any{&expr.Reject{Type: unix.NFT_REJECT_ICMPX_UNREACH, Code: unix.NFT_REJECT_ICMPX_ADMIN_PROHIBITED}}
}

func rejectTCP() []expr.Any { return []expr.Any{&expr.Reject{Type: unix.NFT_REJECT_TCP_RST}} }
