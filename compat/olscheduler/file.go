package olscheduler

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/rota-project/rota/balance"
	"github.com/rota-project/rota/gateway"
	"github.com/rota-project/rota/internal/wholefile"
)

// FileError says what is wrong in a configuration file, in one line.
type FileError struct {
	File string
	Key  string // empty if the file as a whole is wrong
	Err  error
}

func (e *FileError) Error() string {
	if e.Key == "" {
		return fmt.Sprintf("%s: %v", e.File, e.Err)
	}
	return fmt.Sprintf("%s: %s: %v", e.File, e.Key, e.Err)
}

func (e *FileError) Unwrap() error { return e.Err }

// ExitStatus is 2: the program was told wrong things.
func (e *FileError) ExitStatus() int { return 2 }

// balancers are olscheduler's five.
var balancers = []string{"round-robin", "random", "least-loaded", "hashing-bounded", "pkg-aware"}

// keys are the keys that mean something here. Files in use have others, of the
// programs that made them, which olscheduler passed over.
var keys = []string{"balancer", "host", "load-threshold", "port", "registry", "workers"}

// Strict returns a *FileError if the file that c was loaded from has keys that
// mean nothing.
func (c Config) Strict(path string) error {
	if len(c.Unknown) == 0 {
		return nil
	}
	return &FileError{path, c.Unknown[0], fmt.Errorf("unknown key; the keys are %s", strings.Join(keys, ", "))}
}

// Load reads a configuration file and the registry that it names. The error is a
// *FileError. Keys that mean nothing are passed over, and listed in Config.Unknown.
func Load(path string) (Config, error) {
	raw, err := wholefile.Read(path, wholefile.Most)
	if err != nil {
		return Config{}, &FileError{path, "", reason(err)}
	}
	return parse(path, raw, func(name string) ([]byte, error) { return wholefile.Read(name, 16*wholefile.Most) })
}

func reason(err error) error {
	var pe *os.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}

func parse(path string, raw []byte, read func(string) ([]byte, error)) (Config, error) {
	c := DefaultConfig()
	fail := func(key, format string, args ...any) (Config, error) {
		return Config{}, &FileError{path, key, fmt.Errorf(format, args...)}
	}
	var doc map[string]json.RawMessage
	if err := strict(raw, &doc); err != nil {
		return fail("", "want a JSON object: %s", jsonText(err))
	}
	if doc == nil {
		return fail("", "want a JSON object")
	}
	for _, k := range slices.Sorted(maps.Keys(doc)) {
		v := doc[k]
		if key := strings.ToLower(k); key != k && slices.Contains(keys, key) {
			delete(doc, k) // olscheduler did not mind the case
			if _, exact := doc[key]; exact {
				return fail(k, "is there twice, as %s", key)
			}
			k, doc[key] = key, v
		}
		if !slices.Contains(keys, k) {
			c.Unknown = append(c.Unknown, k)
			delete(doc, k)
		}
		if string(v) == "null" {
			delete(doc, k) // not given
		}
	}
	name, registry := DefaultBalancer, ""
	for _, s := range []struct {
		key string
		to  *string
	}{{"host", &c.Host}, {"balancer", &name}, {"registry", &registry}} {
		if v, ok := doc[s.key]; ok && json.Unmarshal(v, s.to) != nil {
			return fail(s.key, "%s: want a string", v)
		}
	}
	if c.Host == "" || strings.ContainsAny(c.Host, " /") {
		return fail("host", "%q: want a host name or address", c.Host)
	}
	if v, ok := doc["port"]; ok {
		n, err := whole(v, 65535)
		if err != nil || n < 1 {
			return fail("port", "%s: want a whole number from 1 to 65535", v)
		}
		c.Port = int(n)
	}
	var threshold uint64
	if v, ok := doc["load-threshold"]; ok {
		var err error
		if threshold, err = whole(v, math.MaxInt32); err != nil {
			return fail("load-threshold", "%s: want a whole number, zero or more", v)
		}
	}
	if !slices.Contains(balancers, name) {
		if !slices.Contains(balance.Names(), name) || name == "owner" || name == "sticky" {
			return fail("balancer", "%q: want one of %s", name, strings.Join(balancers, ", "))
		}
	}
	b := &Balancer{name: name, threshold: uint(threshold)}
	if v, ok := doc["workers"]; ok {
		var list []string
		if json.Unmarshal(v, &list) != nil {
			return fail("workers", "want an array of strings")
		}
		ws, err := Workers(list)
		if err != nil {
			return Config{}, &FileError{path, "workers", err}
		}
		if name != "random" { // only random goes by weight
			for i := range ws {
				ws[i].Weight = 0
			}
		}
		b.workers = ws
	}
	c.Balancer = b
	if registry != "" {
		raw, err := read(registry)
		if err != nil {
			return fail("registry", "%s: %w", registry, reason(err))
		}
		if c.Registry, err = parseRegistry(registry, raw); err != nil {
			return Config{}, err
		}
	}
	return c, nil
}

