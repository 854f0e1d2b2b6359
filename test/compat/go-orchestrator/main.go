// Command go-orchestrator runs the suite of a checkout of go-orchestrator with package
// orchestrator in the library's place. README.md says how; people and CI run it by
// test/compat/go-orchestrator/run.
package main

import (
	_ "embed"
	"time"

	"github.com/rota-project/rota/test/compat/internal/suite"
)

//go:embed known.txt
var known string

func main() { suite.Main("go-orchestrator", known, library.Try) }

var library = suite.Library{
	Base: "go-orchestrator", Package: "orchestrator", Shim: "test/compat/go-orchestrator/shim",
	Limit: time.Minute, Endless: time.Minute,
}
