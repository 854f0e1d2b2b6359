// Package version says which build of rota this is. The command line, the
// scheduler's status and the worker's hello call it.
package version

import (
	"runtime/debug"
	"strings"
	"sync"
)

// String returns the module's version ("v1.2.3"), or "devel" and, where known,
// the revision that it was built from ("devel-0123456789ab").
var String = sync.OnceValue(func() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "devel"
	}
	if v := info.Main.Version; v != "" && v != "(devel)" && !strings.HasPrefix(v, "v0.0.0-") {
		return v
	}
	var revision, dirty string
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			revision = "-" + s.Value[:min(12, len(s.Value))]
		case s.Key == "vcs.modified" && s.Value == "true":
			dirty = "-dirty"
		}
	}
	return "devel" + revision + dirty
})
