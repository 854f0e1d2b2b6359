package peer

import (
	"net/netip"
	"testing"

	"github.com/rota-project/rota/gateway/internal/wire"
)

// TestClient: what trusted proxies have appended is believed, and nothing before it.
func TestClient(t *testing.T) {
	t.Parallel()
	trusted := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}
	for _, c := range []struct {
		from   string
		fields [][2]string
		want   string
	}{
		{"192.0.2.1:80", nil, "192.0.2.1"},
		{"192.0.2.1:80", [][2]string{{"X-Forwarded-For", "198.51.100.1"}}, "192.0.2.1"},
		{"10.0.0.1:80", nil, "10.0.0.1"},
		{"[::ffff:10.0.0.1]:80", [][2]string{{"X-Forwarded-For", "198.51.100.1"}}, "198.51.100.1"},
		{"10.0.0.1:80", [][2]string{{"X-Forwarded-For", "198.51.100.1, 192.0.2.7 , 10.9.9.9"}}, "192.0.2.7"},
		{"10.0.0.1:80", [][2]string{{"X-Forwarded-For", "192.0.2.7"}, {"X-Forwarded-For", "10.9.9.9:1234"}}, "192.0.2.7"},
		{"10.0.0.1:80", [][2]string{{"X-Forwarded-For", "192.0.2.7, unknown, 10.9.9.9"}}, "10.9.9.9"},
		{"10.0.0.1:80", [][2]string{{"Forwarded", `for=192.0.2.8, proto=https;For="[2001:db8::1]:4711"`}}, "2001:db8::1"},
		{"10.0.0.1:80", [][2]string{{"Forwarded", "for=192.0.2.8"}, {"X-Forwarded-For", "192.0.2.7"}}, "192.0.2.7"},
		{"[fd00::1]:80", [][2]string{{"X-Forwarded-For", "[2001:db8::2]"}}, "2001:db8::2"},
	} {
		var fields []wire.Field
		for _, f := range c.fields {
			fields = append(fields, wire.NewField([]byte(f[0]), []byte(f[1])))
		}
		p := New(c.from, nil)
		got := p.Client(fields, trusted)
		if got.String() != c.want {
			t.Errorf("%s with %v: %s, want %s", c.from, c.fields, got, c.want)
		}
		if again := New(netip.AddrPortFrom(got, 1).String(), nil); again.Hash(nil, nil) != p.Hash(fields, trusted) {
			t.Errorf("%s with %v: another hash than that of %s itself", c.from, c.fields, got)
		}
	}
}
