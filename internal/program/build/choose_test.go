package build

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// on is an offer of one ready worker.
func on(worker, module, set, version string) Offer {
	return Offer{Build: Build{Module: module, Set: set, Version: version}, Meets: true, Workers: 1, Ready: 1, Names: []string{worker}}
}

func TestChoose(t *testing.T) {
	t.Parallel()
	own := Build{Module: "example.com/lift", Set: "example.com/lift/cmd/control", Version: "v2"}
	crew := on("w1", "example.com/lift", "example.com/lift/cmd/worker", "v1")
	crew2 := on("w2", "example.com/lift", "example.com/lift/cmd/worker", "v2")
	other := on("w3", "example.com/lift", "example.com/lift/cmd/other", "v1")
	self := on("w4", own.Module, own.Set, own.Version)
	demo := on("demo", "example.com/demo", "example.com/demo/cmd/demo", "v1")
	bare := on("old", "", "", "")
	far := crew
	far.Meets = false
	drained := crew
	drained.Ready = 0
	for name, c := range map[string]struct {
		require []string
		held    *Offer
		own     Build
		offers  []Offer
		chosen  string // worker
		rules   []string
		missing []string
	}{
		"nobody":               {missing: []string{"no worker offers main.worker"}},
		"the only one":         {offers: []Offer{crew}, chosen: "w1", rules: []string{"program.set=example.com/lift/cmd/worker", "program.version=v1"}},
		"its own before other": {offers: []Offer{crew, self, other}, chosen: "w4"},
		"strangers": {
			offers:  []Offer{demo},
			missing: []string{"no worker of module example.com/lift offers main.worker", "demo", `"program.set=example.com/demo/cmd/demo"`},
		},
		"strangers are passed over": {offers: []Offer{demo, crew, bare}, chosen: "w1"},
		"strangers, asked for":      {require: []string{"program.set=example.com/demo/cmd/demo"}, offers: []Offer{demo}, chosen: "demo", rules: []string{"program.set=example.com/demo/cmd/demo", "program.version=v1"}},
		"strangers by module":       {require: []string{"program.module!=x"}, offers: []Offer{demo}, chosen: "demo"},
		"two sets": {
			offers:  []Offer{crew, other},
			missing: []string{"2 builds", "example.com/lift/cmd/worker@v1 (w1)", "example.com/lift/cmd/other@v1 (w3)", `"program.set=example.com/lift/cmd/worker"`},
		},
		"two versions": {
			offers:  []Offer{crew, crew2},
			missing: []string{"2 builds", `"program.version=v1"`},
		},
		"a set of two versions, asked for": {
			require: []string{"program.set=example.com/lift/cmd/worker"}, offers: []Offer{crew, crew2}, chosen: "w2", // its own version
		},
		"a set of two other versions, asked for": {
			require: []string{"program.set=example.com/lift/cmd/worker"}, own: Build{Module: "example.com/lift", Set: "x", Version: "v3"},
			offers: []Offer{crew, crew2}, missing: []string{"2 builds", `"program.version=v1"`},
		},
		"mixed, asked for": {
			require: []string{"program.set=example.com/lift/cmd/worker", "program.version in (v1,v2)"}, offers: []Offer{crew, crew2},
			chosen: "w1", rules: []string{"program.set=example.com/lift/cmd/worker", "program.version in (v1,v2)"},
		},
		"any at all, asked for": {
			require: []string{"program.set", "program.version"}, offers: []Offer{crew, demo}, chosen: "w1", rules: []string{"program.set", "program.version"},
		},
		"held":                       {held: &crew, offers: []Offer{self, crew}, chosen: "w1"},
		"held on drained workers":    {held: &crew, offers: []Offer{self, drained}, chosen: "w1"},
		"held no more":               {held: &crew, offers: []Offer{crew2}, chosen: "w2"},
		"rules bar":                  {require: []string{"zone=a"}, offers: []Offer{far}, missing: []string{"do not meet", "zone=a", "(w1)"}},
		"drained":                    {offers: []Offer{drained}, missing: []string{"take no new tasks", "(w1)"}},
		"no module, its own build":   {own: Build{Set: "x", Version: "1"}, offers: []Offer{bare, on("me", "", "x", "1")}, chosen: "me"},
		"no module, the only one":    {own: Build{Set: "x", Version: "1"}, offers: []Offer{crew, on("files", "", "x", "2")}, chosen: "files"},
		"no module, two of them":     {own: Build{Set: "x", Version: "1"}, offers: []Offer{bare, on("files", "", "x", "2")}, missing: []string{"2 builds"}},
		"no module, strangers":       {own: Build{Set: "x", Version: "1"}, offers: []Offer{crew}, missing: []string{"without a module", "(w1)"}},
		"without labels, asked":      {require: []string{"!program.set"}, offers: []Offer{bare, crew}, chosen: "old"},
		"other rules change nothing": {require: []string{"disk=ssd"}, offers: []Offer{crew}, chosen: "w1", rules: []string{"disk=ssd", "program.set=example.com/lift/cmd/worker", "program.version=v1"}},
	} {
		w := Wish{Function: "main.worker", Require: c.require, Own: c.own}
		if w.Own == (Build{}) {
			w.Own = own
		}
		if c.held != nil {
			w.Held = &c.held.Build
		}
		offers := c.offers
		if name == "without labels, asked" {
			offers[1].Meets = false // by the gatherer
		}
		b, rules, missing := Choose(w, offers)
		i := slices.IndexFunc(offers, func(o Offer) bool { return o.Names[0] == c.chosen })
		if c.chosen == "" && missing == "" || c.chosen != "" && (missing != "" || b != offers[i].Build) {
			t.Errorf("%s: chose %v, missing %q", name, b, missing)
		}
		if c.rules != nil && !slices.Equal(rules, c.rules) {
			t.Errorf("%s: rules %q", name, rules)
		}
		for _, part := range c.missing {
			if !strings.Contains(missing, part) {
				t.Errorf("%s: it says %q, without %q", name, missing, part)
			}
		}
	}
}

