package main

import (
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
)

func TestVersion(t *testing.T) {
	t.Parallel()
	for said, want := range map[string]string{
		"rota v1.2.3 (go1.26.0, linux/amd64)": "1.2.3",
		"rota devel (go1.26.0, linux/amd64)":  "0.0.0-devel",
		"rota devel-0123456789ab-dirty (go)":  "0.0.0-devel.0123456789ab.dirty",
		"rota v1.2.3-rc.1+x (go)":             "0.0.0-1.2.3.rc.1.x",
		"":                                    "0.0.0-devel",
	} {
		if got := version(said); got != want {
			t.Errorf("%q: %q, want %q", said, got, want)
		}
	}
}

// run runs a program and returns what it says.
func run(t *testing.T, env []string, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v: %s", name, args, err, out)
	}
	return string(out)
}

// TestPackages builds both packages of the product, installs the .deb into a root of its
// own, removes it again, and holds the .rpm to the same files.
func TestPackages(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		if os.Getenv("CI") != "" {
			t.Fatal("packages are installed by root")
		}
		t.Skip("packages are installed by root")
	}
	dir := t.TempDir()
	binary := filepath.Join(dir, "rota")
	run(t, nil, "go", "-C", "../..", "build", "-trimpath", "-o", binary, "./cmd/rota")
	paths, err := build(t.Context(), binary, "../..", dir)
	if err != nil || len(paths) != 2 {
		t.Fatal(paths, err)
	}
	root := filepath.Join(dir, "root")
	for _, d := range []string{"etc", "var/lib/dpkg/info", "var/lib/dpkg/updates"} {
		if err := os.MkdirAll(filepath.Join(root, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range map[string]string{"etc/passwd": "root:x:0:0::/root:/bin/sh\n", "etc/group": "root:x:0:\n", "etc/shadow": "", "etc/gshadow": "", "var/lib/dpkg/status": ""} {
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	dpkg := func(args ...string) {
		t.Helper()
		run(t, []string{"DEBIAN_FRONTEND=noninteractive"}, "dpkg", append([]string{"--root=" + root, "--force-script-chrootless", "--force-depends", "--force-unsafe-io"}, args...)...)
	}
	dpkg("-i", paths[0])

	user := regexp.MustCompile(`(?m)^rota:[^:]*:(\d+):(\d+):.*:/var/lib/rota:/usr/sbin/nologin$`).FindStringSubmatch(read(t, root, "etc/passwd"))
	if user == nil {
		t.Fatalf("no user: %s", read(t, root, "etc/passwd"))
	}
	uid, gid := user[1], user[2]
	for path, want := range map[string]string{
		"/usr/bin/rota": "-rwxr-xr-x 0 0", "/var/lib/rota": "drwxr-x--- " + uid + " " + gid, "/etc/rota": "drwxr-x--- 0 " + gid,
		"/etc/rota/scheduler.yaml": "-rw-r----- 0 " + gid, "/etc/rota/worker.yaml": "-rw-r----- 0 " + gid, "/etc/rota/gateway.yaml": "-rw-r----- 0 " + gid,
		"/usr/share/man/man1/rota.1": "-rw-r--r-- 0 0", "/usr/share/man/man1/rota-task-list.1": "-rw-r--r-- 0 0",
		"/usr/share/bash-completion/completions/rota": "-rw-r--r-- 0 0", "/usr/lib/systemd/system/rota-scheduler.service": "-rw-r--r-- 0 0",
		"/usr/share/doc/rota/copyright": "-rw-r--r-- 0 0",
	} {
		fi, err := os.Lstat(filepath.Join(root, path))
		if err != nil {
			t.Error(err)
			continue
		}
		st, _ := fi.Sys().(*syscall.Stat_t)
		if got := fmt.Sprint(fi.Mode(), st.Uid, st.Gid); got != want {
			t.Errorf("%s is %s, want %s", path, got, want)
		}
	}
	installed := filepath.Join(root, "usr/bin/rota")
	if said := run(t, nil, installed, "version"); !strings.HasPrefix(said, "rota ") {
		t.Errorf("version: %q", said)
	}
	for _, role := range []string{"scheduler", "worker"} {
		run(t, nil, installed, "config", "check", role, "--config", filepath.Join(root, "etc/rota", role+".yaml"))
	}
	run(t, nil, installed, "gateway", "--check", "--config", filepath.Join(root, "etc/rota/gateway.yaml"))
	for _, path := range regexp.MustCompile(`(?m)^ExecStart=(\S+) .*--config (\S+)`).FindAllStringSubmatch(units(t, root), -1) {
		for _, p := range path[1:] {
			if _, err := os.Stat(filepath.Join(root, p)); err != nil {
				t.Errorf("a unit names %s: %v", p, err)
			}
		}
	}

	// A configuration that was changed, and what is stored, outlive an upgrade and a removal.
	kept := map[string]string{"etc/rota/worker.yaml": "schedulers: [127.0.0.1:1]\njob: [date]\n", "var/lib/rota/kept": "yes"}
	for name, text := range kept {
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	dpkg("--force-confold", "-i", paths[0])
	dpkg("-r", "rota")
	for name, text := range kept {
		if got := read(t, root, name); got != text {
			t.Errorf("%s is %q, want %q", name, got, text)
		}
	}
	if _, err := os.Stat(installed); err == nil {
		t.Error("the binary is still there")
	}

	other := slices.Sorted(maps.Keys(rpmFiles(t, paths[1])))
	deb := slices.Sorted(maps.Keys(debFiles(t, paths[0])))
	if !slices.Equal(deb, other) {
		t.Errorf("the .deb has\n%q\nthe .rpm\n%q", deb, other)
	}
}

func read(t *testing.T, root, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// units are the texts of all units.
func units(t *testing.T, root string) (all string) {
	t.Helper()
	found, _ := filepath.Glob(filepath.Join(root, "usr/lib/systemd/system/*.service"))
	if len(found) != 3 {
		t.Errorf("units %q", found)
	}
	for _, p := range found {
		text, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		all += string(text)
	}
	return all
}

// samePlace are the names of zsh's completion, which the systems keep in two places.
var samePlace = strings.NewReplacer("/vendor-completions/", "/site-functions/")

// debFiles are the files of a .deb, without directories that all systems have.
func debFiles(t *testing.T, path string) map[string]bool {
	t.Helper()
	to := filepath.Join(t.TempDir(), "deb")
	run(t, nil, "dpkg-deb", "-x", path, to)
	all := map[string]bool{}
	err := filepath.WalkDir(to, func(p string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			all[samePlace.Replace(strings.TrimPrefix(p, to))] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// rpmFiles are those of an .rpm, as rpm lists them.
func rpmFiles(t *testing.T, path string) map[string]bool {
	t.Helper()
	all := map[string]bool{}
	for line := range strings.Lines(run(t, nil, "rpm", "-qp", "--queryformat", `[%{FILEMODES:perms} %{FILENAMES}\n]`, path)) {
		mode, name, _ := strings.Cut(strings.TrimSpace(line), " ")
		if !strings.HasPrefix(mode, "d") {
			all[name] = true
		}
	}
	return all
}
