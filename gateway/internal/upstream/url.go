package upstream

import (
	"errors"
	"net/netip"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
)

// Schemes of workers that are on a socket of this machine.
const (
	schemeUnix    = "unix"
	schemeH2CUnix = "h2c+unix"
)

// maxSocket is the longest path of a socket (sun_path, with the byte at its end).
const maxSocket = 107

var (
	errWorkerURL = errors.New("http://host:port, https://host:port or h2c://host:port, with or without a base path, without query or user; or unix:/path or h2c+unix:/path")
	errPort      = errors.New("http://host:port, https://host:port or h2c://host:port, the port 1 to 65535")
	errHost      = errors.New("a host as it is commonly written: a name of ASCII letters, digits, \"-\", \"_\" and \".\" that does not end in a number, or an address like 10.0.0.1 or [fd00::1]")
	errSocket    = errors.New("unix:/path or h2c+unix:/path, an absolute path of at most 107 bytes")
)

// ErrNoSockets refuses sockets where anybody else than the gateway's own configuration names
// them.
var ErrNoSockets = errors.New("http, https or h2c: sockets of the gateway's machine are named in its own configuration only")

// parse accepts scheme://host[:port][/base] or unix:/path, and nothing more.
// The error says what was expected.
func parse(s string) (*url.URL, error) {
	scheme, rest, _ := strings.Cut(s, ":")
	if scheme == schemeUnix || scheme == schemeH2CUnix {
		return parseSocket(scheme, rest)
	}
	u, err := url.Parse(s)
	if err != nil {
		return nil, errWorkerURL
	}
	switch u.Scheme {
	case "http", "https", "h2c":
	default:
		return nil, errWorkerURL
	}
	if u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.Opaque != "" {
		return nil, errWorkerURL
	}
	if !commonHost(u.Hostname()) {
		return nil, errHost
	}
	if p := u.Port(); p != "" {
		if n, err := strconv.Atoi(p); err != nil || n < 1 || n > 65535 {
			return nil, errPort
		}
	} else if strings.HasSuffix(u.Host, ":") {
		return nil, errWorkerURL
	}
	return u, nil
}

// commonHost reports whether everybody reads a host in the same way. Systems take
// 2852039166, 0xA9FEA9FE, 0251.0376.0251.0376 and 169.254.43518 for the address
// 169.254.169.254, and some tools letters and digits of other scripts for ASCII ones:
// what such a host is would be known only when it is dialled.
func commonHost(host string) bool {
	if strings.Contains(host, ":") {
		_, err := netip.ParseAddr(host)
		return err == nil
	}
	if len(host) > maxHost || strings.ContainsFunc(host, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_' && r != '.'
	}) {
		return false
	}
	labels := strings.Split(strings.TrimSuffix(host, "."), ".")
	if slices.Contains(labels, "") {
		return false
	}
	if !number(labels[len(labels)-1]) {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Is4()
}

// number reports whether a label is a number to whoever reads numbers generously.
func number(label string) bool {
	label = strings.ToLower(label)
	if hex, ok := strings.CutPrefix(label, "0x"); ok {
		return strings.Trim(hex, "0123456789abcdef") == ""
	}
	return strings.Trim(label, "0123456789") == ""
}

// maxHost is the longest name of a host.
const maxHost = 253

// parseSocket makes a URL of a path, which is taken as it stands.
func parseSocket(scheme, at string) (*url.URL, error) {
	if strings.HasPrefix(at, "///") { // as gRPC writes it
		at = at[len("//"):]
	}
	if !path.IsAbs(at) || strings.HasPrefix(at, "//") || strings.HasSuffix(at, "/") || len(at) > maxSocket || strings.ContainsFunc(at, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return nil, errSocket
	}
	return &url.URL{Scheme: scheme, Opaque: at}, nil
}

// IsSocket says whether the URL of a worker names a socket of this machine.
func IsSocket(u *url.URL) bool { return u.Scheme == schemeUnix || u.Scheme == schemeH2CUnix }

// NamesSocket says whether what is given as a worker's URL does.
func NamesSocket(s string) bool {
	scheme, _, _ := strings.Cut(s, ":")
	return scheme == schemeUnix || scheme == schemeH2CUnix
}

// WholeURL returns the URL of a worker that is named with or without a scheme. The error
// says what was expected.
func WholeURL(s string) (string, error) {
	if !strings.Contains(s, "://") && !strings.HasPrefix(s, schemeUnix+":/") && !strings.HasPrefix(s, schemeH2CUnix+":/") {
		s = "http://" + s
	}
	u, err := parse(s)
	if err != nil {
		return "", err
	}
	if IsSocket(u) {
		return u.String(), nil
	}
	u.Path, u.RawPath = strings.TrimRight(u.Path, "/"), strings.TrimRight(u.RawPath, "/")
	return u.String(), nil
}
