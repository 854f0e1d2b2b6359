package process

import (
	"fmt"
	"os/user"
	"strconv"

	"github.com/rota-project/rota/internal/text"
)

// LookupUser finds a user of the machine by name or number, with all of the
// user's groups.
func LookupUser(name string) (*User, error) {
	u, err := user.Lookup(name)
	if err != nil {
		if u, err = user.LookupId(name); err != nil {
			return nil, fmt.Errorf("process: user %q: %w", text.Clip(name, text.Short), err)
		}
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("process: user %q: id %q is no number", text.Clip(name, text.Short), u.Uid)
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("process: user %q: group %q is no number", text.Clip(name, text.Short), u.Gid)
	}
	out := &User{UID: uint32(uid), GID: uint32(gid)}
	ids, err := u.GroupIds()
	if err != nil {
		return nil, fmt.Errorf("process: groups of %q: %w", text.Clip(name, text.Short), err)
	}
	for _, id := range ids {
		if g, err := strconv.ParseUint(id, 10, 32); err == nil {
			out.Groups = append(out.Groups, uint32(g))
		}
	}
	return out, nil
}
