package upstream

import (
	"crypto/tls"
	"errors"
	"net"
	"syscall"
)

// Unreachable says whether an error means that no connection to the worker could be
// made, and whether that is certain to go on: nobody listens, or TLS fails.
func Unreachable(err error) (ok, certain bool) {
	var op *net.OpError
	var dns *net.DNSError
	var header tls.RecordHeaderError
	var cert *tls.CertificateVerificationError
	switch {
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, errTLS), noSocket(err),
		errors.As(err, &header), errors.As(err, &cert), Alerted(err):
		return true, true
	case errors.As(err, &dns):
		return true, dns.IsNotFound
	}
	return errors.As(err, &op) && op.Op == "dial", false
}

// noSocket says that there is no socket at the path where the worker should be, or that
// it is not for us.
func noSocket(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial" && op.Net == "unix" && !op.Timeout() && !errors.Is(err, syscall.EAGAIN)
}
