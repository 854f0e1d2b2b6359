package gateway

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"time"
)

// tlsConfig is the configuration of one connection to the worker.
func (w *worker) tlsConfig(protocols []string) *tls.Config {
	if w.member != nil {
		return w.member(w.name)
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if conf := w.trust.Load(); conf != nil {
		c = conf.Clone()
		orElse(&c.MinVersion, tls.VersionTLS12)
	}
	orElse(&c.ServerName, w.url.Hostname())
	c.NextProtos = protocols
	if c.GetClientCertificate == nil {
		c.GetClientCertificate = func(info *tls.CertificateRequestInfo) (*tls.Certificate, error) {
			w.asks.Store(true)
			for i := range c.Certificates {
				if info.SupportsCertificate(&c.Certificates[i]) == nil {
					return &c.Certificates[i], nil
				}
			}
			w.unshown.Store(true)
			return &tls.Certificate{}, nil
		}
	}
	return c
}

// retrust has connections made by another configuration from now on, and those that
// were made by the former used no more once they are idle.
func (g *Gateway) retrust(w *worker, c *tls.Config) {
	was := w.trust.Swap(c)
	if sameTLS(was, c) {
		return
	}
	if c != nil && c.InsecureSkipVerify {
		g.log.Warn("the certificate of this worker is not verified: whoever is in between can read and change its calls", "worker", w.name)
	}
	w.unshown.Store(false)
	w.renew()
}

// sameTLS says whether two configurations of a worker trust and show the same.
// What cannot be compared is not the same.
func sameTLS(a, b *tls.Config) bool {
	if a == b {
		return true
	}
	if a == nil || b == nil || a.GetClientCertificate != nil || b.GetClientCertificate != nil || a.VerifyConnection != nil || b.VerifyConnection != nil ||
		a.VerifyPeerCertificate != nil || b.VerifyPeerCertificate != nil {
		return false
	}
	if (a.RootCAs == nil) != (b.RootCAs == nil) || a.RootCAs != nil && !a.RootCAs.Equal(b.RootCAs) {
		return false
	}
	return a.ServerName == b.ServerName && a.MinVersion == b.MinVersion && a.MaxVersion == b.MaxVersion &&
		a.InsecureSkipVerify == b.InsecureSkipVerify && slices.Equal(a.CipherSuites, b.CipherSuites) &&
		slices.EqualFunc(a.Certificates, b.Certificates, func(x, y tls.Certificate) bool {
			return slices.EqualFunc(x.Certificate, y.Certificate, bytes.Equal)
		})
}

// alerted says whether an error is an alert of the worker's.
func alerted(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "remote error"
}

// untrusted is err with what it means, if a new connection to the worker has broken
// before anything came because the worker does not accept who we are; else nil. With
// TLS 1.3 it says so only when the call is on its way.
func (w *worker) untrusted(err error) error {
	switch {
	case !w.tls || err == nil:
		return nil
	case alerted(err):
		return fmt.Errorf("%w: %w", errTLS, err)
	case w.unshown.Load():
		return fmt.Errorf("%w: it asked for a client certificate, got none and hung up: %w", errTLS, err)
	}
	return nil
}

// verdict asks a worker, with which calls over HTTP/2 fail, on another connection
// whether it accepts who we are: net/http's client does not say why a connection ended.
// It answers what is wrong with TLS, nil if that is not known.
func (w *worker) verdict(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, continueAfter)
	defer cancel()
	nc, err := w.connectTLS(ctx, "", "")
	switch {
	case errors.Is(err, errTLS):
		return err
	case err != nil:
		return nil // the worker may have just ended
	}
	defer nc.Close() //nolint:errcheck // nothing was sent on it
	_ = nc.SetReadDeadline(time.Now().Add(continueAfter))
	if _, err = nc.Read(make([]byte, 1)); errors.Is(err, os.ErrDeadlineExceeded) {
		return nil // it waits for a call
	}
	return w.untrusted(err)
}

// lastWord is err, or the worker's alert if it has sent one before it hung up.
func (u *upstream) lastWord(err error) error {
	_ = u.NC.SetReadDeadline(time.Now().Add(continueAfter))
	var one [1]byte
	if _, rerr := u.NC.Read(one[:]); alerted(rerr) {
		return rerr
	}
	return err
}
