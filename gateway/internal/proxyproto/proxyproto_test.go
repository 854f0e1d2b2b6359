package proxyproto_test

import (
	"encoding/hex"
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/rota-project/rota/gateway/internal/proxyproto"
)

const sig = "\r\n\r\n\x00\r\nQUIT\n"

func v2(command, family byte, payload string) string {
	return sig + string([]byte{command, family, byte(len(payload) >> 8), byte(len(payload))}) + payload
}

const (
	four = "\x0a\x01\x02\x03\x7f\x00\x00\x01\x12\x34\x00\x50"
	six  = "\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x12\x34\x00\x50"
)

var good = map[string]string{
	"PROXY TCP4 10.1.2.3 127.0.0.1 4660 80\r\n":                  "10.1.2.3:4660",
	"PROXY TCP6 2001:db8::1 2001:db8::2 4660 80\r\n":             "[2001:db8::1]:4660",
	"PROXY TCP6 ::ffff:10.1.2.3 ::1 4660 80\r\n":                 "10.1.2.3:4660",
	"PROXY UNKNOWN\r\n":                                          "",
	"PROXY UNKNOWN ffff:f...f:ffff ::f...f:ffff 65535 65535\r\n": "",
	v2(0x21, 0x11, four):                                         "10.1.2.3:4660",
	v2(0x21, 0x11, four+"\x04\x00\x01x"):                         "10.1.2.3:4660", // a TLV
	v2(0x21, 0x21, six):                                          "[2001:db8::1]:4660",
	v2(0x21, 0x31, strings.Repeat("a", 216)):                     "", // a unix socket
	v2(0x21, 0x00, ""):                                           "",
	v2(0x20, 0x00, ""):                                           "", // LOCAL
	v2(0x20, 0x11, four):                                         "",
}

// Headers are read whole, cut anywhere they are incomplete, and what follows is left.
func TestHeaders(t *testing.T) {
	t.Parallel()
	for text, want := range good {
		from, n, err := proxyproto.Parse([]byte(text + "GET / HTTP/1.1\r\n"))
		if err != nil || n != len(text) || from.IsValid() != (want != "") || want != "" && from.String() != want {
			t.Errorf("%q: %v, %d, %v; want %s", text, from, n, err, want)
		}
		for i := range text {
			if _, _, err := proxyproto.Parse([]byte(text[:i])); !errors.Is(err, proxyproto.ErrIncomplete) {
				t.Fatalf("%q: %v", text[:i], err)
			}
		}
	}
}

func TestHeadersThatAreRefused(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"GET / HTTP/1.1\r\n", "PROXY\r\n", "proxy TCP4 10.1.2.3 127.0.0.1 1 2\r\n", "PROXY TCP4 10.1.2.3 127.0.0.1 1\r\n", "PROXY TCP4 10.1.2.3 127.0.0.1 1 2 3\r\n", "PROXY TCP4  10.1.2.3 127.0.0.1 1 2\r\n",
		"PROXY TCP4 10.1.2.300 127.0.0.1 1 2\r\n", "PROXY TCP4 ::1 127.0.0.1 1 2\r\n", "PROXY TCP6 10.1.2.3 127.0.0.1 1 2\r\n", "PROXY TCP4 10.1.2.3 127.0.0.1 65536 2\r\n", "PROXY TCP4 10.1.2.3 127.0.0.1 01 2\r\n",
		"PROXY TCP4 10.1.2.3 127.0.0.1 -1 2\r\n", "PROXY TCP4 10.1.2.3 127.0.0.1 1 \r\n", "PROXY UDP4 10.1.2.3 127.0.0.1 1 2\r\n", "PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n", "PROXY TCP4 010.1.2.3 127.0.0.1 1 2\r\n",
		"PROXY UNKNOWN" + strings.Repeat("a", proxyproto.MaxV1), "PROXY TCP4 10.1.2.3 127.0.0.1 1 2\n" + strings.Repeat("a", proxyproto.MaxV1), "\x16\x03\x01\x02\x00\x01",
		v2(0x11, 0x11, four), v2(0x31, 0x11, four), v2(0x22, 0x11, four), v2(0x21, 0x12, four), v2(0x21, 0x22, six), v2(0x21, 0x41, four), v2(0x21, 0x11, four[:11]), v2(0x21, 0x21, four), v2(0x21, 0x11, four+strings.Repeat("a", proxyproto.MaxV2)),
		"\r\n\r\n\x00\r\nQUIT\r", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
	} {
		if from, n, err := proxyproto.Parse([]byte(text)); !errors.Is(err, proxyproto.ErrMalformed) || n != 0 || from != (netip.AddrPort{}) {
			t.Errorf("%.60q: %v, %d, %v", text, from, n, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	for text := range good {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		from, n, err := proxyproto.Parse([]byte(text))
		switch {
		case err != nil && n != 0, err == nil && (n < len("PROXY UNKNOWN") || n > len(text) || n > proxyproto.MaxV2):
			t.Fatalf("%s: %d bytes, %v", hex.EncodeToString([]byte(text)), n, err)
		case errors.Is(err, proxyproto.ErrIncomplete) && len(text) >= proxyproto.MaxV2:
			t.Fatal("incomplete for ever")
		case err == nil: // what follows does not matter, and less is not enough
			again, m, err := proxyproto.Parse([]byte(text[:n] + "x"))
			if again != from || m != n || err != nil {
				t.Fatalf("%v, %d, %v after %v, %d", again, m, err, from, n)
			}
			if _, _, err := proxyproto.Parse([]byte(text[:n-1])); !errors.Is(err, proxyproto.ErrIncomplete) {
				t.Fatalf("cut short: %v", err)
			}
		}
	})
}
