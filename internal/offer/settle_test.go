package offer_test

import (
	"net/netip"
	"testing"

	"github.com/rota-project/rota/internal/offer"
)

// Where calls go is decided by where the session comes from, not by a label.
func TestCallsGoWhereTheSessionComesFrom(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ advertised, peer, want string }{
		{"http://127.0.0.1:81", "127.0.0.1", "http://127.0.0.1:81"},
		{"http://[::1]:81", "127.0.0.1", "http://[::1]:81"},
		{"http://0.0.0.0:81", "127.0.0.1", "http://127.0.0.1:81"},
		{"https://[::]:81", "::1", "https://[::1]:81"},
		{"https://10.0.0.5:81", "127.0.0.1", "https://10.0.0.5:81"},
		{"https://10.0.0.5:81", "10.0.0.5", "https://10.0.0.5:81"},
		{"https://0.0.0.0:81", "10.0.0.5", "https://10.0.0.5:81"},
		{"https://10.9.9.9:81", "10.0.0.5", "https://10.0.0.5:81"},
		{"https://169.254.169.254:80", "10.0.0.5", "https://10.0.0.5:80"},
		{"https://[::]:81", "::ffff:10.0.0.5", "https://10.0.0.5:81"},
		{"https://127.0.0.1:81", "10.0.0.5", ""},
		{"https://[::ffff:127.0.0.1]:81", "10.0.0.5", ""},
		{"http://127.0.0.1:81", "10.0.0.5", ""},
		{"http://10.0.0.5:81", "10.0.0.5", ""},
		{"http://10.0.0.5:81", "127.0.0.1", ""},
		{"http://169.254.169.254:80", "127.0.0.1", ""},
		{"http://localhost:81", "127.0.0.1", ""},
		{"https://metadata.google.internal:80", "10.0.0.5", ""},
		{"http://127.0.0.1", "127.0.0.1", ""},
		{"http://127.0.0.1:81/admin", "127.0.0.1", ""},
		{"http://u@127.0.0.1:81", "127.0.0.1", ""},
		{"unix:/x", "127.0.0.1", ""},
		{"", "127.0.0.1", ""},
	} {
		labels := map[string]string{"functions.url": tc.advertised, "function.f": "", "disk": "ssd"}
		got, err := offer.Settle(labels, netip.MustParseAddr(tc.peer))
		if got["functions.url"] != tc.want || (err == nil) != (tc.want != "") || got["disk"] != "ssd" {
			t.Errorf("%s from %s: %v, %v", tc.advertised, tc.peer, got, err)
		}
		if _, offers := got["function.f"]; offers != (tc.want != "") {
			t.Errorf("%s from %s: %v", tc.advertised, tc.peer, got)
		}
	}
	if _, err := offer.Settle(map[string]string{"disk": "ssd"}, netip.Addr{}); err != nil {
		t.Error(err)
	}
}
