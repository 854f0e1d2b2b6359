package auth

import (
	"context"
	"fmt"
	"strings"
	"unicode"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/internal/text"
)

// Kinds of work other than the kinds of tasks, for Rule.Kind and the patterns of
// identities.
const (
	// JobKind is the kind of all jobs.
	JobKind = "job"
	// CallKind is the kind of all calls of functions.
	CallKind = "call"
	// AllKinds is the kind of methods that concern work of every kind, and the pattern that
	// matches it.
	AllKinds = "*"
)

// MayDeclare returns nil if the caller may declare, change or delete a task of the kind.
// Every method that does so calls it for each task. Tasks of programs' functions need the
// role submitter, or the certificate of the worker that runs the program's scheduler
// function; all other tasks need the role operator. If the caller is limited to some kinds,
// this kind must be one of them. Without a Guard nobody may; see Inside.
func MayDeclare(ctx context.Context, kind string) error {
	if kind == "" {
		kind = rota.DefaultKind
	}
	who := From(ctx)
	least := Operator
	if strings.HasPrefix(kind, rota.ProgramKind) {
		least = Submitter
	}
	switch {
	case who.Kind == Local:
		return nil
	case who.Worker != "" && least == Submitter:
		return nil
	case who.Role < least:
		return status.Errorf(codes.PermissionDenied, "%s may not declare tasks of kind %q: this needs the role %s", who.Name, kind, least)
	}
	return who.good(kind)
}

// MayStop returns nil if the caller, who has the role that stopping a program needs, may
// stop a program whose scheduler function is a task of the kind.
func MayStop(ctx context.Context, kind string) error {
	who := From(ctx)
	if who.Kind == Local {
		return nil
	}
	if who.Role < Submitter {
		return status.Errorf(codes.PermissionDenied, "%s may not stop a program: this needs the role %s", who.Name, Submitter)
	}
	return who.good(kind)
}

// good is nil if the identity is not limited to other kinds.
func (i Identity) good(kind string) error {
	if len(i.Kinds) == 0 {
		return nil
	}
	for _, pattern := range i.Kinds {
		if matchKind(pattern, kind) {
			return nil
		}
	}
	if kind == AllKinds {
		return status.Errorf(codes.PermissionDenied, "%s is limited to some kinds of task; this concerns all", i.Name)
	}
	return status.Errorf(codes.PermissionDenied, "%s is not valid for kind %q", i.Name, kind)
}

// matchKind reports whether a kind matches a pattern, in which each * matches any text:
// "feed-*", "program/*", "job".
func matchKind(pattern, kind string) bool {
	head, rest, star := strings.Cut(pattern, "*")
	if !star {
		return pattern == kind
	}
	kind, ok := strings.CutPrefix(kind, head)
	for ok {
		var part string
		part, rest, star = strings.Cut(rest, "*")
		if !star {
			return strings.HasSuffix(kind, part)
		}
		_, kind, ok = strings.Cut(kind, part)
	}
	return false
}

// checkKinds returns a *rota.FieldError for the first pattern that is wrong.
func checkKinds(patterns []string) error {
	if len(patterns) > rota.MaxRules {
		return &rota.FieldError{Field: "kinds", Value: len(patterns), Want: fmt.Sprintf("at most %d patterns", rota.MaxRules)}
	}
	for _, p := range patterns {
		if p == "" || len(p) > rota.MaxIDLen || strings.ContainsFunc(p, func(r rune) bool { return unicode.IsSpace(r) || !unicode.IsPrint(r) }) {
			return &rota.FieldError{Field: "kinds", Value: text.Clip(p, text.Short), Want: fmt.Sprintf("kinds of at most %d bytes without white space, * for any text", rota.MaxIDLen)}
		}
	}
	return nil
}
