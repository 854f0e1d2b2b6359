package uuid

import (
	"slices"
	"testing"
	"time"
)

func TestNew(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	var ids []string
	for i := range 1000 {
		id := New(time.UnixMilli(1_700_000_000_000 + int64(i)))
		if !Valid(id) || id[14] != '7' || seen[id] {
			t.Fatalf("%q", id)
		}
		seen[id] = true
		ids = append(ids, id)
	}
	if !slices.IsSorted(ids) {
		t.Error("not in the order of time")
	}
	if New(time.UnixMilli(1))[:13] != "00000000-0001" {
		t.Error("the time is elsewhere")
	}
}

func TestOf(t *testing.T) {
	t.Parallel()
	a := Of("127.0.0.1:30000")
	if !Valid(a) || a[14] != '5' || a != Of("127.0.0.1:30000") || a == Of("127.0.0.1:30001") {
		t.Errorf("%q", a)
	}
}

func TestAt(t *testing.T) {
	t.Parallel()
	at := time.UnixMilli(1_700_000_000_000)
	a := At(at, "x")
	if !Valid(a) || a[14] != '7' || a != At(at, "x") || a == At(at, "y") || a[:13] != New(at)[:13] {
		t.Errorf("%q", a)
	}
}

func TestValid(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]bool{
		"": false, "../../../../../../../../../../etc/pw": false, "0190a6e0-0000-7000-8000-000000000001": true,
		"0190a6e0-0000-7000-8000-00000000000": false, "0190A6E0-0000-7000-8000-000000000001": false,
		"0190a6e0x0000-7000-8000-000000000001": false,
	} {
		if Valid(s) != want {
			t.Errorf("%q: %v", s, !want)
		}
	}
}
