// Package metadata has one idea: where cloud providers answer for the machine itself, credentials and configuration among it, to
// anyone who asks from it. Functions are kept from there, and so is what others may have the platform call.
package metadata

import "net/netip"

// IPv4 gives the addresses: link-local (AWS, Azure, Google, Oracle, DigitalOcean and others at 169.254.169.254, AWS containers at
// 169.254.170.2), Alibaba's and Azure's own.
func IPv4() []netip.Prefix {
	return []netip.Prefix{
		netip.MustParsePrefix("169.254.0.0/16"),
		netip.MustParsePrefix("100.100.100.200/32"),
		netip.MustParsePrefix("168.63.129.16/32"),
	}
}

// IPv6 gives the addresses: link-local, and AWS's own.
func IPv6() []netip.Prefix {
	return []netip.Prefix{netip.MustParsePrefix("fe80::/10"), netip.MustParsePrefix("fd00:ec2::/32")}
}
