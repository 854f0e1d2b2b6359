package view

import (
	"errors"
	"slices"
	"strings"

	"github.com/rota-project/rota/internal/store/table"
)

// ErrUnbound says of a key that goes with somebody's lease that it has none: somebody
// else wrote it, and it would stay when whoever it is of has died.
var ErrUnbound = errors.New("the key has no lease")

// Unread are the keys whose values cannot be read, in order of key. They are set
// aside: what was known of them before stays. Call it inside Read.
func (v *View) Unread() []table.Unread {
	var out []table.Unread
	for _, u := range v.unread {
		out = append(out, u...)
	}
	slices.SortFunc(out, func(a, b table.Unread) int { return strings.Compare(a.Key, b.Key) })
	return out
}

// Clean reports whether everything can be read. It costs nothing, whatever there is.
// Call it inside Read.
func (v *View) Clean() bool { return len(v.unread) == 0 }

// Fault is why a key that is no page cannot be read; nil if it can, or is absent. Call
// it inside Read.
func (v *View) Fault(key string) error {
	for _, u := range v.unread[key] {
		return u.Err
	}
	return nil
}

// setAside notes what of an owner, a table's prefix or a key, cannot be read, and
// tells of what is new.
func (v *View) setAside(d *Delta, owner string, now []table.Unread) {
	was := v.unread[owner]
	if len(was)+len(now) == 0 {
		return
	}
	same := func(u table.Unread) func(table.Unread) bool {
		return func(w table.Unread) bool { return u.Key == w.Key && u.Revision == w.Revision && u.Lost == w.Lost }
	}
	for _, u := range now {
		if !slices.ContainsFunc(was, same(u)) {
			d.Unread = true
			v.log.Error("value cannot be read, set aside", "key", u.Key, "revision", u.Revision, "lost", u.Lost, "error", u.Err)
		}
	}
	for _, u := range was {
		if !slices.ContainsFunc(now, func(w table.Unread) bool { return u.Key == w.Key }) {
			d.Unread = true
			v.log.Info("value that could not be read is mended or gone", "key", u.Key)
		}
	}
	if len(now) == 0 {
		delete(v.unread, owner)
	} else {
		v.unread[owner] = now
	}
}
