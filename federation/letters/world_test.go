package letters_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"duban.internal/federation"
	"duban.internal/federation/letters"
	"duban.internal/federation/topology"
	"duban.internal/node/clock"
	"duban.internal/node/journal"
	"duban.internal/node/jurisdiction"
	"duban.internal/node/store"
	"duban.internal/node/store/memory"
	dubanv1 "duban.internal/proto/duban/v1"
)

const (
	city     = jurisdiction.Code("120000")
	district = jurisdiction.Code("120116")
	other    = jurisdiction.Code("120101")
	street   = jurisdiction.Code("120116013")
	second   = jurisdiction.Code("120116014")
)

var start = time.Date(2026, 3, 2, 1, 0, 0, 0, time.UTC)

type fullStore interface {
	letters.LeaderStore
	Journals() []store.Info
}

// world is a tree of nodes without a network.
type world struct {
	*keyed
	clock *clock.Manual
	nodes map[jurisdiction.Code]*node
}

type node struct {
	w      *world
	code   jurisdiction.Code
	disk   *memory.Disk
	store  fullStore
	runner *letters.Runner
	post   *letters.Post
	box    *letters.Box
}

func newWorld(tree *keyed) *world {
	w := &world{keyed: tree, clock: clock.NewManual(start), nodes: map[jurisdiction.Code]*node{}}
	for _, n := range tree.All() {
		w.nodes[n.Code] = &node{w: w, code: n.Code, disk: memory.NewDisk(n.Journal)}
		w.nodes[n.Code].open()
	}
	return w
}

// open starts a node on its disk.
func (n *node) open() {
	folds := []store.Fold{federation.Fold(), letters.Fold()}
	n.use(memory.Open(memory.Config{Disk: n.disk, Folds: []*store.Fold{&folds[0], &folds[1]}, Tables: letters.Tables(),
		Known: federation.Kinds(), Clock: n.w.clock, Synced: true}))
}

func (n *node) use(s fullStore) {
	cfg := letters.Config{Code: n.code, Tree: n.w.Tree, Store: s, Key: n.w.Keys[n.code]}
	var errs [3]error
	n.store = s
	n.runner, errs[0] = letters.NewRunner(cfg, s, n.w.clock)
	n.post, errs[1] = letters.NewPost(cfg)
	n.box, errs[2] = letters.NewBox(cfg)
	if err := errors.Join(errs[:]...); err != nil {
		panic(err)
	}
}

// fataler is testing.TB and rapid.T.
type fataler interface {
	Helper()
	Fatal(...any)
	Fatalf(string, ...any)
	Errorf(string, ...any)
}

// write appends entries to the own journal, a second later.
func (n *node) write(t fataler, messages ...proto.Message) {
	t.Helper()
	n.w.clock.Advance(time.Second)
	var c store.Command
	for _, m := range messages {
		payload, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		p := store.Proposal{Stream: "x", Kind: uint32(kindOf(m)), Actor: "node:" + string(n.code), Payload: payload}
		p.Seal()
		c.Entries = append(c.Entries, p)
	}
	if _, errs := n.store.Append(context.Background(), c); errs[0] != nil {
		t.Fatal(errs[0])
	}
}

func kindOf(m proto.Message) dubanv1.EntryKind {
	switch m.(type) {
	case *dubanv1.LevelOpened:
		return dubanv1.EntryKind_ENTRY_KIND_LEVEL_OPENED
	case *dubanv1.LevelHandled:
		return dubanv1.EntryKind_ENTRY_KIND_LEVEL_HANDLED
	case *dubanv1.LevelDisputed:
		return dubanv1.EntryKind_ENTRY_KIND_LEVEL_DISPUTED
	case *dubanv1.LevelWithdrawn:
		return dubanv1.EntryKind_ENTRY_KIND_LEVEL_WITHDRAWN
	case *dubanv1.LevelReopened:
		return dubanv1.EntryKind_ENTRY_KIND_LEVEL_REOPENED
	case *dubanv1.ProfileAdopted:
		return dubanv1.EntryKind_ENTRY_KIND_PROFILE_ADOPTED
	case *dubanv1.CalendarAdopted:
		return dubanv1.EntryKind_ENTRY_KIND_CALENDAR_ADOPTED
	case *dubanv1.Addressed:
		return dubanv1.EntryKind_ENTRY_KIND_ADDRESSED
	case *dubanv1.JournalReadmitted:
		return dubanv1.EntryKind_ENTRY_KIND_JOURNAL_READMITTED
	}
	return dubanv1.EntryKind_ENTRY_KIND_EXPLANATION_GIVEN
}

// opens is a level opened about a street's or district's case.
func (n *node) opens(t fataler, alert string, level uint32, of jurisdiction.Code) {
	t.Helper()
	id := n.w.ID(of)
	n.write(t, &dubanv1.LevelOpened{AlertId: alert, Round: 1, Level: level, Journal: id[:], CaseId: "c"})
}

