package network

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestConfigIsRefused(t *testing.T) {
	tests := []struct {
		name string
		cfg  Config
	}{
		{"no instance", Config{}},
		{"long instance", Config{Instance: "ninechars"}},
		{"instance that would match another's links", Config{Instance: "a-b"}},
		{"negative pool", Config{Instance: "a", Pool: -1}},
		{"pool above the bound", Config{Instance: "a", Pool: 3, Max: 2}},
		{"IPv6 prefix", Config{Instance: "a", Prefix: netip.MustParsePrefix("fd00::/64")}},
		{"wide prefix", Config{Instance: "a", Prefix: netip.MustParsePrefix("10.0.0.0/8")}},
		{"narrow prefix", Config{Instance: "a", Prefix: netip.MustParsePrefix("10.0.0.0/30")}},
		{"IPv6 destination", Config{Instance: "a", Deny: []netip.Prefix{netip.MustParsePrefix("::/0")}}},
		{"empty destination", Config{Instance: "a", Deny: []netip.Prefix{{}}}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			test.cfg.Dir = t.TempDir()
			if p, err := Open(context.Background(), test.cfg); err == nil {
				p.Close()
				t.Error("accepted")
			}
			if left := claims(t, test.cfg.Dir); len(left) != 0 {
				t.Errorf("touched before it was checked: %v", left)
			}
		})
	}
}

func TestLongestLinkNameFits(t *testing.T) {
	h := &host{instance: "abcdefgh"}
	name := h.linkName(uint32(slotCount(netip.MustParsePrefix("10.0.0.0/16")) - 1))
	if len(name) > 15 || !linkPattern.MatchString(name) {
		t.Errorf("link name %q: the kernel takes 15 bytes", name)
	}
}

func TestChoosePrefix(t *testing.T) {
	none, big := netip.Prefix{}, netip.MustParsePrefix("10.0.0.0/8")
	tests := []struct {
		name  string
		want  netip.Prefix
		taken []netip.Prefix
		got   netip.Prefix
	}{
		{"first", none, nil, candidates[0]},
		{"a route around the first", none, []netip.Prefix{big}, candidates[1]},
		{"a server in the first", none, []netip.Prefix{netip.MustParsePrefix("10.213.9.9/32")}, candidates[1]},
		{"all taken", none, candidates, none},
		{"asked for", netip.MustParsePrefix("10.9.0.0/24"), []netip.Prefix{candidates[0]}, netip.MustParsePrefix("10.9.0.0/24")},
		{"asked for and taken", netip.MustParsePrefix("10.9.0.0/24"), []netip.Prefix{big}, none},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := choosePrefix(test.want, test.taken)
			if got != test.got || (err == nil) != test.got.IsValid() {
				t.Errorf("got %v, %v, want %v", got, err, test.got)
			}
			if err != nil && !errors.Is(err, ErrPrefix) {
				t.Errorf("%v is not ErrPrefix", err)
			}
		})
	}
}

func TestSlots(t *testing.T) {
	p := netip.MustParsePrefix("10.9.8.16/28")
	s := newSlots(slotCount(p))
	var got []string
	for {
		n, ok := s.take()
		if !ok {
			break
		}
		got = append(got, slotAddr(p, n).String())
	}
	if hostAddr(p).String() != "10.9.8.17" || got[0] != "10.9.8.18" || got[len(got)-1] != "10.9.8.30" || len(got) != 13 {
		t.Errorf("host %s, namespaces %v", hostAddr(p), got)
	}
	s.give(3)
	s.give(7)
	if a, _ := s.take(); a != 3 {
		t.Errorf("got %d, want 3", a)
	}
	s.give(3)
	if b, _ := s.take(); b != 7 {
		t.Errorf("got %d, want 7, not the one that was given back last", b)
	}
}

func TestResolver(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	stub := write("stub", "# local\nnameserver 127.0.0.53\noptions edns0 trust-ad\nsearch example.org\n")
	up := write("up", "nameserver 192.0.2.53\nnameserver fe80::1%eth0\nnameserver 2001:db8::53\nnameserver\t::ffff:192.0.2.54\nnameserver\nnameserver x\nsearch a b\n")
	const upConf = "nameserver 192.0.2.53\nnameserver 192.0.2.54\nsearch a b\n"
	tests := []struct {
		name, conf, servers, source string
		files                       []string
	}{
		{"plain", upConf, "192.0.2.53 192.0.2.54", up, []string{up, stub}},
		{"stub with upstream", upConf, "192.0.2.53 192.0.2.54", up, []string{stub, filepath.Join(dir, "none"), up}},
		{"stub alone", "", "", "", []string{stub}},
		{"nothing", "", "", "", nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r, err := resolverFrom(test.files)
			if (err == nil) != (test.conf != "") || err != nil && !errors.Is(err, ErrNoResolver) {
				t.Fatal(err)
			}
			var servers []string
			for _, a := range r.Servers {
				servers = append(servers, a.String())
			}
			if string(r.Conf) != test.conf || strings.Join(servers, " ") != test.servers || r.Source != test.source {
				t.Errorf("got %q, %v, %s", r.Conf, servers, r.Source)
			}
		})
	}
}

func FuzzResolver(f *testing.F) {
	f.Add([]byte("nameserver 192.0.2.1\nsearch a\n"))
	f.Add([]byte("nameserver ::1\r\nnameserver 127.1.2.3\n; x"))
	f.Fuzz(func(t *testing.T, text []byte) {
		conf, servers := reachable(text)
		for _, a := range servers {
			if !a.Is4() || a.IsLoopback() {
				t.Errorf("%s cannot be reached from a namespace", a)
			}
		}
		again, same := reachable(conf)
		if string(again) != string(conf) || !slices.Equal(same, servers) {
			t.Errorf("%q became %q when read again", conf, again)
		}
	})
}
