//go:build !unix

package program

import (
	"errors"
	"net"
	"os"
)

var errNotHere = errors.New("program: Local needs a Unix system")

func connFile() (near net.Conn, far *os.File, err error) { return nil, nil, errNotHere }
func connPair() (near, far net.Conn, err error)          { return nil, nil, errNotHere }
func inheritedConn() (net.Conn, error)                   { return nil, errNotHere }
