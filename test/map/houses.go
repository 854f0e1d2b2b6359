package main

import (
	"cmp"
	"maps"
	"slices"
	"strings"
)

// house is a top-level folder.
type house struct {
	name    string
	about   string          // the first sentence of the door's comment
	rooms   []string        // in order
	imports map[string]bool // other houses
	rank    int             // 0 imports no house
}

// housesOf sorts packages into houses, by rank and name.
func housesOf(list []pkg) []*house {
	all := map[string]*house{}
	for _, p := range list {
		name, room, ok := place(p.ImportPath)
		if !ok || beside[name] || len(p.GoFiles) == 0 {
			continue
		}
		h := all[name]
		if h == nil {
			h = &house{name: name, imports: map[string]bool{}}
			all[name] = h
		}
		if room != "" {
			h.rooms = append(h.rooms, room)
		} else {
			h.about = sentence(p.Doc)
		}
		for _, i := range p.Imports {
			if other, _, ok := place(i); ok && other != name && !beside[other] {
				h.imports[other] = true
			}
		}
	}
	for _, h := range all {
		slices.Sort(h.rooms)
		h.rank = rankOf(all, h.name, nil)
	}
	lift(all)
	return slices.SortedFunc(maps.Values(all), func(a, b *house) int {
		return cmp.Or(cmp.Compare(a.rank, b.rank), cmp.Compare(a.name, b.name))
	})
}

// rankOf is the length of the longest way down from a house. Houses on the way are
// not entered again: one that imports itself by others has a rank nevertheless.
func rankOf(all map[string]*house, name string, way []string) int {
	rank := 0
	way = append(way, name)
	for other := range all[name].imports {
		if all[other] != nil && !slices.Contains(way, other) {
			rank = max(rank, 1+rankOf(all, other, way))
		}
	}
	return rank
}

// lift raises what nothing imports to the top, and each other house to the row below
// the lowest that imports it, so that arrows are short.
func lift(all map[string]*house) {
	fromTop := slices.SortedFunc(maps.Values(all), func(a, b *house) int {
		return cmp.Or(cmp.Compare(b.rank, a.rank), cmp.Compare(a.name, b.name))
	})
	if len(fromTop) == 0 {
		return
	}
	imported := func(name string) bool {
		return slices.ContainsFunc(fromTop, func(h *house) bool { return h.imports[name] })
	}
	for _, h := range fromTop {
		if !imported(h.name) {
			h.rank = fromTop[0].rank
			continue
		}
		row := fromTop[0].rank
		for _, by := range all {
			if by.imports[h.name] {
				row = min(row, by.rank-1)
			}
		}
		h.rank = max(h.rank, row)
	}
}

// sentence is the first one of a package's comment, without the name it begins with.
func sentence(doc string) string {
	doc = strings.Join(strings.Fields(doc), " ")
	first, _, _ := strings.Cut(doc, ". ")
	first = strings.TrimSuffix(first, ".")
	if rest, ok := strings.CutPrefix(first, "Package "); ok {
		_, first, _ = strings.Cut(rest, " ")
	}
	return first
}

// arrow is an import that no others imply.
type arrow struct {
	from, to *house
	up       bool // it does not run down
}

// arrows are the imports of houses, but for those that other imports imply.
func arrows(list []*house) (out []arrow) {
	byName := map[string]*house{}
	for _, h := range list {
		byName[h.name] = h
	}
	for _, from := range list {
		for _, name := range slices.Sorted(maps.Keys(from.imports)) {
			to := byName[name]
			if to == nil || name == words || name == tools {
				continue
			}
			if to.rank >= from.rank {
				out = append(out, arrow{from, to, true})
			} else if !implied(byName, from, to) {
				out = append(out, arrow{from, to, false})
			}
		}
	}
	return out
}

// implied reports whether from imports to by another house, too.
func implied(all map[string]*house, from, to *house) bool {
	for name := range from.imports {
		by := all[name]
		if by == nil || by == to || by.rank >= from.rank || by.rank <= to.rank {
			continue
		}
		if by.imports[to.name] || implied(all, by, to) {
			return true
		}
	}
	return false
}
