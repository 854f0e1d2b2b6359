package cli

import (
	"bytes"
	"crypto/sha256"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
)

// copies is a scheduler that sends a backup.
type copies struct {
	rotav1.UnimplementedMembersServer
	pieces [][]byte
	err    error
}

func (c *copies) Backup(_ *rotav1.BackupRequest, to rotav1.Members_BackupServer) error {
	for _, p := range c.pieces {
		if err := to.Send(&rotav1.BackupPiece{Data: p}); err != nil {
			return err
		}
	}
	return c.err
}

// TestBackup: a backup is whole, or the file is as it was, and nothing is left beside it.
func TestBackup(t *testing.T) {
	t.Parallel()
	page := bytes.Repeat([]byte("x"), 4096)
	sum := sha256.Sum256(append(bytes.Clone(page), page...))
	for name, x := range map[string]struct {
		copies
		status int
		errs   string
	}{
		"whole":       {copies{pieces: [][]byte{page, page, sum[:]}}, 0, "backup of 8224 bytes in "},
		"cut":         {copies{pieces: [][]byte{page, page}}, 1, "an incomplete backup"},
		"a page less": {copies{pieces: [][]byte{page, sum[:]}}, 1, "an incomplete backup"},
		"nothing":     {copies{}, 1, "an incomplete backup"},
		"broken off":  {copies{pieces: [][]byte{page, page, sum[:]}, err: status.Error(codes.Unavailable, "the store has no leader")}, 1, "rota: the store has no leader"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			s := grpc.NewServer()
			rotav1.RegisterMembersServer(s, &x.copies)
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				_ = s.Serve(l)
			}()
			defer func() { s.Stop(); <-ended }()
			dir := t.TempDir()
			file := filepath.Join(dir, "backup")
			if err := os.WriteFile(file, []byte("before"), 0o600); err != nil {
				t.Fatal(err)
			}
			code, _, errs := runRota(t, map[string]string{"ROTA_SERVER": l.Addr().String()}, "", "backup", file)
			if code != x.status || !strings.Contains(errs, x.errs) || strings.Count(errs, "\n") != 1 || strings.Contains(errs, "rpc error") {
				t.Errorf("status %d, %q", code, errs)
			}
			want := []byte("before")
			if x.status == 0 {
				want = bytes.Join(x.pieces, nil)
			}
			if got, err := os.ReadFile(file); err != nil || !bytes.Equal(got, want) {
				t.Errorf("%d bytes in the file, %v", len(got), err)
			}
			if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
				t.Errorf("left: %v, %v", left, err)
			}
		})
	}
}
