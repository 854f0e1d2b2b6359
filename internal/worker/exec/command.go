package exec

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"text/template"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/internal/process/words"
	"github.com/rota-project/rota/internal/text"
)

// command is a command line that was checked.
type command struct {
	words     []word
	dir       string   // that relative paths are of
	dirs      []string // real paths
	wantsFile bool
}

// word is a template, or a word of package words.
type word struct {
	source   string
	template *template.Template // nil for a typed word
	typed    words.Word
}

// maxCommand bounds what the parser of templates is given, in bytes.
const maxCommand = 64 << 10

// parse checks the command of c.
func parse(c Config) (*command, error) {
	field := "exec." + c.Kind
	if len(c.Command) > maxCommand {
		return nil, &rota.FieldError{Field: field, Value: len(c.Command), Want: fmt.Sprintf("at most %d bytes", maxCommand)}
	}
	list, err := words.Split(c.Command)
	if err != nil || len(list) == 0 || list[0] == "" {
		return nil, &rota.FieldError{Field: field, Value: words.Clip(c.Command), Want: "a command: words, closed quotes"}
	}
	if strings.Contains(list[0], "{{") || !words.IsLiteral(list[0]) {
		return nil, &rota.FieldError{Field: field, Value: words.Clip(list[0]), Want: "a literal program name: a task must not choose what runs"}
	}
	cmd := &command{wantsFile: strings.Contains(c.Command, "PayloadFile"), dir: c.dir()}
	var wrong string
	if cmd.dirs, wrong = words.RealDirs(c.Dirs); wrong != "" {
		return nil, &rota.FieldError{Field: "exec_dirs", Value: wrong, Want: "an absolute path of a directory that exists"}
	}
	for _, s := range list {
		w, err := parseWord(s)
		if err != nil {
			return nil, &rota.FieldError{Field: field, Value: words.Clip(s), Want: words.ClipTo(err.Error(), 300)}
		}
		cmd.words = append(cmd.words, w)
	}
	return cmd, nil
}

func parseWord(s string) (word, error) {
	w := word{source: s}
	var err error
	if !strings.Contains(s, "{{") {
		if w.typed, err = words.Parse(s); err != nil {
			return w, errors.New(words.Syntax)
		}
		if _, ok := (Fields{}).text(w.typed.Name); w.typed.Many || w.typed.Name != "" && !ok {
			return w, errors.New("a field of the task: ID, Kind, Group, Key, Index, Generation, Weight, Priority or PayloadFile, without dots")
		}
		return w, nil
	}
	if nested(s) > maxNested {
		return w, fmt.Errorf("a template with parentheses nested at most %d deep", maxNested)
	}
	w.template, err = template.New("word").Option("missingkey=error").Parse(s)
	var one, two string
	if err == nil {
		one, err = w.sample("a")
	}
	if err == nil {
		two, err = w.sample("b")
	}
	if err != nil {
		return w, fmt.Errorf("a template of the task's fields: %w", err)
	}
	// What stands before a task's text must have settled which option this is.
	same := 0
	for same < min(len(one), len(two)) && one[same] == two[same] {
		same++
	}
	if one != two && !words.OptionSafe(one[:same]) {
		return w, fmt.Errorf("an = after the option's name: a parameter after %q could choose an option", one[:same])
	}
	return w, nil
}

// maxNested is how deep parentheses of a template may be nested: its parser calls
// itself for each, with some 4 KB of stack.
const maxNested = 32

func nested(s string) (most int) {
	depth := 0
	for i := range len(s) {
		switch s[i] {
		case '(':
			depth++
			most = max(most, depth)
		case ')':
			depth = max(0, depth-1)
		}
	}
	return most
}

// sample is the word for a task whose texts are of one letter.
func (w word) sample(letter string) (string, error) {
	text := strings.Repeat(letter, 100)
	var b strings.Builder
	err := w.template.Execute(&b, values{Fields{ID: text, Kind: text, Group: text, Key: text}})
	return b.String(), err
}

