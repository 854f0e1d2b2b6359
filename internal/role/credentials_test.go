package role

import (
	"bytes"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rota-project/rota/pki"
)

// TestExpiring: the end of a certificate is told of in its last week, once a day.
func TestExpiring(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		if _, err := pki.Init(dir, "", 0, time.Now()); err != nil {
			t.Fatal(err)
		}
		c, err := pki.Issue(dir, pki.Request{Role: pki.Worker, Name: "w", Life: 9 * 24 * time.Hour}, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		src, err := pki.Load(pki.Files{CA: filepath.Join(dir, pki.CAFile), Cert: c.File, Key: c.Key})
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		look := expiring(src, slog.New(slog.NewTextHandler(&out, nil)))
		told := func(d time.Duration) int {
			out.Reset()
			for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(time.Hour) {
				if err := look(); err != nil {
					t.Fatal(err)
				}
			}
			return strings.Count(out.String(), "ends soon")
		}
		if n := told(47 * time.Hour); n != 0 {
			t.Errorf("told %d times more than a week before", n)
		}
		if n := told(72 * time.Hour); n < 2 || n > 3 {
			t.Errorf("told %d times in three days of the last week", n)
		}
	})
}
