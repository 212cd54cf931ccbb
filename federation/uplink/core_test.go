package uplink_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"duban.internal/federation"
	"duban.internal/federation/downlink"
	"duban.internal/federation/federationtest"
	"duban.internal/federation/topology"
	"duban.internal/federation/uplink"
	"duban.internal/node/identity"
	"duban.internal/node/journal"
	"duban.internal/node/store"
	dubanv1 "duban.internal/proto/duban/v1"
)

func key(t interface{ Fatal(...any) }, id journal.ID) *journal.Key {
	private, _, err := journal.GenerateKey(id)
	if err != nil {
		t.Fatal(err)
	}
	k, err := journal.ParseKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// world steps both cores against each other: messages may be lost with their stream at any point, and only what the parent
// stored survives. No goroutine, no socket, no clock.
type world struct {
	t      interface{ Fatal(...any) }
	rand   *rand.Rand
	now    int64
	core   *uplink.Core
	parent *journal.Key
	chains map[journal.ID]*federationtest.Chain
	order  []journal.ID

	stored map[journal.ID]int // entries durable at the parent
	disk   map[journal.ID][]journal.Entry
	notes  map[journal.ID][]byte // last checkpoint durable there
	kept   map[journal.ID]uint64 // what the child keeps as acknowledged

	up      []*dubanv1.SyncRequest // on their way
	down    []*dubanv1.SyncResponse
	above   *downlink.Core
	commit  *downlink.Commit // on its way to the parent's disk
	failing bool             // the parent's disk did
	stream  uint64
	dial    bool
	closed  bool
}

func newWorld(t interface{ Fatal(...any) }, r *rand.Rand, journals int) *world {
	w := &world{t: t, rand: r, parent: key(t, journal.ID{0xff}), chains: map[journal.ID]*federationtest.Chain{},
		stored: map[journal.ID]int{}, disk: map[journal.ID][]journal.Entry{}, notes: map[journal.ID][]byte{}, kept: map[journal.ID]uint64{}}
	text := "city: \"120000\"\nnodes:\n" + member("120000", "city", "", w.parent)
	for i := range journals {
		id := journal.ID{byte(i + 1)}
		w.order = append(w.order, id)
		w.chains[id] = federationtest.NewChain(key(t, id))
		if i == 0 {
			text += member("120116", "district", "120000", w.chains[id].Key)
		} else {
			text += member(fmt.Sprintf("120116%03d", i), "street", "120116", w.chains[id].Key)
		}
	}
	tree, err := topology.Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	w.above = downlink.NewCore(downlink.CoreConfig{Code: "120000", Tree: tree, Key: w.parent, MaxBatch: 1 << 20, Window: 1 << 20,
		Memory: 1 << 20, Together: 1000})
	w.start()
	return w
}

func member(code, tier, parent string, key *journal.Key) string {
	return fmt.Sprintf("  - {code: %q, name: x, tier: %s, parent: %q, journal: %q, key: %q, address: \"\"}\n",
		code, tier, parent, key.Public().Journal(), key.Public())
}

// withAbove is a core that knows of another node above.
func (w *world) withAbove(k *journal.Key) *uplink.Core {
	keys := map[journal.ID]*journal.PublicKey{}
	for id, c := range w.chains {
		keys[id] = c.Key.Public()
	}
	return uplink.NewCore(uplink.CoreConfig{Code: "120116", Journals: w.order, Parent: w.parent.Public(), Keys: keys,
		Above: []topology.Node{{Code: "120000", Key: w.parent.Public()}, {Code: "province", Key: k.Public()}}, Interval: 1000,
		Batch: 300, Window: 2000, InFlight: 5, Jitter: func() float64 { return 0.5 }})
}

// start is the child's process beginning: it knows nothing but its journals.
func (w *world) start() {
	w.core = uplink.NewCore(uplink.CoreConfig{Code: "120116", Journals: w.order, Parent: w.parent.Public(), Interval: 1000,
		Batch: 300, Window: 2000, InFlight: 5, Jitter: func() float64 { return 0.5 }})
	w.hang()
	w.dial = false
	for _, id := range w.order {
		w.core.Grown(id, uint64(len(w.chains[id].Entries)))
	}
	w.effects()
}

func (w *world) add(id journal.ID, n int) {
	for range n {
		w.now++
		w.chains[id].Add(w.now, "payload payload payload payload")
	}
	w.core.Grown(id, uint64(len(w.chains[id].Entries)))
	w.effects()
}

func (w *world) effects() {
	for effects := w.core.Effects(); len(effects) > 0; effects = w.core.Effects() {
		for _, e := range effects {
			switch {
			case e.Dial != nil:
				w.dial = true
			case e.Hangup != "":
				w.t.Fatal("hung up: " + e.Hangup)
			case e.Keep != nil:
				if e.Keep.Size < w.kept[e.Keep.Journal] {
					w.t.Fatal("acknowledged less than before")
				}
				if e.Keep.Size > uint64(w.stored[e.Keep.Journal]) {
					w.t.Fatal("acknowledged what is not durable")
				}
				w.kept[e.Keep.Journal] = e.Keep.Size
			case w.closed:
			case e.Send != nil:
				w.up = append(w.up, e.Send)
			case e.Load != nil:
				c := w.chains[e.Load.Journal]
				from := int(e.Load.From)
				to := min(from+1+e.Load.Bytes/150, len(c.Entries))
				w.core.Loaded(e.Load.Journal, e.Load.From, c.Entries[from:to], c.Note(to, 0))
			case e.Beat != nil:
				c := w.chains[e.Beat.Journal]
				w.now++
				note := c.Note(len(c.Entries), w.now)
				point, err := journal.ParseCheckpoint(note)
				if err != nil {
					w.t.Fatal(err)
				}
				w.core.Stamped(e.Beat.Journal, point, note, w.now)
			}
		}
	}
}

// connect opens a stream.
func (w *world) connect() {
	w.dial, w.closed = false, false
	w.stream++
	w.above.Connected(w.stream, identity.Identity{City: "120000", Kind: identity.Node, Code: "120116"})
	w.core.Opened(w.now)
	w.effects()
}

// hang ends the stream: what is on its way is lost.
func (w *world) hang() {
	w.up, w.down, w.closed = nil, nil, true
	w.above.Closed(w.stream)
}

func (w *world) disconnect() {
	w.hang()
	w.core.Closed("broken")
	w.effects()
}

// deliver lets one message arrive at the parent.
func (w *world) deliver() {
	raw, err := proto.Marshal(w.up[0])
	if err != nil {
		w.t.Fatal(err)
	}
	w.up = w.up[1:]
	var m dubanv1.SyncRequest
	if err := proto.Unmarshal(raw, &m); err != nil {
		w.t.Fatal(err)
	}
	w.above.Received(w.stream, downlink.Open(w.above.Tree(), &m), w.now)
	w.parentEffects()
}

func (w *world) parentEffects() {
	for effects := w.above.Effects(); len(effects) > 0; effects = w.above.Effects() {
		for _, e := range effects {
			switch {
			case e.Hangup != nil && !w.failing:
				w.t.Fatal("the parent hung up: ", e.Hangup)
			case e.Hangup != nil:
				if e.Hangup.Session == w.stream && !w.closed {
					w.disconnect()
				}
			case e.Load != nil:
				w.load(e.Load)
			case e.Commit != nil:
				if w.commit != nil {
					w.t.Fatal("two commits at once")
				}
				w.commit = e.Commit
			case e.Send != nil && e.Send.Session == w.stream && !w.closed:
				if r := e.Send.Message.GetRefusal(); r != nil {
					w.t.Fatal("an honest child was refused: ", r.GetReason())
				}
				w.down = append(w.down, e.Send.Message)
			}
		}
	}
}

// load reads where the parent's disk stands.
func (w *world) load(l *downlink.Load) {
	states := map[journal.ID]downlink.State{}
	for _, id := range l.Journals {
		state := downlink.State{Key: w.chains[id].Key.Public(), Note: w.notes[id]}
		for _, e := range w.disk[id] {
			state.Edge.Append(journal.LeafHash(e.Raw))
			state.Recorded = e.RecordedAt
		}
		states[id] = state
	}
	w.above.Loaded(l.Session, states, w.now)
}

// store makes durable what the parent asked to be, or fails to.
func (w *world) store(fails bool) {
	c := w.commit
	w.commit = nil
	replicas, commands := make([]error, len(c.Replicas)), make([]error, len(c.Commands))
	for i, r := range c.Replicas {
		if fails {
			replicas[i] = errors.New("disk full")
			continue
		}
		if int(r.From) != w.stored[r.Journal] {
			w.t.Fatal("a gap, or something twice")
		}
		w.stored[r.Journal] += len(r.Entries)
		w.disk[r.Journal] = append(w.disk[r.Journal], r.Entries...)
		w.change(r.Changes)
	}
	for i, r := range c.Commands {
		if fails {
			commands[i] = errors.New("disk full")
			continue
		}
		w.change(r.Changes)
	}
	w.above.Stored(c, replicas, commands, w.now)
	w.failing = fails
	w.parentEffects()
	w.failing = false
}

func (w *world) change(changes []store.Change) {
	for _, c := range changes {
		if c.Table == federation.Head {
			w.notes[c.Owner] = c.Row[2].([]byte)
		}
	}
}

func (w *world) answer() {
	m := w.down[0]
	w.down = w.down[1:]
	w.core.Received(m, w.now)
	w.effects()
}

// settle lets everything arrive.
func (w *world) settle() {
	for {
		switch {
		case len(w.down) > 0:
			w.answer()
		case len(w.up) > 0:
			w.deliver()
		case w.commit != nil:
			w.store(false)
		case w.dial:
			w.connect()
		default:
			return
		}
	}
}

// Whatever breaks and whenever: nothing is lost, nothing arrives twice, an honest child is never refused, and in the end
// all is there and acknowledged.
func TestHistories(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		seed := rapid.Uint64().Draw(t, "seed")
		w := newWorld(t, rand.New(rand.NewPCG(seed, 1)), 3)
		for range rapid.IntRange(0, 300).Draw(t, "steps") {
			switch n := w.rand.IntN(24); {
			case n >= 20 && w.commit != nil:
				w.store(w.rand.IntN(20) == 0)
			case n < 4:
				w.add(w.order[w.rand.IntN(3)], 1+w.rand.IntN(6))
			case n < 11 && len(w.up) > 0:
				w.deliver()
			case n < 17 && len(w.down) > 0:
				w.answer()
			case n < 18 && w.dial:
				w.connect()
			case n == 18 && !w.closed:
				w.now += 700
				w.core.Ticked(w.now)
				w.effects()
			case n == 19 && !w.closed && w.rand.IntN(3) == 0:
				w.disconnect()
			case n == 19 && w.rand.IntN(10) == 0:
				w.start() // the process was killed
			}
		}
		w.settle()
		for _, id := range w.order {
			have := len(w.chains[id].Entries)
			if w.stored[id] != have || w.core.Status().Acknowledged[id] != uint64(have) {
				t.Fatalf("journal %s: %d entries, %d at the parent, %d acknowledged", id, have, w.stored[id], w.core.Status().Acknowledged[id])
			}
		}
		// An idle journal tells its time.
		before := w.notes[w.order[0]]
		w.add(w.order[0], 1)
		w.settle()
		w.now += 5000
		w.core.Ticked(w.now)
		w.effects()
		w.settle()
		point, err := journal.ParseCheckpoint(w.notes[w.order[0]])
		if err != nil || string(before) == string(w.notes[w.order[0]]) || point.Time < w.now-10 {
			t.Fatalf("no heartbeat: %v at %d, %v", point, w.now, err)
		}
	})
}

