package config

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/rota-project/rota/internal/address"
	"github.com/rota-project/rota/internal/linedoc"
)

// maxFile is the most bytes that a configuration file may have.
const maxFile = 1 << 20

// maxMarks is linedoc.MaxMarks of a configuration file.
const maxMarks = 1 << 14

// Error says which value is wrong and where it stands. It is always one line.
type Error struct {
	// Where is "rota.toml:3", "ROTA_HTTP", "--http", or the file's name.
	Where string
	// Key is the option's key, if the fault is an option's: in a file the path by
	// which it is written there, "job.output".
	Key string
	Err error
}

func (e *Error) Error() string {
	text := address.Text(strings.Join(strings.Fields(e.Err.Error()), " "))
	switch {
	case e.Where == "":
		text = e.Key + ": " + text
	case e.Key == "" || !strings.Contains(e.Where, ":"):
		text = e.Where + ": " + text
	default:
		text = e.Where + ": " + e.Key + ": " + text
	}
	if len(text) > maxText {
		return strings.ToValidUTF8(text[:maxText], "") + "..."
	}
	return text
}

// maxText is the longest error, in bytes: some quote what is wrong.
const maxText = 2000

func (e *Error) Unwrap() error { return e.Err }

// Load fills the struct: the file over the defaults, the environment over the
// file, the flags over all, and then checks it. lookup is os.LookupEnv or a
// twin of it. Each error is an *Error.
func (o *Options) Load(lookup func(string) (string, bool)) error {
	name, where := o.file, "--config"
	if !o.fileFlag {
		name, _ = lookup("ROTA_CONFIG")
		where = "ROTA_CONFIG"
	}
	if name != "" {
		if err := o.loadFile(name); err != nil {
			if errors.Is(err, os.ErrNotExist) || errors.Is(err, os.ErrPermission) {
				return &Error{Where: where, Err: err}
			}
			return err
		}
	}
	for _, opt := range o.list {
		if text, there := lookup(opt.env()); there && !opt.fileOnly {
			if err := opt.take(FromEnvironment, opt.env(), split(text, opt.value.sep)); err != nil {
				return err
			}
		}
	}
	for _, opt := range o.list {
		if opt.flags != nil {
			words := opt.flags
			switch opt.value.sep {
			case ",": // a list may be given at once, or a part at a time
				words = split(strings.Join(words, ","), ",")
			case "":
				words = words[len(words)-1:]
			}
			if err := opt.take(FromFlag, "--"+opt.name, words); err != nil {
				return err
			}
		}
	}
	return o.check()
}

func split(text, sep string) []string {
	if sep == "" {
		return []string{text}
	}
	return strings.Split(text, sep)
}

func (o *option) take(source Source, where string, words []string) error {
	if err := o.value.set(words); err != nil {
		return &Error{where, o.key(), err}
	}
	o.source, o.where, o.path, o.wrote = source, where, "", ""
	o.note(words)
	return nil
}

// note keeps a plain value as it is written.
func (o *option) note(words []string) {
	if o.value.sep == "" && len(words) == 1 && !o.secret {
		o.wrote = words[0]
	}
}

func (o *Options) check() error {
	if o.validate == nil {
		return nil
	}
	name, err := o.validate()
	if err == nil {
		return nil
	}
	for _, opt := range o.list {
		if opt.name == name {
			var we *wantError
			if opt.wrote != "" && errors.As(err, &we) {
				err = want(opt.wrote, "%s", we.want)
			}
			return &Error{opt.where, cmp.Or(opt.path, opt.key()), err}
		}
	}
	return &Error{Key: name, Err: err}
}

// loadFile reads TOML or YAML, by the extension; without a known one, TOML.
func (o *Options) loadFile(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return &Error{Where: name, Err: err}
	}
	if len(data) > maxFile {
		return &Error{Where: name, Err: fmt.Errorf("more than %d bytes", maxFile)}
	}
	return o.loadData(name, data)
}

