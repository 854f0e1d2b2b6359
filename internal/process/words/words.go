// Package words holds the arguments of commands to types: what a job or a task
// may put into the command lines that a worker's configuration lists. It is the
// one place that parses command lines and their parameters; internal/job/runner and
// internal/worker/exec call it. It must never start anything.
//
// A command line is words, with quotes and no shell (Split). Each word is literal
// or has one parameter, which may stand between literal texts:
//
//	{name:int}       a whole number; {name:int(1..10)} in that range
//	{name:word}      letters, digits and ._-+@%:, not beginning with -, and neither . nor ..
//	{name:path}      an existing file or directory in or below the allowed directories, links resolved
//	{name:one(a|b)}  one of these
//	{name:text}      anything that does not begin with -
//	{name:any}       anything
//
// A parameter that is a whole word may end in "...", as in {files:path...}: none
// or more arguments, where the user of this package says so.
package words

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/rota-project/rota/internal/text"
)

// Syntax says what a word may look like, for errors.
const Syntax = "a literal or {name:TYPE}, TYPE one of int, int(LOW..HIGH), word, path, one(A|B), text, any"

// ErrWord is the error of a word that is not of this syntax.
var ErrWord = errors.New("no such parameter")

// RefusalError says what argument was refused and why.
type RefusalError struct{ What, Why string }

func (r *RefusalError) Error() string { return r.What + ": " + r.Why }

// Word is one word of a command line. The zero value is the empty literal.
type Word struct {
	// Name is the parameter's; empty if the word is literal.
	Name string
	// Many is whether it stands for none or more arguments.
	Many bool

	before, after string // literal; all of a literal word is in before
	kind          string // empty: literal
	low, high     int64
	choices       []string
}

// Parameter is how a word's parameter is to be asked for.
type Parameter struct {
	Before, After string // literal texts around it
	Type          string // int, word, path, one, text or any
	Choices       []string
	Low, High     int64 // both zero: no limits
}

// Parameter returns the parameter of the word; false if it is literal.
func (w Word) Parameter() (p Parameter, ok bool) {
	p = Parameter{Before: w.before, After: w.after, Type: w.kind, Choices: w.choices}
	if w.kind == "int" && w.low != -1<<63 {
		p.Low, p.High = w.low, w.high
	}
	return p, w.kind != ""
}

// IsLiteral reports whether s is a word without a parameter.
func IsLiteral(s string) bool {
	w, err := Parse(s)
	return err == nil && w.kind == ""
}

func (w Word) String() string {
	if w.kind == "" {
		return strconv.Quote(w.before)
	}
	return w.Name
}

// Parse reads a word. The error is an ErrWord.
func Parse(s string) (Word, error) {
	before, inner, after, ok := parameter(s)
	if !ok {
		if strings.HasPrefix(s, "{") {
			return Word{}, ErrWord
		}
		return Word{before: s}, nil
	}
	w := Word{before: before, after: after, low: -1 << 63, high: 1<<63 - 1}
	inner, w.Many = strings.CutSuffix(inner, "...")
	name, kind, _ := strings.Cut(inner, ":")
	kind, arg, hasArg := strings.Cut(kind, "(")
	if hasArg {
		if arg, ok = strings.CutSuffix(arg, ")"); !ok {
			return Word{}, ErrWord
		}
	}
	w.Name, w.kind = name, kind
	switch {
	case name == "" || w.Many && before+after != "":
		return Word{}, ErrWord
	case kind == "int" && hasArg:
		low, high, ok := strings.Cut(arg, "..")
		var err1, err2 error
		w.low, err1 = strconv.ParseInt(low, 10, 64)
		w.high, err2 = strconv.ParseInt(high, 10, 64)
		if !ok || err1 != nil || err2 != nil || w.low > w.high {
			return Word{}, ErrWord
		}
	case kind == "one" && hasArg && arg != "":
		w.choices = strings.Split(arg, "|")
	case hasArg || !slices.Contains([]string{"int", "word", "path", "text", "any"}, kind):
		return Word{}, ErrWord
	}
	if !OptionSafe(before) && kind != "int" && kind != "one" {
		return Word{}, fmt.Errorf("%w: what follows %q would choose an option", ErrWord, before)
	}
	return w, nil
}

// OptionSafe reports whether any text may follow before in a word without
// choosing what option it is: "--file=" is safe, "--" and "-x" are not.
func OptionSafe(before string) bool {
	return !strings.HasPrefix(before, "-") || strings.Contains(before, "=")
}

// parameter finds the {name:...} of a word.
func parameter(s string) (before, inner, after string, ok bool) {
	before, rest, ok := strings.Cut(s, "{")
	if !ok {
		return "", "", "", false
	}
	end := strings.LastIndex(rest, "}")
	if end < 0 {
		return "", "", "", false
	}
	inner, after = rest[:end], rest[end+1:]
	name, _, ok := strings.Cut(inner, ":")
	// Text of other programs, such as {"a":1} or ${x:-1}, is literal unless it begins the word.
	if ok && before != "" && strings.ContainsFunc(name, func(r rune) bool { return r != '_' && !unicode.IsLetter(r) && !unicode.IsDigit(r) }) {
		return "", "", "", false
	}
	if strings.HasSuffix(before, "$") {
		return "", "", "", false
	}
	return before, inner, after, ok
}

