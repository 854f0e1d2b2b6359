package pki_test

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/rota-project/rota/auth/pki"
)

// An authority issues a scheduler's and a worker's certificate, and each side finds out
// by them with whom it speaks.
func Example() {
	dir, err := os.MkdirTemp("", "pki")
	if err != nil {
		panic(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	now := time.Now()
	if _, err := pki.Init(dir, "example", pki.DefaultAuthorityLife, now); err != nil {
		panic(err)
	}
	load := func(role pki.Role, name string) *pki.Source {
		c, err := pki.Issue(dir, pki.Request{Role: role, Name: name, Hosts: []string{"127.0.0.1"}}, now)
		if err != nil {
			panic(err)
		}
		s, err := pki.Load(pki.Files{CA: filepath.Join(dir, pki.CAFile), Cert: c.File, Key: c.Key})
		if err != nil {
			panic(err)
		}
		return s
	}
	serve, err := load(pki.Scheduler, "s1").Server(true)
	if err != nil {
		panic(err)
	}
	call := load(pki.Worker, "w1").Client("127.0.0.1")

	here, there := net.Pipe()
	scheduler, worker := tls.Server(here, serve), tls.Client(there, call)
	go func() { _, _ = io.Copy(io.Discard, worker) }()
	if err := scheduler.Handshake(); err != nil {
		panic(err)
	}
	name, isScheduler := pki.Names(scheduler.ConnectionState().PeerCertificates[0])
	fmt.Println(name, isScheduler)
	// Output: w1 false
}
