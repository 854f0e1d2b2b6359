//go:build linux && !race

package policy_test

import (
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
)

// peak is by how many bytes the memory of this process, as the kernel counts it,
// grows at the most while f runs.
func peak(t *testing.T, f func()) int {
	t.Helper()
	debug.FreeOSMemory()
	// 5 makes what is resident now the most that ever was.
	if err := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0); err != nil {
		t.Fatal(err)
	}
	before := memory(t, "VmRSS")
	f()
	return memory(t, "VmHWM") - before
}

func memory(t *testing.T, field string) int {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), field+":")
	kib, err := strconv.Atoi(strings.Fields(rest)[0])
	if err != nil {
		t.Fatal(err)
	}
	return kib << 10
}
