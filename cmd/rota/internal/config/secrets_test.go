package config

import (
	"fmt"
	"strings"
	"testing"
)

// TestSecretsInAddresses: whatever option an address with secrets is given to,
// neither an error nor the settings show them.
func TestSecretsInAddresses(t *testing.T) {
	t.Parallel()
	tables := map[string]func() *Options{
		"scheduler": func() *Options { _, o := NewScheduler(); return o },
		"worker":    func() *Options { _, o := NewWorker(); return o },
		"dev":       func() *Options { _, o := NewDev(); return o },
	}
	for _, address := range []string{
		"http://user:PW@h:1/x?token=PW#PW", "https://PW@h", "http://user:P/PW@h:1", "user:PW@h:2379", "http://user:PW PW@h", "http://user:PW@h:nope",
		"gopher://u:PW@h", "http://h:1/?PW", "k=http://u:PW@h:1?PW", "http://a:1,http://u:PW@h:1",
	} {
		for role, table := range tables {
			for _, opt := range table().list {
				switch o := opt.name; {
				case opt.value.table && strings.HasPrefix(address, "http://user:PW@h:1/x?"): // NAME=VALUE divides it anywhere
					continue
				case strings.Contains(address, " ") && o != "tasks-url" && o != "etcd" && o != "oidc-issuer": // no address to whoever reads a file's name
					continue
				}
				o := table()
				err := load(t, o, "", "", map[string]string{opt.env(): address})
				text := fmt.Sprintf("%+v", o.Settings())
				if strings.Contains(fmt.Sprint(err), "PW") || strings.Contains(text, "PW") {
					t.Errorf("%s: %s=%s: error %v, settings %s", role, opt.env(), address, err, text)
				}
			}
		}
	}
}
