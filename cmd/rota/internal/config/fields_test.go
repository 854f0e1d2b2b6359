package config

import (
	"fmt"
	"strings"
	"testing"
)

// everyRole are the tables of all roles, new for each use.
func everyRole() map[string]func() *Options {
	return map[string]func() *Options{
		"scheduler": func() *Options { _, o := NewScheduler(); return o },
		"worker":    func() *Options { _, o := NewWorker(); return o },
		"dev":       func() *Options { _, o := NewDev(); return o },
	}
}

// TestEveryFieldIsNamedAsWritten puts values that do not fit into every option of
// every role, in each spelling of a file, in the environment and as a flag: the
// error names file and line and the key as it is written there, or the variable, or
// the flag.
func TestEveryFieldIsNamedAsWritten(t *testing.T) {
	t.Parallel()
	for role, options := range everyRole() {
		for _, opt := range options().list {
			key := opt.key()
			spellings := map[string]string{key: key + ": %s\n", opt.name: opt.name + ": %s\n"}
			group, rest, ok := strings.Cut(key, "_")
			if table := options().find(group); ok && (table == nil || !table.value.table) {
				spellings[group+"."+rest] = group + ":\n  " + rest + ": %s\n"
			}
			for path, form := range spellings {
				refused := 0
				for _, bad := range []string{"[[1]]", "{a: {b: [c]}}", "true", "-1", "-1s", "'\t'", "x y"} {
					o := options()
					err := o.loadData("rota.yaml", fmt.Appendf(nil, form, bad))
					if err == nil {
						err = o.check()
					}
					if err == nil {
						continue // that is a value for it
					}
					text := err.Error()
					if !strings.Contains(text, "rota.yaml:") {
						continue // it is another option that now does not fit
					}
					refused++
					if !strings.Contains(text, " "+path+": ") && !strings.Contains(text, " "+path+".") {
						t.Errorf("%s: %s in\n%s is refused without its name: %v", role, bad, form, err)
					}
				}
				if refused == 0 {
					t.Errorf("%s: %s takes anything", role, path)
				}
			}
			if opt.fileOnly || opt.value.arg == "" {
				continue
			}
			for _, bad := range []string{"-1", "\t", "x=y=z,x=", "-1s"} {
				if err := load(t, options(), "", "", map[string]string{opt.env(): bad}); err != nil && !strings.Contains(err.Error(), opt.env()) && !strings.Contains(err.Error(), "want") {
					t.Errorf("%s: %s=%q is refused without its name: %v", role, opt.env(), bad, err)
				}
				if err := load(t, options(), "", "", nil, "--"+opt.name+"="+bad); err != nil && !strings.Contains(err.Error(), "--"+opt.name) && !strings.Contains(err.Error(), "want") {
					t.Errorf("%s: --%s=%q is refused without its name: %v", role, opt.name, bad, err)
				}
			}
		}
	}
}

// TestValueAsWritten: a value that another check refuses is quoted as it is written.
func TestValueAsWritten(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"lease: 7200s\n":          `rota.yaml:1: lease: "7200s": want 1s to 1h`,
		"lease: 500000us\n":       `rota.yaml:1: lease: "500000us": want 1s to 1h`,
		"etcd:\n  history: -1m\n": `rota.yaml:2: etcd.history: "-1m": want`,
	} {
		_, o := NewScheduler()
		if err := load(t, o, "rota.yaml", text, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
	}
}
