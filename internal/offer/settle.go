package offer

import (
	"errors"
	"maps"
	"net"
	"net/netip"
	"net/url"
	"strings"
)

// Settle returns the labels with the address of calls that a worker may have: what
// it advertises is where it thinks that it is, and a label is easily written. peer is
// where its session comes from. The port is the worker's choice; the host is the one
// that its session comes from, so that no worker can send calls to another machine
// or to a gateway's own loopback. Without TLS only a worker of the same machine
// answers calls, over loopback. The error says why a worker that advertises an
// address gets no calls; its labels are then without it.
func Settle(labels map[string]string, peer netip.Addr) (map[string]string, error) {
	advertised, ok := labels[urlLabel]
	if !ok {
		return labels, nil
	}
	settled, err := settle(advertised, peer.Unmap().WithZone(""))
	out := maps.Clone(labels)
	if err == nil {
		out[urlLabel] = settled
		return out, nil
	}
	for l := range out {
		if l == urlLabel || strings.HasPrefix(l, prefix) {
			delete(out, l)
		}
	}
	return out, err
}

func settle(advertised string, peer netip.Addr) (string, error) {
	u, err := url.Parse(advertised)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Port() == "" || u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
		return "", errors.New("it is no http://address:port or https://address:port")
	}
	host, err := netip.ParseAddr(u.Hostname())
	if err != nil {
		return "", errors.New("its host is no address")
	}
	host = host.Unmap()
	local := peer.IsLoopback()
	switch {
	case u.Scheme == "http" && !local:
		return "", errors.New("calls between machines need TLS: the worker's --tls-ca, --tls-cert and --tls-key")
	case host.IsLoopback() && !local:
		return "", errors.New("it listens on loopback, and is another machine: --calls ADDRESS:PORT")
	case host.IsLoopback(), local && !host.IsUnspecified() && u.Scheme == "https":
		// A worker of this machine may listen where it likes: its certificate says who it is.
	case local && !host.IsUnspecified():
		return "", errors.New("without TLS it must listen on loopback")
	default:
		host = peer
	}
	u.Host, u.Path = net.JoinHostPort(host.String(), u.Port()), ""
	return u.String(), nil
}

// Reserved says whether a label is one of those that offer functions, which a worker
// may not set by itself.
func Reserved(label string) bool { return label == urlLabel || strings.HasPrefix(label, prefix) }
