package paging

import (
	"strings"
	"testing"
)

// TestTextIn compares with the plain way, and allocates nothing where that is promised.
func TestTextIn(t *testing.T) {
	t.Parallel()
	words := []string{"", "a", "A", "ab", "Task-01", "TASK", "é", "CAFÉ au lait", "x", "k-0", "K", "\x80", "ſ"}
	for _, s := range words {
		for _, low := range words {
			if got, want := NewText(low).In(s), strings.Contains(strings.ToLower(s), strings.ToLower(low)); got != want {
				t.Errorf("%q in %q: %v", low, s, got)
			}
		}
	}
}

// TestTextInAllocatesNothing: a million texts are looked through for a page.
func TestTextInAllocatesNothing(t *testing.T) { //nolint:paralleltest // allocations are counted of the whole process
	text := NewText("LAX")
	if n := testing.AllocsPerRun(10, func() { text.In("ORD-lax-1234567890") }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

// FuzzToken: whatever is shown for a token, there is a place or an error.
func FuzzToken(f *testing.F) {
	o := Order{By: "id", id: true}
	f.Add(o.Token(Place{ID: "a"}))
	f.Add("bnVsbA")
	f.Fuzz(func(t *testing.T, s string) {
		p, err := o.After(s)
		if err == nil && s != "" && p.ID == "" {
			t.Errorf("%q: %+v", s, p)
		}
		if err != nil {
			return
		}
		if p != nil {
			if again, err := o.After(o.Token(*p)); err != nil || *again != *p {
				t.Errorf("%+v: %+v %v", p, again, err)
			}
		}
	})
}