// TestNeverMixed: whatever is offered, the rules that are chosen leave one build,
// unless the program's own rules speak of set and version.
func TestNeverMixed(t *testing.T) {
	t.Parallel()
	names := rapid.SampledFrom([]string{"", "a", "b", "c"})
	builds := rapid.Custom(func(t *rapid.T) Build {
		return Build{Module: names.Draw(t, "module"), Set: names.Draw(t, "set"), Version: names.Draw(t, "version")}
	})
	rapid.Check(t, func(t *rapid.T) {
		var offers []Offer
		for i := range rapid.IntRange(0, 6).Draw(t, "workers") {
			labels := builds.Draw(t, "build").Labels(nil)
			offers = Gather(offers, string(rune('0'+i)), labels, rapid.Bool().Draw(t, "meets"), rapid.Bool().Draw(t, "ready"))
		}
		w := Wish{Function: "f", Own: builds.Draw(t, "own")}
		if rapid.Bool().Draw(t, "holds") {
			b := builds.Draw(t, "held")
			w.Held = &b
		}
		b, rules, missing := Choose(w, offers)
		if missing != "" {
			return
		}
		left := 0
		for _, o := range offers {
			if !slices.Contains(rules, rule(SetLabel, o.Set)) || !slices.Contains(rules, rule(VersionLabel, o.Version)) {
				continue
			}
			left++
			if o.Set != b.Set || o.Version != b.Version {
				t.Fatalf("the rules %q leave %v beside %v", rules, o.Build, b)
			}
		}
		if left == 0 || b.Module != w.Own.Module {
			t.Fatalf("chose %v by %q of %v", b, rules, offers)
		}
	})
}

func TestOwn(t *testing.T) {
	t.Parallel()
	b := Own()
	if b.Module != "github.com/rota-project/rota" || !strings.HasPrefix(b.Set, b.Module+"/") || b.Version == "" || b.Version == "unknown" {
		t.Errorf("%+v", b)
	}
	labels := b.Labels(map[string]string{SetLabel: "mine", "disk": "ssd"})
	if got := fromLabels(labels); got.Set != "mine" || got.Version != b.Version || labels["disk"] != "ssd" {
		t.Errorf("labels %v", labels)
	}
}
