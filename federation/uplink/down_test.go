package uplink_test

import (
	"math/rand/v2"
	"testing"

	"google.golang.org/protobuf/proto"

	"duban.internal/federation/uplink"
	"duban.internal/node/journal"
	dubanv1 "duban.internal/proto/duban/v1"
)

// welcomed is a core with some entries whose hello was answered.
func welcomed(t interface{ Fatal(...any) }, window uint64) (*world, *uplink.Core) {
	w := newWorld(t, rand.New(rand.NewPCG(1, 1)), 2)
	w.add(w.order[0], 200)
	w.core.Opened(w.now)
	w.core.Effects()
	m := &dubanv1.SyncWelcome{NowUs: w.now, Kinds: []uint32{3, 4}, Window: window}
	for _, id := range w.order {
		m.Positions = append(m.Positions, &dubanv1.SyncPosition{Journal: id[:]})
	}
	w.core.Received(&dubanv1.SyncResponse{Message: &dubanv1.SyncResponse_Welcome{Welcome: m}}, w.now)
	return w, w.core
}

// A child keeps to what its parent says that it may have under way.
func TestWindowIsTold(t *testing.T) {
	sent := func(window uint64) (bytes int) {
		w, core := welcomed(t, window)
		for out := core.Effects(); len(out) > 0; out = core.Effects() {
			for _, e := range out {
				switch {
				case e.Load != nil:
					c, from := w.chains[e.Load.Journal], int(e.Load.From)
					core.Loaded(e.Load.Journal, e.Load.From, c.Entries[from:from+1], c.Note(from+1, 0))
				case e.Send != nil:
					bytes += proto.Size(e.Send)
				}
			}
		}
		return bytes
	}
	if all, told, none := sent(1<<30), sent(500), sent(0); told > 2000 || all != none || all <= told {
		t.Errorf("%d bytes were sent of a window of 500, %d without one, %d of a large one", told, none, all)
	}
}

// What the parent knows is told, letters and requests are handed on, a later version's messages are left aside.
func TestWhatComesDown(t *testing.T) {
	_, core := welcomed(t, 0)
	core.Effects()
	for _, m := range []*dubanv1.SyncResponse{
		{Message: &dubanv1.SyncResponse_Letter{Letter: &dubanv1.SyncLetter{ConsistentFrom: 7}}},
		{Message: &dubanv1.SyncResponse_Fetch{Fetch: &dubanv1.SyncFetch{Id: 8}}},
		{},
	} {
		core.Received(m, 1)
	}
	var letters, fetches, others int
	for _, e := range core.Effects() {
		switch {
		case e.Take.GetConsistentFrom() == 7:
			letters++
		case e.Serve.GetId() == 8:
			fetches++
		default:
			others++
		}
	}
	if letters != 1 || fetches != 1 || others != 0 {
		t.Errorf("%d letters, %d requests, %d others", letters, fetches, others)
	}
	core.Took(&dubanv1.SyncLetterAck{Refused: "forged"})
	if out := core.Effects(); len(out) != 1 || out[0].Send.GetLetterAck().GetRefused() != "forged" || core.Status().Problem == "" {
		t.Errorf("%v, %+v", out, core.Status())
	}
}

// A letter that comes twice is left aside, one that is missing ends the stream: it is nobody's fault.
func TestLettersAreCounted(t *testing.T) {
	_, core := welcomed(t, 0)
	core.Effects()
	letter := func(n uint64) (taken int, hung bool) {
		core.Received(&dubanv1.SyncResponse{Message: &dubanv1.SyncResponse_Letter{Letter: &dubanv1.SyncLetter{Sequence: n}}}, 1)
		for _, e := range core.Effects() {
			hung = hung || e.Hangup != ""
			if e.Take != nil {
				taken++
			}
		}
		return taken, hung
	}
	for i, c := range []struct {
		n     uint64
		taken int
		hung  bool
	}{{1, 1, false}, {2, 1, false}, {2, 0, false}, {1, 0, false}, {0, 1, false}, {3, 1, false}, {5, 0, true}} {
		if taken, hung := letter(c.n); taken != c.taken || hung != c.hung {
			t.Errorf("%d: letter %d taken %d times, hung up %v", i, c.n, taken, hung)
		}
	}
}

