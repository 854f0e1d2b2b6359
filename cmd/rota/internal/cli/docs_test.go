package cli_test

import (
	"bytes"
	"cmp"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/rota-project/rota/cmd/rota/internal/cli"
)

// TestReferenceIsCurrent fails if docs/cli.md is not what the commands say.
func TestReferenceIsCurrent(t *testing.T) {
	t.Parallel()
	const file = "../../../../docs/cli.md"
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
		t.Fatal("docs/cli.md is stale: go generate ./cmd/rota/internal/cli")
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

// TestManual: each command of the reference has a page, with all its flags.
func TestManual(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "man")
	var out, errs bytes.Buffer
	if status := cli.Run(t.Context(), []string{"man", dir}, cli.Env{Stdout: &out, Stderr: &errs, Lookup: func(string) (string, bool) { return "", false }}); status != 0 || out.Len() > 0 {
		t.Fatalf("status %d: %s%s", status, &out, &errs)
	}
	var reference bytes.Buffer
	if err := cli.Reference(&reference); err != nil {
		t.Fatal(err)
	}
	sections := strings.Split(reference.String(), "\n## rota ")
	for _, s := range sections[1:] {
		command, text, _ := strings.Cut(s, "\n")
		page, err := os.ReadFile(filepath.Join(dir, "rota-"+strings.ReplaceAll(command, " ", "-")+".1"))
		if err != nil {
			t.Error(err)
			continue
		}
		for _, flag := range regexp.MustCompile(`(?m)^ +(?:-\w, )?--([a-z-]+)`).FindAllStringSubmatch(text, -1) {
			if !strings.Contains(string(page), `\-\-`+strings.ReplaceAll(flag[1], "-", `\-`)+" ") {
				t.Errorf("rota %s: no --%s", command, flag[1])
			}
		}
		for line := range strings.Lines(string(page)) {
			if macro, _, _ := strings.Cut(strings.TrimSpace(line), " "); strings.HasPrefix(line, ".") && !slices.Contains([]string{".TH", ".SH", ".TP", ".B", ".BR", ".nf", ".fi"}, macro) || strings.HasPrefix(line, "'") {
				t.Errorf("rota %s: %q is taken for a macro", command, line)
			}
		}
	}
	if len(sections) < 50 {
		t.Errorf("%d commands", len(sections))
	}
}

// TestConsoleTeachesCommands: the commands that the console's empty screens give exist,
// and take the flags and arguments that they are given with.
func TestConsoleTeachesCommands(t *testing.T) {
	t.Parallel()
	var reference bytes.Buffer
	if err := cli.Reference(&reference); err != nil {
		t.Fatal(err)
	}
	commands := map[string]string{}
	for _, s := range strings.Split(reference.String(), "\n## rota ")[1:] {
		command, text, _ := strings.Cut(s, "\n")
		commands[command] = text
		for group := command; strings.Contains(group, " "); { // which has no text of its own
			group = group[:strings.LastIndex(group, " ")]
			commands[group] = cmp.Or(commands[group], " ")
		}
	}
	screens, err := filepath.Glob("../../../../console/web/src/screens/*.tsx")
	if err != nil {
		t.Fatal(err)
	}
	taught := regexp.MustCompile(`command="rota ([^"]+)"`)
	n := 0
	for _, screen := range screens {
		source, err := os.ReadFile(screen)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range taught.FindAllStringSubmatch(string(source), -1) {
			n++
			words, _, rest := strings.Cut(m[1], " -- ")
			fields := strings.Fields(words)
			command := fields[0]
			fields = fields[1:]
			for len(fields) > 0 && commands[command+" "+fields[0]] != "" {
				command, fields = command+" "+fields[0], fields[1:]
			}
			text := commands[command]
			_, usage, _ := strings.Cut(text, "\nrota "+command)
			usage, _, _ = strings.Cut(usage, "\n")
			if text == "" || rest && !strings.Contains(usage, " -- ") {
				t.Errorf("%s: there is no rota %s", filepath.Base(screen), m[1])
				continue
			}
			for len(fields) > 0 {
				word := fields[0]
				fields = fields[1:]
				if !strings.HasPrefix(word, "-") {
					if regexp.MustCompile(` -\w [A-Z]+`).ReplaceAllString(usage, "") == "" {
						t.Errorf("%s: rota %s takes no argument %s", filepath.Base(screen), command, word)
					}
					continue
				}
				flag := regexp.MustCompile(`(?m)^ +(?:-\w, )?` + regexp.QuoteMeta(word) + `(?:, --[a-z-]+)?( \S+)?  `).FindStringSubmatch(text)
				if flag == nil {
					t.Errorf("%s: rota %s has no %s", filepath.Base(screen), command, word)
				} else if flag[1] != "" && len(fields) > 0 {
					fields = fields[1:]
				}
			}
		}
	}
	if n < 5 {
		t.Errorf("only %d commands are found", n)
	}
}
