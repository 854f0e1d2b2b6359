// Package offer says how a worker tells the cluster which functions it answers
// calls of: by labels, which reach every scheduler with the worker's session and
// which rules of tasks can ask for as well.
//
//	functions.url       where it answers calls, http://host:port
//	function.<name>     the packages that the function needs, by comma, the largest first
//
// Package worker writes them, the schedulers' gateways read them (package
// scheduler/internal/functions). It is pure.
package offer

import (
	"maps"
	"regexp"
	"strings"

	"github.com/rota-project/rota"
)

// What a worker answers, with 502, in place of a function whose server it passes calls on
// to. The cause follows, in words. Gateways of the cluster tell such answers from the
// function's own by how they begin, and do not pass them on.
const (
	// NotReached says that the server got nothing of the call.
	NotReached = "rota: the function's server was not reached: "
	// BrokeOff says that there is no answer to a call that may have run.
	BrokeOff = "rota: the function's server broke off: "
)

const (
	urlLabel = "functions.url"
	prefix   = "function."
)

var nameForm = regexp.MustCompile(`^[A-Za-z0-9.\-_]+$`)

// ValidName returns a *rota.FieldError if no function may be called so.
func ValidName(name string) error {
	if !nameForm.MatchString(name) || len(prefix)+len(name) > rota.MaxIDLen {
		return &rota.FieldError{Field: "function", Value: name, Want: "letters, digits, '.', '-' and '_'"}
	}
	return nil
}

// Labels adds what a worker offers to its labels. The map given is not changed.
func Labels(labels map[string]string, url string, functions map[string][]string) map[string]string {
	out := maps.Clone(labels)
	if out == nil {
		out = map[string]string{}
	}
	out[urlLabel] = url
	for name, pkgs := range functions {
		out[prefix+name] = strings.Join(pkgs, ",")
	}
	return out
}

// FromLabels reads what a worker offers. ok is false if it answers no calls.
func FromLabels(labels map[string]string) (url string, functions map[string][]string, ok bool) {
	url, ok = labels[urlLabel]
	functions = map[string][]string{}
	for l, v := range labels {
		name, is := strings.CutPrefix(l, prefix)
		if !is || ValidName(name) != nil {
			continue
		}
		var pkgs []string
		if v != "" {
			pkgs = strings.Split(v, ",")
		}
		functions[name] = pkgs
	}
	return url, functions, ok
}
