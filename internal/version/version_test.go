package version_test

import (
	"strings"
	"testing"

	"github.com/rota-project/rota/internal/version"
)

func TestString(t *testing.T) {
	t.Parallel()
	if v := version.String(); !strings.HasPrefix(v, "devel") && !strings.HasPrefix(v, "v") || strings.ContainsAny(v, " \n") {
		t.Errorf("%q", v)
	}
}
