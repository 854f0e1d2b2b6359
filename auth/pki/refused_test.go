package pki

import (
	"bytes"
	"crypto/tls"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

// TestRefusalsAreTold: the log of the side that refuses a revoked certificate names
// it, its number and why, once for all its tries, and the other side hears where to
// look.
func TestRefusalsAreTold(t *testing.T) {
	t.Parallel()
	dir := newCA(t)
	files := issue(t, dir, Request{Role: Scheduler, Name: "s", Hosts: []string{"127.0.0.1"}})
	files.Revoked = filepath.Join(dir, RevokedFile)
	mine := issue(t, dir, Request{Role: Worker, Name: "w7"})
	if _, err := Revoke(files.Revoked, Revocation{Role: Worker, Name: "w7"}, time.Now()); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer // a logger writes one line at a time
	server, worker := source(t, files), source(t, mine)
	server.TellRefusals(slog.New(slog.NewTextHandler(&log, nil)))
	srv := grpc.NewServer(grpc.Creds(ServerCredentials(serverOf(t, server, true))))
	healthpb.RegisterHealthServer(srv, peerHealth{names: make(chan string, 1)})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = srv.Serve(l)
	}()
	for range 3 {
		conf := worker.Client("", "h2")
		conn, err := (&tls.Dialer{Config: conf}).DialContext(t.Context(), "tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		_, err = Watch(conn.(*tls.Conn), conf).Read(make([]byte, 1))
		if err == nil || !strings.Contains(err.Error(), "its log says") {
			t.Errorf("the worker hears %v", err)
		}
		_ = conn.Close()
	}
	srv.Stop()
	<-served
	text := log.String()
	serial := ""
	if cert, _ := worker.current(); cert != nil {
		serial = cert.Leaf.SerialNumber.Text(16)
	}
	if strings.Count(text, "certificate refused") != 1 || !strings.Contains(text, "reason=revoked role=worker name=w7 serial="+serial) {
		t.Errorf("the log: %s", text)
	}
}