// address lets the Addresser do what there is to do.
func (n *node) address(t fataler) {
	t.Helper()
	for busy := true; busy; {
		var err error
		if busy, err = n.runner.Step(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
}

// next asks for letters from where the child stands, and gives them as they would come off a wire.
func (n *node) next(t fataler, child *node, most int) []*dubanv1.SyncLetter {
	t.Helper()
	at, err := child.box.Positions(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	out, err := n.post.Next(context.Background(), child.code, at, most)
	if err != nil {
		t.Fatal(err)
	}
	for i, m := range out {
		if proto.Size(m) > federation.MaxMessage-1024 {
			t.Fatalf("a letter of %d bytes", proto.Size(m))
		}
		out[i] = proto.Clone(m).(*dubanv1.SyncLetter)
	}
	return out
}

func (n *node) take(t fataler, m *dubanv1.SyncLetter) *dubanv1.SyncLetterAck {
	t.Helper()
	ack, err := n.box.Take(context.Background(), m)
	if err != nil {
		t.Fatal(err)
	}
	return ack
}

// down carries everything from a parent to a child that dialed it.
func (n *node) down(t fataler, child *node, most int) (letters int) {
	t.Helper()
	n.address(t)
	for {
		out := n.next(t, child, most)
		if len(out) == 0 {
			return letters
		}
		for _, m := range out {
			if ack := child.take(t, m); ack.GetRefused() != "" {
				t.Fatalf("%s refused %s", child.code, ack.GetRefused())
			}
		}
		letters += len(out)
	}
}

func (n *node) entries(t fataler, kind dubanv1.EntryKind) (out []journal.Entry) {
	t.Helper()
	for from := uint64(0); ; {
		some, err := n.store.Read(context.Background(), n.store.Own(), from, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		if len(some) == 0 {
			return out
		}
		from += uint64(len(some))
		for _, e := range some {
			if e.Kind == uint32(kind) {
				out = append(out, e)
			}
		}
	}
}

// got lists the numbers, in the sender's journal, of what a node received, and checks the dense numbers.
func (n *node) got(t fataler, sender jurisdiction.Code) (out []uint64) {
	t.Helper()
	id := n.w.ID(sender)
	dense := uint64(0)
	for _, e := range n.entries(t, dubanv1.EntryKind_ENTRY_KIND_RECEIVED_FROM_ABOVE) {
		var m dubanv1.ReceivedFromAbove
		var a dubanv1.Addressed
		if err := proto.Unmarshal(e.Payload, &m); err != nil {
			t.Fatal(err)
		}
		if journal.ID(m.GetLetter().GetJournal()) != id {
			continue
		}
		if err := proto.Unmarshal(m.GetLetter().GetAddressed().GetPayload(), &a); err != nil {
			t.Fatal(err)
		}
		if a.GetNumber() != dense || a.GetAddressee() != string(n.code) {
			t.Fatalf("%s: number %d for %s where %d is due", n.code, a.GetNumber(), a.GetAddressee(), dense)
		}
		dense += uint64(len(a.GetEntries()))
		out = append(out, a.GetEntries()...)
	}
	return out
}

func (n *node) evidence(t fataler) (out []*dubanv1.PeerRefused) {
	t.Helper()
	for _, e := range n.entries(t, dubanv1.EntryKind_ENTRY_KIND_PEER_REFUSED) {
		m := new(dubanv1.PeerRefused)
		if err := proto.Unmarshal(e.Payload, m); err != nil {
			t.Fatal(err)
		}
		out = append(out, m)
	}
	return out
}

// keyed is a tree with all its keys.
type keyed struct {
	*topology.Tree
	Keys map[jurisdiction.Code]*journal.Key
}

// ID is the journal of a node.
func (k *keyed) ID(code jurisdiction.Code) journal.ID {
	n, _ := k.Node(code)
	return n.Journal
}

// tree is a city with two districts, the first of which has two streets.
func tree(t testing.TB) *keyed {
	t.Helper()
	spec := topology.Spec{City: city, Now: start}
	for _, m := range []topology.Member{{Code: city, Tier: jurisdiction.City}, {Code: district, Parent: city, Tier: jurisdiction.District},
		{Code: other, Parent: city, Tier: jurisdiction.District}, {Code: street, Parent: district, Tier: jurisdiction.Street},
		{Code: second, Parent: district, Tier: jurisdiction.Street}} {
		m.Name = "node " + string(m.Code)
		spec.Members = append(spec.Members, m)
	}
	dir := t.TempDir() + "/keys"
	made, err := topology.Generate(dir, spec)
	if err != nil {
		t.Fatal(err)
	}
	k := &keyed{Tree: made, Keys: map[jurisdiction.Code]*journal.Key{}}
	for _, n := range made.All() {
		if k.Keys[n.Code], err = topology.JournalKey(topology.NodeFolder(dir, n.Code)); err != nil {
			t.Fatal(err)
		}
	}
	return k
}
