package etcd_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rota-project/rota/auth/pki"
	"github.com/rota-project/rota/store/etcd"
)

// TestPeerPortIsClosed: whoever has no certificate of a scheduler gets no answer of
// the port by which members reach each other, whatever they ask for.
func TestPeerPortIsClosed(t *testing.T) {
	t.Parallel()
	c := newTrio(t, true, "s1", "s2", "s3")
	c.start(c.names()...)
	other := newTrio(t, true)
	shows := func(files pki.Files) *tls.Config {
		src, err := pki.Load(pki.Files{CA: files.CA, Cert: files.Cert, Key: files.Key})
		if err != nil {
			t.Fatal(err)
		}
		conf := src.Client("")
		conf.InsecureSkipVerify = true
		return conf
	}
	own := c.files(pki.Scheduler, "s9")
	issue := func(name string, now time.Time) pki.Files {
		cert, err := pki.Issue(c.pki, pki.Request{Role: pki.Scheduler, Name: name, Hosts: []string{"127.0.0.1"}, Life: time.Hour}, now)
		if err != nil {
			t.Fatal(err)
		}
		return pki.Files{CA: own.CA, Cert: cert.File, Key: cert.Key}
	}
	revoked := issue("stolen", time.Now())
	if _, err := pki.Revoke(filepath.Join(c.pki, pki.RevokedFile), pki.Revocation{Role: pki.Scheduler, Name: "stolen"}, time.Now()); err != nil {
		t.Fatal(err)
	}
	ask := func(method, url string, conf *tls.Config) (string, error) {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		client := http.Client{Transport: &http.Transport{TLSClientConfig: conf, DisableKeepAlives: true}}
		req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader("x"))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(req)
		if err != nil {
			return "", err
		}
		defer func() { _ = resp.Body.Close() }()
		text, err := io.ReadAll(resp.Body)
		return fmt.Sprint(resp.StatusCode, " ", string(text)), err
	}
	for _, address := range c.members { // lists are read again once a second
		await(t, "the revoked scheduler is refused", func() bool {
			_, err := ask(http.MethodGet, "https://"+address+"/members", shows(revoked))
			return err != nil
		})
	}
	strangers := map[string]*tls.Config{
		"somebody without a certificate": shows(pki.Files{CA: own.CA}),
		"a worker":                       shows(c.files(pki.Worker, "w1")),
		"a client":                       shows(c.files(pki.Client, "c1")),
		"an etcd":                        shows(c.files(pki.Etcd, "e1")),
		"a scheduler of others":          shows(other.files(pki.Scheduler, "s1")),
		"a scheduler that has ended":     shows(issue("old", time.Now().Add(-2*time.Hour))),
		"a scheduler that was revoked":   shows(revoked),
		"nobody, without TLS":            nil,
		"a scheduler by an old protocol": func() *tls.Config {
			conf := shows(own)
			conf.MinVersion, conf.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
			return conf
		}(),
	}
	paths := []string{
		"/", "/members", "/members/promote/1", "/version", "/health", "/metrics", "/raft", "/raft/snapshot", "/raft/probing",
		"/raft/stream/msgapp/1", "/leases", "/leases/internal", "/members/hashkv", "/downgrade/enabled", "/v3/kv/range", "/debug/vars", "/rota/join", "/rota/renew",
	}
	for name, address := range c.members {
		if text, err := ask(http.MethodGet, "https://"+address+"/members", shows(own)); err != nil || !strings.HasPrefix(text, "200 ") {
			t.Fatalf("a scheduler at %s: %q, %v", name, text, err)
		}
		for who, conf := range strangers {
			scheme := "https://"
			if conf == nil {
				scheme = "http://"
			}
			for _, path := range paths {
				for _, method := range []string{http.MethodGet, http.MethodPost} {
					text, err := ask(method, scheme+address+path, conf)
					// Go's server says in plain HTTP that it speaks TLS; this one says nothing.
					if err == nil {
						t.Errorf("%s got an answer of %s by %s %s: %q", who, name, method, path, text)
					}
				}
			}
		}
	}
	// Strangers who say nothing keep nobody out.
	for range 300 {
		conn, err := net.Dial("tcp", c.members["s1"])
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
	}
	if text, err := ask(http.MethodGet, "https://"+c.members["s1"]+"/members", shows(own)); err != nil || !strings.HasPrefix(text, "200 ") {
		t.Errorf("a scheduler beside many strangers: %q, %v", text, err)
	}
}

