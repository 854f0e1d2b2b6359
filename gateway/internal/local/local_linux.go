package local

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// socket is one line of the kernel's table of TCP or UDP sockets.
type socket struct {
	local, remote netip.AddrPort
	listens       bool
	uid           int
}

type ends struct{ local, remote netip.AddrPort }

// sockets are all of this network namespace, by inode.
type sockets struct {
	byInode map[string]socket
	inodes  map[ends]string // of connections
	unix    map[string]bool // those that listen
}

func direct(ours, theirs netip.AddrPort) error {
	all, err := readSockets()
	if err != nil {
		return ErrUnknown
	}
	inode := all.inodes[ends{theirs, ours}]
	s, ok := all.byInode[inode]
	if !ok {
		return ErrUnknown
	}
	if me := os.Geteuid(); s.uid != me && s.uid != 0 {
		return ErrUser
	}
	self := os.Getpid()
	mine, err := held(self)
	if err != nil {
		return ErrUnknown
	}
	parents := ancestors(self)
	found := false
	for _, pid := range processes() {
		holds, err := held(pid)
		if err != nil || !holds[inode] {
			continue // it has ended, or is another user's
		}
		found = true
		if pid == self || !all.alone(inode, holds, mine, slices.Contains(parents, pid)) {
			return ErrServes
		}
	}
	if !found {
		return ErrUnknown
	}
	return nil
}

// alone says whether a process with those sockets has to do with nobody but
// itself and us. A parent may listen, and may be connected to whom it likes.
func (a *sockets) alone(asks string, holds, mine map[string]bool, parent bool) bool {
	listens := map[uint16]bool{}
	for inode := range holds {
		s, ok := a.byInode[inode]
		switch {
		case ok && s.listens && !parent, !ok && a.unix[inode] && !parent:
			return false
		case ok && s.listens:
			listens[s.local.Port()] = true
		}
	}
	for inode := range holds {
		s, ok := a.byInode[inode]
		if !ok || s.listens || inode == asks {
			continue
		}
		other := a.inodes[ends{s.remote, s.local}]
		if holds[other] || mine[other] || parent && !listens[s.local.Port()] {
			continue
		}
		return false
	}
	return true
}

// readSockets reads the kernel's tables.
func readSockets() (*sockets, error) {
	a := &sockets{byInode: map[string]socket{}, inodes: map[ends]string{}, unix: map[string]bool{}}
	for _, table := range []string{"tcp", "tcp6", "udp", "udp6"} {
		f, err := os.Open("/proc/thread-self/net/" + table)
		if os.IsNotExist(err) && strings.HasSuffix(table, "6") {
			continue // a kernel without IPv6
		}
		if err != nil {
			return nil, err
		}
		a.read(bufio.NewScanner(f), table[0] == 'u')
		_ = f.Close()
	}
	b, err := os.ReadFile("/proc/thread-self/net/unix")
	if err != nil {
		return nil, err
	}
	for line := range bytes.Lines(b) {
		// Num RefCount Protocol Flags Type St Inode Path; 0x10000 is __SO_ACCEPTCON.
		if f := bytes.Fields(line); len(f) >= 7 && string(f[3]) == "00010000" {
			a.unix[string(f[6])] = true
		}
	}
	return a, nil
}

func (a *sockets) read(lines *bufio.Scanner, udp bool) {
	const listening = "0A"
	for lines.Scan() {
		// sl local_address rem_address st tx:rx tr:when retrnsmt uid timeout inode
		f := strings.Fields(lines.Text())
		if len(f) < 10 {
			continue
		}
		local, ok := address(f[1])
		remote, ok2 := address(f[2])
		uid, err := strconv.Atoi(f[7])
		if !ok || !ok2 || err != nil || f[9] == "0" {
			continue // the head of the table, or a connection that nobody holds
		}
		s := socket{local: local, remote: remote, uid: uid, listens: f[3] == listening || udp && remote.Port() == 0}
		a.byInode[f[9]] = s
		if !s.listens && !udp {
			a.inodes[ends{local, remote}] = f[9]
		}
	}
}

// address reads an address of the tables: words of four bytes in the machine's
// order, in hexadecimal, and a port.
func address(s string) (netip.AddrPort, bool) {
	text, port, ok := strings.Cut(s, ":")
	b, err := hex.DecodeString(text)
	p, err2 := strconv.ParseUint(port, 16, 16)
	if !ok || err != nil || err2 != nil || len(b)%4 != 0 {
		return netip.AddrPort{}, false
	}
	if littleEndian {
		for i := 0; i < len(b); i += 4 {
			slices.Reverse(b[i : i+4])
		}
	}
	ip, ok := netip.AddrFromSlice(b)
	return plain(netip.AddrPortFrom(ip, uint16(p))), ok
}

// processes are the numbers of all that can be seen.
func processes() (pids []int) {
	d, err := os.Open("/proc")
	if err != nil {
		return nil
	}
	defer func() { _ = d.Close() }()
	names, _ := d.Readdirnames(-1) // what was read is there
	for _, n := range names {
		if pid, err := strconv.Atoi(n); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// held are the inodes of the sockets that a process has open.
func held(pid int) (map[string]bool, error) {
	dir := filepath.Join("/proc", strconv.Itoa(pid), "fd")
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer func() { _ = d.Close() }()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	inodes := map[string]bool{}
	for _, n := range names {
		to, err := os.Readlink(filepath.Join(dir, n))
		if err != nil {
			continue // it was closed
		}
		if inode, ok := strings.CutPrefix(to, "socket:["); ok {
			inodes[strings.TrimSuffix(inode, "]")] = true
		}
	}
	return inodes, nil
}

// ancestors are the processes that have started this one, the nearest first.
func ancestors(pid int) (pids []int) {
	for pid > 1 {
		b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
		if err != nil {
			return pids
		}
		// The name in brackets may have anything in it.
		f := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
		if len(f) < 2 {
			return pids
		}
		if pid, err = strconv.Atoi(string(f[1])); err != nil || pid < 1 {
			return pids
		}
		pids = append(pids, pid)
	}
	return pids
}
