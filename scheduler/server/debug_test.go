package server

import "testing"

// TestArgumentsWithoutSecrets: what /debug/pprof/cmdline answers has no secret of an
// address that was given as an argument.
func TestArgumentsWithoutSecrets(t *testing.T) {
	t.Parallel()
	args := []string{"rota", "scheduler", "--tasks-url", "https://ada:pw@host/list?token=x", "--tasks-url=http://ada:pw@host/list", "--etcd", "http://ada:pw@a,http://b"}
	const want = "rota\x00scheduler\x00--tasks-url\x00https://***@host/list?token=***\x00--tasks-url=http://***@host/list\x00--etcd\x00http://***@a,http://b"
	if got := string(arguments(args)); got != want {
		t.Errorf("got %q", got)
	}
}
