package cli_test

import (
	"bytes"
	"os"
	"testing"

	"github.com/rota-project/rota/internal/cli"
)

// TestReferenceIsCurrent fails if docs/cli.md is not what the commands say.
func TestReferenceIsCurrent(t *testing.T) {
	t.Parallel()
	const file = "../../docs/cli.md"
	var want bytes.Buffer
	if err := cli.Reference(&want); err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(file, want.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want.Bytes()) {
		t.Fatal("docs/cli.md is stale: go generate ./internal/cli")
	}
}