// The word of a node above is believed with its signature under what the journal's key signed, and not otherwise.
func TestWitnesses(t *testing.T) {
	for name, c := range map[string]struct {
		change func(w *world, m *dubanv1.SyncWitness)
		kept   int
	}{
		"as it is":   {func(*world, *dubanv1.SyncWitness) {}, 1},
		"no journal": {func(_ *world, m *dubanv1.SyncWitness) { m.Journal = nil }, 0},
		"another's":  {func(w *world, m *dubanv1.SyncWitness) { m.Journal = w.order[1][:] }, 0},
		"not signed": {func(w *world, m *dubanv1.SyncWitness) { m.Countersigned = w.chains[w.order[0]].Note(5, 0) }, 0},
		"by nobody":  {func(_ *world, m *dubanv1.SyncWitness) { m.Countersigned = []byte("x") }, 0},
		"of another": {func(w *world, m *dubanv1.SyncWitness) {
			note, err := key(t, journal.ID{0xff}).Countersign(w.chains[w.order[0]].Note(5, 0), 1e6)
			if err != nil {
				t.Fatal(err)
			}
			m.Countersigned = note
		}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, rand.New(rand.NewPCG(1, 1)), 2)
			w.add(w.order[0], 5)
			province := key(t, journal.ID{0xfe})
			w.above.Effects()
			w.core = w.withAbove(province)
			w.core.Effects()
			w.core.Opened(w.now)
			m := &dubanv1.SyncWelcome{NowUs: w.now}
			for _, id := range w.order {
				m.Positions = append(m.Positions, &dubanv1.SyncPosition{Journal: id[:]})
			}
			w.core.Received(&dubanv1.SyncResponse{Message: &dubanv1.SyncResponse_Welcome{Welcome: m}}, w.now)
			w.core.Effects()
			note, err := province.Countersign(w.chains[w.order[0]].Note(5, 0), 1e6)
			if err != nil {
				t.Fatal(err)
			}
			word := &dubanv1.SyncWitness{Journal: w.order[0][:], Countersigned: note}
			c.change(w, word)
			w.core.Received(&dubanv1.SyncResponse{Message: &dubanv1.SyncResponse_Witness{Witness: word}}, w.now)
			kept := 0
			for _, e := range w.core.Effects() {
				if k := e.Keep; k != nil && k.By == "province" && k.Size == 5 && k.Journal == w.order[0] {
					kept++
				} else if e.Hangup != "" || e.Keep != nil {
					t.Errorf("%+v", e)
				}
			}
			if kept != c.kept {
				t.Errorf("kept %d times", kept)
			}
		})
	}
}

// Whatever a parent sends, nothing breaks, and nothing is kept that it did not countersign.
func FuzzReceived(f *testing.F) {
	w := newWorld(f, rand.New(rand.NewPCG(1, 1)), 1)
	w.add(w.order[0], 3)
	for _, m := range []*dubanv1.SyncResponse{
		{Message: &dubanv1.SyncResponse_Ack{Ack: &dubanv1.SyncAck{Journal: w.order[0][:], Size: 3, Countersigned: w.chains[w.order[0]].Note(3, 0)}}},
		{Message: &dubanv1.SyncResponse_Refusal{Refusal: &dubanv1.SyncRefusal{Journal: w.order[0][:], Reason: "forked"}}},
		{Message: &dubanv1.SyncResponse_Witness{Witness: &dubanv1.SyncWitness{Journal: w.order[0][:], Countersigned: []byte("x")}}},
		{Message: &dubanv1.SyncResponse_Welcome{Welcome: &dubanv1.SyncWelcome{}}},
	} {
		raw, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		var m dubanv1.SyncResponse
		if proto.Unmarshal(raw, &m) != nil {
			return
		}
		_, core := welcomed(t, 0)
		core.Effects()
		core.Received(&m, 1)
		for _, e := range core.Effects() {
			if e.Keep != nil {
				t.Errorf("kept %+v", e.Keep)
			}
		}
	})
}
