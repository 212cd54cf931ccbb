package main_test

import (
	"os"
	"testing"
)

// The house has four floors and imports go down only: the command line (4), escalation and federation (3), node (2),
// the wire (1); what is only data lies below them all (0). A package stands on exactly one step of the stairs below and
// may import what stands lower, so two packages on one step never import each other. Tests may look further: they are
// held to the floor, not to the step, for an engine is tried with the folds that run on it.
//
// A package that is not in the table fails. Put it on the step above everything it imports and below everything that
// imports it; where there is no such step, the packages are cut wrong.
var rooms = []room{
	// Floor 4. The command line, and the only place where a node is put together.
	{path: "cmd/duban", step: 490},
	{path: "cmd/duban/app/killtest", step: 480},
	{path: "cmd/duban/app/demo", step: 470},
	{path: "cmd/duban/app/sim", step: 470},
	{path: "cmd/duban/remote", step: 470},
	{path: "cmd/duban/app/fleet", step: 460},
	{path: "cmd/duban/settings", step: 460},
	{path: "cmd/duban/bulk", step: 460},
	{path: "cmd/duban/app", step: 450},
	{path: "cmd/duban/exit", step: 420},
	{path: "cmd/duban/show", step: 410},

	// Floor 3. Two features that never import each other; app joins them by plain values.
	{path: "escalation", step: 390},
	{path: "escalation/notify", step: 380},
	{path: "escalation/alertservice", step: 375},
	{path: "escalation/alertview", step: 370},
	{path: "escalation/rule", step: 360, pure: true},
	{path: "escalation/alert", step: 350, pure: true},
	{path: "federation/federationtest", step: 390},
	{path: "federation/exchange", step: 390},
	{path: "federation/audit", step: 380},
	{path: "federation/letters", step: 380},
	{path: "federation/fetch", step: 380},
	{path: "federation/uplink", step: 380},
	{path: "federation/downlink", step: 380},
	{path: "federation", step: 375},
	{path: "federation/topology", step: 370},

	// Floor 2. What a node is without them.
	{path: "node/gateway", step: 290},
	{path: "node/console", step: 290},
	{path: "node/rpc", step: 280},
	{path: "node/service", step: 275},
	{path: "node/intake", step: 270},
	{path: "node/supervision", step: 260},
	{path: "node/publicity", step: 260},
	{path: "node/statistics", step: 260},
	{path: "node/caseview", step: 250},
	{path: "node/registry", step: 245},
	{path: "node/casefile", step: 240, pure: true},
	{path: "node/access", step: 235},
	{path: "node/attachment", step: 235},
	{path: "node/profile", step: 230, pure: true},
	{path: "node/workday", step: 225, pure: true},
	{path: "node/store/embedded", step: 220, only: []string{"cmd/duban"}},
	{path: "node/store/cockroach", step: 220, only: []string{"cmd/duban"}},
	{path: "node/store/storetest", step: 220},
	{path: "node/store/memory", step: 220},
	{path: "node/store", step: 215},
	{path: "node/journal", step: 210, pure: true},
	{path: "node/identity", step: 205, values: true},
	{path: "node/jurisdiction", step: 200, pure: true},
	{path: "node/fault", step: 200, pure: true},
	{path: "node/clock", step: 200, values: true},
	{path: "node/planted", step: 200},

	// Floor 1. Wire, journal and glossary.
	{path: "proto/duban/v1", step: 110},

	// Data that ships with the program.
	{path: "configs", step: 10},
}

// apart lists trees that never import each other, in tests neither.
var apart = [][2]string{{"escalation", "federation"}}

// libraries lists who may import what in production code: an import belongs to the longest prefix that it has here.
var libraries = []library{
	{"github.com/spf13", []string{"cmd"}, "configuration and flags end at the command line; others get plain values"},
	{"github.com/hashicorp/raft", []string{"node/store/embedded"}, "raft is private to the embedded engine; others see fault.NotLeader and Lease"},
	{"github.com/hashicorp/raft-wal", []string{"node/store/embedded"}, "raft is private to the embedded engine"},
	{"github.com/hashicorp/raft-boltdb", nil, "raft-wal is the log, at 2.5 times the speed"},
	{"modernc.org/sqlite", []string{"node/store/embedded"}, "others query through the store's View"},
	{"github.com/jackc/pgx", []string{"node/store/cockroach"}, "others query through the store's View"},
	{"github.com/cockroachdb", []string{"node/store/cockroach"}, "others query through the store's View"},
	{"google.golang.org/grpc/codes", []string{"node/rpc", "proto"}, "return a fault: one interceptor maps kinds to codes"},
	{"google.golang.org/grpc/status", []string{"node/rpc", "proto"}, "return a fault: one interceptor maps kinds to codes"},
	{"cel.dev", []string{"node/profile", "escalation/rule"}, "conditions are compiled with the profile"},
	{"testing", nil, "belongs in tests and in packages called xxxtest"},
	{"github.com/stretchr/testify", nil, "belongs in tests and in packages called xxxtest"},
	{"github.com/google/go-cmp", nil, "belongs in tests and in packages called xxxtest"},
	{"go.uber.org/goleak", nil, "belongs in tests and in packages called xxxtest"},
	{"pgregory.net/rapid", nil, "belongs in tests and in packages called xxxtest"},
}

// clocks lists who may ask the machine for the time, with the reason; everyone else is given a clock.Clock.
var clocks = []exception{
	{"node/clock", "it is the clock"},
}

// top lists what may lie in the checkout's first folder, besides names that begin with a dot. bin and duban are built
// and ignored by git.
var top = []string{
	"cmd", "configs", "deploy", "escalation", "federation", "node", "proto",
	"Makefile", "README.md", "buf.gen.yaml", "buf.yaml", "go.mod", "go.sum",
	"bin", "duban",
}

// TestFloors holds the whole checkout against the plan above.
func TestFloors(t *testing.T) {
	p := plan{module: "duban.internal", rooms: rooms, apart: apart, libraries: libraries, clocks: clocks, top: top}
	wrong, seen, err := p.check(os.DirFS("../.."))
	if err != nil {
		t.Fatal(err)
	}
	if seen == 0 {
		t.Fatal("found no package: is the test run from its own folder?")
	}
	for _, w := range wrong {
		t.Error(w)
	}
}
