package address_test

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/rota-project/rota/internal/address"
)

func TestText(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"":                                   "",
		"no address, w1@host":                "no address, w1@host",
		"http://h:1/p":                       "http://h:1/p",
		"http://u:PW@h:1/p?token=X&a=Y#Z":    "http://***@h:1/p?token=***&a=***#***",
		"http://PW@h":                        "http://***@h",
		"http://h?PW":                        "http://h?***",
		"http://h/a@b":                       "http://h/a@b",
		`Get "https://h/x?k=PW": refused`:    `Get "https://h/x?k=***": refused`,
		"http://u:P/W?x@h:1/p":               "http://***@h:1/p",
		"http://u:P#W@h":                     "http://***@h",
		"http://u:PW":                        "http://***",
		"etcd: u:PW@h:2379 is away":          "etcd: ***@h:2379 is away",
		"a=http://u:PW@h,https://u:PW@h?a=b": "a=http://***@h,https://***@h?a=***",
		"http://[::1]:80/x, unix:///a/b@c":   "http://[::1]:80/x, unix:///a/b@c",
		"want http://host:port, or":          "want http://host:port, or",
		"mailto:x is no address":             "mailto:x is no address",
		"a://b://u:PW@h":                     "a://b://***@h",
		"http://h?x=http://u:PW@h/PW":        "http://h?x=***",
		"a://b://c,http://u:P,W@h,d":         "a://b://c,http://***@h,d",
		"http://u:P://W@h":                   "http://***://***@h",
		"http://h:1: no route":               "http://h:1: no route",
	} {
		if got := address.Text(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
	if got := address.Show("http://u:my pass word@h:1/x"); strings.Contains(got, "pass") {
		t.Errorf("a password with blanks: %q", got)
	}
}

func TestError(t *testing.T) {
	t.Parallel()
	inner := &url.Error{Op: "Get", URL: "http://h/?token=PW", Err: errors.New("refused")}
	err := address.Error(fmt.Errorf("source: %w", inner))
	var ue *url.Error
	if err.Error() != `source: Get "http://h/?token=***": refused` || !errors.As(err, &ue) || address.Error(nil) != nil {
		t.Errorf("%v", err)
	}
	if plain := errors.New("x"); !errors.Is(plain, address.Error(plain)) {
		t.Error("an error without an address is another")
	}
}

// FuzzText: what is secret in an address is not in any text with the address.
func FuzzText(f *testing.F) {
	f.Add("https", "u", "s3", "h:1", "p", "k")
	f.Fuzz(func(t *testing.T, scheme, user, secret, host, path, key string) {
		secret = "s3cr3t" + url.QueryEscape(secret) + "s3cr3t"
		u := url.URL{Scheme: "https", User: url.UserPassword(user, secret), Host: "h:1", Path: path, RawQuery: url.Values{key: {secret}}.Encode(), Fragment: secret}
		for _, text := range []string{
			u.String(), fmt.Sprintf("Get %q: refused", u.String()), "at " + u.String() + " and", host + " " + u.String(),
			"etcd://u:" + secret + "@" + host, scheme + "://h?a=b&" + url.QueryEscape(key) + "=" + secret,
		} {
			if !strings.Contains(text, "://") {
				continue
			}
			got := address.Text(text)
			if strings.Contains(got, "s3cr3t") && strings.IndexFunc(host+scheme, func(r rune) bool { return r < '0' || r > 'z' }) < 0 {
				t.Errorf("%q shows %q", text, got)
			}
			if again := address.Text(got); strings.Contains(again, "s3cr3t") && !strings.Contains(got, "s3cr3t") {
				t.Errorf("%q, then %q", got, again)
			}
		}
	})
}