// Offers returns the arguments that the word accepts, if they can be listed: a literal, or
// each choice. Empty means that they cannot.
func (w Word) Offers() []string {
	if w.kind == "" {
		return []string{w.before}
	}
	var out []string
	for _, c := range w.choices {
		out = append(out, w.before+c+w.after)
	}
	return out
}

// Accept returns the argument as it is handed over, or a *RefusalError. Relative paths
// are of dir; paths are held to dirs, which are real ones.
func (w Word) Accept(arg, dir string, dirs []string) (string, error) {
	if w.kind == "" {
		if arg != w.before {
			return "", &RefusalError{quoted(arg), "must be " + w.String()}
		}
		return arg, nil
	}
	value, ok1 := strings.CutPrefix(arg, w.before)
	value, ok2 := strings.CutSuffix(value, w.after)
	if !ok1 || !ok2 {
		return "", &RefusalError{quoted(arg), fmt.Sprintf("must be %q, %s, %q", w.before, w.Name, w.after)}
	}
	return w.Fill(value, dir, dirs)
}

// Fill returns the word with value for its parameter, or a *RefusalError.
func (w Word) Fill(value, dir string, dirs []string) (string, error) {
	if w.kind == "path" {
		path, err := w.path(value, dir, dirs)
		if err != nil {
			return "", err
		}
		value = path
	} else if want := w.want(value); want != "" {
		return "", w.refuse(value, want)
	}
	return w.before + value + w.after, nil
}

func (w Word) refuse(value, want string) error {
	return &RefusalError{quoted(value), w.Name + " must be " + want}
}

// want says what the value should be; nothing if it is that.
func (w Word) want(value string) string {
	option := strings.HasPrefix(value, "-")
	switch w.kind {
	case "int":
		n, err := strconv.ParseInt(value, 10, 64)
		if err == nil && n >= w.low && n <= w.high && !strings.HasPrefix(value, "+") {
			return ""
		}
		if w.low == -1<<63 {
			return "a whole number"
		}
		return fmt.Sprintf("a whole number from %d to %d", w.low, w.high)
	case "one":
		if !slices.Contains(w.choices, value) {
			return "one of " + strings.Join(w.choices, ", ")
		}
	case "word":
		if !IsWord(value) {
			return "a word: letters, digits and ._-+@%:, not beginning with -, and neither . nor .."
		}
	case "text":
		if option {
			return "text that does not begin with -"
		}
	}
	return ""
}

// IsWord reports whether s is of the type word: nothing that a program or a shell
// could take for an option, another directory or code.
func IsWord(s string) bool {
	return s != "" && !strings.HasPrefix(s, "-") && s != "." && s != ".." && !strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("._-+@%:,", r)
	})
}

func (w Word) path(value, dir string, dirs []string) (string, error) {
	if value == "" || strings.HasPrefix(value, "-") {
		return "", w.refuse(value, "a path")
	}
	if !filepath.IsAbs(value) {
		if dir == "" {
			return "", w.refuse(value, "an absolute path; a relative one needs a directory of --job-dirs or --exec-dirs")
		}
		value = filepath.Join(dir, value)
	}
	return Below("path", value, dirs)
}

// Below resolves path and holds it to dirs. A path that is not there and one that
// is elsewhere get the same answer, a *RefusalError, so that nothing is told of the disk.
func Below(what, path string, dirs []string) (string, error) {
	if len(dirs) == 0 {
		return "", &RefusalError{what + " " + text.Clip(path, text.Short), "no directory is allowed: --job-dirs for jobs, --exec-dirs for tasks"}
	}
	resolved, err := filepath.EvalSymlinks(path)
	if err == nil {
		for _, d := range dirs {
			if rel, err := filepath.Rel(d, resolved); err == nil && filepath.IsLocal(rel) {
				return resolved, nil
			}
		}
	}
	return "", &RefusalError{what + " " + text.Clip(path, text.Short), "not there, or outside of the allowed directories"}
}

// RealDirs resolves directories for Accept and Below. It answers which one is not
// an absolute path of a directory that exists.
func RealDirs(dirs []string) (resolved []string, wrong string) {
	for _, d := range dirs {
		r, err := filepath.EvalSymlinks(d)
		if err != nil || !filepath.IsAbs(d) {
			return nil, d
		}
		resolved = append(resolved, r)
	}
	return resolved, ""
}

func quoted(arg string) string { return "argument " + strconv.Quote(text.Clip(arg, text.Short)) }

// Clip shortens text for errors.
func Clip(s string) string { return text.Clip(s, text.Short) }

// ClipTo shortens text to so many bytes.
func ClipTo(s string, most int) string { return text.Clip(s, most) }
