//go:build !unix

package secretfile

import "io/fs"

// check has no modes to look at here: such systems keep the files of a user apart
// by where they are.
func check(string, fs.FileInfo) error { return nil }