// TestMembersTalkToSchedulersOnly: a member says nothing to whoever has taken another
// member's address and has a certificate of the same authority and host, but not a
// scheduler's.
func TestMembersTalkToSchedulersOnly(t *testing.T) {
	t.Parallel()
	for role, talks := range map[pki.Role]bool{pki.Worker: false, pki.Etcd: false, pki.Scheduler: true} {
		t.Run(string(role), func(t *testing.T) {
			t.Parallel()
			c := newTrio(t, true, "s1", "s2", "s3")
			src, err := pki.Load(c.files(role, "s2"))
			if err != nil {
				t.Fatal(err)
			}
			conf, err := src.Server(false, "http/1.1")
			if err != nil {
				t.Fatal(err)
			}
			port := c.open["s2"]
			heard, refused := make(chan string, 1), make(chan error, 100)
			go func() {
				for {
					raw, err := port.Accept()
					if err != nil {
						return
					}
					go func() {
						defer func() { _ = raw.Close() }()
						conn := tls.Server(raw, conf)
						if _, err := conn.Read(make([]byte, 1)); err != nil {
							select {
							case refused <- err:
							default:
							}
							return
						}
						select {
						case heard <- "a byte":
						default:
						}
					}()
				}
			}()
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan struct{})
			cfg := c.config("s1")
			go func() {
				defer close(done)
				if e, err := etcd.Embed(ctx, cfg); err == nil {
					t.Error("it takes part alone")
					_ = e.Stop()
				}
			}()
			for n := 0; n < 5; n++ {
				select {
				case <-heard:
					if !talks {
						t.Error("it talks to the one who is no scheduler")
					}
					n = 5
				case err := <-refused:
					if talks {
						n-- // a probe that ended; what counts is that it talks at last
					} else if errors.Is(err, io.EOF) {
						t.Errorf("it closed without a reason: %v", err)
					}
				case <-time.After(time.Minute):
					t.Fatal("it has not connected")
				}
			}
			cancel()
			<-done
		})
	}
}

// TestDataDirIsOfOneMember: a data directory is taken by the member that it is of.
func TestDataDirIsOfOneMember(t *testing.T) {
	t.Parallel()
	c := newTrio(t, false, "s1", "s2", "s3")
	all := c.start(c.names()...)
	single := filepath.Join(c.dir, "single")
	e, err := etcd.Embed(t.Context(), etcd.EmbedConfig{DataDir: single, NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := all["s1"].Stop(); err != nil {
		t.Fatal(err)
	}
	if err := all["s2"].Stop(); err != nil {
		t.Fatal(err)
	}
	for name, x := range map[string]struct {
		cfg  func() etcd.EmbedConfig
		want string
	}{
		"another member's": {func() etcd.EmbedConfig {
			cfg := c.config("s1")
			cfg.DataDir = filepath.Join(c.dir, "s2")
			return cfg
		}, "want the data of s1: the directory has that of s2"},
		"one that is alone": {func() etcd.EmbedConfig {
			cfg := c.config("s1")
			cfg.DataDir = single
			return cfg
		}, "want an empty directory: it has the data of a single scheduler"},
		"a member's, alone": {func() etcd.EmbedConfig {
			return etcd.EmbedConfig{DataDir: filepath.Join(c.dir, "s1"), NoSync: true}
		}, "the directory has the data of s1, a member of a cluster"},
		"in use": {func() etcd.EmbedConfig {
			cfg := c.config("s1")
			cfg.DataDir = filepath.Join(c.dir, "s3")
			return cfg
		}, "in use"},
		"another address": {func() etcd.EmbedConfig {
			cfg := c.config("s1")
			cfg.Quorum.Members["s1"] = "127.0.0.1:1"
			return cfg
		}, "want the address " + c.members["s1"] + " for s1, as before"},
		"lost": {func() etcd.EmbedConfig {
			cfg := c.config("s1")
			cfg.DataDir = filepath.Join(c.dir, "lost")
			return cfg
		}, "s1 was a member before, but its data directory is empty"},
	} {
		e, err := etcd.Embed(t.Context(), x.cfg())
		if err == nil || !strings.Contains(err.Error(), x.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", name, err)
		}
		if err == nil {
			_ = e.Stop()
		}
	}
}

// TestDataDirOfAnotherCluster: a member whose data directory is of another cluster of
// the same names ends, and says so.
func TestDataDirOfAnotherCluster(t *testing.T) {
	t.Parallel()
	c, other := newTrio(t, false, "s1", "s2", "s3"), newTrio(t, false, "s1", "s2", "s3")
	all := c.start(c.names()...)
	for _, e := range other.start(other.names()...) {
		if err := e.Stop(); err != nil {
			t.Fatal(err)
		}
	}
	if err := all["s1"].Stop(); err != nil {
		t.Fatal(err)
	}
	cfg := c.config("s1")
	cfg.DataDir = filepath.Join(other.dir, "s1")
	cfg.Quorum.Members["s1"] = other.members["s1"] // where it says that it is
	if e, err := etcd.Embed(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), "the data directory belongs to another cluster: s") {
		t.Errorf("a data directory of another cluster: %v", err)
		if err == nil {
			_ = e.Stop()
		}
	}
}
