package logs

import (
	"bytes"
	"strings"
	"sync"
	"unicode/utf8"
)

// MaxLine is the longest line that Lines hands on whole, in bytes.
const MaxLine = 16 << 10

// Lines is an io.Writer that hands on what is written to it line by line,
// without the line's end. A line longer than MaxLine comes in pieces. It never
// fails, and blocks no longer than the function that it calls. Its methods are
// safe for concurrent use.
type Lines struct {
	mu   sync.Mutex
	emit func(line string)
	part []byte
}

// NewLines returns a Lines that calls emit, one call at a time.
func NewLines(emit func(line string)) *Lines { return &Lines{emit: emit} }

// Write hands on the lines that p ends. It always answers len(p) and nil.
func (l *Lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for rest := p; len(rest) > 0; {
		line, after, ended := bytes.Cut(rest, []byte{'\n'})
		l.part = append(l.part, line...)
		rest = after
		for len(l.part) > MaxLine {
			cut := MaxLine
			for back := 1; back < utf8.UTFMax && !utf8.RuneStart(l.part[cut]); back++ {
				cut--
			}
			l.emit(string(l.part[:cut]))
			l.part = append(l.part[:0], l.part[cut:]...)
		}
		if ended {
			l.emit(strings.TrimSuffix(string(l.part), "\r"))
			l.part = l.part[:0]
		}
	}
	return len(p), nil
}

// Close hands on a last line that was not ended.
func (l *Lines) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.part) > 0 {
		l.emit(string(l.part))
		l.part = nil
	}
	return nil
}
