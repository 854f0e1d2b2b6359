// Package listener opens TCP ports on machines that have IPv4, IPv6 or both.
//
// Whatever listens calls it. It must know nothing of who does.
package listener

import (
	"context"
	"errors"
	"net"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

// The loopback addresses, IPv4 first.
const (
	loopback4 = "127.0.0.1"
	loopback6 = "::1"
)

// Loopback is this machine's own address: 127.0.0.1, or ::1 on a machine without IPv4.
var Loopback = sync.OnceValue(func() string {
	if canBind("tcp4", loopback4) || !canBind("tcp6", loopback6) {
		return loopback4
	}
	return loopback6
})

func canBind(network, host string) bool {
	l, err := new(net.ListenConfig).Listen(context.Background(), network, net.JoinHostPort(host, "0"))
	if err == nil {
		_ = l.Close() // nobody was let in
	}
	return err == nil
}

// TCP listens on addr, host:port. Unlike package net it takes "[::]:80" for an address
// of IPv6 and ":80" for all addresses on a machine without IPv4 too, and a host name for
// its address of IPv6 where the one of IPv4 is not of this machine.
func TCP(ctx context.Context, addr string) (net.Listener, error) {
	var lc net.ListenConfig
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return lc.Listen(ctx, "tcp", addr) // it has the words for this
	}
	l, err := lc.Listen(ctx, "tcp", addr)
	if net.ParseIP(host) == nil && host != "" && absent(err) {
		if strings.EqualFold(host, "localhost") { // whatever is known of that name
			host = loopback6
		}
		if l6, err := lc.Listen(ctx, "tcp6", net.JoinHostPort(host, port)); err == nil {
			return l6, nil
		}
	}
	if err != nil || !wildcard(host) {
		return l, err
	}
	at, ok := l.Addr().(*net.TCPAddr)
	if !ok || at.IP.To4() == nil || host == "" && Loopback() == loopback4 {
		return l, nil
	}
	// Where package net finds no IPv4 to map it binds 0.0.0.0, which nobody reaches.
	l6, err := lc.Listen(ctx, "tcp6", net.JoinHostPort("::", strconv.Itoa(at.Port)))
	if err != nil {
		return l, nil //nolint:nilerr // there is no IPv6
	}
	_ = l.Close()
	return l6, nil
}

// All listens on addr, and for localhost on each of its addresses that the machine has.
func All(ctx context.Context, addr string) ([]net.Listener, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil || !strings.EqualFold(host, "localhost") {
		l, err := TCP(ctx, addr)
		if err != nil {
			return nil, err
		}
		return []net.Listener{l}, nil
	}
	var lc net.ListenConfig
	var all []net.Listener
	l, err := lc.Listen(ctx, "tcp4", net.JoinHostPort(loopback4, port))
	switch {
	case err == nil:
		all = append(all, l)
		_, port, _ = net.SplitHostPort(l.Addr().String())
	case !absent(err):
		return nil, err
	}
	l6, err := lc.Listen(ctx, "tcp6", net.JoinHostPort(loopback6, port))
	if err == nil {
		all = append(all, l6)
	}
	if len(all) == 0 {
		return nil, err
	}
	return all, nil
}

// wildcard reports whether host is all addresses, of IPv6 or of both.
func wildcard(host string) bool {
	ip := net.ParseIP(host)
	return host == "" || ip != nil && ip.To4() == nil && ip.IsUnspecified()
}

// absent reports whether err says that the machine does not have the address, or
// nothing of its kind.
func absent(err error) bool {
	return errors.Is(err, syscall.EADDRNOTAVAIL) || errors.Is(err, syscall.EAFNOSUPPORT)
}
