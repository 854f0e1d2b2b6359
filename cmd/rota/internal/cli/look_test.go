package cli_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/peer"
	"github.com/rota-project/rota/store/etcd"
	"github.com/rota-project/rota/worker"
)

// TestLookByEtcd: a cluster of replicas, which listen nowhere, is read by its etcd,
// and not written.
func TestLookByEtcd(t *testing.T) {
	t.Parallel()
	node, err := etcd.Embed(t.Context(), etcd.EmbedConfig{DataDir: t.TempDir(), NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := node.Stop(); err != nil {
			t.Error(err)
		}
	})
	n, err := peer.New(peer.Config{
		Etcd: etcd.Config{Endpoints: node.Endpoints()}, Root: "feeds", Name: "r1",
		Generator: func(context.Context) ([]rota.Task, error) { return []rota.Task{{ID: "prices"}, {ID: "news"}}, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := n.HandleTask("", func(ctx context.Context, _ worker.Assigned) error { <-ctx.Done(); return nil }); err != nil {
		t.Fatal(err)
	}
	n.Start()
	t.Cleanup(func() { _ = n.Stop(context.Background()) })
	if !n.TryLeaveBarrier(time.Minute) {
		t.Fatalf("not all tasks run: %v", n.Err())
	}
	at := node.Endpoints()[0]
	for _, c := range []struct {
		args      string
		env       map[string]string
		status    int
		out, errs string
	}{
		{args: "--etcd AT --root feeds status", out: "2 declared, 2 running"},
		{args: "--etcd AT --root feeds task list -o jsonl", out: `"worker":"r1"`},
		{args: "--etcd AT --root feeds why news", out: "news is on r1"},
		{args: "--etcd AT --root feeds worker get r1", out: "ready"},
		{args: "--root feeds status", env: map[string]string{"ROTA_ETCD": at, "ROTA_ETCD_USER": "u", "ROTA_ETCD_PASSWORD": "p"}, out: "r1, epoch"},
		{args: "--etcd AT status", env: map[string]string{"ROTA_ROOT": "feeds"}, out: "r1, epoch"},
		// Who has the environment of a scheduler asks schedulers all the same.
		{args: "status --server 127.0.0.1:1", env: map[string]string{"ROTA_ETCD": at, "ROTA_ROOT": "feeds"}, status: 1, errs: "no scheduler answers"},
		{args: "--etcd AT --root feeds worker drain r1", status: 1, errs: "DrainWorker changes the cluster"},
		{args: "--etcd AT --root feeds schedule notify", status: 1, errs: "NotifySchedule changes the cluster"},
		{args: "--etcd AT --root feeds job list", status: 1, errs: "replicas run tasks"},
		{args: "--etcd AT --root feed status", status: 1, errs: `--root: "feed": no cluster is kept there`},
		{args: "--etcd AT status", status: 2, errs: "--root: "},
		{args: "--etcd AT --root feeds/b status", status: 1, errs: `--root: "feeds/b": no cluster is kept there`},
		{args: "--root feeds status", status: 2, errs: "--etcd: "},
		{args: "--etcd AT --root feeds --server 127.0.0.1:1 status", status: 2, errs: "want either them or --server"},
		{args: "--etcd-user u status", status: 2, errs: "--etcd-user: "},
		{args: "--etcd AT --root feeds --etcd-user u status", status: 2, errs: "--etcd-password-file: "},
		{args: "--etcd http:// --root feeds status", status: 2, errs: "--etcd: "},
		{args: "worker --etcd AT", status: 2, errs: "unknown flag: --etcd"},
	} {
		args := strings.Fields(c.args)
		for i := range args {
			if args[i] == "AT" {
				args[i] = at
			}
		}
		status, out, errs := run(t, "", c.env, args...)
		if status != c.status || !strings.Contains(out, c.out) || !strings.Contains(errs, c.errs) || strings.Count(errs, "\n") > 1 {
			t.Errorf("%s: status %d, %s%s; want %d, %q, %q", c.args, status, out, errs, c.status, c.out, c.errs)
		}
	}
}
