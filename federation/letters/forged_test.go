package letters_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"duban.internal/node/journal"
	"duban.internal/node/jurisdiction"
	dubanv1 "duban.internal/proto/duban/v1"
)

// craft makes a letter of any entries of a node's journal, under a checkpoint signed now by a key: what a patched node
// with a good certificate could send.
func craft(t fataler, n *node, key *journal.Key, addressed uint64, addressee jurisdiction.Code, numbers []uint64, older uint64, at int64) *dubanv1.SyncLetter {
	t.Helper()
	own := n.store.Own()
	info, _ := n.store.Journal(own)
	hashes, err := n.store.Hashes(own)
	if err != nil {
		t.Fatal(err)
	}
	root, err := journal.Root(hashes, info.Size)
	if err != nil {
		t.Fatal(err)
	}
	note, err := key.Sign(journal.Checkpoint{Journal: key.Public().Journal(), Size: info.Size, Root: root, Time: at})
	if err != nil {
		t.Fatal(err)
	}
	proven := func(number uint64) *dubanv1.ProvenEntry {
		e, err := n.store.Read(t.(interface{ Context() ctx }).Context(), own, number, 1)
		if err != nil || len(e) == 0 {
			t.Fatal(number, err)
		}
		proof, err := journal.ProveInclusion(hashes, info.Size, number)
		if err != nil {
			t.Fatal(err)
		}
		p := &dubanv1.ProvenEntry{Header: e[0].Raw, Salt: e[0].Salt, Payload: e[0].Payload}
		for _, h := range proof {
			p.Proof = append(p.Proof, h[:])
		}
		return p
	}
	l := &dubanv1.Letter{Journal: own[:], Addressee: string(addressee), Checkpoint: note, Addressed: proven(addressed)}
	for _, number := range numbers {
		l.Entries = append(l.Entries, proven(number))
	}
	m := &dubanv1.SyncLetter{Letter: l, ConsistentFrom: older}
	if older > 0 {
		proof, err := journal.ProveConsistency(hashes, older, info.Size)
		if err != nil {
			t.Fatal(err)
		}
		for _, h := range proof {
			m.Consistency = append(m.Consistency, h[:])
		}
	}
	return m
}

