//go:build unix

package cli_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rota-project/rota/auth"
	"github.com/rota-project/rota/auth/pki"
	"github.com/rota-project/rota/cmd/rota/internal/cli"
)

// TestOpenFiles: whichever way a key, a token or a password is read, a file that
// others may read is refused, before anything else is done, with how to mend it.
func TestOpenFiles(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "pki")
	if _, err := pki.Init(dir, "test", 0, time.Now()); err != nil {
		t.Fatal(err)
	}
	cert, err := pki.Issue(dir, pki.Request{Role: pki.Scheduler, Name: "s", Hosts: []string{"127.0.0.1"}}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	tok, secret, err := auth.NewToken(auth.Token{Name: "x", Role: auth.Viewer}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	tokens, token, password := filepath.Join(dir, "tokens"), write("token", secret.Reveal()), write("password", "p")
	if err := auth.EditTokenFile(tokens, func([]auth.Token) ([]auth.Token, error) { return []auth.Token{tok}, nil }); err != nil {
		t.Fatal(err)
	}
	gateway := write("gateway.yaml", "admin: {token_file: "+token+"}\n")
	gatewayTLS := write("gateway-tls.yaml", "tls: {cert: "+cert.File+", key: "+cert.Key+"}\n")
	gatewayInline := write("gateway-inline.yaml", "admin: {token: secret}\n")
	ca, caKey := filepath.Join(dir, pki.CAFile), filepath.Join(dir, "ca.key")
	scheduler := "scheduler --data-dir " + dir + "/data --grpc 127.0.0.1:0 --http 127.0.0.1:0 --etcd 127.0.0.1:1"
	for name, c := range map[string]struct{ file, args, env string }{
		"scheduler key":      {cert.Key, scheduler + " --tls --tls-ca " + ca + " --tls-cert " + cert.File + " --tls-key " + cert.Key, ""},
		"etcd key":           {cert.Key, scheduler + " --etcd-ca " + ca + " --etcd-cert " + cert.File + " --etcd-key " + cert.Key, ""},
		"etcd password":      {password, scheduler + " --etcd-user u --etcd-password-file " + password, ""},
		"list token":         {token, scheduler + " --tasks-url https://127.0.0.1:1/ --tasks-token-file " + token, ""},
		"list headers":       {password, scheduler + " --tasks-url https://127.0.0.1:1/ --tasks-headers-file " + password, ""},
		"list key":           {cert.Key, scheduler + " --tasks-url https://127.0.0.1:1/ --tasks-cert " + cert.File + " --tasks-key " + cert.Key, ""},
		"tokens":             {tokens, scheduler + " --tokens " + tokens, ""},
		"worker key":         {cert.Key, "worker --name w --demo --tls-ca " + ca + " --tls-cert " + cert.File + " --tls-key " + cert.Key, ""},
		"token list":         {tokens, "token list --file " + tokens, ""},
		"token create":       {tokens, "token create --role viewer --file " + tokens, ""},
		"token revoke":       {tokens, "token revoke " + tok.ID + " --file " + tokens, ""},
		"cert issue":         {caKey, "cert issue worker w --dir " + dir, ""},
		"cert renew":         {caKey, "cert renew scheduler s --dir " + dir, ""},
		"token file":         {token, "status --server 127.0.0.1:1 --token-file " + token, ""},
		"ROTA_TOKEN_FILE":    {token, "status --server 127.0.0.1:1", token},
		"gateway check":      {token, "gateway -c " + gateway, ""},
		"gateway key":        {cert.Key, "gateway -c " + gatewayTLS, ""},
		"gateway with token": {gatewayInline, "gateway -c " + gatewayInline, ""},
		"gateway token file": {token, "route list --gateway http://127.0.0.1:1 --gateway-token-file " + token, ""},
	} {
		t.Run(name, func(t *testing.T) {
			if err := os.Chmod(c.file, 0o644); err != nil {
				t.Fatal(err)
			}
			defer func() { _ = os.Chmod(c.file, 0o600) }()
			env := map[string]string{}
			if c.env != "" {
				env["ROTA_TOKEN_FILE"] = c.env
			}
			status, out, errs := run(t, "", env, strings.Fields(c.args)...)
			if status == 0 || !strings.Contains(errs, "chmod 600 "+c.file) || strings.Count(errs, "\n") > 1 || strings.Contains(errs, "no scheduler") {
				t.Errorf("%s: %d %s%s", c.args, status, out, errs)
			}
		})
	}
	for _, made := range []string{cert.Key, caKey, tokens} {
		if fi, err := os.Stat(made); err != nil || fi.Mode().Perm() != 0o600 {
			t.Errorf("%s is made with %v, %v", made, fi.Mode(), err)
		}
	}
}

// TestOwnFiles: a file of the caller that is missing or of no use is what the error
// is about, and not the scheduler that nobody has asked.
func TestOwnFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, text := range map[string]string{"empty": "", "two": "rota_a rota_b", "text": "no certificate"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for args, want := range map[string]string{
		"--token-file " + dir + "/none":                               "none: no such file",
		"--token-file " + dir:                                         "is a directory",
		"--token-file " + dir + "/empty":                              "want one token",
		"--token-file " + dir + "/two":                                "want one token",
		"--tls-ca " + dir + "/none":                                   "none: no such file",
		"--tls-ca " + dir + "/text":                                   "text",
		"--tls-cert " + dir + "/text --tls-key " + dir + "/text":      "--tls-ca: want a CA bundle",
		"--tls-revoked " + dir + "/none":                              "--tls-ca: want a CA bundle",
		"--server 127.0.0.1:1,127.0.0.1:2 --token-file " + dir + "/x": "x: no such file",
	} {
		t.Run(strings.ReplaceAll(args, dir, ""), func(t *testing.T) {
			t.Parallel()
			status, out, errs := run(t, "", nil, strings.Fields("status --server 127.0.0.1:1 "+args)...)
			if status != cli.ExitUsage || out != "" || !strings.Contains(errs, want) || strings.Count(errs, "\n") != 1 || strings.Contains(errs, "no scheduler") {
				t.Errorf("%d %s%s, want %s", status, out, errs, want)
			}
		})
	}
}
