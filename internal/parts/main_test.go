package main

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestClassify(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"Apache License\n   Version 2.0, January 2004":                                                                                     "Apache-2.0",
		"Permission is hereby granted, free of charge, to any person\nobtaining a copy":                                                    "MIT",
		"GNU GENERAL PUBLIC LICENSE Version 3":                                                                                             "GPL",
		"GNU LESSER GENERAL PUBLIC LICENSE. This supplements the GNU General Public License":                                               "LGPL",
		"Mozilla Public License, version 2.0\n1.12. \"Secondary License\" means the GNU General Public License, Version 2.0":               "MPL-2.0",
		"Mozilla Public License Version 2.0\n1.12. \"Secondary License\" means either the GNU General Public License, Version 2.0, or the": "MPL-2.0",
		"Redistributions of source code must retain":                                                                                       "BSD-2-Clause",
		"Redistributions of source code must retain. Neither the name of":                                                                  "BSD-3-Clause",
		"All rights reserved.": "not known",
	} {
		if got := classify(text); got != want {
			t.Errorf("%q: %s", text, got)
		}
	}
}

// TestLicences looks at the binary's own modules, so that one who adds a module
// learns of its licence before lint does.
func TestLicences(t *testing.T) {
	t.Parallel()
	parts, err := list("../../cmd/rota")
	if err != nil {
		t.Fatal(err)
	}
	if bad := notAllowed(parts); len(parts) < 10 || len(bad) > 0 {
		t.Errorf("%d modules, not allowed: %q", len(parts), bad)
	}
}

func TestBill(t *testing.T) {
	t.Parallel()
	b, err := bill([]part{{Path: "example.org/a", Version: "v1.2.3", Licence: "MIT"}, {Path: "example.org/self", Main: true, Licence: "Apache-2.0"}})
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		Components []struct {
			PURL string `json:"purl"`
		} `json:"components"`
	}
	if err := json.Unmarshal(b, &doc); err != nil || len(doc.Components) != 1 || doc.Components[0].PURL != "pkg:golang/example.org/a@v1.2.3" {
		t.Errorf("%s, %v", b, err)
	}
	if !strings.Contains(string(b), `"application"`) {
		t.Error("the program itself is missing")
	}
}
