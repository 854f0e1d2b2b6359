package headers_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/rota-project/rota/gateway/internal/headers"
	"github.com/rota-project/rota/gateway/internal/wire"
)

func text(fields []wire.Field) string {
	var b strings.Builder
	for _, f := range fields {
		if !f.Drop {
			b.WriteString(string(f.Name) + ": " + string(f.Value) + "\n")
		}
	}
	return b.String()
}

func TestApply(t *testing.T) {
	t.Parallel()
	r, name, err := headers.New(map[string]string{"X-Env": "prod", "Server": ""}, []string{"x-debug"}, false)
	if err != nil {
		t.Fatal(name, err)
	}
	var in []wire.Field
	for _, n := range []string{"A", "x-env", "X_ENV", "X-Debug", "X_debug", "X-Debug-Not", "X-Env"} {
		in = append(in, wire.NewField([]byte(n), []byte("theirs")))
	}
	if got, want := text(r.Apply(in)), "A: theirs\nX-Debug-Not: theirs\nServer: \nX-Env: prod\n"; got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	var none *headers.Rules
	if got := none.Apply(in); len(got) != len(in) {
		t.Error("no rules have changed something")
	}
}

func TestRulesThatAreRefused(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, value string
		answer      bool
		want        error
	}{
		{"", "a", false, headers.ErrName},
		{"a b", "a", false, headers.ErrName},
		{"a:", "a", true, headers.ErrName},
		{"a\r\nb", "a", true, headers.ErrName},
		{"é", "a", true, headers.ErrName},
		{"a", "b\r\nc: d", false, headers.ErrValue},
		{"a", "b\nc", true, headers.ErrValue},
		{"a", "\x00", true, headers.ErrValue},
		{"a", " b", true, headers.ErrValue},
		{"a", "b\t", false, headers.ErrValue},
		{"Content-Length", "5", false, headers.ErrFixed},
		{"content_length", "5", true, headers.ErrFixed},
		{"Transfer-Encoding", "chunked", true, headers.ErrFixed},
		{"Connection", "close", false, headers.ErrFixed},
		{"Keep-Alive", "5", true, headers.ErrFixed},
		{"Upgrade", "a", false, headers.ErrFixed},
		{"TE", "trailers", false, headers.ErrFixed},
		{"Trailer", "a", true, headers.ErrFixed},
		{"Proxy-Connection", "a", false, headers.ErrFixed},
		{"Host", "a", false, headers.ErrFixed},
		{"X-Forwarded-For", "a", false, headers.ErrFixed},
		{"Forwarded", "a", false, headers.ErrFixed},
		{"X-Forwarded-Prefix", "a", false, headers.ErrFixed},
		{"Rota-Generation", "1", false, headers.ErrFixed},
		{"Via", "a", true, headers.ErrFixed},
		{"Date", "now", true, headers.ErrFixed},
	} {
		if _, name, err := headers.New(map[string]string{tc.name: tc.value}, nil, tc.answer); !errors.Is(err, tc.want) || name != tc.name {
			t.Errorf("set %q: %q: %q %v, want %v", tc.name, tc.value, name, err, tc.want)
		}
		if errors.Is(tc.want, headers.ErrValue) {
			continue
		}
		if _, _, err := headers.New(nil, []string{tc.name}, tc.answer); !errors.Is(err, tc.want) {
			t.Errorf("remove %q: %v, want %v", tc.name, err, tc.want)
		}
	}
	if _, name, err := headers.New(map[string]string{"A": "b"}, []string{"a"}, false); !errors.Is(err, headers.ErrTwice) || name != "a" {
		t.Errorf("set and removed: %v", err)
	}
}
