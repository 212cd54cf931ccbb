package downlink_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"testing"

	"google.golang.org/protobuf/proto"

	"duban.internal/federation"
	"duban.internal/federation/downlink"
	"duban.internal/federation/federationtest"
	"duban.internal/federation/topology"
	"duban.internal/node/identity"
	"duban.internal/node/journal"
	"duban.internal/node/jurisdiction"
	"duban.internal/node/store"
	dubanv1 "duban.internal/proto/duban/v1"
)

// town is a district with streets, stepped by hand: nothing is stored before the test says so.
type town struct {
	t      testing.TB
	core   *downlink.Core
	tree   *topology.Tree
	chains map[jurisdiction.Code]*federationtest.Chain
	keys   map[jurisdiction.Code]*journal.Key
	last   uint64
	sent   map[uint64][]*dubanv1.SyncResponse
	hung   map[uint64]error
	commit *downlink.Commit
	sizes  map[journal.ID]uint64
	rows   []store.Change
}

func newTown(t testing.TB, streets int, change func(*downlink.CoreConfig)) *town {
	t.Helper()
	w := &town{t: t, chains: map[jurisdiction.Code]*federationtest.Chain{}, keys: map[jurisdiction.Code]*journal.Key{},
		sent: map[uint64][]*dubanv1.SyncResponse{}, hung: map[uint64]error{}, sizes: map[journal.ID]uint64{}}
	text := "city: \"120000\"\nnodes:\n"
	add := func(n int, code, tier, parent string) {
		private, _, err := journal.GenerateKey(journal.ID{byte(n >> 8), byte(n), 1})
		if err != nil {
			t.Fatal(err)
		}
		k, err := journal.ParseKey(private)
		if err != nil {
			t.Fatal(err)
		}
		w.keys[jurisdiction.Code(code)], w.chains[jurisdiction.Code(code)] = k, federationtest.NewChain(k)
		text += fmt.Sprintf("  - {code: %q, name: x, tier: %s, parent: %q, journal: %q, key: %q, address: \"\"}\n", code, tier, parent, k.Public().Journal(), k.Public())
	}
	add(0, "120000", "city", "")
	add(1, "120116", "district", "120000")
	for i := range streets {
		add(2+i, string(code(i)), "street", "120116")
	}
	var err error
	if w.tree, err = topology.Parse([]byte(text)); err != nil {
		t.Fatal(err)
	}
	cfg := downlink.CoreConfig{Code: "120116", Tree: w.tree, Key: w.keys["120116"], MaxBatch: 1 << 20, Window: 1 << 20, Memory: 1 << 30, Together: 1 << 20}
	if change != nil {
		change(&cfg)
	}
	w.core = downlink.NewCore(cfg)
	return w
}

func code(i int) jurisdiction.Code { return jurisdiction.Code(fmt.Sprintf("120116%03d", i)) }

func (w *town) id(c jurisdiction.Code) journal.ID { return w.keys[c].Public().Journal() }

// connect opens a stream of a node about journals of others.
func (w *town) connect(c jurisdiction.Code, about ...jurisdiction.Code) uint64 {
	w.t.Helper()
	w.last++
	w.core.Connected(w.last, identity.Identity{City: "120000", Kind: identity.Node, Code: c})
	h := &dubanv1.SyncHello{Code: string(c), NowUs: 1}
	for _, a := range about {
		id := w.id(a)
		h.Journals = append(h.Journals, id[:])
	}
	w.receive(w.last, &dubanv1.SyncRequest{Message: &dubanv1.SyncRequest_Hello{Hello: h}}, 1)
	return w.last
}

func (w *town) receive(session uint64, m *dubanv1.SyncRequest, now int64) {
	w.core.Received(session, downlink.Open(w.tree, m), now)
	w.effects(now)
}

func (w *town) effects(now int64) {
	for effects := w.core.Effects(); len(effects) > 0; effects = w.core.Effects() {
		for _, e := range effects {
			switch {
			case e.Load != nil:
				states := map[journal.ID]downlink.State{}
				for _, id := range e.Load.Journals {
					n, _ := w.tree.Journal(id)
					states[id] = w.state(n)
				}
				w.core.Loaded(e.Load.Session, states, now)
			case e.Send != nil:
				w.sent[e.Send.Session] = append(w.sent[e.Send.Session], e.Send.Message)
			case e.Hangup != nil:
				w.hung[e.Hangup.Session] = e.Hangup.Err
			case e.Commit != nil:
				if w.commit != nil {
					w.t.Fatal("two commits at once")
				}
				w.commit = e.Commit
			}
		}
	}
}