// One journal's flood leaves room for the others.
func TestJournalsTakeTurns(t *testing.T) {
	w := newWorld(t, rand.New(rand.NewPCG(1, 1)), 3)
	w.add(w.order[0], 1000)
	w.connect()
	w.deliver()
	w.answer()
	w.add(w.order[1], 3)
	w.add(w.order[2], 3)
	for i := 0; w.stored[w.order[1]] < 3 || w.stored[w.order[2]] < 3; i++ {
		if i > 20 {
			t.Fatalf("after %d messages of the flood: %v", i, w.stored)
		}
		w.deliver()
		for w.commit != nil {
			w.store(false)
		}
		for len(w.down) > 0 {
			w.answer()
		}
	}
}

func TestWindow(t *testing.T) {
	w := newWorld(t, rand.New(rand.NewPCG(1, 1)), 1)
	w.add(w.order[0], 1000)
	w.connect()
	w.deliver()
	w.answer()
	if n := len(w.up); n == 0 || n > 6 {
		t.Errorf("%d messages without an acknowledgement, want at most 5 (and one heartbeat)", n)
	}
	if !w.core.Waiting() {
		t.Error("nothing is waited for")
	}
}

// What the parent says is believed with its signature only, and only of what was sent.
func TestAcknowledgementsAreChecked(t *testing.T) {
	stranger := key(t, journal.ID{0xff})
	for name, change := range map[string]func(a *dubanv1.SyncAck, sent []byte){
		"no signature": func(a *dubanv1.SyncAck, sent []byte) { a.Countersigned = sent },
		"larger":       func(a *dubanv1.SyncAck, _ []byte) { a.Size++ },
		"other":        func(a *dubanv1.SyncAck, _ []byte) { a.Journal = make([]byte, 16) },
		"no journal":   func(a *dubanv1.SyncAck, _ []byte) { a.Journal = nil },
		"a stranger's": func(a *dubanv1.SyncAck, sent []byte) {
			var err error
			if a.Countersigned, err = stranger.Countersign(sent, 1); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, rand.New(rand.NewPCG(1, 1)), 1)
			w.add(w.order[0], 5)
			w.connect()
			w.deliver()
			w.answer()
			w.deliver()
			w.store(false)
			change(w.down[0].GetAck(), w.chains[w.order[0]].Note(5, 0))
			w.core.Received(w.down[0], 1)
			hung := false
			for _, e := range w.core.Effects() {
				hung = hung || e.Hangup != ""
				if e.Keep != nil {
					t.Error("kept")
				}
			}
			if !hung || w.core.Status().Acknowledged[w.order[0]] != 0 || w.core.Status().Problem == "" {
				t.Errorf("believed: %+v", w.core.Status())
			}
		})
	}
}

