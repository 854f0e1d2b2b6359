package store_test

import (
	"errors"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/rota-project/rota/store"
)

// TestNames holds keys to giving back the name that they were made of, and to
// keeping names apart.
func TestNames(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		name := string(rapid.SliceOf(rapid.Byte()).Draw(rt, "name"))
		for _, k := range []struct{ key, prefix string }{
			{store.SchedulerKey(name), store.PrefixSchedulers},
			{store.SessionKey(name), store.PrefixSessions},
			{store.NodeKey(name), store.PrefixNodes},
			{store.SourceKey(name), store.PrefixSources},
			{store.GrantsPrefix(name) + "page/x", store.PrefixGrants},
			{store.AcksPrefix(name), store.PrefixAcks},
		} {
			if got, err := store.NameOf(k.key, k.prefix); err != nil || got != name {
				rt.Fatalf("%q is the key of %q, %v; want %q", k.key, got, err, name)
			}
		}
		if s := store.EscapeName(name); strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == '/' }) {
			rt.Fatalf("%q is written %q", name, s)
		}
	})
}

func FuzzUnescapeName(f *testing.F) {
	for _, s := range []string{"", "w1", "a%2Fb", "%", "%4", "%41", "%zz", "a/b", "é"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if name, err := store.UnescapeName(s); err == nil && store.EscapeName(name) != s {
			t.Errorf("%q is read as %q, which is written %q", s, name, store.EscapeName(name))
		}
	})
}

func TestNameOfOther(t *testing.T) {
	t.Parallel()
	for _, key := range []string{"grants/w", "sessions", "sessions/%", "sessions/%41"} {
		if name, err := store.NameOf(key, store.PrefixSessions); err == nil {
			t.Errorf("NameOf(%q) = %q, want an error", key, name)
		}
	}
}

func TestCheckTxn(t *testing.T) {
	t.Parallel()
	many := make([]store.Op, store.MaxTxnOps+1)
	for i := range many {
		many[i].Key = strings.Repeat("k", i+1)
	}
	conds := make([]store.Cond, store.MaxTxnOps+1)
	for i := range conds {
		conds[i].Key = "k"
	}
	for _, c := range []struct {
		name  string
		conds []store.Cond
		ops   []store.Op
		want  error
	}{
		{"nothing", nil, nil, nil},
		{"most", conds[:store.MaxTxnOps], many[:store.MaxTxnOps], nil},
		{"too many conditions", conds, nil, store.ErrTooLarge},
		{"too many operations", nil, many, store.ErrTooLarge},
		{"too long", nil, []store.Op{{Key: "a", Value: make([]byte, store.MaxTxnBytes/2)}, {Key: "b", Value: make([]byte, store.MaxTxnBytes/2)}}, store.ErrTooLarge},
		{"a key twice", nil, []store.Op{{Key: "a"}, {Key: "a", Delete: true}}, store.ErrInvalid},
		{"no key", nil, []store.Op{{}}, store.ErrInvalid},
		{"no key compared", []store.Cond{{}}, nil, store.ErrInvalid},
		{"negative", []store.Cond{{Key: "a", Revision: -1}}, nil, store.ErrInvalid},
		{"unknown comparison", []store.Cond{{Key: "a", By: 2}}, nil, store.ErrInvalid},
	} {
		if err := store.CheckTxn(c.conds, c.ops); !errors.Is(err, c.want) || (c.want == nil) != (err == nil) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
}