func (w *town) state(n topology.Node) downlink.State {
	c, s := w.chains[n.Code], downlink.State{Key: n.Key}
	for _, e := range c.Entries[:w.sizes[n.Journal]] {
		s.Edge.Append(journal.LeafHash(e.Raw))
		s.Recorded, s.Note = e.RecordedAt, c.Note(int(e.Number)+1, 0)
	}
	return s
}

// store makes durable what waits, or fails to.
func (w *town) store(now int64, fails error) (journals []journal.ID) {
	w.t.Helper()
	c := w.commit
	w.commit = nil
	replicas, commands := make([]error, len(c.Replicas)), make([]error, len(c.Commands))
	for i, r := range c.Replicas {
		replicas[i] = fails
		if fails == nil {
			if r.From != w.sizes[r.Journal] {
				w.t.Fatalf("journal %s: from %d, stored are %d", r.Journal, r.From, w.sizes[r.Journal])
			}
			w.sizes[r.Journal] += uint64(len(r.Entries))
			w.rows = append(w.rows, r.Changes...)
		}
		journals = append(journals, r.Journal)
	}
	for i := range c.Commands {
		commands[i] = fails
	}
	w.core.Stored(c, replicas, commands, now)
	w.effects(now)
	return journals
}

func (w *town) add(c jurisdiction.Code, n int, payload string) {
	for range n {
		w.chains[c].Add(10, payload)
	}
}

func batch(b *dubanv1.SyncBatch) *dubanv1.SyncRequest {
	return &dubanv1.SyncRequest{Message: &dubanv1.SyncRequest_Batch{Batch: b}}
}

func (w *town) acked(session uint64, id journal.ID) (size uint64) {
	for _, m := range w.sent[session] {
		if a := m.GetAck(); a != nil && journal.ID(a.GetJournal()) == id {
			size = a.GetSize()
		}
	}
	return size
}

// Journals are stored in turn: one that floods is in every commit and keeps nobody out of the next.
func TestJournalsTakeTurns(t *testing.T) {
	w := newTown(t, 4, func(c *downlink.CoreConfig) { c.Together = 600 << 10 })
	var session [4]uint64
	for i := range session {
		session[i] = w.connect(code(i), code(i))
	}
	w.add(code(0), 40, string(make([]byte, 50<<10)))
	for i := 0; i < 40; i += 2 {
		w.receive(session[0], batch(w.chains[code(0)].Batch(i, i+2)), 20)
	}
	for i := 1; i < 4; i++ {
		w.add(code(i), 1, "x")
		w.receive(session[i], batch(w.chains[code(i)].Batch(0, 1)), 20)
	}
	w.store(21, nil) // what came first, alone
	w.store(22, nil)
	for i := 1; i < 4; i++ {
		if w.acked(session[i], w.id(code(i))) != 1 {
			t.Errorf("street %d waits behind the flood", i)
		}
	}
	commits := 2
	for ; w.commit != nil; commits++ {
		w.store(23, nil)
	}
	if w.acked(session[0], w.id(code(0))) != 40 || commits < 4 {
		t.Errorf("the flood stands at %d after %d commits", w.acked(session[0], w.id(code(0))), commits)
	}
}

// What a child, and all together, have sent and was not acknowledged is bounded; who is within its share is read all the same.
func TestRoom(t *testing.T) {
	w := newTown(t, 4, func(c *downlink.CoreConfig) { c.Window, c.Memory = 100<<10, 320<<10 })
	var session [4]uint64
	for i := range session {
		session[i] = w.connect(code(i), code(i))
	}
	fill := func(i, n int) {
		w.add(code(i), n, string(make([]byte, 10<<10)))
		have := len(w.chains[code(i)].Entries)
		for k := have - n; k < have && w.core.Room(session[i]); k++ {
			w.receive(session[i], batch(w.chains[code(i)].Batch(k, k+1)), 20)
		}
	}
	fill(0, 20)
	if w.core.Room(session[0]) {
		t.Error("more than its window is read of one child")
	}
	fill(1, 20)
	if !w.core.Room(session[2]) {
		t.Error("who has sent nothing is not read")
	}
	fill(2, 20) // within its share of half of the memory: 40 KiB
	if w.core.Room(session[2]) {
		t.Error("more than the node's memory is read")
	}
	if !w.core.Room(session[3]) {
		t.Error("who has sent nothing is not read")
	}
	for w.commit != nil {
		w.store(21, nil)
	}
	for i := range session {
		if !w.core.Room(session[i]) {
			t.Errorf("street %d is not read although all is stored", i)
		}
	}
}

