package etcd_test

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/store"
	"github.com/rota-project/rota/store/etcd"
)

// TestNodeRenewals renews leases at the nodes of this process, one of which leads and the
// others ask it: each lease is answered for itself, the ended ones too, and goes on being
// renewed when the leader is gone.
func TestNodeRenewals(t *testing.T) {
	t.Parallel()
	for name, secure := range map[string]bool{"plain": false, "TLS": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newTrio(t, secure, "s1", "s2", "s3")
			all := c.start("s1", "s2", "s3")
			stores := map[string]*etcd.Store{}
			for n, e := range all {
				stores[n] = open(t, etcd.Config{Node: e, Root: "x/", DialTimeout: time.Minute, RequestTimeout: time.Minute, Again: true})
			}
			const leases = 30
			ids := make([]store.LeaseID, leases)
			for n := range ids {
				id, _, err := stores["s1"].Grant(t.Context(), time.Minute+time.Duration(n)*time.Second)
				if err != nil {
					t.Fatal(err)
				}
				if ids[n] = id; n%3 == 0 {
					if err := stores["s1"].Revoke(t.Context(), id); err != nil {
						t.Fatal(err)
					}
				}
			}
			renewAll := func() {
				t.Helper()
				var renewing sync.WaitGroup
				for member, s := range stores {
					for n, id := range ids {
						renewing.Go(func() {
							ttl, err := s.KeepAlive(t.Context(), id)
							switch {
							case n%3 == 0 && !errors.Is(err, store.ErrLeaseNotFound):
								t.Errorf("%s: lease %d, which has ended: %v, %v", member, n, ttl, err)
							case n%3 != 0 && (err != nil || ttl != time.Minute+time.Duration(n)*time.Second):
								t.Errorf("%s: lease %d: renewed for %v, %v", member, n, ttl, err)
							}
						})
					}
				}
				renewing.Wait()
			}
			renewAll()
			leads := ""
			for n, s := range stores {
				if s.Inspect(t.Context())[0].Leader {
					leads = n
				}
			}
			if err := errors.Join(stores[leads].Close(), all[leads].Stop()); err != nil {
				t.Fatalf("%q: %v", leads, err)
			}
			delete(stores, leads)
			renewAll()
		})
	}
}

// TestRenewalsAsked has members asked for renewals by what is no member, and by one that
// takes another for the leader.
func TestRenewalsAsked(t *testing.T) {
	t.Parallel()
	c := newTrio(t, false, "s1", "s2", "s3")
	c.start("s1", "s2", "s3")
	counts := map[int]int{}
	for _, address := range c.members {
		for _, x := range []struct{ method, body, want string }{
			{http.MethodGet, "", "POST only"},
			{http.MethodPost, "{}", "no leases in it: "},
			{http.MethodPost, "[1,", "no leases in it: "},
			{http.MethodPost, "[" + strings.Repeat("1,", 1<<20) + "1]", "no leases in it: "},
			{http.MethodPost, "[4711]", ""},
		} {
			req, err := http.NewRequestWithContext(t.Context(), x.method, "http://"+address+"/rota/renew", strings.NewReader(x.body))
			if err != nil {
				t.Fatal(err)
			}
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			text, err := io.ReadAll(resp.Body)
			if err != nil || !strings.HasPrefix(string(text), x.want) || (resp.StatusCode < 300) != (x.want == "" && string(text) == "[0]\n") {
				t.Errorf("%s %.20s: %s: %s, %v", x.method, x.body, resp.Status, text, err)
			}
			if x.want == "" {
				counts[resp.StatusCode]++
			}
			_ = resp.Body.Close()
		}
	}
	if counts[http.StatusOK] != 1 || counts[http.StatusServiceUnavailable] != 2 {
		t.Errorf("answers to a renewal: %v, want that of the leader, and two of members that do not lead", counts)
	}
}

// TestNodeAndEndpoints: one of them says where the store is.
func TestNodeAndEndpoints(t *testing.T) {
	t.Parallel()
	_, err := etcd.Open(t.Context(), etcd.Config{Node: node, Endpoints: node.Endpoints()})
	var field *rota.FieldError
	if !errors.As(err, &field) || field.Field != "endpoints" {
		t.Error(err)
	}
}
