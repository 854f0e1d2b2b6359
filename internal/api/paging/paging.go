// Package paging is what lists of the API have in common: sizes and tokens of pages,
// orders, and texts that are looked for. Services call it; it knows nothing of what is
// listed.
package paging

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/rota-project/rota/internal/api/convert"
	"github.com/rota-project/rota/internal/text"
)

// Size is how many a page has at most: usual for 0. The error is a status that names
// the field page_size.
func Size(asked int64, usual, most int) (int, error) {
	switch {
	case asked < 0 || asked > int64(most):
		return 0, convert.FieldStatus("page_size", fmt.Sprintf("page_size: %d: want 0 to %d", asked, most))
	case asked == 0:
		return usual, nil
	}
	return int(asked), nil
}

// Order is what a list is in order of, beginning with the last if Down is set.
type Order struct {
	By   string
	Down bool
	id   bool // it is the order of IDs
}

// ParseOrder reads the field order_by: one of known, usual for "", and - before it for
// Down. The error is a status that names the field.
func ParseOrder[V any](s, usual string, known map[string]V) (Order, error) {
	by, down := strings.CutPrefix(s, "-")
	if s == "" {
		by = usual
	}
	if _, ok := known[by]; !ok {
		return Order{}, convert.FieldStatus("order_by", fmt.Sprintf("order_by: %q: want %s, or - before it", text.Clip(s, text.Short), strings.Join(slices.Sorted(maps.Keys(known)), ", ")))
	}
	return Order{by, down, by == usual}, nil
}

// Place is where something stands in an order: by Number, then Text, then ID, which
// nothing else has.
type Place struct {
	Number float64 `json:"n,omitempty"`
	Text   string  `json:"t,omitempty"`
	ID     string  `json:"i"`
}

// Compare is below 0 if a comes before b. What is equal but for its ID is in order of
// that, whichever way the order goes.
func (o Order) Compare(a, b Place) int {
	c := cmp.Or(cmp.Compare(a.Number, b.Number), strings.Compare(a.Text, b.Text))
	if o.Down {
		c = -c
	}
	if c == 0 {
		if c = strings.Compare(a.ID, b.ID); o.Down && o.id {
			c = -c
		}
	}
	return c
}

// token is what the token of a page says: the order, and where the page before ended.
type token struct {
	By   string `json:"b"`
	Down bool   `json:"d,omitempty"`
	Place
}

// Token is that of the page after a place.
func (o Order) Token(p Place) string {
	if math.IsNaN(p.Number) || math.IsInf(p.Number, 0) {
		p.Number = 0 // JSON has none, and neither has anything that is listed
	}
	body, err := json.Marshal(token{o.By, o.Down, p})
	if err != nil { // it always marshals
		return ""
	}
	return base64.RawURLEncoding.EncodeToString(body)
}

// After is where the page before that of a token ended; nil without one. The error is
// a status that names the field page_token.
func (o Order) After(s string) (*Place, error) {
	if s == "" {
		return nil, nil
	}
	body, err := base64.RawURLEncoding.DecodeString(s)
	var t token
	if err != nil || json.Unmarshal(body, &t) != nil || t.ID == "" {
		return nil, convert.FieldStatus("page_token", fmt.Sprintf("page_token: %q: want next_page_token of an answer", text.Clip(s, text.Short)))
	}
	if (t.By != o.By) || t.Down != o.Down {
		return nil, convert.FieldStatus("page_token", "page_token: it is of a list in another order: want the order_by of the page before")
	}
	return &t.Place, nil
}

// Text is looked for in other texts, in which upper and lower case are the same. The
// zero value is in all.
type Text struct{ low string }

// NewText returns one.
func NewText(s string) Text { return Text{strings.ToLower(s)} }

// In reports whether it is in s. For plain ASCII nothing is allocated.
func (t Text) In(s string) bool {
	n := len(t.low)
	if n == 0 {
		return true
	}
	for i := range len(s) {
		if s[i] >= 0x80 {
			return strings.Contains(strings.ToLower(s), t.low)
		}
	}
	for i := 0; i+n <= len(s); i++ {
		if lower(s[i]) == t.low[0] && same(s[i:i+n], t.low) {
			return true
		}
	}
	return false
}

func same(s, low string) bool {
	for i := range len(low) {
		if lower(s[i]) != low[i] {
			return false
		}
	}
	return true
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		c += 'a' - 'A'
	}
	return c
}