// Two streams may carry one journal: each entry is stored once, both are acknowledged.
func TestTwoStreamsOneJournal(t *testing.T) {
	w := newTown(t, 1, func(c *downlink.CoreConfig) { c.Code = "120000" })
	w.core = downlink.NewCore(downlink.CoreConfig{Code: "120000", Tree: w.tree, Key: w.keys["120000"], MaxBatch: 1 << 20, Window: 1 << 20,
		Memory: 1 << 30, Together: 1 << 20})
	id, c := w.id(code(0)), w.chains[code(0)]
	by, own := w.connect("120116", "120116", code(0)), w.connect(code(0), code(0))
	w.add(code(0), 30, "x")
	w.receive(by, batch(c.Batch(0, 10)), 20)
	w.receive(own, batch(c.Batch(0, 5)), 20) // as far as it knows
	w.receive(own, batch(c.Batch(5, 20)), 20)
	w.receive(by, batch(c.Batch(10, 15)), 20)
	w.receive(by, batch(c.Batch(15, 30)), 20)
	for w.commit != nil {
		w.store(21, nil)
	}
	w.receive(by, &dubanv1.SyncRequest{Message: &dubanv1.SyncRequest_Heartbeat{Heartbeat: &dubanv1.SyncHeartbeat{Journal: id[:], Checkpoint: c.Note(30, 50)}}}, 22)
	for w.commit != nil {
		w.store(23, nil)
	}
	if w.sizes[id] != 30 || w.acked(by, id) != 30 || w.acked(own, id) != 20 || len(w.hung) != 0 {
		t.Errorf("%d stored, acknowledged %d and %d, hung up %v", w.sizes[id], w.acked(by, id), w.acked(own, id), w.hung)
	}
}

// What could not be stored is forgotten: the child comes again and all is there once.
func TestStoreFails(t *testing.T) {
	w := newTown(t, 2, nil)
	first, other := w.connect(code(0), code(0)), w.connect(code(1), code(1))
	w.add(code(0), 30, "x")
	c, id := w.chains[code(0)], w.id(code(0))
	w.receive(first, batch(c.Batch(0, 10)), 20)
	w.receive(first, batch(c.Batch(10, 20)), 20)
	w.store(21, errors.New("disk full"))
	if w.hung[first] == nil || w.hung[other] != nil || w.acked(first, id) != 0 || w.commit != nil {
		t.Fatalf("hung up %v, acknowledged %d", w.hung, w.acked(first, id))
	}
	again := w.connect(code(0), code(0))
	w.receive(again, batch(c.Batch(0, 30)), 22)
	w.store(23, nil)
	if w.sizes[id] != 30 || w.acked(again, id) != 30 {
		t.Errorf("%d stored, %d acknowledged", w.sizes[id], w.acked(again, id))
	}
}

// One row of witnesses a second is kept, each no later than a second after the truth, and an ancestor's beside it.
func TestWitnessRowsAreThin(t *testing.T) {
	w := newTown(t, 1, nil)
	s := w.connect(code(0), code(0))
	c, id := w.chains[code(0)], w.id(code(0))
	accepted := map[int64]int64{}
	for i := range 100 {
		w.add(code(0), 1, "x")
		now := int64(1000 + i*130_000)
		b := c.Batch(i, i+1)
		if i == 50 {
			note, err := w.keys["120000"].Countersign(b.Checkpoint, 5_000_000)
			if err != nil {
				t.Fatal(err)
			}
			b.Checkpoint = note
		}
		w.receive(s, batch(b), now)
		w.store(now, nil)
		accepted[int64(i+1)] = now
	}
	rows, city := map[int64]int64{}, 0
	for _, ch := range w.rows {
		switch {
		case ch.Table != federation.Witness:
		case ch.Owner != id:
			t.Errorf("row of %s", ch.Owner)
		case ch.Row[0] == "120000":
			city++
			if ch.Row[1] != int64(51) || ch.Row[3] != int64(5_000_000) {
				t.Errorf("the city's %v", ch.Row)
			}
		case ch.Delete:
			delete(rows, ch.Row[1].(int64))
		default:
			rows[ch.Row[1].(int64)] = ch.Row[3].(int64)
		}
	}
	if city != 1 || len(rows) < 13 || len(rows) > 15 {
		t.Errorf("%d rows for 13 s, %d of the city", len(rows), city)
	}
	for size, at := range accepted {
		best := int64(-1)
		for s, a := range rows {
			if s >= size && (best < 0 || a < best) {
				best = a
			}
		}
		if best < at || best-at >= federation.WitnessEvery {
			t.Errorf("size %d was accepted at %d, kept is %d", size, at, best)
		}
	}
}