func (o *Options) loadData(name string, data []byte) error {
	doc, err := parseFile(name, data)
	if err != nil {
		var de *linedoc.Error
		if errors.As(err, &de) {
			return &Error{Where: position(name, de.Line), Err: errors.New(de.Text)}
		}
		return &Error{Where: name, Err: err}
	}
	return o.loadTable(name, "", "", doc, map[*option]int{})
}

func parseFile(name string, data []byte) (linedoc.Value, error) {
	switch strings.ToLower(filepath.Ext(name)) {
	case ".yaml", ".yml", ".json":
		docs, err := linedoc.YAML(data, maxMarks)
		switch {
		case err != nil:
			return linedoc.Value{}, err
		case len(docs) == 0 || docs[0].Kind == linedoc.Null:
			return linedoc.Value{Kind: linedoc.Table, Line: 1}, nil
		case len(docs) > 1:
			return linedoc.Value{}, &linedoc.Error{Line: docs[1].Line, Text: "more than one document"}
		case docs[0].Kind != linedoc.Table:
			return linedoc.Value{}, &linedoc.Error{Line: docs[0].Line, Text: "want a table of keys and values"}
		}
		return docs[0], nil
	}
	return linedoc.TOML(data)
}

func position(name string, line int) string {
	if line == 0 {
		return name
	}
	return fmt.Sprintf("%s:%d", name, line)
}

// loadTable takes the fields of a table. A table within it whose name is no
// option is a group of options that share the beginning of their names. Path is
// where the table is, as it is written, and prefix how names of options in it begin.
func (o *Options) loadTable(name, path, prefix string, table linedoc.Value, seen map[*option]int) error {
	for _, f := range table.Fields {
		key := prefix + strings.ReplaceAll(f.Name, "-", "_")
		path, where := path+f.Name, position(name, f.Line)
		opt := o.find(key)
		if f.Value.Kind == linedoc.Table && (opt == nil || !opt.value.table) {
			if !o.anyBelow(key + "_") {
				return &Error{where, path, o.unknown(key)}
			}
			if err := o.loadTable(name, path+".", key+"_", f.Value, seen); err != nil {
				return err
			}
			continue
		}
		if opt == nil {
			return &Error{where, path, o.unknown(key)}
		}
		if line, twice := seen[opt]; twice {
			return &Error{where, path, fmt.Errorf("line %d already sets it", line)}
		}
		seen[opt] = f.Line
		if f.Value.Kind == linedoc.Null {
			continue
		}
		words, err := opt.value.words(f.Value)
		if err != nil {
			return &Error{where, path, err}
		}
		if err := opt.value.set(words); err != nil {
			return &Error{where, path, err}
		}
		opt.source, opt.where, opt.path = FromFile, where, path
		opt.note(words)
	}
	return nil
}

func (o *Options) find(key string) *option {
	for _, opt := range o.list {
		if opt.key() == key || slices.Contains(opt.aliases, key) {
			return opt
		}
	}
	return nil
}

func (o *Options) anyBelow(prefix string) bool {
	return slices.ContainsFunc(o.keys(), func(k string) bool { return strings.HasPrefix(k, prefix) })
}

func (o *Options) keys() []string {
	var keys []string
	for _, opt := range o.list {
		keys = append(append(keys, opt.key()), opt.aliases...)
	}
	return keys
}

func (o *Options) unknown(key string) error {
	best, least := "", 3
	for _, k := range o.keys() {
		if len(key)-len(k) >= least || len(k)-len(key) >= least {
			continue // as many letters are missing: a long key is no work
		}
		if d := distance(key, k); d < least {
			best, least = k, d
		}
	}
	if best != "" {
		return fmt.Errorf("unknown key; do you mean %s?", best)
	}
	return fmt.Errorf("unknown key; rota config show %s lists all keys", o.role)
}

// distance is how many letters have to change to make b of a (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}

func joinPairs[V any](m map[string]V, text func(V) string) string {
	words := make([]string, 0, len(m))
	for _, k := range slices.Sorted(maps.Keys(m)) {
		words = append(words, k+"="+text(m[k]))
	}
	return strings.Join(words, ",")
}
