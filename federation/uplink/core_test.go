package uplink_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"duban.internal/federation/downlink"
	"duban.internal/federation/federationtest"
	"duban.internal/federation/uplink"
	"duban.internal/node/journal"
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

	stored map[journal.ID]int    // entries durable at the parent
	notes  map[journal.ID][]byte // last checkpoint durable there
	kept   map[journal.ID]uint64 // what the child keeps as acknowledged

	up     []*dubanv1.SyncRequest // on their way
	down   []*dubanv1.SyncResponse
	copies map[journal.ID]*downlink.Copy // of the stream
	dial   bool
	closed bool
}

func newWorld(t interface{ Fatal(...any) }, r *rand.Rand, journals int) *world {
	w := &world{t: t, rand: r, parent: key(t, journal.ID{0xff}), chains: map[journal.ID]*federationtest.Chain{},
		stored: map[journal.ID]int{}, notes: map[journal.ID][]byte{}, kept: map[journal.ID]uint64{}}
	for i := range journals {
		id := journal.ID{byte(i + 1)}
		w.order = append(w.order, id)
		w.chains[id] = federationtest.NewChain(key(t, id))
	}
	w.start()
	return w
}

// start is the child's process beginning: it knows nothing but its journals.
func (w *world) start() {
	w.core = uplink.NewCore(uplink.CoreConfig{Code: "120116", Journals: w.order, Parent: w.parent.Public(), Interval: 1000,
		Batch: 300, Window: 2000, InFlight: 5, Jitter: func() float64 { return 0.5 }})
	w.up, w.down, w.copies, w.dial, w.closed = nil, nil, nil, false, true
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

// connect opens a stream: the parent goes on from what it stored.
func (w *world) connect() {
	w.dial, w.closed, w.copies = false, false, map[journal.ID]*downlink.Copy{}
	for _, id := range w.order {
		c := w.chains[id]
		state := downlink.State{Key: c.Key.Public(), Note: w.notes[id]}
		for _, e := range c.Entries[:w.stored[id]] {
			state.Edge.Append(journal.LeafHash(e.Raw))
			state.Recorded = e.RecordedAt
		}
		var err error
		if w.copies[id], err = downlink.NewCopy(state); err != nil {
			w.t.Fatal(err)
		}
	}
	w.core.Opened(w.now)
	w.effects()
}

func (w *world) disconnect() {
	w.up, w.down, w.closed = nil, nil, true
	w.core.Closed("broken")
	w.effects()
}

// deliver lets one message arrive at the parent and be made durable.
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
	if h := m.GetHello(); h != nil {
		welcome := &dubanv1.SyncWelcome{NowUs: w.now}
		for _, b := range h.GetJournals() {
			welcome.Positions = append(welcome.Positions, &dubanv1.SyncPosition{Journal: b, Size: uint64(w.stored[journal.ID(b)])})
		}
		w.down = append(w.down, &dubanv1.SyncResponse{Message: &dubanv1.SyncResponse_Welcome{Welcome: welcome}})
		return
	}
	var taken *downlink.Taken
	var older bool
	if b := m.GetBatch(); b != nil {
		taken, err = w.copies[journal.ID(b.GetJournal())].Batch(b)
	} else {
		taken, older, err = w.copies[journal.ID(m.GetHeartbeat().GetJournal())].Heartbeat(m.GetHeartbeat().GetCheckpoint())
	}
	if err != nil || older {
		w.t.Fatal("an honest child was refused: ", err, older)
	}
	if len(taken.Entries) > 0 {
		if int(taken.From) != w.stored[taken.Journal] {
			w.t.Fatal("a gap, or something twice")
		}
		w.stored[taken.Journal] += len(taken.Entries)
	}
	if !taken.Stale {
		w.notes[taken.Journal] = taken.Note
	}
	note, err := w.parent.Countersign(taken.Note, w.now)
	if err != nil {
		w.t.Fatal(err)
	}
	w.down = append(w.down, &dubanv1.SyncResponse{Message: &dubanv1.SyncResponse_Ack{Ack: &dubanv1.SyncAck{
		Journal: taken.Journal[:], Size: taken.Checkpoint.Size, Countersigned: note, NowUs: w.now}}})
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
			switch n := w.rand.IntN(20); {
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
	w.dial, w.closed, w.copies = false, false, nil
	w.core.Opened(w.now)
	w.effects()
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
