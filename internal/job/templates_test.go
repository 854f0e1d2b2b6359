package job_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/rota-project/rota/internal/job"
)

func TestTemplates(t *testing.T) {
	t.Parallel()
	a, b := []string{"bash", "{script:path}"}, []string{"true"}
	for name, try := range map[string]struct{ all, want [][]string }{
		"none":     {},
		"all":      {[][]string{a, b}, [][]string{a, b}},
		"no UTF-8": {[][]string{a, {"x", "\xff"}, {}, b}, [][]string{a, b}},
		"long":     {[][]string{a, {"x", strings.Repeat("y", job.MaxTemplateBytes)}, b}, [][]string{a}},
		"many":     {slices.Repeat([][]string{b}, job.MaxTemplates+1), slices.Repeat([][]string{b}, job.MaxTemplates)},
	} {
		if got := job.Templates(try.all); !slices.EqualFunc(got, try.want, slices.Equal) {
			t.Errorf("%s: %d templates, want %d", name, len(got), len(try.want))
		}
	}
}
