package auth

import (
	"fmt"

	"github.com/rota-project/rota"
)

// Role is what an identity may do. Each role includes the ones before it.
type Role uint8

// The roles. The zero value may do nothing.
const (
	Nobody    Role = iota
	Viewer         // see everything but secrets
	Submitter      // run, stop and retry jobs, call functions; running an allowed command means running code on a worker
	Operator       // declare and delete tasks, drain workers, ask for passes
	Admin          // make and revoke tokens
)

var roleNames = map[Role]string{Nobody: "nobody", Viewer: "viewer", Submitter: "submitter", Operator: "operator", Admin: "admin"}

func (r Role) String() string {
	if s, ok := roleNames[r]; ok {
		return s
	}
	return fmt.Sprintf("role %d", uint8(r))
}

// ParseRole returns the role with this name.
func ParseRole(s string) (Role, error) {
	for r, name := range roleNames {
		if name == s && r != Nobody {
			return r, nil
		}
	}
	return Nobody, &rota.FieldError{Field: "role", Value: s, Want: "viewer, submitter, operator or admin"}
}

// MarshalText writes the role's name.
func (r Role) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText reads the role's name.
func (r *Role) UnmarshalText(b []byte) error {
	v, err := ParseRole(string(b))
	*r = v
	return err
}
