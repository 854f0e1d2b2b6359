package wholefile_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/rota-project/rota/internal/wholefile"
)

// TestWrite: the file is there whole or as it was, nothing is left beside it, and
// nobody else may read it.
func TestWrite(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	for name, c := range map[string]struct {
		before  string
		replace bool
		meddle  bool // somebody else makes the file meanwhile
		fail    error
		want    error
		after   string
	}{
		"new":           {after: "new"},
		"replaced":      {before: "old", replace: true, after: "new"},
		"kept":          {before: "old", want: fs.ErrExist, after: "old"},
		"made by other": {meddle: true, want: fs.ErrExist, after: "other"},
		"fails":         {fail: broken, want: broken},
		"fails, kept":   {before: "old", replace: true, fail: broken, want: broken, after: "old"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			file := filepath.Join(dir, "file")
			if c.before != "" {
				if err := os.WriteFile(file, []byte(c.before), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			err := wholefile.Write(file, c.replace, func(f *os.File) error {
				if c.meddle {
					if err := os.WriteFile(file, []byte("other"), 0o600); err != nil {
						t.Error(err)
					}
				}
				if _, err := f.WriteString("new"); err != nil {
					return err
				}
				return c.fail
			})
			if !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
				t.Errorf("%v, want %v", err, c.want)
			}
			got, _ := os.ReadFile(file)
			if string(got) != c.after {
				t.Errorf("it holds %q, want %q", got, c.after)
			}
			left, err := os.ReadDir(dir)
			if err != nil || len(left) > 1 || len(left) == 1 && left[0].Name() != "file" {
				t.Errorf("left: %v, %v", left, err)
			}
			if c.after == "new" {
				if fi, err := os.Stat(file); err != nil || fi.Mode().Perm()&0o077 != 0 {
					t.Errorf("others may read it: %v, %v", fi.Mode(), err)
				}
			}
		})
	}
}