// A node that does not believe its clock states the same time again and again; its heartbeats go all the same, and each
// exchange measures the clocks anew.
func TestHeartbeatsWhileTimeStandsStill(t *testing.T) {
	w := newWorld(t, rand.New(rand.NewPCG(1, 1)), 2)
	w.add(w.order[0], 3)
	w.connect()
	w.settle()
	id := w.order[0]
	note := w.chains[id].Note(3, w.now)
	point, err := journal.ParseCheckpoint(note)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		w.now += 1000
		w.core.Stamped(id, point, note, w.now)
		w.effects()
		if len(w.up) != 1 || w.up[0].GetHeartbeat() == nil {
			t.Fatalf("sent %v, expected a heartbeat", w.up)
		}
		w.settle()
		if s := w.core.Status(); s.Measured < w.now {
			t.Errorf("measured at %d, now it is %d", s.Measured, w.now)
		}
	}
}

func TestBackoff(t *testing.T) {
	chance := 0.0
	c := uplink.NewCore(uplink.CoreConfig{Journals: []journal.ID{{1}}, Jitter: func() float64 { return chance }})
	pause := func() time.Duration {
		t.Helper()
		e := c.Effects()
		if len(e) != 1 || e[0].Dial == nil {
			t.Fatal(e)
		}
		return e[0].Dial.After
	}
	if pause() != 0 {
		t.Error("the first dial waits")
	}
	last := time.Duration(0)
	for i := range 20 {
		c.Closed("refused")
		got := pause()
		if i > 0 && got < last || got < 100*time.Millisecond || got > 15*time.Second {
			t.Errorf("pause %d: %v after %v", i, got, last)
		}
		last = got
	}
	chance = 0.999
	c.Closed("refused")
	if got := pause(); got < 29*time.Second || got > 30*time.Second {
		t.Errorf("longest pause %v", got)
	}
	if s := c.Status(); s.Connected || s.Problem != "refused" {
		t.Errorf("%+v", s)
	}
}