// Each forgery is refused, changes nothing but the evidence, is in sight, and is there once however often it comes. What
// the sender's own signatures prove ends the taking of its letters; after anything else a true letter is taken.
func TestForgeries(t *testing.T) {
	shared := tree(t)
	now := func(w *world) int64 { return w.clock.Now().UnixMicro() }
	for _, c := range []struct {
		name   string
		reason string
		proven bool
		again  bool              // it may be no forgery: at first only the position is said
		quiet  bool              // no evidence: nobody can be blamed for it
		held   jurisdiction.Code // whom the evidence is against; the city where empty
		forge  func(t *testing.T, w *world, m *dubanv1.SyncLetter) *dubanv1.SyncLetter
	}{
		{name: "an entry changed on the way", reason: "does not match the digest", forge: func(_ *testing.T, _ *world, m *dubanv1.SyncLetter) *dubanv1.SyncLetter {
			m.Letter.Entries[0].Payload = []byte("nothing to see")
			return m
		}},
		{name: "an invented entry", reason: "not shown to be in the journal", forge: func(_ *testing.T, _ *world, m *dubanv1.SyncLetter) *dubanv1.SyncLetter {
			e, err := journal.Open(m.Letter.Entries[0].Header, m.Letter.Entries[0].Salt, m.Letter.Entries[0].Payload, false)
			if err != nil {
				panic(err)
			}
			e.Payload = []byte("invented")
			e.Digest = journal.Digest(e.Salt, e.Payload)
			m.Letter.Entries[0].Header, m.Letter.Entries[0].Payload = e.Append(nil), e.Payload
			return m
		}},
		{name: "an entry of another journal", reason: "is of journal", forge: func(t *testing.T, w *world, m *dubanv1.SyncLetter) *dubanv1.SyncLetter {
			n := w.nodes[other]
			n.opens(t, "x", 2, other)
			m.Letter.Entries[0] = craft(t, n, w.Keys[other], 0, street, nil, 0, now(w)).Letter.Addressed
			return m
		}},
		{name: "another entry than is named", reason: "stands where", forge: func(_ *testing.T, _ *world, m *dubanv1.SyncLetter) *dubanv1.SyncLetter {
			m.Letter.Entries[0] = m.Letter.Addressed
			return m
		}},
		{name: "an entry left out", reason: "names 1 entries, and the letter has 0", forge: func(_ *testing.T, _ *world, m *dubanv1.SyncLetter) *dubanv1.SyncLetter {
			m.Letter.Entries = nil
			return m
		}},
		{name: "an Addressed entry that is none", reason: "is no Addressed entry", forge: func(_ *testing.T, _ *world, m *dubanv1.SyncLetter) *dubanv1.SyncLetter {
			m.Letter.Addressed = m.Letter.Entries[0]
			return m
		}},
		{name: "hashes of no length", reason: "a hash of 3 bytes", forge: func(_ *testing.T, _ *world, m *dubanv1.SyncLetter) *dubanv1.SyncLetter {
			m.Letter.Entries[0].Proof = [][]byte{{1, 2, 3}}
			return m
		}},
		{name: "signed by another key", reason: "checkpoint", forge: func(t *testing.T, w *world, m *dubanv1.SyncLetter) *dubanv1.SyncLetter {
			m.Letter.Checkpoint = craft(t, w.nodes[city], w.Keys[district], 0, street, nil, 0, now(w)).Letter.Checkpoint
			return m
		}},
		{name: "a signature of nobody", reason: "checkpoint of size", forge: func(_ *testing.T, _ *world, m *dubanv1.SyncLetter) *dubanv1.SyncLetter {
			m.Letter.Checkpoint[len(m.Letter.Checkpoint)-8] ^= 1
			return m
		}},
		{name: "for another street", reason: "neither 120116013 nor below", forge: func(_ *testing.T, _ *world, m *dubanv1.SyncLetter) *dubanv1.SyncLetter {
			m.Letter.Addressee = string(second)
			return m
		}},
		{name: "another street's letter", reason: "addresses", forge: func(t *testing.T, w *world, _ *dubanv1.SyncLetter) *dubanv1.SyncLetter {
			w.nodes[city].opens(t, "x", 2, second)
			w.nodes[city].address(t)
			m := w.nodes[city].next(t, w.nodes[second], plenty)[0]
			m = craft(t, w.nodes[city], w.Keys[city], addressedOf(m), second, nil, kept(t, w.nodes[street]), now(w))
			m.Letter.Addressee = string(street)
			return m
		}},
		{name: "of a journal that is not above", reason: "is no journal above", held: district, forge: func(t *testing.T, w *world, m *dubanv1.SyncLetter) *dubanv1.SyncLetter {
			w.nodes[other].opens(t, "x", 2, other)
			return craft(t, w.nodes[other], w.Keys[other], 0, street, nil, 0, now(w))
		}},
		{name: "of the own journal", reason: "is no journal above", held: district, forge: func(_ *testing.T, w *world, m *dubanv1.SyncLetter) *dubanv1.SyncLetter {
			id := w.ID(street)
			m.Letter.Journal = id[:]
			return m
		}},
		{name: "of nothing", reason: "is no journal above", held: district, forge: func(*testing.T, *world, *dubanv1.SyncLetter) *dubanv1.SyncLetter {
			return &dubanv1.SyncLetter{}
		}},
		{name: "a letter held back", reason: "held back", again: true, forge: func(t *testing.T, w *world, _ *dubanv1.SyncLetter) *dubanv1.SyncLetter {
			w.nodes[city].opens(t, "x", 3, street)
			w.nodes[city].address(t)
			return craft(t, w.nodes[city], w.Keys[city], w.size(city)-2, street, []uint64{w.size(city) - 3}, kept(t, w.nodes[street]), now(w))
		}},
		{name: "no way from what is kept", reason: "not shown to continue", forge: func(_ *testing.T, _ *world, m *dubanv1.SyncLetter) *dubanv1.SyncLetter {
			m.Consistency = nil
			return m
		}},
		{name: "too large", reason: "bytes, at most", forge: func(_ *testing.T, _ *world, m *dubanv1.SyncLetter) *dubanv1.SyncLetter {
			m.Letter.Entries[0].Payload = make([]byte, journal.MaxPayload)
			return m
		}},
		{name: "a journal that goes on from an old copy", reason: "not shown to continue", forge: func(t *testing.T, w *world, m *dubanv1.SyncLetter) *dubanv1.SyncLetter {
			fork := w.forked(t, city, 20)
			size := kept(t, w.nodes[street])
			m = craft(t, fork, w.Keys[city], addressedOf(m), street, nil, 0, now(w))
			m.ConsistentFrom, m.Consistency = size, [][]byte{make([]byte, 32)}
			return m
		}},
		{name: "another root of the same size", reason: "forked", proven: true, forge: func(t *testing.T, w *world, m *dubanv1.SyncLetter) *dubanv1.SyncLetter {
			size := kept(t, w.nodes[street])
			fork := w.forked(t, city, int(size))
			return craft(t, fork, w.Keys[city], 0, street, nil, 0, now(w))
		}},
		{name: "a checkpoint that turns the clock back", reason: "earlier time", proven: true, forge: func(t *testing.T, w *world, m *dubanv1.SyncLetter) *dubanv1.SyncLetter {
			return craft(t, w.nodes[city], w.Keys[city], addressedOf(m), street, nil, m.GetConsistentFrom(), start.UnixMicro())
		}},
		{name: "an entry backdated beyond what was kept", reason: "was recorded before the time", proven: true, forge: func(t *testing.T, w *world, m *dubanv1.SyncLetter) *dubanv1.SyncLetter {
			// The street keeps a checkpoint that states a late time; what follows bears an earlier one.
			ack := w.nodes[street].take(t, bare(craft(t, w.nodes[city], w.Keys[city], addressedOf(m), street, nil, m.GetConsistentFrom(), start.Add(time.Hour).UnixMicro())))
			require.Empty(t, ack.GetRefused())
			w.nodes[city].opens(t, "late", 3, street)
			w.nodes[city].address(t)
			w.clock.Advance(2 * time.Hour)
			return craft(t, w.nodes[city], w.Keys[city], w.size(city)-2, street, []uint64{w.size(city) - 3}, ack.GetPosition().GetSize(), now(w))
		}},
		{name: "an entry recorded after its checkpoint's time", reason: "was recorded after", proven: true, forge: func(t *testing.T, w *world, m *dubanv1.SyncLetter) *dubanv1.SyncLetter {
			w.clock.Advance(time.Minute)
			w.nodes[city].opens(t, "late", 3, street)
			w.nodes[city].address(t)
			return craft(t, w.nodes[city], w.Keys[city], w.size(city)-2, street, []uint64{w.size(city) - 3}, m.GetConsistentFrom(), now(w)-30e6)
		}},
		{name: "a number given twice", reason: "had been given", proven: true, forge: func(t *testing.T, w *world, m *dubanv1.SyncLetter) *dubanv1.SyncLetter {
			w.nodes[city].write(t, &dubanv1.Addressed{Addressee: string(street), Number: 0, Entries: []uint64{0}})
			return craft(t, w.nodes[city], w.Keys[city], w.size(city)-1, street, []uint64{0}, m.GetConsistentFrom(), now(w))
		}},
		{name: "an older checkpoint without a proof", reason: "its proof begins at size 0", again: true, quiet: true, forge: older},
		{name: "an older checkpoint that leads nowhere", reason: "nothing leads", again: true, quiet: true, forge: func(t *testing.T, w *world, m *dubanv1.SyncLetter) *dubanv1.SyncLetter {
			m = older(t, w, m)
			m.ConsistentFrom = 7
			return m
		}},
		{name: "a proof that begins elsewhere", reason: "its proof begins at size 3", again: true, quiet: true, forge: func(_ *testing.T, _ *world, m *dubanv1.SyncLetter) *dubanv1.SyncLetter {
			m.ConsistentFrom = 3
			return m
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(shared)
			up, s := w.nodes[city], w.nodes[street]
			for range 3 {
				up.opens(t, "a", 3, street)
				up.down(t, s, plenty)
			}
			up.opens(t, "b", 3, street)
			up.address(t)
			forged := c.forge(t, w, proto.Clone(up.next(t, s, plenty)[0]).(*dubanv1.SyncLetter))
			sizeBefore := kept(t, s)
			for i := range 12 {
				ack := s.take(t, proto.Clone(forged).(*dubanv1.SyncLetter))
				if c.again && i < 7 {
					require.Empty(t, ack.GetRefused(), "an honest sender may do better")
					require.Equal(t, sizeBefore, ack.GetPosition().GetSize())
					continue
				}
				require.Contains(t, ack.GetRefused(), c.reason)
			}
			require.Len(t, s.got(t, city), 3)
			require.Equal(t, sizeBefore, kept(t, s))
			found := s.evidence(t)
			if c.quiet {
				require.Empty(t, found)
				return
			}
			require.Len(t, found, 1, "evidence is kept once")
			if c.held == "" {
				c.held = city
			}
			id := w.ID(c.held)
			require.Equal(t, id[:], found[0].GetJournal())
			require.Contains(t, found[0].GetReason(), c.reason)
			st, err := s.box.Status(t.Context())
			require.NoError(t, err)
			shown := st[1]
			if c.held == district {
				shown = st[0]
			}
			require.Contains(t, shown.Refused, c.reason)
			require.Equal(t, c.proven, shown.Blocked)
			if c.proven {
				for _, note := range [][]byte{found[0].GetAcceptedCheckpoint(), found[0].GetRefusedCheckpoint()} {
					_, err := w.Keys[city].Public().Open(note)
					require.NoError(t, err, "evidence that proves nothing")
				}
				for _, m := range up.next(t, s, plenty) {
					require.Contains(t, s.take(t, m).GetRefused(), "refused before")
				}
				return
			}
			if c.held == city {
				require.Equal(t, forged.GetLetter().GetCheckpoint(), found[0].GetRefusedCheckpoint())
			}
			up.down(t, s, plenty)
			require.GreaterOrEqual(t, len(s.got(t, city)), 4, "true letters are taken")
		})
	}
}

