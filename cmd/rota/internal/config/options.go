package config

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/spf13/pflag"

	"github.com/rota-project/rota/internal/address"
)

// Source says which layer a value came from.
type Source string

// The layers, the weakest first.
const (
	FromDefault     Source = "default"
	FromFile        Source = "file"
	FromEnvironment Source = "environment"
	FromFlag        Source = "flag"
)

// option is one line of a role's table.
type option struct {
	name  string // as the flag, "etcd-cert"
	value value
	help  string
	// def says the default where it is another on each machine.
	def     string
	aliases []string // further keys of the file: an older product's
	// fileOnly options have neither flag nor variable.
	fileOnly bool
	secret   bool

	source Source
	where  string // "rota.toml:3", "ROTA_HTTP", "--http"
	path   string // in a file: the key as it is written, "etcd.cert"
	wrote  string // the value as it is written, of one word
	flags  []string
}

func (o *option) key() string { return strings.ReplaceAll(o.name, "-", "_") }
func (o *option) env() string { return "ROTA_" + strings.ToUpper(o.key()) }

// Options is the table of one role, bound to the struct that it fills.
type Options struct {
	role     string
	list     []*option
	validate func() (name string, err error)
	file     string // of --config
	fileFlag bool
}

func newOptions(role string, validate func() (string, error), list ...*option) *Options {
	for _, o := range list {
		o.source = FromDefault
	}
	return &Options{role: role, list: list, validate: validate}
}

// Role returns the name of the role: scheduler, worker or dev.
func (o *Options) Role() string { return o.role }

// AddFlags adds a flag for each option, and --config, to fs. What they are set
// to counts when Load is called.
func (o *Options) AddFlags(fs *pflag.FlagSet) {
	f := fs.VarPF(&fileFlag{o}, "config", "c", "configuration file (TOML or YAML) [ROTA_CONFIG]")
	f.DefValue = ""
	for _, opt := range o.list {
		if opt.fileOnly {
			continue
		}
		f := fs.VarPF(&flag{opt}, opt.name, "", opt.usage())
		f.DefValue = ""
		if opt.value.arg == "" {
			f.NoOptDefVal = "true"
		}
	}
}

// usage is what help shows of an option, all its names on one line.
func (o *option) usage() string {
	text := fmt.Sprintf("%s [%s, %s]", o.help, o.env(), o.key())
	def := o.def
	if def == "" {
		def = shown(o.value.show())
	}
	if def != "" && def != "false" && def != "0" && def != "0s" {
		text += fmt.Sprintf(" (default %s)", def)
	}
	return text
}

// flag is an option as pflag sees it. It only takes down what it is given.
type flag struct{ o *option }

func (f *flag) String() string { return "" }
func (f *flag) Type() string {
	if f.IsBoolFlag() {
		return "bool"
	}
	return f.o.value.arg
}
func (f *flag) IsBoolFlag() bool   { return f.o.value.arg == "" }
func (f *flag) Set(s string) error { f.o.flags = append(f.o.flags, s); return nil }

type fileFlag struct{ o *Options }

func (f *fileFlag) String() string     { return "" }
func (f *fileFlag) Type() string       { return "FILE" }
func (f *fileFlag) Set(s string) error { f.o.file, f.o.fileFlag = s, true; return nil }

// Setting is an option's value and where it came from.
type Setting struct {
	Key    string `json:"key"`
	Value  any    `json:"value"`
	Source Source `json:"source"`
	// Where names the file and line, the variable or the flag; empty for a default.
	Where string `json:"where"`
}

// Text is the value as one word.
func (s Setting) Text() string { return shown(s.Value) }

// Settings returns all options in the order of the table. Secrets are redacted.
func (o *Options) Settings() []Setting {
	out := make([]Setting, 0, len(o.list))
	for _, opt := range o.list {
		s := Setting{opt.key(), opt.value.show(), opt.source, opt.where}
		if opt.secret && shown(s.Value) != "" {
			s.Value = "(redacted)"
		}
		s.Value = discreet(s.Value)
		out = append(out, s)
	}
	return out
}

// discreet is a value whose addresses are without their secrets.
func discreet(v any) any {
	switch v := v.(type) {
	case string:
		return address.Show(v)
	case []string:
		list := make([]string, len(v))
		for i, s := range v {
			list[i] = address.Show(s)
		}
		return list
	case map[string]string:
		pairs := make(map[string]string, len(v))
		for k, s := range v {
			pairs[address.Show(k)] = address.Show(s)
		}
		return pairs
	}
	return v
}

// Source returns which layer the value of the option (by its flag's name) came
// from: whoever may choose another port than the default asks for it.
func (o *Options) Source(name string) Source {
	for _, opt := range o.list {
		if opt.name == name {
			return opt.source
		}
	}
	return FromDefault
}

// shown is a value as a word: lists and maps in the compact form of flags.
func shown(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case []string:
		return strings.Join(v, ",")
	case map[string]string:
		return joinPairs(v, func(s string) string { return s })
	case map[string]float64:
		return joinPairs(v, func(f float64) string { return fmt.Sprint(f) })
	}
	out, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return string(out)
}
