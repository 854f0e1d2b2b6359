package auth

import (
	"errors"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/rota-project/rota"
)

func TestMatchKind(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		pattern, kind string
		want          bool
	}{
		{"feed", "feed", true},
		{"feed", "feeds", false},
		{"feed-*", "feed-a", true},
		{"feed-*", "feed-", true},
		{"feed-*", "feed", false},
		{"*", "anything/at-all", true},
		{"*", AllKinds, true},
		{"feed-*", AllKinds, false},
		{"program/*", "program/elevator", true},
		{"program/*", "program-scheduler/elevator", false},
		{"*-eu", "feed-eu", true},
		{"*-eu", "feed-eu-2", false},
		{"a*b*c", "axbxbc", true},
		{"a*b*c", "acb", false},
		{"a*a", "a", false},
		{"a**b", "ab", true},
		{"", "", true},
		{"f?ed", "feed", false},
	} {
		if got := matchKind(c.pattern, c.kind); got != c.want {
			t.Errorf("%q fits %q: %v", c.kind, c.pattern, got)
		}
	}
}

// TestMayDeclare: whoever may declare what, by role, certificate and limits.
func TestMayDeclare(t *testing.T) {
	t.Parallel()
	const ordinary, function, submitted = "feed-a", rota.ProgramKind + "f", rota.ProgramSchedulerKind + "f"
	token := func(r Role, kinds ...string) Identity {
		return Identity{Kind: ByToken, Name: "somebody", Role: r, Kinds: kinds}
	}
	for name, c := range map[string]struct {
		who Identity
		may string // of ordinary, function, submitted and "" their first letters
	}{
		"viewer":              {token(Viewer), ""},
		"submitter":           {token(Submitter), "f"},
		"operator":            {token(Operator), "ofs-"},
		"admin":               {token(Admin), "ofs-"},
		"operator of feeds":   {token(Operator, "feed-*"), "o"},
		"operator of tasks":   {token(Operator, "task"), "-"},
		"admin of programs":   {token(Admin, "program/*", "program-scheduler/*"), "fs"},
		"submitter of feeds":  {token(Submitter, "feed-*"), ""},
		"submitter of all":    {token(Submitter, "*"), "f"},
		"jwt without a role":  {Identity{Kind: ByJWT}, ""},
		"worker":              {Identity{Kind: ByCert, Worker: "w"}, "f"},
		"scheduler":           {Identity{Kind: ByCert, Scheduler: true}, ""},
		"on this machine":     {Identity{Kind: Local, Role: Admin}, "ofs-"},
		"without credentials": {Identity{Kind: Anonymous}, ""},
		"nobody at all":       {Identity{}, ""},
		"JWT, an operator's":  {Identity{Kind: ByJWT, Role: Operator}, "ofs-"},
		"operator of nothing": {token(Operator, "none"), ""},
	} {
		for letter, kind := range map[string]string{"o": ordinary, "f": function, "s": submitted, "-": ""} {
			err := MayDeclare(With(t.Context(), c.who), kind)
			if strings.Contains(c.may, letter) != (err == nil) || err != nil && status.Code(err) != codes.PermissionDenied {
				t.Errorf("%s, kind %q: %v", name, kind, err)
			}
		}
	}
}

// TestKindsOfMethods: who is limited to some kinds may call what concerns those.
func TestKindsOfMethods(t *testing.T) {
	t.Parallel()
	p := Policy{"/job": {Role: Submitter, Kind: JobKind}, "/all": {Role: Submitter, Kind: AllKinds}, "/see": {Role: Viewer}}
	for kinds, may := range map[string]string{"": "/job /all /see", "*": "/job /all /see", "job": "/job /see", "feed-*": "/see"} {
		who := Identity{Kind: ByToken, Name: "n", Role: Admin}
		if kinds != "" {
			who.Kinds = []string{kinds}
		}
		for method := range p {
			if err := p.Allow(method, who, "default"); strings.Contains(may, method) != (err == nil) {
				t.Errorf("limited to %q, %s: %v", kinds, method, err)
			}
		}
	}
}

func TestKindsAtFault(t *testing.T) {
	t.Parallel()
	for _, bad := range [][]string{{""}, {"a b"}, {"a", "b\n"}, {strings.Repeat("x", rota.MaxIDLen+1)}, make([]string, rota.MaxRules+1)} {
		_, _, err := NewToken(Token{Name: "x", Role: Viewer, Kinds: bad}, t0)
		if fe := (*rota.FieldError)(nil); !errors.As(err, &fe) || fe.Field != "kinds" {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
