package build

import (
	"crypto/sha256"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync"
)

// The labels that say which build of its functions a worker offers.
const (
	SetLabel     = "program.set"
	VersionLabel = "program.version"
	ModuleLabel  = "program.module"
)

// Build is one build of a set of functions.
type Build struct {
	Module  string // of its main package; empty if that is not known
	Set     string
	Version string
}

func (b Build) String() string { return b.Set + "@" + b.Version }

// Labels adds the build to a worker's labels, except for what they say already.
// The map given is not changed.
func (b Build) Labels(labels map[string]string) map[string]string {
	out := maps.Clone(labels)
	if out == nil {
		out = map[string]string{}
	}
	for label, value := range map[string]string{SetLabel: b.Set, VersionLabel: b.Version, ModuleLabel: b.Module} {
		if _, said := out[label]; !said && value != "" {
			out[label] = value
		}
	}
	return out
}

// fromLabels reads the build from a worker's labels.
func fromLabels(labels map[string]string) Build {
	return Build{Module: labels[ModuleLabel], Set: labels[SetLabel], Version: labels[VersionLabel]}
}

// Own is the build of this executable.
var Own = sync.OnceValue(func() Build {
	exe, err := os.Executable()
	if err != nil {
		exe = os.Args[0]
	}
	b := named(debug.ReadBuildInfo())
	if b.Set == "" {
		b.Set = filepath.Base(exe)
	}
	if b.Version == "" {
		b.Version = digest(exe)
	}
	return b
})

// named is what the toolchain has written into an executable. The version is empty
// where it does not tell the executable from others: those that were built from
// files that nobody has committed.
func named(info *debug.BuildInfo, ok bool) (b Build) {
	if !ok {
		return b
	}
	b = Build{Module: info.Main.Path, Set: info.Path}
	if b.Set == "command-line-arguments" && b.Module != "" { // go run file.go
		b.Set = b.Module + "/" + b.Set
	}
	if v := info.Main.Version; v != "(devel)" && !strings.HasSuffix(v, "+dirty") {
		b.Version = v
	}
	return b
}

// digest tells an executable from others by its bytes.
func digest(exe string) string {
	f, err := os.Open(exe) //nolint:gosec // ourselves
	if err != nil {
		return "unknown"
	}
	defer func() { _ = f.Close() }()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "unknown"
	}
	return fmt.Sprintf("sha256-%.12x", h.Sum(nil)[:6])
}
