package store_test

import (
	"strings"
	"testing"

	"github.com/rota-project/rota/store"
)

// names are what roots and namespaces may be called: above all what keys and
// roots are made of themselves.
var names = []string{
	"rota", "ns", "peers", "default", "a", "a/", "a/ns/b", "ns/default", "peers/a", "%2F", ".", "..", "x", "feeds",
	store.LeaderKey, store.ClusterKey, store.KickKey, store.JoinKey,
	"tasks", "sessions", "nodes", "grants", "acks", "programs", "schedulers", "jobs", "jobstates", "jobworkers", "sources", "ended", "histories",
	store.TasksPrefix, store.SessionsPrefix, store.JobsPrefix, "ns/default/" + store.TasksPrefix,
}

// TestRoots: no cluster's keys are in another's, whatever they are called.
func TestRoots(t *testing.T) {
	t.Parallel()
	roots := map[string]string{} // root → whose
	for _, a := range names {
		roots[store.PeerRoot(a)] = "peers " + a
		for _, b := range names {
			root := store.ClusterRoot(a, b)
			if other, taken := roots[root]; taken {
				t.Errorf("root %q is that of %s and of cluster %s, %s", root, other, a, b)
			}
			roots[root] = "cluster " + a + ", " + b
		}
	}
	if want := len(names) + len(names)*len(names); len(roots) != want {
		t.Errorf("%d roots, want %d", len(roots), want)
	}
	for a, whoseA := range roots {
		for b, whoseB := range roots {
			if a != b && strings.HasPrefix(b, a) {
				t.Errorf("the keys of %s (%q) are among those of %s (%q)", whoseB, b, whoseA, a)
			}
		}
	}
}

// FuzzRoots says the same of any names.
func FuzzRoots(f *testing.F) {
	for _, n := range names {
		f.Add(n, "default", n)
	}
	f.Fuzz(func(t *testing.T, root, namespace, peer string) {
		roots := []string{
			store.PeerRoot(peer), store.PeerRoot(root), store.ClusterRoot(root, namespace), store.ClusterRoot(root, peer),
			store.ClusterRoot(store.DefaultRoot, namespace), store.ClusterRoot(peer, root),
		}
		for i, a := range roots {
			for j, b := range roots {
				if i != j && a != b && strings.HasPrefix(b, a) {
					t.Errorf("%q is among %q", b, a)
				}
			}
		}
		if roots[0] == roots[2] {
			t.Errorf("%q is of both", roots[0])
		}
	})
}
