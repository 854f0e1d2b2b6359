// Package wholefile reads files that are to be in memory whole: configuration,
// certificates, tokens. What is larger than it should be is an error, not memory.
package wholefile

import (
	"fmt"
	"io"
	"os"
)

// Most is the limit of files that are small by nature, in bytes.
const Most = 1 << 20

// Read reads the named file, which may have most bytes.
func Read(name string, most int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	b, err := io.ReadAll(io.LimitReader(f, most+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > most {
		return nil, fmt.Errorf("%s: more than %d bytes", name, most)
	}
	return b, nil
}