// older is a letter of another history, of a size that the street has passed.
func older(t *testing.T, w *world, m *dubanv1.SyncLetter) *dubanv1.SyncLetter {
	require.Empty(t, w.nodes[street].take(t, bare(m)).GetRefused())
	fork := w.forked(t, city, 7)
	return craft(t, fork, w.Keys[city], 0, street, nil, 0, w.clock.Now().UnixMicro())
}

// People settle it: the sender is taken again, where it continues what was kept.
func TestReadmitted(t *testing.T) {
	w := newWorld(tree(t))
	up, s := w.nodes[city], w.nodes[street]
	up.opens(t, "a", 3, street)
	up.down(t, s, plenty)
	up.opens(t, "b", 3, street)
	up.address(t)
	back := craft(t, up, w.Keys[city], 0, street, nil, kept(t, s), start.UnixMicro())
	require.Contains(t, s.take(t, back).GetRefused(), "earlier time")
	require.Contains(t, s.take(t, up.next(t, s, plenty)[0]).GetRefused(), "refused before")
	id := w.ID(city)
	s.write(t, &dubanv1.JournalReadmitted{Journal: id[:], Code: string(city), Reason: "the clock was put right"})
	up.down(t, s, plenty)
	require.Len(t, s.got(t, city), 2)
	require.Len(t, s.evidence(t), 1)
}

