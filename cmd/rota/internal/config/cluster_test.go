package config

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rota-project/rota/auth/pki"
)

// TestCluster: what is wrong with a cluster of schedulers is told by one message that
// names the option.
func TestCluster(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "pki")
	if _, err := pki.Init(dir, "test", 0, time.Now()); err != nil {
		t.Fatal(err)
	}
	cert, err := pki.Issue(dir, pki.Request{Role: pki.Scheduler, Name: "s1", Hosts: []string{"a"}}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	const three = "--cluster=s1=127.0.0.1:1,s2=127.0.0.1:2,s3=127.0.0.1:3"
	tls := []string{"--name=s1", "--tls", "--tls-cert=" + cert.File, "--tls-key=" + cert.Key}
	ca := "--tls-ca=" + filepath.Join(dir, pki.CAFile)
	for name, x := range map[string]struct {
		flags []string
		want  string // empty: good
	}{
		"three":            {[]string{three, "--name=s1"}, ""},
		"five":             {[]string{three, "--cluster=s4=[::1]:2,s5=localhost:5", "--name=s4"}, ""},
		"another listener": {[]string{three, "--name=s1", "--peer=127.0.0.1:9"}, ""},
		"with TLS":         {append(tls, ca, "--cluster=s1=a:1,s2=b:1,s3=c:1"), ""},
		"insecure":         {[]string{"--cluster=s1=a:1,s2=b:1,s3=c:1", "--name=s1", "--peer-insecure"}, ""},

		"a fourth joins": {[]string{three, "--cluster=s4=127.0.0.1:4", "--name=s4", "--join"}, ""},
		"a second joins": {[]string{"--cluster=s1=127.0.0.1:1,s2=127.0.0.1:2", "--name=s2", "--join"}, ""},

		"joins alone":       {[]string{"--cluster=s1=127.0.0.1:1", "--name=s1", "--join"}, "want at least one member to ask"},
		"joins nothing":     {[]string{"--join"}, "want cluster too"},
		"joins as another":  {[]string{three, "--name=s4", "--join"}, `"s4": want this scheduler's name in cluster`},
		"no name":           {[]string{three}, `name: ""`},
		"wrong name":        {[]string{three, "--name=s4"}, `"s4": want this scheduler's name in cluster: s1 or s2 or s3`},
		"twice":             {[]string{three + ",s1=127.0.0.1:4", "--name=s1"}, "want each name once"},
		"two":               {[]string{"--cluster=s1=127.0.0.1:1,s2=127.0.0.1:2", "--name=s1"}, `"2": want three or five members`},
		"four":              {[]string{three + ",s4=127.0.0.1:4", "--name=s1"}, `"4": want three or five members`},
		"one":               {[]string{"--cluster=s1=127.0.0.1:1", "--name=s1"}, `"1": want three or five members`},
		"same address":      {[]string{"--cluster=s1=127.0.0.1:1,s2=127.0.0.1:1,s3=127.0.0.1:3", "--name=s1"}, "s1 and s2 have the same"},
		"no port":           {[]string{"--cluster=s1=127.0.0.1,s2=127.0.0.1:2,s3=127.0.0.1:3", "--name=s1"}, `"s1=127.0.0.1": want NAME=HOST:PORT`},
		"port 0":            {[]string{"--cluster=s1=127.0.0.1:0,s2=127.0.0.1:2,s3=127.0.0.1:3", "--name=s1"}, "want NAME=HOST:PORT"},
		"no host":           {[]string{"--cluster=s1=:1,s2=127.0.0.1:2,s3=127.0.0.1:3", "--name=s1"}, "want NAME=HOST:PORT"},
		"a URL":             {[]string{"--cluster=s1=http://127.0.0.1:1,s2=127.0.0.1:2,s3=127.0.0.1:3", "--name=s1"}, "want NAME=HOST:PORT"},
		"odd name":          {[]string{"--cluster=s 1=127.0.0.1:1,s2=127.0.0.1:2,s3=127.0.0.1:3", "--name=s2"}, `"s 1": want names of letters`},
		"beside etcd":       {[]string{three, "--name=s1", "--etcd=http://127.0.0.1:2379"}, "want only one of cluster and etcd"},
		"off loopback":      {[]string{"--cluster=s1=a:1,s2=b:1,s3=c:1", "--name=s1"}, `"a:1": want tls`},
		"all addresses":     {[]string{three, "--name=s1", "--peer=:2380"}, `":2380": want tls`},
		"no authority":      {append(tls, three), "want a CA bundle"},
		"peer alone":        {[]string{"--peer=127.0.0.1:1"}, "want cluster too"},
		"insecure alone":    {[]string{"--peer-insecure"}, "want cluster too"},
		"peer without port": {[]string{three, "--name=s1", "--peer=127.0.0.1"}, `"127.0.0.1": want`},
	} {
		_, o := NewScheduler()
		switch err := load(t, o, "", "", nil, x.flags...); {
		case x.want == "":
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
		case err == nil || !strings.Contains(err.Error(), x.want) || strings.Contains(err.Error(), "\n"):
			t.Errorf("%s: %v, want %s", name, err, x.want)
		}
	}
}
