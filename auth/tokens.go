package auth

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rota-project/rota/internal/secretfile"
	"github.com/rota-project/rota/internal/text"
)

// Tokens are the records of tokens by id. Looking one up takes no lock. The zero value is
// empty and ready to use; fill it from a file, from the store, or both.
type Tokens struct {
	mu    sync.Mutex // held by writers
	table atomic.Pointer[map[string]Token]
}

// Find returns the record of the token with the text s, if it is valid now. Its errors are
// ErrTokenShape, ErrTokenUnknown, ErrTokenExpired and ErrTokenRevoked.
func (ts *Tokens) Find(s Secret, now time.Time) (Token, error) {
	id, secret, err := splitToken(s)
	if err != nil {
		return Token{}, err
	}
	t, ok := ts.Get(id)
	if !ok {
		// Take as long for one that is not there as for one that is.
		var none Token
		_ = none.verify(secret, now)
		return Token{}, ErrTokenUnknown
	}
	return t, t.verify(secret, now)
}

// Get returns the record of an id.
func (ts *Tokens) Get(id string) (Token, bool) {
	if m := ts.table.Load(); m != nil {
		t, ok := (*m)[id]
		return t, ok
	}
	return Token{}, false
}

// Len is the number of records.
func (ts *Tokens) Len() int {
	if m := ts.table.Load(); m != nil {
		return len(*m)
	}
	return 0
}

// List returns the records, oldest first.
func (ts *Tokens) List() []Token {
	m := ts.table.Load()
	if m == nil {
		return nil
	}
	return slices.SortedFunc(maps.Values(*m), func(a, b Token) int {
		if c := a.Created.Compare(b.Created); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
}

// Update sets records by their ids and removes the records with the ids in remove.
func (ts *Tokens) Update(set []Token, remove []string) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	next := map[string]Token{}
	if m := ts.table.Load(); m != nil {
		next = maps.Clone(*m)
	}
	for _, t := range set {
		next[t.ID] = t
	}
	for _, id := range remove {
		delete(next, id)
	}
	ts.table.Store(&next)
}

// MaxTokenFile is the maximum size of a token file in bytes.
const MaxTokenFile = 8 << 20

// TokenFile is a file of token records, one JSON object per line. The file may be changed
// while it is used; Reload reads it again.
type TokenFile struct {
	path string
	mu   sync.Mutex
	seen fs.FileInfo
	ids  []string
}

// OpenTokenFile reads path into ts. A missing file is an error.
func OpenTokenFile(path string, ts *Tokens) (*TokenFile, error) {
	f := &TokenFile{path: path}
	if _, err := f.Reload(ts); err != nil {
		return nil, err
	}
	return f, nil
}

// Reload reads the file if it has changed, and reports whether it had. On an error the
// records stay as they were.
func (f *TokenFile) Reload(ts *Tokens) (bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	fi, err := os.Stat(f.path)
	if err != nil {
		return false, fmt.Errorf("tokens: %w", err)
	}
	if f.seen != nil && os.SameFile(f.seen, fi) && f.seen.ModTime().Equal(fi.ModTime()) && f.seen.Size() == fi.Size() {
		return false, nil
	}
	tokens, err := readTokenFile(f.path)
	if err != nil {
		return false, err
	}
	var ids, gone []string
	for _, t := range tokens {
		ids = append(ids, t.ID)
	}
	for _, id := range f.ids {
		if !slices.Contains(ids, id) {
			gone = append(gone, id)
		}
	}
	ts.Update(tokens, gone)
	f.seen, f.ids = fi, ids
	return true, nil
}

func readTokenFile(path string) ([]Token, error) {
	data, err := secretfile.ReadUpTo(path, MaxTokenFile)
	if err != nil {
		return nil, fmt.Errorf("tokens: %w", err)
	}
	var out []Token
	n := 0
	for line := range bytes.Lines(data) {
		n++
		if len(bytes.TrimSpace(line)) == 0 {
			continue
		}
		var t Token
		dec := json.NewDecoder(bytes.NewReader(line))
		dec.DisallowUnknownFields()
		if err := dec.Decode(&t); err != nil {
			return nil, fmt.Errorf("tokens: %s:%d: %s", path, n, text.Clip(err.Error(), text.Short))
		}
		if t.ID == "" || t.Hash == (Hash{}) {
			return nil, fmt.Errorf("tokens: %s:%d: id or hash is missing", path, n)
		}
		if err := t.Validate(); err != nil {
			return nil, fmt.Errorf("tokens: %s:%d: %w", path, n, err)
		}
		out = append(out, t)
	}
	return out, nil
}

// EditTokenFile changes the records of a file atomically: a reader sees the old file or the
// new one. A missing file is created.
func EditTokenFile(path string, edit func([]Token) ([]Token, error)) error {
	tokens, err := readTokenFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if tokens, err = edit(tokens); err != nil {
		return err
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	for _, t := range tokens {
		if err := enc.Encode(t); err != nil {
			return fmt.Errorf("tokens: %w", err)
		}
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), ".tokens-")
	if err != nil {
		return fmt.Errorf("tokens: %w", err)
	}
	defer func() { _ = os.Remove(tmp.Name()) }()
	_, err = tmp.Write(b.Bytes())
	if err = errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return fmt.Errorf("tokens: %w", err)
	}
	if err := os.Rename(tmp.Name(), path); err != nil {
		return fmt.Errorf("tokens: %w", err)
	}
	return nil
}
