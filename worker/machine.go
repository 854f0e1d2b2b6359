package worker

import (
	"context"
	"crypto/tls"
	"time"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
)

// certificateEvery is how often the worker looks when its certificate ends.
const certificateEvery = time.Minute

// machine is how things are here, for rota doctor.
func (w *Worker) machine() *rotav1.Machine {
	return &rotav1.Machine{UnixMs: time.Now().UnixMilli(), CertificateEndsUnixMs: w.certificateEnds.Load()}
}

// watchCertificate looks when the certificate ends, until ctx does. It has a goroutine
// of its own, for the files may be on a disk that hangs.
func (w *Worker) watchCertificate(ctx context.Context) {
	if w.dialTLS() == nil {
		return
	}
	ticker := time.NewTicker(certificateEvery)
	defer ticker.Stop()
	for {
		ends := int64(0)
		if cert := clientCertificate(w.dialTLS()); cert != nil && cert.Leaf != nil {
			ends = cert.Leaf.NotAfter.UnixMilli()
		}
		w.certificateEnds.Store(ends)
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

// clientCertificate is the certificate that a client with conf shows; nil if it has none.
func clientCertificate(conf *tls.Config) *tls.Certificate {
	switch {
	case conf == nil:
		return nil
	case conf.GetClientCertificate != nil:
		cert, err := conf.GetClientCertificate(&tls.CertificateRequestInfo{})
		if err != nil {
			return nil
		}
		return cert
	case len(conf.Certificates) > 0:
		return &conf.Certificates[0]
	}
	return nil
}
