//go:build !unix

package userdir

import "os"

func mine(os.FileInfo, string) error { return nil }
