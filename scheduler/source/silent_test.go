package source

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rota-project/rota"
)

// TestSilent: a file is read again and again though nothing says that it was
// written, as where a file system keeps no times of changes, and what is found there
// has its rest, too.
func TestSilent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "list")
		f := &file{path: path, rest: Rest, parse: func(_ string, r io.Reader) ([]rota.Task, error) {
			b, err := io.ReadAll(r)
			return []rota.Task{{ID: string(b)}}, err
		}}
		seen := ""
		read := func(seconds int) {
			t.Helper()
			for range seconds {
				switch tasks, err := f.read(t.Context()); {
				case err == nil:
					seen += tasks[0].ID
				case !errors.Is(err, ErrUnchanged):
					t.Fatal(err)
				}
				time.Sleep(time.Second)
			}
		}
		write := func(text string) {
			t.Helper()
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			if f.given == nil {
				return
			}
			info, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			f.given.info, f.now.info = info, info // nothing has changed
		}
		write("a")
		read(10)
		write("b")
		read(25)
		if seen != "a" {
			t.Errorf("it has seen %s before it read the file again", seen)
		}
		read(8)
		for range 5 {
			write("c") // while it has its rest
			read(1)
			write("d")
			read(1)
		}
		read(60)
		if seen != "abd" {
			t.Errorf("it has seen %s", seen)
		}
	})
}