// argv is the command line for a task, or why the task gets none.
func (c *command) argv(f Fields) ([]string, error) {
	out := make([]string, len(c.words))
	for n, w := range c.words {
		var err error
		switch {
		case w.template != nil:
			out[n], err = w.render(f)
		case w.typed.Name == "":
			out[n] = w.source
		default:
			value, _ := f.text(w.typed.Name)
			out[n], err = w.typed.Fill(value, c.dir, c.dirs)
		}
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

// differ reports whether a task of these fields is another process than one of those.
// Both command lines are made now, for some words depend on which files there are.
func (c *command) differ(f, g Fields) bool {
	one, err := c.argv(f)
	two, err2 := c.argv(g)
	if err != nil && err2 != nil {
		return err.Error() != err2.Error()
	}
	return err != nil || err2 != nil || !slices.Equal(one, two) || !slices.Equal(f.environ(), g.environ())
}

// render fills in a template. The result may begin with - or /, or climb, only
// where the configuration does so itself.
func (w word) render(f Fields) (string, error) {
	var b strings.Builder
	if err := w.template.Execute(&b, values{f}); err != nil {
		var refused *words.RefusalError
		if errors.As(err, &refused) {
			return "", refused
		}
		return "", err
	}
	s := b.String()
	for _, first := range []string{"-", "/"} {
		own := first == "/" && f.PayloadFile != "" && strings.HasPrefix(s, f.PayloadFile)
		if strings.HasPrefix(s, first) && !strings.HasPrefix(w.source, first) && !own {
			return "", &words.RefusalError{What: strconv.Quote(text.Clip(s, text.Short)), Why: w.source + " must not begin with " + first + " for this task"}
		}
	}
	if climbs(s) > climbs(w.source) {
		return "", &words.RefusalError{What: strconv.Quote(text.Clip(s, text.Short)), Why: w.source + " must not climb out of its directory"}
	}
	return s, nil
}

// climbs counts the parts of a path that lead up.
func climbs(s string) (n int) {
	for part := range strings.SplitSeq(s, "/") {
		if part == ".." || strings.HasSuffix(part, "=..") {
			n++
		}
	}
	return n
}

// text is a field as text.
func (f Fields) text(name string) (string, bool) {
	number := func(n float64) string { return strconv.FormatFloat(n, 'g', -1, 64) }
	switch name {
	case "ID":
		return f.ID, true
	case "Kind":
		return f.Kind, true
	case "Group":
		return f.Group, true
	case "Key":
		return f.Key, true
	case "Index":
		return strconv.Itoa(f.Index), true
	case "Generation":
		return strconv.FormatUint(f.Generation, 10), true
	case "Weight":
		return number(f.Weight), true
	case "Priority":
		return number(f.Priority), true
	case "PayloadFile":
		return f.PayloadFile, true
	}
	return "", false
}

// values are the fields as templates see them: asking for a text that is no word
// ends the template with a *words.RefusalError.
type values struct{ f Fields }

func checked(name, value string) (string, error) {
	if value == "" || words.IsWord(value) {
		return value, nil
	}
	return "", &words.RefusalError{
		What: name + " " + strconv.Quote(text.Clip(value, text.Short)),
		Why: fmt.Sprintf("{{.%s}} must be letters, digits and ._-+@%%:, must not begin with -, and must not be . or ..; "+
			"{%s:text} in the worker's command accepts more", name, name),
	}
}

func (v values) ID() (string, error)    { return checked("ID", v.f.ID) }
func (v values) Kind() (string, error)  { return checked("Kind", v.f.Kind) }
func (v values) Group() (string, error) { return checked("Group", v.f.Group) }
func (v values) Key() (string, error)   { return checked("Key", v.f.Key) }
func (v values) Index() int             { return v.f.Index }
func (v values) Generation() uint64     { return v.f.Generation }
func (v values) Weight() float64        { return v.f.Weight }
func (v values) Priority() float64      { return v.f.Priority }
func (v values) PayloadFile() string    { return v.f.PayloadFile }
