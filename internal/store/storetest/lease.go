package storetest

import (
	"errors"
	"testing"
	"time"

	"github.com/rota-project/rota/store"
)

func grant(t *testing.T, s store.Store, ttl time.Duration) store.LeaseID {
	t.Helper()
	id, got, err := s.Grant(t.Context(), ttl)
	if err != nil || id == 0 || got < ttl {
		t.Fatalf("Grant(%v) = %x, %v, %v", ttl, id, got, err)
	}
	return id
}

func leased(key string, id store.LeaseID) store.Op {
	return store.Op{Key: key, Value: []byte("v"), Lease: id}
}

func leaseRevoked(t *testing.T, s store.Store) {
	id := grant(t, s, time.Hour)
	other := grant(t, s, time.Hour+time.Millisecond)
	if id == other {
		t.Fatalf("two leases are both %x", id)
	}
	txn(t, s, leased("a", id), leased("c", id), leased("o", other))
	start := txn(t, s, leased("b", id))
	if kv, _ := get(t, s, "a"); kv.Lease != id {
		t.Errorf("a has lease %x, want %x", kv.Lease, id)
	}
	if left, err := s.LeaseLeft(t.Context(), id); err != nil || left < time.Hour-time.Minute {
		t.Errorf("LeaseLeft = %v, %v", left, err)
	}
	if ttl, err := s.KeepAlive(t.Context(), id); err != nil || ttl < time.Hour {
		t.Errorf("KeepAlive = %v, %v", ttl, err)
	}
	ch := s.Watch(t.Context(), "", start+1)
	if err := s.Revoke(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	evs := events(t, ch, 3)
	for i, key := range []string{"a", "b", "c"} {
		if !evs[i].Deleted || evs[i].Key != key || evs[i].Mod != evs[0].Mod {
			t.Errorf("event %d is %+v, want %s gone at the revision of the others", i, evs[i], key)
		}
	}
	if kvs, _ := list(t, s, ""); len(kvs) != 1 || kvs[0].Key != "o" || kvs[0].Lease != other {
		t.Errorf("left are %+v, want o", kvs)
	}
	if err := s.Revoke(t.Context(), id); err != nil {
		t.Errorf("revoking again: %v", err)
	}
	if err := s.Revoke(t.Context(), other); err != nil {
		t.Error(err)
	}
}

// leaseEnds waits for a lease to end while another of the same length is kept
// alive.
func leaseEnds(t *testing.T, s store.Store) {
	kept, ends := grant(t, s, time.Second), grant(t, s, time.Second)
	start := txn(t, s, leased("kept", kept), leased("ends", ends), leased("ends too", ends))
	ch := s.Watch(t.Context(), "", start+1)
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	renewed := 0
	for {
		select {
		case b, ok := <-ch:
			if ok && b.Err == nil && len(b.Events) == 0 {
				continue
			}
			if !ok || b.Err != nil || len(b.Events) != 2 || b.Events[0].Key != "ends" || b.Events[1].Key != "ends too" ||
				!b.Events[0].Deleted || !b.Events[1].Deleted {
				t.Fatalf("the watch brings %+v", b)
			}
			if renewed == 0 {
				t.Error("no lease was renewed")
			}
			wants(t, s, "kept", "v")
			if _, err := s.KeepAlive(t.Context(), ends); !errors.Is(err, store.ErrLeaseNotFound) {
				t.Errorf("keeping an ended lease alive: %v", err)
			}
			if err := s.Revoke(t.Context(), kept); err != nil {
				t.Error(err)
			}
			return
		case <-tick.C:
			if ttl, err := s.KeepAlive(t.Context(), kept); err != nil || ttl < time.Second {
				t.Fatalf("KeepAlive = %v, %v", ttl, err)
			}
			renewed++
		}
	}
}

func leaseGone(t *testing.T, s store.Store) {
	id := grant(t, s, time.Hour)
	if err := s.Revoke(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if _, err := s.LeaseLeft(t.Context(), id); !errors.Is(err, store.ErrLeaseNotFound) {
		t.Errorf("LeaseLeft: %v, want ErrLeaseNotFound", err)
	}
	if _, err := s.KeepAlive(t.Context(), id); !errors.Is(err, store.ErrLeaseNotFound) {
		t.Errorf("KeepAlive: %v, want ErrLeaseNotFound", err)
	}
	if ok, _, err := s.Txn(t.Context(), nil, []store.Op{put("a", "1"), leased("b", id)}); ok || !errors.Is(err, store.ErrLeaseNotFound) {
		t.Errorf("Txn: %v, %v; want ErrLeaseNotFound", ok, err)
	}
	wants(t, s, "a", "")
	if err := s.Revoke(t.Context(), 12345); err != nil {
		t.Errorf("revoking what never was: %v", err)
	}
}

// leaseLeft writes keys anew, without their lease and with another one.
func leaseLeft(t *testing.T, s store.Store) {
	id, other := grant(t, s, time.Hour), grant(t, s, time.Hour)
	txn(t, s, leased("free", id), leased("moved", id), leased("gone", id))
	txn(t, s, put("free", "v"), leased("moved", other))
	if err := s.Revoke(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	wants(t, s, "free", "v")
	wants(t, s, "moved", "v")
	wants(t, s, "gone", "")
	if err := s.Revoke(t.Context(), other); err != nil {
		t.Fatal(err)
	}
	wants(t, s, "free", "v")
	wants(t, s, "moved", "")
}
