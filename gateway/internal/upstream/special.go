package upstream

import (
	"errors"
	"net/netip"
	"net/url"
	"slices"
	"strings"
)

// special are addresses at which no worker is by intent: those that mean "here" or
// "everybody", those of one wire, among them 169.254.169.254, where clouds answer
// with the machine's secrets, and those that were set aside.
var special = func() (list []netip.Prefix) {
	for _, s := range []string{
		"0.0.0.0/8", "169.254.0.0/16", "192.0.0.0/24", "192.88.99.0/24", "224.0.0.0/4", "240.0.0.0/4", "100.100.100.200/32", "168.63.129.16/32",
		"::/128", "fe80::/10", "fec0::/10", "ff00::/8", "100::/64", "fd00:ec2::254/128", "fd20:ce::254/128", "64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32",
		"::/96", "::ffff:0:0:0/96", // an address of IPv4 within, in forms of old
	} {
		list = append(list, netip.MustParsePrefix(s))
	}
	return list
}()

// metadataNames are names under which clouds answer with the machine's secrets.
var metadataNames = []string{"metadata", "metadata.google.internal", "metadata.goog", "instance-data", "instance-data.ec2.internal"}

var errSpecial = errors.New("an address at which a worker may be; this one is link-local, multicast or otherwise special (special_workers allows it)")

// ParseURL makes a URL of what somebody gives as a worker's. allowed are the networks in
// which it may be although they are not for that. The error says what was expected.
func ParseURL(s string, allowed []netip.Prefix) (*url.URL, error) {
	u, err := parse(s)
	if err != nil {
		return nil, err
	}
	return u, mayBe(u, allowed)
}

// mayBe returns an error if the URL names a special address.
func mayBe(u *url.URL, allowed []netip.Prefix) error {
	host := strings.TrimSuffix(strings.ToLower(u.Hostname()), ".")
	for _, n := range metadataNames {
		if host == n && len(allowed) == 0 {
			return errSpecial
		}
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return nil //nolint:nilerr // a name: what it resolves to is looked at when it is dialled
	}
	return MayDial(ip, allowed)
}

// MayDial returns an error if an address is special, and in none of the networks that are
// allowed.
func MayDial(ip netip.Addr, allowed []netip.Prefix) error {
	ip = ip.Unmap().WithZone("")
	if ip.IsLoopback() || within(ip, allowed) {
		return nil
	}
	if b := ip.As16(); ip.Is6() && b[8]&^2 == 0 && b[9] == 0 && b[10] == 0x5e && b[11] == 0xfe { // ISATAP: one of IPv4 within
		return errSpecial
	}
	if within(ip, special) {
		return errSpecial
	}
	return nil
}

func within(ip netip.Addr, networks []netip.Prefix) bool {
	return slices.ContainsFunc(networks, func(p netip.Prefix) bool { return p.Contains(ip) })
}