// Workers reads the two spellings of workers: URLs, and pairs of address and
// weight.
func Workers(list []string) ([]gateway.Worker, error) {
	pairs := len(list) > 0 && !strings.Contains(list[0], "://") || len(list) > 1 && !strings.ContainsAny(list[1], ":/.")
	if pairs && len(list)%2 != 0 {
		return nil, fmt.Errorf("%q: want a weight after each address", list[len(list)-1])
	}
	var ws []gateway.Worker
	seen := map[string]bool{}
	for i := 0; i < len(list); i++ {
		u, err := gateway.WorkerURL(list[i])
		if err != nil {
			return nil, fmt.Errorf("%q: want %w", list[i], err)
		}
		w := gateway.Worker{URL: u}
		if pairs {
			i++
			n, err := strconv.ParseUint(list[i], 10, 20)
			if err != nil {
				return nil, fmt.Errorf("%q: want a weight, a whole number from 0 to %d", list[i], 1<<20-1)
			}
			w.Weight = weight(uint(n))
		}
		if seen[u] {
			return nil, fmt.Errorf("%q: is listed twice", u)
		}
		seen[u] = true
		ws = append(ws, w)
	}
	return ws, nil
}

var handleForm = regexp.MustCompile(`^[A-Za-z0-9.\-_]+$`)

func parseRegistry(path string, raw []byte) (map[string][]string, error) {
	var list []struct {
		Handle *string  `json:"handle"`
		Pkgs   []string `json:"pkgs"`
	}
	if err := strict(raw, &list); err != nil {
		return nil, &FileError{path, "registry", fmt.Errorf(`want an array of {"handle": name, "pkgs": [names]}: %s`, jsonText(err))}
	}
	reg := make(map[string][]string, len(list))
	for i, e := range list {
		key := fmt.Sprintf("registry[%d].handle", i)
		switch {
		case e.Handle == nil:
			return nil, &FileError{path, key, errors.New("missing")}
		case !handleForm.MatchString(*e.Handle):
			return nil, &FileError{path, key, fmt.Errorf("%q: want letters, digits, '.', '-' and '_'", *e.Handle)}
		}
		if _, twice := reg[*e.Handle]; twice {
			return nil, &FileError{path, key, fmt.Errorf("%q: is listed twice", *e.Handle)}
		}
		reg[*e.Handle] = e.Pkgs
	}
	return reg, nil
}

// strict reads one JSON value and nothing after it.
func strict(raw []byte, v any) error {
	dec := json.NewDecoder(bytes.NewReader(bytes.TrimPrefix(raw, []byte("\ufeff"))))
	if err := dec.Decode(v); err != nil {
		return err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something follows the value")
	}
	return nil
}

// jsonText is an error of encoding/json in one line.
func jsonText(err error) string {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return "the text ends early"
	}
	var se *json.SyntaxError
	if errors.As(err, &se) {
		return fmt.Sprintf("%s at byte %d", se.Error(), se.Offset)
	}
	var te *json.UnmarshalTypeError
	if errors.As(err, &te) {
		return fmt.Sprintf("%s at byte %d", te.Value, te.Offset)
	}
	return strings.Join(strings.Fields(err.Error()), " ")
}

// whole reads a whole number from 0 to most.
func whole(raw json.RawMessage, most uint64) (uint64, error) {
	n, err := strconv.ParseUint(string(raw), 10, 63)
	if err == nil && n > most {
		return 0, strconv.ErrRange
	}
	return n, err
}
