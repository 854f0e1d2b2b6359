// Package bundle makes the archive of rota debug bundle: files about a cluster, a
// manifest of what is in it and of what is missing and why, and a page that explains
// both. It holds everything to sizes and takes known secrets out. It must never ask a
// cluster for anything itself.
package bundle

import (
	"archive/tar"
	"bytes"
	"cmp"
	"compress/gzip"
	_ "embed"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/rota-project/rota/internal/address"
)

// Limits of a bundle, in bytes.
const (
	// MaxFile is the most that a file of it may have. What is longer is cut.
	MaxFile = 8 << 20
	// MaxTotal is the most that all files may have together, before compression. What
	// comes later is missing.
	MaxTotal = 64 << 20
)

// Redacted stands where a secret was.
const Redacted = "(redacted)"

// shortest is the length of the shortest text that is taken for a secret: shorter ones
// are parts of other words.
const shortest = 6

// readme explains a bundle to who opens it.
//
//go:embed README.txt
var readme string

// File is a file of the bundle, as the manifest names it.
type File struct {
	Name  string `json:"name"`
	Bytes int    `json:"bytes"`
	// Cut says that there was more.
	Cut bool `json:"cut,omitempty"`
	// Note says what of it was left out, and why.
	Note string `json:"note,omitempty"`

	data []byte
}

// Missing is what the bundle should have and has not.
type Missing struct {
	Name string `json:"name"`
	Why  string `json:"why"`
}

// Manifest says what is in a bundle.
type Manifest struct {
	Created time.Time `json:"created"`
	// Version is the one of the command that has made it.
	Version string    `json:"version"`
	Files   []File    `json:"files"`
	Missing []Missing `json:"missing"`
}

// Bundle collects files. Its methods are safe for concurrent use. Make one by New.
type Bundle struct {
	secrets           []string
	maxFile, maxTotal int

	mu      sync.Mutex
	total   int
	files   []File
	missing []Missing
}

// New returns an empty bundle, out of whose files the secrets are taken wherever they
// occur. Secrets of less than 6 bytes are not looked for.
func New(secrets ...string) *Bundle {
	b := &Bundle{maxFile: MaxFile, maxTotal: MaxTotal}
	for _, s := range secrets {
		if len(s) >= shortest {
			b.secrets = append(b.secrets, s)
		}
	}
	// The longest first: one may be a part of another.
	slices.SortFunc(b.secrets, func(x, y string) int { return cmp.Compare(len(y), len(x)) })
	return b
}

// Text adds a file of text. Addresses in it are shown without their secrets. note,
// which may be empty, says what was left out of it.
func (b *Bundle) Text(name string, text []byte, note string) {
	b.add(name, []byte(address.Text(string(text))), note)
}

// Data adds a file of which every byte counts, such as a profile.
func (b *Bundle) Data(name string, data []byte) { b.add(name, data, "") }

// JSON adds a file with a value.
func (b *Bundle) JSON(name string, value any, note string) {
	text, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		b.Miss(name, err.Error())
		return
	}
	b.Text(name, append(text, '\n'), note)
}

// Miss notes that a file is missing, and why.
func (b *Bundle) Miss(name, why string) {
	why = b.clean(address.Text(why))
	b.mu.Lock()
	defer b.mu.Unlock()
	b.missing = append(b.missing, Missing{name, why})
}

// Missing is what is missing so far, in order of name.
func (b *Bundle) Missing() []Missing {
	b.mu.Lock()
	defer b.mu.Unlock()
	slices.SortStableFunc(b.missing, func(x, y Missing) int { return cmp.Compare(x.Name, y.Name) })
	return slices.Clone(b.missing)
}

func (b *Bundle) add(name string, data []byte, note string) {
	data = []byte(b.clean(string(data)))
	cut := len(data) > b.maxFile
	if cut {
		data = data[:b.maxFile]
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.total+len(data) > b.maxTotal {
		b.missing = append(b.missing, Missing{name, fmt.Sprintf("the bundle is full: it holds at most %d bytes", b.maxTotal)})
		return
	}
	b.total += len(data)
	b.files = append(b.files, File{Name: name, Bytes: len(data), Cut: cut, Note: note, data: data})
}

// clean takes the secrets out of a text, as they are and as JSON writes them.
func (b *Bundle) clean(text string) string {
	for _, s := range b.secrets {
		text = replace(text, s)
		if quoted, err := json.Marshal(s); err == nil {
			text = replace(text, string(quoted[1:len(quoted)-1]))
		}
	}
	return text
}

func replace(text, secret string) string {
	return string(bytes.ReplaceAll([]byte(text), []byte(secret), []byte(Redacted)))
}

// Write writes the archive, tar within gzip: README.txt and manifest.json first, then
// the files in order of name, all below a folder of the given name.
func (b *Bundle) Write(w io.Writer, folder, version string, now time.Time) error {
	missing := b.Missing()
	b.mu.Lock()
	defer b.mu.Unlock()
	slices.SortStableFunc(b.files, func(x, y File) int { return cmp.Compare(x.Name, y.Name) })
	m := Manifest{Created: now.UTC().Truncate(time.Second), Version: version, Files: b.files, Missing: missing}
	if m.Missing == nil {
		m.Missing = []Missing{} // said, not left out
	}
	text, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	zip := gzip.NewWriter(w)
	archive := tar.NewWriter(zip)
	first := []File{{Name: "README.txt", data: []byte(readme)}, {Name: "manifest.json", data: append(text, '\n')}}
	for _, f := range slices.Concat(first, b.files) {
		h := &tar.Header{Name: folder + "/" + f.Name, Typeflag: tar.TypeReg, Mode: 0o600, Size: int64(len(f.data)), ModTime: m.Created}
		if err := archive.WriteHeader(h); err != nil {
			return err
		}
		if _, err := archive.Write(f.data); err != nil {
			return err
		}
	}
	if err := archive.Close(); err != nil {
		return err
	}
	return zip.Close()
}
