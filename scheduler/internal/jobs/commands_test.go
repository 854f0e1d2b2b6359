package jobs

import (
	"slices"
	"strings"
	"testing"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/scheduler/internal/storepb"
	"github.com/rota-project/rota/scheduler/internal/view"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// What workers list is answered once, with how many list it and what each word wants.
// Those without a session, and those that leave, are not counted.
func TestListCommands(t *testing.T) {
	t.Parallel()
	c, _ := still(t)
	add := func(name string, leaving bool, w *storepb.JobWorker) {
		w.Name, w.Incarnation, w.Slots = name, "i1", 1
		c.p.workers[name] = w
		c.p.sessions[name] = &view.Session{Session: &storepb.Session{Name: name, Incarnation: "i1", Leaving: leaving}}
	}
	line := func(words ...string) *storepb.JobTemplate { return &storepb.JobTemplate{Argv: words} }
	add("a", false, &storepb.JobWorker{Commands: []string{"seq", "bash"}, Templates: []*storepb.JobTemplate{
		line("seq", "{last:int(1..10)}"), line("bash", "{script:path}", "--in={mode:one(dry|wet)}", "{more:any...}"), line("seq", "{last:int(1..10)}"),
	}})
	add("b", false, &storepb.JobWorker{Commands: []string{"seq"}, Templates: []*storepb.JobTemplate{line("seq", "{last:int(1..10)}")}})
	add("earlier", false, &storepb.JobWorker{Commands: []string{"date"}})
	add("later", false, &storepb.JobWorker{Commands: []string{"x"}, Templates: []*storepb.JobTemplate{line("x", "{n:colour}")}})
	add("leaving", true, &storepb.JobWorker{Commands: []string{"seq"}, Templates: []*storepb.JobTemplate{line("seq", "{last:int(1..10)}")}})
	add("gone", false, &storepb.JobWorker{Commands: []string{"gone"}, Any: true})
	delete(c.p.sessions, "gone")
	got, err := c.ListCommands(t.Context(), &rotav1.ListCommandsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	want := &rotav1.ListCommandsResponse{}
	if err := protojson.Unmarshal([]byte(`{"anyWorkers":1,"allWorkers":5,"commands":[
		{"argv":["seq","{last:int(1..10)}"],"workers":2,"parameters":[{"word":1,"name":"last","type":"int","low":1,"high":10}]},
		{"argv":["bash","{script:path}","--in={mode:one(dry|wet)}","{more:any...}"],"workers":1,"parameters":[
			{"word":1,"name":"script","type":"path"},{"word":2,"name":"mode","type":"one","before":"--in=","choices":["dry","wet"]},{"word":3,"name":"more","type":"any","many":true}]},
		{"argv":["date","{arguments:any...}"],"workers":1,"parameters":[{"word":1,"name":"arguments","type":"any","many":true}]},
		{"argv":["x","{n:colour}"],"workers":1,"parameters":[{"word":1,"name":"{n:colour}","type":"any"}]}]}`), want); err != nil {
		t.Fatal(err)
	}
	if !proto.Equal(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}

// A worker may tell of so many command lines; the rest goes, and the worker takes them anyway.
func TestTemplatesAreBounded(t *testing.T) {
	t.Parallel()
	h := &rotav1.JobHello{Templates: slices.Repeat([]*rotav1.JobTemplate{{Argv: []string{"x", strings.Repeat("y", 1000)}}}, 100)}
	if n := len(templatesOf(h)); n != 16 {
		t.Errorf("%d command lines of 1 KB are kept, want 16", n)
	}
}
