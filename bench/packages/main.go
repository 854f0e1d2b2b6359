// Command packages makes a .deb and an .rpm of a binary of rota, with what deploy has for
// them, and the manual pages and completions that the binary itself writes. It is a module
// of its own: nfpm is none of the product's parts.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"

	"github.com/goreleaser/nfpm/v2"
	_ "github.com/goreleaser/nfpm/v2/deb"
	"github.com/goreleaser/nfpm/v2/files"
	_ "github.com/goreleaser/nfpm/v2/rpm"
)

func main() {
	binary := flag.String("binary", "../../bin/rota", "the binary, as make build makes it")
	source := flag.String("source", "../..", "the directory of the product's sources")
	out := flag.String("out", "../../bin", "the directory to write the packages to")
	flag.Parse()
	paths, err := build(context.Background(), *binary, *source, *out)
	if err != nil {
		fmt.Fprintln(os.Stderr, "packages:", err)
		os.Exit(1)
	}
	for _, p := range paths {
		fmt.Println(p)
	}
}

// build writes a package of each format, and returns where they are.
func build(ctx context.Context, binary, source, out string) (paths []string, err error) {
	made, err := os.MkdirTemp("", "rota-packages-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(made)) }()
	if err := write(ctx, binary, made); err != nil {
		return nil, err
	}
	said, err := exec.CommandContext(ctx, binary, "version").Output()
	if err != nil {
		return nil, fmt.Errorf("version: %w", err)
	}
	info, err := os.Stat(binary)
	if err != nil {
		return nil, err
	}
	for _, format := range []string{"deb", "rpm"} {
		packager, err := nfpm.Get(format)
		if err != nil {
			return nil, err
		}
		p := nfpm.WithDefaults(&nfpm.Info{
			Name: "rota", Arch: runtime.GOARCH, Platform: "linux", Version: version(string(said)), MTime: info.ModTime(),
			Maintainer: "The rota authors <rota@rota-project.invalid>", Homepage: "https://github.com/rota-project/rota", License: "Apache-2.0", Section: "admin", Priority: "optional",
			Description: "scheduler of work\nDecides which worker does what, and keeps it true.",
			Overridables: nfpm.Overridables{
				Contents: contents(format, binary, source, made),
				Depends:  map[string][]string{"deb": {"passwd"}, "rpm": {"shadow-utils"}}[format],
				Scripts: nfpm.Scripts{
					PostInstall: filepath.Join(source, "deploy/packages/postinstall.sh"),
					PreRemove:   filepath.Join(source, "deploy/packages/preremove.sh"),
					PostRemove:  filepath.Join(source, "deploy/packages/postremove.sh"),
				},
			},
		})
		if err := nfpm.PrepareForPackager(p, format); err != nil {
			return nil, fmt.Errorf("%s: %w", format, err)
		}
		path := filepath.Join(out, packager.ConventionalFileName(p))
		f, err := os.Create(path)
		if err != nil {
			return nil, err
		}
		if err := errors.Join(packager.Package(p, f), f.Close()); err != nil {
			return nil, fmt.Errorf("%s: %w", format, err)
		}
		paths = append(paths, path)
	}
	return paths, nil
}

// released is the version of a release.
var released = regexp.MustCompile(`^v(\d+\.\d+\.\d+)$`)

// version is that of the packages, of what rota version says: a build of no release is
// older than any.
func version(said string) string {
	word := "devel"
	if words := strings.Fields(said); len(words) > 1 {
		word = words[1]
	}
	if m := released.FindStringSubmatch(word); m != nil {
		return m[1]
	}
	return "0.0.0-" + strings.NewReplacer("-", ".", "+", ".").Replace(strings.TrimPrefix(word, "v"))
}

// shells are where completions are looked for.
var shells = map[string]string{
	"bash": "/usr/share/bash-completion/completions/rota", "zsh": "/usr/share/zsh/site-functions/_rota", "fish": "/usr/share/fish/vendor_completions.d/rota.fish",
}

// write has the binary write its manual pages and completions.
func write(ctx context.Context, binary, dir string) error {
	if out, err := exec.CommandContext(ctx, binary, "man", filepath.Join(dir, "man")).CombinedOutput(); err != nil {
		return fmt.Errorf("manual: %w: %s", err, out)
	}
	for shell := range shells {
		text, err := exec.CommandContext(ctx, binary, "completion", shell).Output()
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, shell), text, 0o600)
		}
		if err != nil {
			return fmt.Errorf("completion of %s: %w", shell, err)
		}
	}
	return nil
}

// contents are the files of a package. Modes are said of each, not taken from the disk.
func contents(format, binary, source, made string) files.Contents {
	var all files.Contents
	add := func(from, to, kind string, mode os.FileMode) {
		all = append(all, &files.Content{Source: from, Destination: to, Type: kind, FileInfo: &files.ContentFileInfo{Mode: mode, Owner: "root", Group: "root"}})
	}
	add(binary, "/usr/bin/rota", files.TypeFile, 0o755)
	add("", "/etc/rota", files.TypeDir, 0o750)
	add("", "/var/lib/rota", files.TypeDir, 0o750)
	for _, role := range []string{"scheduler", "worker", "gateway"} {
		add(filepath.Join(source, "deploy/packages", role+".yaml"), "/etc/rota/"+role+".yaml", files.TypeConfigNoReplace, 0o640)
		add(filepath.Join(source, "deploy/systemd", "rota-"+role+".service"), "/usr/lib/systemd/system/rota-"+role+".service", files.TypeFile, 0o644)
	}
	pages, _ := filepath.Glob(filepath.Join(made, "man", "*.1"))
	for _, p := range pages {
		add(p, "/usr/share/man/man1/"+filepath.Base(p), files.TypeFile, 0o644)
	}
	for shell, to := range shells {
		if shell == "zsh" && format == "deb" {
			to = "/usr/share/zsh/vendor-completions/_rota"
		}
		add(filepath.Join(made, shell), to, files.TypeFile, 0o644)
	}
	add(filepath.Join(source, "LICENSE"), "/usr/share/doc/rota/copyright", files.TypeFile, 0o644)
	add(filepath.Join(source, "CHANGELOG.md"), "/usr/share/doc/rota/CHANGELOG.md", files.TypeFile, 0o644)
	return all
}
