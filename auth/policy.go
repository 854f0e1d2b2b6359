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
	// Role is the lowest role that may call the method. Nobody means that no role is
	// enough.
	Role Role
	// Public allows calls without credentials.
	Public bool
	// Unrated exempts the method from rates, so that one caller cannot make another's call
	// fail. It is for health checks, and for methods that cost little until the caller's
	// own secret has been verified.
	Unrated bool
	// Worker allows a worker's certificate to call the method, for itself.
	Worker bool
	// Scheduler allows a scheduler's certificate to call the method.
	Scheduler bool
	// Writes marks a method that changes something: allowed calls are audited too.
	Writes bool
	// Kind is the kind of what the method changes, if that does not depend on the call;
	// AllKinds if it concerns work of every kind. An identity that is limited to some kinds
	// must be allowed this one. Methods that declare or delete tasks leave it empty and
	// call MayDeclare for each task.
	Kind string
}

// Policy is the table of all methods, by full name ("/rota.v1.Tasks/GetTask").
type Policy map[string]Rule

// Allow returns nil, or a status Unauthenticated or PermissionDenied.
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

// Allowed returns the methods that an identity may call, in order.
func (p Policy) Allowed(who Identity, namespace string) []string {
	var out []string
	for _, m := range slices.Sorted(maps.Keys(p)) {
		if p.Allow(m, who, namespace) == nil {
			out = append(out, m)
		}
	}
	return out
}

// Merge joins tables. A method in two of them is an error, and so is a rule that allows
// nobody to call a method.
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
