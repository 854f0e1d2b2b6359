package job

import (
	"slices"
	"unicode/utf8"
)

// Limits of the command lines that a worker tells of.
const (
	MaxTemplates     = 1000
	MaxTemplateBytes = 16 << 10 // all words of all of them
)

// Templates returns as many of the first command lines as a worker may tell of. One that is
// no UTF-8 is left out. They help to ask for jobs; whether a job is taken, they do not say.
func Templates(all [][]string) [][]string {
	var out [][]string
	bytes := 0
	for _, argv := range all {
		if len(argv) == 0 || slices.ContainsFunc(argv, func(w string) bool { return !utf8.ValidString(w) }) {
			continue
		}
		for _, w := range argv {
			bytes += len(w) + 1
		}
		if len(out) == MaxTemplates || bytes > MaxTemplateBytes {
			break
		}
		out = append(out, argv)
	}
	return out
}
