package cli_test

import (
	"bytes"
	"os"
	"regexp"
	"strings"
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

// TestNoSecretIsAnArgument: what is secret comes from a file or the environment;
// everybody on a machine can read arguments.
func TestNoSecretIsAnArgument(t *testing.T) {
	t.Parallel()
	var reference bytes.Buffer
	if err := cli.Reference(&reference); err != nil {
		t.Fatal(err)
	}
	flags := regexp.MustCompile(`--([a-z-]*(?:token|password|secret)[a-z-]*) +(\S+)`).FindAllStringSubmatch(reference.String(), -1)
	if len(flags) < 3 {
		t.Fatalf("only %d flags have to do with secrets: %v", len(flags), flags)
	}
	for _, f := range flags {
		if !strings.HasSuffix(f[1], "-file") && !strings.HasPrefix(f[2], "FILE") {
			t.Errorf("--%s takes %s", f[1], f[2])
		}
	}
}