// Whatever a child sends, in whatever order: nothing breaks, and nothing is stored that its key did not sign.
func FuzzReceived(f *testing.F) {
	w := newTown(f, 2, nil)
	w.add(code(0), 4, "x")
	c, id := w.chains[code(0)], w.id(code(0))
	seed := func(messages ...*dubanv1.SyncRequest) {
		var all []byte
		for _, m := range messages {
			raw, err := proto.Marshal(m)
			if err != nil {
				f.Fatal(err)
			}
			all = append(binary.BigEndian.AppendUint16(all, uint16(len(raw))), raw...)
		}
		f.Add(all)
	}
	beat := func(note []byte) *dubanv1.SyncRequest {
		return &dubanv1.SyncRequest{Message: &dubanv1.SyncRequest_Heartbeat{Heartbeat: &dubanv1.SyncHeartbeat{Journal: id[:], Checkpoint: note}}}
	}
	seed(batch(c.Batch(0, 2)), batch(c.Batch(1, 4)), beat(c.Note(4, 50)), beat(c.Note(2, 15)))
	seed(batch(c.Batch(2, 4)), &dubanv1.SyncRequest{}, &dubanv1.SyncRequest{Message: &dubanv1.SyncRequest_Batch{Batch: &dubanv1.SyncBatch{
		Journal: id[:], From: 1 << 63, Entries: []*dubanv1.WireEntry{nil}, Checkpoint: c.Note(4, 0)}}})
	seed(&dubanv1.SyncRequest{Message: &dubanv1.SyncRequest_LetterAck{LetterAck: &dubanv1.SyncLetterAck{Position: &dubanv1.LetterPosition{Number: 3}}}},
		&dubanv1.SyncRequest{Message: &dubanv1.SyncRequest_Chunk{Chunk: &dubanv1.SyncChunk{Id: 7}}},
		&dubanv1.SyncRequest{Message: &dubanv1.SyncRequest_Hello{Hello: &dubanv1.SyncHello{Code: "x", Journals: [][]byte{{1}}}}})
	f.Fuzz(func(t *testing.T, all []byte) {
		town := *w
		town.t, town.sizes, town.rows, town.commit = t, map[journal.ID]uint64{}, nil, nil
		town.sent, town.hung = map[uint64][]*dubanv1.SyncResponse{}, map[uint64]error{}
		town.core = downlink.NewCore(downlink.CoreConfig{Code: "120116", Tree: w.tree, Key: w.keys["120116"], MaxBatch: 1 << 20, Window: 1 << 20,
			Memory: 1 << 30, Together: 1 << 20, Letters: true, LetterWindow: 1000})
		s := town.connect(code(0), code(0))
		for len(all) >= 2 {
			n := min(int(binary.BigEndian.Uint16(all)), len(all)-2)
			var m dubanv1.SyncRequest
			if proto.Unmarshal(all[2:2+n], &m) == nil {
				town.receive(s, &m, 20)
			}
			all = all[2+n:]
		}
		for town.commit != nil {
			for _, r := range town.commit.Replicas {
				for i, e := range r.Entries {
					if !bytes.Equal(e.Raw, c.Entries[int(r.From)+i].Raw) || !bytes.Equal(e.Payload, c.Entries[int(r.From)+i].Payload) {
						t.Errorf("entry %d is not the one that was signed", int(r.From)+i)
					}
				}
			}
			town.store(21, nil)
		}
	})
}
