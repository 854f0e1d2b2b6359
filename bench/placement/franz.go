package main

import (
	"slices"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// group drives franz-go's cooperative-sticky assignor as its client does: each
// member's metadata says what it wants and owns, the leader balances. Decoding
// the metadata is not counted.
type group struct {
	balancer kgo.GroupBalancer
	topics   map[string]int32
	wants    map[string][]string           // by member
	owns     map[string]map[string][]int32 // by member and topic
	ready    kgo.GroupMemberBalancer
	plan     map[string]map[string][]int32
}

// newGroup has one topic with a partition for each task: the kindest for it.
func newGroup(tasks, workers int) *group {
	g := &group{
		balancer: kgo.CooperativeStickyBalancer(), topics: map[string]int32{"tasks": int32(tasks)},
		wants: map[string][]string{}, owns: map[string]map[string][]int32{},
	}
	for k := range workers {
		g.join(workerName(k))
	}
	return g
}

func (g *group) join(name string) { g.wants[name], g.owns[name] = []string{"tasks"}, nil }

func (g *group) leave(k int) {
	delete(g.wants, workerName(k))
	delete(g.owns, workerName(k))
}

// differ adds a member that may not take everything, which turns off the
// assignor's short cut for equal members.
func (g *group) differ() {
	n := g.topics["tasks"]
	g.topics = map[string]int32{"tasks": n / 2, "others": n - n/2}
	for name := range g.wants {
		g.wants[name] = []string{"others", "tasks"}
	}
	g.join("differs")
}

// prepare encodes and decodes the metadata.
func (g *group) prepare() {
	var members []kmsg.JoinGroupResponseMember
	for name, topics := range g.wants {
		m := kmsg.NewJoinGroupResponseMember()
		m.MemberID = name
		m.ProtocolMetadata = g.balancer.JoinGroupMetadata(topics, g.owns[name], 1)
		members = append(members, m)
	}
	slices.SortFunc(members, func(a, b kmsg.JoinGroupResponseMember) int {
		if a.MemberID < b.MemberID {
			return -1
		}
		return 1
	})
	b, _, err := g.balancer.MemberBalancer(members)
	must(err)
	g.ready = b
}

func (g *group) balance() {
	into, err := g.ready.(kgo.GroupMemberBalancerOrError).BalanceOrError(g.topics)
	must(err)
	g.plan = into.(*kgo.BalancePlan).AsMemberIDMap()
}

// settle balances and makes it so.
func (g *group) settle() {
	g.prepare()
	g.balance()
	n := 0
	for name, topics := range g.plan {
		g.owns[name] = topics
		for _, partitions := range topics {
			n += len(partitions)
		}
	}
	total := 0
	for _, partitions := range g.topics {
		total += int(partitions)
	}
	if n != total {
		panic("the assignor lost partitions")
	}
}
