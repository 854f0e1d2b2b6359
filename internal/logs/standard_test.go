package logs_test

import (
	"bytes"
	"encoding/json"
	"log"
	"log/slog"
	"testing"

	"github.com/rota-project/rota/internal/logs"
)

// TestStandard: what libraries write with package log is a line of the process's log.
func TestStandard(t *testing.T) {
	t.Parallel()
	was, flags := log.Writer(), log.Flags()
	t.Cleanup(func() { log.SetOutput(was); log.SetFlags(flags) })
	var b bytes.Buffer
	logs.Standard(logs.Logger(&b, slog.LevelInfo, "json"))
	log.Print("http: TLS handshake error from 10.0.0.1:1: EOF")
	var line struct{ Level, Msg string }
	if err := json.Unmarshal(b.Bytes(), &line); err != nil || line.Level != "WARN" || line.Msg != "http: TLS handshake error from 10.0.0.1:1: EOF" {
		t.Errorf("%q: %v", b.String(), err)
	}
}
