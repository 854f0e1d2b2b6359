package auth

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
)

// Loopback reports whether only this machine can reach a listener on addr.
func Loopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		host = addr
	}
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}

// OpenError is the refusal to listen without protection where others can reach the port.
// Its text says what to do.
type OpenError struct {
	Addr           string
	TLS, Protected bool
}

func (e *OpenError) Error() string {
	var missing []string
	if !e.TLS {
		missing = append(missing, "TLS (rota cert init; rota cert issue scheduler NAME --host HOST; then --tls with its files)")
	}
	if !e.Protected {
		missing = append(missing, "tokens (rota token create --role admin --file FILE; then --tokens FILE)")
	}
	return fmt.Sprintf("%s is open to other machines: use %s, or listen on localhost", e.Addr, strings.Join(missing, " and "))
}

// CheckListen returns an *OpenError for an address beyond loopback, unless there is TLS and
// callers have to authenticate.
func CheckListen(addr string, tls, protected bool) error {
	if Loopback(addr) || tls && protected {
		return nil
	}
	return &OpenError{Addr: addr, TLS: tls, Protected: protected}
}