// A child that has less than its parent knows says so, in its status and by its checkpoint.
func TestOlderThanTheParentKnows(t *testing.T) {
	w := newWorld(t, rand.New(rand.NewPCG(1, 1)), 2)
	w.add(w.order[0], 50)
	w.connect()
	w.settle()
	w.chains[w.order[0]] = w.chains[w.order[0]].Fork(20)
	w.start()
	w.connect()
	w.deliver()
	w.answer()
	if w.core.Status().Problem == "" {
		t.Error("no problem")
	}
	if len(w.up) != 1 || w.up[0].GetHeartbeat() == nil {
		t.Errorf("sent %v", w.up)
	}
}

// A journal that can't be read or is refused stands still; the others go on.
func TestOneJournalStops(t *testing.T) {
	w := newWorld(t, rand.New(rand.NewPCG(1, 1)), 3)
	w.connect()
	w.settle()
	w.core.Broken(w.order[1], "disk")
	w.core.Received(&dubanv1.SyncResponse{Message: &dubanv1.SyncResponse_Refusal{Refusal: &dubanv1.SyncRefusal{
		Journal: w.order[2][:], Reason: "forked"}}}, w.now)
	w.effects()
	for _, id := range w.order {
		w.add(id, 10)
	}
	w.settle()
	s := w.core.Status()
	if w.stored[w.order[0]] != 10 || w.stored[w.order[1]] != 0 || w.stored[w.order[2]] != 0 {
		t.Errorf("stored %v", w.stored)
	}
	if s.Refused[w.order[1]] != "disk" || s.Refused[w.order[2]] != "forked" || len(s.Refused) != 2 {
		t.Errorf("%+v", s)
	}
}
