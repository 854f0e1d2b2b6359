package worker_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rota-project/rota/worker"
)

// TestMachine: hellos and renewals say what the clock shows, and when the certificate
// ends that was read last.
func TestMachine(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		ends := time.Now().Add(time.Hour).Truncate(time.Millisecond)
		var read atomic.Pointer[time.Time] // as the files tell
		read.Store(&ends)
		start(t, f, worker.Config{DialTLS: func() *tls.Config {
			return &tls.Config{GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
				return &tls.Certificate{Leaf: &x509.Certificate{NotAfter: *read.Load()}}, nil
			}}
		}}, map[string]worker.TaskFunc{"k": func(ctx context.Context, _ worker.Assigned) error { <-ctx.Done(); return nil }})
		pass(ttl)
		wants := func(want time.Time) {
			t.Helper()
			f.mu.Lock()
			defer f.mu.Unlock()
			if m := f.machine; time.Since(time.UnixMilli(m.GetUnixMs())) > ttl || m.GetCertificateEndsUnixMs() != want.UnixMilli() {
				t.Errorf("it says %v, want %v", m, want)
			}
		}
		wants(ends)
		renewed := ends.Add(time.Hour)
		read.Store(&renewed)
		pass(2 * time.Minute)
		wants(renewed)
		if h := f.hellos[0].GetMachine(); h.GetUnixMs() == 0 {
			t.Errorf("the hello says %v", h)
		}
	})
}
