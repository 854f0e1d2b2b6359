package linedoc

import (
	"strings"
	"testing"
)

// TestTOMLIsNotNested: brackets within brackets are refused with their line, before
// the library calls itself for each; those of strings and comments are nobody's.
func TestTOMLIsNotNested(t *testing.T) {
	t.Parallel()
	many := strings.Repeat("[{", 100)
	for name, text := range map[string]string{
		"list": "\na = " + strings.Repeat("[", 40), "closed": "\na = " + strings.Repeat("[", 40) + strings.Repeat("]", 40), "inline": "\na = " + strings.Repeat("{a = ", 40),
		"after a string": "\na = [\"]]]\", ']', " + strings.Repeat("[", 40), "after a comment": "# ]\na = " + strings.Repeat("[", 40),
		"after lines": "a = \"\"\"\n\"\"\"\nb = " + strings.Repeat("[", 40),
	} {
		if _, err := TOML([]byte(text)); err == nil || !strings.Contains(err.Error(), "nested deeper than 32") || !strings.HasPrefix(err.Error(), "line ") || strings.HasPrefix(err.Error(), "line 1:") {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, text := range map[string]string{
		"string": `a = "` + many + `"`, "escaped": `a = "\"` + many + `"`, "literal": "a = '\\" + "'\nb = '" + many + "'", "comment": "# don't " + many + "\na = 1",
		"lines": "a = \"\"\"\n" + many + "\n\\\"\"\"\"", "literal lines": "a = '''\n\\" + many + "\n'''", "empty": `a = ["", '', ` + `"` + many + `"]`,
		"name": `"` + many + `" = 1`, "lists": "a = [" + strings.Repeat("[],", 100) + "]", "tables": strings.Repeat("[[t]]\n", 100),
	} {
		if _, err := TOML([]byte(text)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
