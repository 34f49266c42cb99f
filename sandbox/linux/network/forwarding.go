package network

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// forwarding is what the kernel's settings were before the first instance turned forwarding on. Writing ip_forward
// sets every interface's own switch and accept_redirects too, so these are kept with it.
type forwarding struct {
	// Scope is the boot and the network namespace in which the record holds; /run may outlive both in a container.
	Scope           string   `json:"scope"`
	AcceptRedirects string   `json:"accept_redirects"`
	Open            []string `json:"open"`   // interfaces that forwarded already, of their own
	Closed          []string `json:"closed"` // those that did not
}

const ipForward = "ipv4/ip_forward"

func forwardingFile(dir string) string { return filepath.Join(dir, "forwarding.json") }

// enableForwarding turns IPv4 forwarding on, keeping what it was. It returns the interfaces among which packets were
// not forwarded before, none if forwarding was on by somebody else's will. The host lock must be held.
func enableForwarding(dir string) (closed []string, err error) {
	now, err := readSysctl(ipForward)
	if err != nil {
		return nil, err
	}
	rec, err := readForwarding(dir)
	if err != nil {
		return nil, err
	}
	if now != "0" {
		if rec == nil {
			return nil, nil
		}
		return rec.Closed, nil
	}
	if rec, err = currentForwarding(); err != nil {
		return nil, err
	}
	if err := writeForwarding(dir, rec); err != nil {
		return nil, err
	}
	if err := writeSysctl(ipForward, "1"); err != nil {
		return nil, errors.Join(permitted(err), os.Remove(forwardingFile(dir)))
	}
	return rec.Closed, nil
}

// restoreForwarding puts everything back as recorded. Without a record there is nothing to put back. The host lock
// must be held, and no other instance be alive.
func restoreForwarding(dir string) error {
	rec, err := readForwarding(dir)
	if err != nil || rec == nil {
		return err
	}
	if now, err := readSysctl(ipForward); err != nil {
		return err
	} else if now != "0" {
		if err := writeSysctl(ipForward, "0"); err != nil {
			return err
		}
		if err := writeSysctl("ipv4/conf/all/accept_redirects", rec.AcceptRedirects); err != nil {
			return err
		}
		for _, name := range rec.Open {
			err := writeSysctl("ipv4/conf/"+name+"/forwarding", "1")
			if err != nil && !errors.Is(err, os.ErrNotExist) {
				return err
			}
		}
	}
	return os.Remove(forwardingFile(dir))
}

func currentForwarding() (*forwarding, error) {
	scope, err := forwardingScope()
	if err != nil {
		return nil, err
	}
	rec := &forwarding{Scope: scope}
	if rec.AcceptRedirects, err = readSysctl("ipv4/conf/all/accept_redirects"); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir("/proc/sys/net/ipv4/conf")
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		name := e.Name()
		if name == "all" || name == "lo" || linkPattern.MatchString(name) {
			continue
		}
		on, err := readSysctl("ipv4/conf/" + name + "/forwarding")
		switch {
		case errors.Is(err, os.ErrNotExist): // it went away meanwhile
		case err != nil:
			return nil, err
		case on != "0":
			rec.Open = append(rec.Open, name)
		case name != "default":
			rec.Closed = append(rec.Closed, name)
		}
	}
	slices.Sort(rec.Open)
	slices.Sort(rec.Closed)
	return rec, nil
}

// readForwarding returns nil for a record that does not exist or does not hold here.
func readForwarding(dir string) (*forwarding, error) {
	b, err := os.ReadFile(forwardingFile(dir))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	rec := new(forwarding)
	if err := json.Unmarshal(b, rec); err != nil {
		return nil, fmt.Errorf("%s: %w (remove it if ip_forward is as you want it)", forwardingFile(dir), err)
	}
	scope, err := forwardingScope()
	if err != nil {
		return nil, err
	}
	if rec.Scope != scope {
		return nil, nil
	}
	return rec, nil
}

// writeForwarding replaces the record as a whole, so that a crash leaves the old one or the new one.
func writeForwarding(dir string, rec *forwarding) error {
	b, err := json.Marshal(rec)
	if err != nil {
		return err
	}
	tmp := forwardingFile(dir) + ".new"
	if err := os.WriteFile(tmp, b, 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, forwardingFile(dir))
}

func forwardingScope() (string, error) {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", err
	}
	var st unix.Stat_t
	if err := unix.Stat("/proc/thread-self/ns/net", &st); err != nil {
		return "", fmt.Errorf("stat the network namespace: %w", err)
	}
	return fmt.Sprintf("%s/%d", strings.TrimSpace(string(boot)), st.Ino), nil
}

func readSysctl(name string) (string, error) {
	b, err := os.ReadFile("/proc/sys/net/" + name)
	return strings.TrimSpace(string(b)), err
}

func writeSysctl(name, value string) error {
	f, err := os.OpenFile("/proc/sys/net/"+name, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	return errors.Join(err, f.Close())
}
