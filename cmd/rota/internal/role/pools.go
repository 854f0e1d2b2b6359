package role

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/rota-project/rota/auth/pki"
	"github.com/rota-project/rota/cmd/rota/internal/config"
	"github.com/rota-project/rota/engine"
	"github.com/rota-project/rota/internal/logs"
	"github.com/rota-project/rota/internal/wholefile"
	"github.com/rota-project/rota/scheduler/server"
)

// poolLife is how long the certificate of a worker of a pool is good; it asks for the
// next in time.
const poolLife = 24 * time.Hour

// openPools opens the engines of a scheduler, and says how the workers that they start
// get certificates. remove removes what they kept on the disk.
func openPools(c *config.Scheduler, s *server.Config, log *slog.Logger) (remove func(), err error) {
	remove = func() {}
	if c.TLS && c.TLSCA != "" {
		s.Pools.CA = func() ([]byte, error) { return wholefile.Read(c.TLSCA, wholefile.Most) }
	}
	if c.Authority != "" {
		s.Pools.Sign = func(worker string, key []byte) ([]byte, error) {
			return pki.Sign(c.Authority, pki.Request{Role: pki.Worker, Name: worker, Life: poolLife}, key, time.Now())
		}
	}
	if len(c.Engines) == 0 {
		return remove, nil
	}
	if s.Pools.CA != nil && s.Pools.Sign == nil {
		log.Warn("this scheduler issues no certificates to pool workers: --authority is not set")
	}
	self, err := os.Executable()
	if err != nil {
		return remove, fmt.Errorf("engines: %w", err)
	}
	dir, err := os.MkdirTemp("", "rota-pools-")
	if err != nil {
		return remove, fmt.Errorf("engines: %w", err)
	}
	remove = func() { _ = os.RemoveAll(dir) }
	output := func(worker string) io.WriteCloser {
		to := log.With("worker", worker)
		return logs.NewLines(func(line string) { to.Info("output of a worker", "line", line) })
	}
	s.Pools.Environ = func(name string) map[string]string { return c.Trace.Environ(engine.Here(name)) }
	s.Pools.Engines = map[string]engine.Engine{}
	for _, name := range c.Engines {
		e, e1 := engine.Open(name, engine.Config{Self: self, Dir: dir, Output: output, Logger: log, Kubernetes: c.Kubernetes, NomadTokenFile: c.NomadTokenFile})
		if e1 != nil {
			err = errors.Join(err, e1)
			continue
		}
		s.Pools.Engines[name] = e
	}
	if err != nil {
		remove()
	}
	return remove, err
}
