// Command parts lists the modules that the rota binary is made of: it holds
// their licences to a list (-check) and writes a software bill of materials in
// CycloneDX JSON (-sbom FILE). CI and the release build run it; it changes
// nothing and asks no network.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// part is a module.
type part struct {
	Path, Version, Dir string
	Main               bool
	Licence            string
}

// allowed are the licences that may be linked into a program under Apache-2.0.
var allowed = []string{"Apache-2.0", "MIT", "BSD-2-Clause", "BSD-3-Clause", "ISC", "MPL-2.0"}

func main() {
	check := flag.Bool("check", false, "fail if a module's licence is not known or not allowed")
	sbom := flag.String("sbom", "", "write a CycloneDX JSON file")
	target := flag.String("of", "./cmd/rota", "the package to look at")
	flag.Parse()
	if err := run(*target, *check, *sbom); err != nil {
		fmt.Fprintln(os.Stderr, "parts:", err)
		os.Exit(1)
	}
}

func run(target string, check bool, sbom string) error {
	parts, err := list(target)
	if err != nil {
		return err
	}
	if check {
		if bad := notAllowed(parts); len(bad) > 0 {
			return errors.New("licences not allowed:\n  " + strings.Join(bad, "\n  "))
		}
		fmt.Printf("%d modules, all under %s\n", len(parts), strings.Join(allowed, ", "))
	}
	if sbom == "" {
		return nil
	}
	b, err := bill(parts)
	if err != nil {
		return err
	}
	return os.WriteFile(sbom, b, 0o644) //nolint:gosec // a public file
}

func notAllowed(parts []part) (bad []string) {
	for _, p := range parts {
		if !slices.Contains(allowed, p.Licence) {
			bad = append(bad, fmt.Sprintf("%s %s: %s", p.Path, p.Version, p.Licence))
		}
	}
	return bad
}

// list asks the go command for the modules of all packages that are linked.
func list(target string) ([]part, error) {
	out, err := exec.Command("go", "list", "-deps", "-json=Module", target).Output() //nolint:gosec // the target is the developer's own
	if err != nil {
		return nil, fmt.Errorf("go list: %w", err)
	}
	seen := map[string]bool{}
	var parts []part
	dec := json.NewDecoder(bytes.NewReader(out))
	for {
		var pkg struct {
			Module *struct { //nolint:tagliatelle // the go command writes it so
				Path    string `json:"Path"`
				Version string `json:"Version"`
				Dir     string `json:"Dir"`
				Main    bool   `json:"Main"`
			} `json:"Module"`
		}
		if err := dec.Decode(&pkg); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, fmt.Errorf("go list: %w", err)
		}
		m := pkg.Module
		if m == nil || seen[m.Path] { // nil: the standard library
			continue
		}
		seen[m.Path] = true
		parts = append(parts, part{m.Path, m.Version, m.Dir, m.Main, licence(m.Dir)})
	}
	slices.SortFunc(parts, func(a, b part) int { return strings.Compare(a.Path, b.Path) })
	return parts, nil
}

// licence tells the licence of a module by the text of its file.
func licence(dir string) string {
	for ; dir != "/" && dir != "."; dir = filepath.Dir(dir) {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return "unreadable"
		}
		for _, e := range entries {
			if name := strings.ToUpper(e.Name()); strings.HasPrefix(name, "LICEN") || strings.HasPrefix(name, "COPYING") {
				if b, err := os.ReadFile(filepath.Join(dir, e.Name())); err == nil {
					return classify(string(b))
				}
			}
		}
		if strings.Contains(filepath.Base(dir), "@") {
			break // the top of a module in the cache
		}
	}
	return "none found"
}

// classify knows licences by sentences that only they have.
func classify(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	for _, l := range []struct{ name, mark string }{
		{"MPL-2.0", "Mozilla Public License Version 2.0"}, // names the licences of GNU as secondary ones
		{"MPL-2.0", "Mozilla Public License, version 2.0"},
		{"AGPL", "GNU AFFERO GENERAL PUBLIC LICENSE"},
		{"LGPL", "GNU LESSER GENERAL PUBLIC LICENSE"},
		{"GPL", "GNU GENERAL PUBLIC LICENSE"},
		{"Apache-2.0", "Apache License Version 2.0"},
		{"ISC", "Permission to use, copy, modify, and/or distribute this software for any purpose"},
		{"ISC", "Permission to use, copy, modify, and distribute this software for any purpose"},
		{"MIT", "Permission is hereby granted, free of charge, to any person obtaining a copy"},
		{"BSD-3-Clause", "Neither the name"},
		{"BSD-3-Clause", "names of its contributors may"},
		{"BSD-2-Clause", "Redistributions of source code must retain"},
	} {
		if strings.Contains(strings.ToLower(text), strings.ToLower(l.mark)) {
			return l.name
		}
	}
	return "not known"
}

type component struct {
	Type     string             `json:"type"`
	Name     string             `json:"name"`
	Version  string             `json:"version,omitempty"`
	PURL     string             `json:"purl"`
	Licences []map[string]licID `json:"licenses"`
}

type licID struct {
	ID string `json:"id"`
}

// bill is the list in CycloneDX 1.5. It is the same for the same modules.
func bill(parts []part) ([]byte, error) {
	var components []component
	var self component
	for _, p := range parts {
		purl := "pkg:golang/" + p.Path
		if p.Version != "" {
			purl += "@" + p.Version
		}
		c := component{"library", p.Path, p.Version, purl, []map[string]licID{{"license": {p.Licence}}}}
		if p.Main {
			c.Type = "application"
			self = c
			continue
		}
		components = append(components, c)
	}
	b, err := json.MarshalIndent(map[string]any{
		"bomFormat": "CycloneDX", "specVersion": "1.5", "version": 1,
		"metadata": map[string]any{"component": self}, "components": components,
	}, "", "  ")
	if err != nil {
		return nil, err
	}
	return append(b, '\n'), nil
}
