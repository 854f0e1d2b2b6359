package auth

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Rule says who may call a method.
type Rule struct {
	// Role is the least role that may. Nobody means that no role is enough.
	Role Role
	// Public lets anybody call, without credentials.
	Public bool
	// Unrated marks what no rate applies to, so that nobody's asking makes another's fail:
	// questions after health, and what costs little until a secret of the caller's own is
	// found good.
	Unrated bool
	// Worker lets a worker's certificate call, for itself.
	Worker bool
	// Scheduler lets a scheduler's certificate call.
	Scheduler bool
	// Writes marks what changes something: it is audited even when it is allowed.
	Writes bool
	// Kind is the kind of what the method changes, where that does not depend on
	// the call; AllKinds where it concerns work of every kind. An identity that is
	// limited to some kinds must be good for it. Methods that declare or delete
	// tasks leave it empty, and ask MayDeclare about each task.
	Kind string
}

// Policy is the table of all methods, by full name ("/rota.v1.Tasks/GetTask").
type Policy map[string]Rule

// Allow is nil, or a status of Unauthenticated or PermissionDenied.
func (p Policy) Allow(method string, who Identity, namespace string) error {
	r, ok := p[method]
	if !ok {
		return status.Error(codes.PermissionDenied, "nobody may call this method")
	}
	switch {
	case r.Public,
		r.Worker && who.Worker != "",
		r.Scheduler && who.Scheduler:
		return nil
	case who.Kind == Anonymous:
		return unauthenticated(ReasonMissing, "credentials are missing: send a token as \"authorization: Bearer ...\"")
	case !who.In(namespace):
		return status.Errorf(codes.PermissionDenied, "%s is not valid in namespace %q", who.Name, namespace)
	case who.Kind == Local && (r.Worker || r.Scheduler):
		return nil
	case r.Role == Nobody:
		return status.Error(codes.PermissionDenied, "this method needs a certificate of the cluster")
	case who.Role < r.Role:
		return status.Errorf(codes.PermissionDenied, "%s has the role %s; this needs the role %s", who.Name, who.Role, r.Role)
	}
	if r.Kind != "" {
		return who.good(r.Kind)
	}
	return nil
}

// Allowed lists the methods that an identity may call, in order.
func (p Policy) Allowed(who Identity, namespace string) []string {
	var out []string
	for _, m := range slices.Sorted(maps.Keys(p)) {
		if p.Allow(m, who, namespace) == nil {
			out = append(out, m)
		}
	}
	return out
}

// Merge adds tables; a method in two of them is an error, and so is a rule that
// opens a method to nobody.
func Merge(tables ...Policy) (Policy, error) {
	out := Policy{}
	for _, t := range tables {
		for _, m := range slices.Sorted(maps.Keys(t)) {
			if _, twice := out[m]; twice {
				return nil, fmt.Errorf("auth: %s is in two tables", m)
			}
			r := t[m]
			if !strings.HasPrefix(m, "/") || r.Role == Nobody && !r.Public && !r.Worker && !r.Scheduler {
				return nil, fmt.Errorf("auth: rule of %s is of no use: %+v", m, r)
			}
			out[m] = r
		}
	}
	return out, nil
}