func addressedOf(m *dubanv1.SyncLetter) uint64 {
	h, err := journal.DecodeHeader(m.GetLetter().GetAddressed().GetHeader())
	if err != nil {
		panic(err)
	}
	return h.Number
}

// bare is the checkpoint of a letter alone.
func bare(m *dubanv1.SyncLetter) *dubanv1.SyncLetter {
	m = proto.Clone(m).(*dubanv1.SyncLetter)
	m.Letter.Addressed, m.Letter.Entries = nil, nil
	return m
}

// kept is the size of the city's checkpoint that a node keeps.
func kept(t *testing.T, n *node) uint64 {
	t.Helper()
	st, err := n.box.Status(t.Context())
	require.NoError(t, err)
	for _, s := range st {
		if s.Code == city {
			return s.Size
		}
	}
	return 0
}

func (w *world) size(code jurisdiction.Code) uint64 {
	info, _ := w.nodes[code].store.Journal(w.ID(code))
	return info.Size
}

// forked is a node that goes on from an old copy of a journal: its first entries, and others after them.
func (w *world) forked(t fataler, code jurisdiction.Code, entries int) *node {
	t.Helper()
	fork := newWorld(w.keyed).nodes[code]
	for range entries {
		fork.write(t, &dubanv1.ExplanationGiven{Text: "another history"})
	}
	return fork
}

// A letter of an older checkpoint that doesn't even try to lead back was sent before its sender knew what is kept: it is
// told, and nothing is held against it. A refusal would stop the sender's letters for the whole stream.
func TestSentBeforeItsSenderKnew(t *testing.T) {
	w := newWorld(tree(t))
	up, s := w.nodes[city], w.nodes[street]
	up.opens(t, "a", 3, street)
	up.down(t, s, plenty)
	before := kept(t, s)
	fork := w.forked(t, city, 2)
	ack := s.take(t, craft(t, fork, w.Keys[city], 0, street, nil, 0, w.clock.Now().UnixMicro()))
	require.Empty(t, ack.GetRefused())
	require.Equal(t, before, ack.GetPosition().GetSize())
	require.Empty(t, s.evidence(t))
}
