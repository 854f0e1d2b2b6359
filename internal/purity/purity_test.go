package purity_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/rota-project/rota/internal/purity"
)

func TestCheck(t *testing.T) {
	t.Parallel()
	const bad, worse = "internal/purity/testdata/bad/bad.go", "internal/purity/testdata/worse/worse.go"
	for _, c := range []struct {
		dir     string
		allowed []string
		want    []string
	}{
		{"testdata/good", nil, nil},
		{"testdata/bad", nil, []string{
			bad + ":15: prints", bad + ":15: starts a goroutine", bad + ":15: uses time.Now",
			bad + ":16: uses time.Sleep", bad + ":17: uses fmt.Println",
			bad + ":6: imports math/rand/v2", bad + ":7: imports os",
			worse + ":10: uses time.Time", worse + ":10: uses time.Unix", worse + ":5: imports sync",
		}},
		{"testdata/bad", []string{"os", "math/rand/v2", "github.com/rota-project/rota/internal/purity/testdata/worse"}, []string{
			bad + ":15: prints", bad + ":15: starts a goroutine", bad + ":15: uses time.Now",
			bad + ":16: uses time.Sleep", bad + ":17: uses fmt.Println",
		}},
	} {
		got, err := purity.Check(c.dir, c.allowed...)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s, allowed %v:\ngot\n\t%s\nwant\n\t%s", c.dir, c.allowed, strings.Join(got, "\n\t"), strings.Join(c.want, "\n\t"))
		}
	}
}

func TestCheckWithoutPackage(t *testing.T) {
	t.Parallel()
	for _, dir := range []string{"testdata", "testdata/none", t.TempDir()} {
		if found, err := purity.Check(dir); err == nil {
			t.Errorf("%s: no error, found %v", dir, found)
		}
	}
}
