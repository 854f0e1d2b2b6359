package table

import (
	"testing"

	"github.com/rota-project/rota/internal/purity"
)

func TestPure(t *testing.T) {
	t.Parallel()
	found, err := purity.Check(".", "github.com/rota-project/rota", "github.com/rota-project/rota/store")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range found {
		t.Error(f)
	}
}
