package upstream

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"time"
)

// tlsConfig is the configuration of one connection to the worker.
func (w *Worker) tlsConfig(protocols []string) *tls.Config {
	if w.reach.Member != nil {
		return w.reach.Member(w.Name)
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if conf := w.trust.Load(); conf != nil {
		c = conf.Clone()
		c.MinVersion = cmp.Or(c.MinVersion, tls.VersionTLS12)
	}
	c.ServerName = cmp.Or(c.ServerName, w.URL.Hostname())
	c.NextProtos = protocols
	if c.GetClientCertificate == nil {
		c.GetClientCertificate = func(info *tls.CertificateRequestInfo) (*tls.Certificate, error) {
			w.Asks.Store(true)
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

// Retrust has connections made by another configuration from now on, and those that
// were made by the former used no more once they are idle.
func (w *Worker) Retrust(c *tls.Config, log *slog.Logger) {
	was := w.trust.Swap(c)
	if SameTLS(was, c) {
		return
	}
	if c != nil && c.InsecureSkipVerify {
		log.Warn("the certificate of this worker is not verified: whoever is in between can read and change its calls", "worker", w.Name)
	}
	w.unshown.Store(false)
	w.renew()
}

// SameTLS says whether two configurations of a worker trust and show the same.
// What cannot be compared is not the same.
func SameTLS(a, b *tls.Config) bool {
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

// wordWithin is how long is waited for a worker to say why it does not accept who we are.
const wordWithin = time.Second

// Alerted says whether an error is an alert of the worker's.
func Alerted(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "remote error"
}

// Untrusted is err with what it means, if a new connection to the worker has broken
// before anything came because the worker does not accept who we are; else nil. With
// TLS 1.3 it says so only when the call is on its way.
func (w *Worker) Untrusted(err error) error {
	switch {
	case !w.TLS || err == nil:
		return nil
	case Alerted(err):
		return fmt.Errorf("%w: %w", errTLS, err)
	case w.unshown.Load():
		return fmt.Errorf("%w: it asked for a client certificate, got none and hung up: %w", errTLS, err)
	}
	return nil
}

// Verdict asks a worker, with which calls over HTTP/2 fail, on another connection
// whether it accepts who we are: net/http's client does not say why a connection ended.
// It answers what is wrong with TLS, nil if that is not known.
func (w *Worker) Verdict(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, wordWithin)
	defer cancel()
	nc, err := w.connectTLS(ctx, "", "")
	switch {
	case errors.Is(err, errTLS):
		return err
	case err != nil:
		return nil // the worker may have just ended
	}
	defer nc.Close() //nolint:errcheck // nothing was sent on it
	_ = nc.SetReadDeadline(time.Now().Add(wordWithin))
	if _, err = nc.Read(make([]byte, 1)); errors.Is(err, os.ErrDeadlineExceeded) {
		return nil // it waits for a call
	}
	return w.Untrusted(err)
}
