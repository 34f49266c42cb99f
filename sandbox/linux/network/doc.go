// Package network keeps network namespaces for execution environments: a pool of them is made ahead, one is handed
// out per key (a function version), shared by that key's environments and destroyed after the last of them. Making
// and destroying a network namespace takes locks of the whole kernel, so neither happens on the caller's path while
// the pool lasts.
//
// A namespace lives as long as this process holds its descriptor or a process runs inside; it has no name in the file
// system. Its life:
//
//	         make                Acquire              last Release
//	(none) --------> free ------------------> held ------------------> dying ----> (none)
//	           \                                ^                         ^
//	            `--- somebody waits for one ----'       more than Pool ---'
//
// A namespace is never used again, not even for its own key: with a filled pool a new one costs the caller nothing,
// and so no connection, listener or counter of an earlier environment can show in a later one.
//
// Inside there are lo and, except in a pool of loopback-only namespaces, eth0: one end of a veth pair with a single
// address out of Config.Prefix, no IPv6 beyond ::1, and a default route to HostAddr, which is the same in every
// namespace. The other end is in the host's namespace under the name th<instance>-<number>. One nftables table,
// thaw-<instance>, translates and filters:
//
//	from a namespace to ...            verdict
//	another namespace                  rejected
//	Config.Deny, by default metadata   rejected (port 53 of the host's own name servers is let through)
//	the host, port in DenyHostPorts    rejected
//	the host                           accepted
//	anything else                      accepted, translated to the host's address
//	anything, with another's address   dropped
//	anything, as IPv6 or multicast     dropped
//
// Nothing from outside reaches a namespace unless it belongs to a connection that the namespace opened.
// A verdict "accepted" is this table's alone: a host whose own firewall drops forwarded packets still drops them.
//
// A process that was killed leaves its table (the filter stays closed over whatever still runs inside), and perhaps
// links and ip_forward; the next Open of any instance on the host removes what dead instances left.
//
// The package starts no process of a function and writes no file for it; sandbox/linux does, inside Namespace.Do.
//
// Lock order: the host lock (a file in Config.Dir, held only during Open and Close) before Pool.mu. Pool.mu is never
// held across a system call.
package network
