package federation_test

import (
	"strings"
	"testing"

	"duban.internal/federation"
	"duban.internal/federation/federationtest"
	"duban.internal/node/clock"
	"duban.internal/node/journal"
	"duban.internal/node/jurisdiction"
	"duban.internal/node/store"
	dubanv1 "duban.internal/proto/duban/v1"
)

func beat(id journal.ID, note []byte) *dubanv1.SyncRequest {
	return &dubanv1.SyncRequest{Message: &dubanv1.SyncRequest_Heartbeat{Heartbeat: &dubanv1.SyncHeartbeat{Journal: id[:], Checkpoint: note}}}
}

// talk sends messages, each after the answer to the one before.
func talk(t *testing.T, s dubanv1.SyncService_SyncClient, messages ...*dubanv1.SyncRequest) {
	t.Helper()
	for _, m := range messages {
		if err := s.Send(m); err != nil {
			t.Fatal(err)
		}
		if m, err := s.Recv(); err != nil || m.GetRefusal() != nil {
			t.Fatal(m, err)
		}
	}
}

// refusal waits for the refusal of a journal and says why.
func refusal(t *testing.T, s dubanv1.SyncService_SyncClient) string {
	t.Helper()
	for {
		m, err := s.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if m.GetRefusal() != nil {
			return m.GetRefusal().GetReason()
		}
	}
}

// A patched street with a valid certificate, over the wire: whatever contradicts what it signed before is refused, kept as
// evidence that proves it to anybody, shown, and not forgotten; the other street goes on.
func TestPatchedStreet(t *testing.T) {
	const hour = 3_600_000_000
	start := clock.Micros(clock.System().Now()) - 24*hour
	for _, c := range []struct {
		name   string
		attack func(c *federationtest.Chain) *dubanv1.SyncRequest // after ten entries, an hour apart, and a checkpoint at the twelfth
		want   string
	}{
		{"backdated entry", func(c *federationtest.Chain) *dubanv1.SyncRequest {
			c.Add(start+11*hour, "recorded in time")
			return batch(c.Batch(10, 11))
		}, "before the time that the checkpoint of size 10 states"},
		{"backdated checkpoint", func(c *federationtest.Chain) *dubanv1.SyncRequest {
			c.Add(start+13*hour, "late")
			b := c.Batch(10, 11)
			b.Checkpoint = c.Note(11, start+11*hour)
			return batch(b)
		}, "states an earlier time"},
		{"fork of the same size", func(c *federationtest.Chain) *dubanv1.SyncRequest {
			f := c.Fork(9)
			f.Add(start+10*hour, "another tenth")
			return beat(c.Key.Public().Journal(), f.Note(10, start+13*hour))
		}, "forked"},
		{"fork that went on", func(c *federationtest.Chain) *dubanv1.SyncRequest {
			f := c.Fork(7)
			for i := range 6 {
				f.Add(start+int64(12+i)*hour, "another")
			}
			return batch(f.Batch(10, 13))
		}, "another root"},
		{"fork sent from where it forks", func(c *federationtest.Chain) *dubanv1.SyncRequest {
			f := c.Fork(7)
			for range 2 {
				f.Add(start+13*hour, "another")
			}
			return batch(f.Batch(7, 9))
		}, "forked"},
		{"rollback", func(c *federationtest.Chain) *dubanv1.SyncRequest {
			return beat(c.Key.Public().Journal(), c.Note(6, start+13*hour))
		}, "rolled back"},
		{"truncated entry", func(c *federationtest.Chain) *dubanv1.SyncRequest {
			c.Add(start+13*hour, "payload")
			b := c.Batch(10, 11)
			b.Entries[0].Payload = b.Entries[0].Payload[:3]
			return batch(b)
		}, "entry 10"},
		{"erased without leave", func(c *federationtest.Chain) *dubanv1.SyncRequest {
			c.Add(start+13*hour, "payload")
			b := c.Batch(10, 11)
			b.Entries[0].Payload, b.Entries[0].Salt = nil, nil
			return batch(b)
		}, "entry 10"},
		{"an opened level hidden as erased", func(c *federationtest.Chain) *dubanv1.SyncRequest {
			c.Take(federationtest.Entry(c.Key.Public().Journal(), 10, start+13*hour, store.Proposal{
				Stream: "alert/1", Kind: uint32(dubanv1.EntryKind_ENTRY_KIND_LEVEL_OPENED), Actor: "node:x", Payload: []byte("level 1")}))
			b := c.Batch(10, 11)
			b.Entries[0].Payload, b.Entries[0].Salt, b.Entries[0].Erased = nil, nil, true
			return batch(b)
		}, "never erased"},
		{"withheld entry", func(c *federationtest.Chain) *dubanv1.SyncRequest {
			for i := range 3 {
				c.Add(start+int64(13+i)*hour, "payload")
			}
			b := c.Batch(10, 13)
			b.Entries[1] = b.Entries[2]
			return batch(b)
		}, "entry 12 stands where 11 is expected"},
		{"renumbered", func(c *federationtest.Chain) *dubanv1.SyncRequest {
			for i := range 2 {
				c.Add(start+int64(13+i)*hour, "payload")
			}
			b := c.Batch(10, 12)
			b.Entries[0], b.Entries[1] = b.Entries[1], b.Entries[0]
			return batch(b)
		}, "entry 11 stands where 10 is expected"},
		{"another's entry", func(c *federationtest.Chain) *dubanv1.SyncRequest {
			c.Add(start+13*hour, "payload")
			b := c.Batch(10, 11)
			header := c.Entries[10].Header
			header.Journal = journal.ID{9}
			b.Entries[0].Header = header.Append(nil)
			return batch(b)
		}, "is of journal 09"},
	} {
		t.Run(c.name, func(t *testing.T) {
			tree := newTree(t)
			parent := newStore(t, tree, district)
			record(t, parent, 1)
			mid := tree.Start(t, district, parent, federationtest.Options{})
			id := tree.ID(street)
			chain := federationtest.NewChain(tree.Keys[street])
			for i := range 10 {
				chain.Add(start+int64(i+1)*hour, "payload")
			}
			s := dial(t, mid.Address, tree.Pair(t, street))
			talk(t, s, hello(street, id), batch(chain.Batch(0, 10)), beat(id, chain.Note(10, start+12*hour)))
			if err := s.Send(c.attack(chain)); err != nil {
				t.Fatal(err)
			}
			if reason := refusal(t, s); !strings.Contains(reason, c.want) {
				t.Errorf("refused with %q, want %q", reason, c.want)
			}
			found := evidence(t, parent)
			if len(found) != 1 || found[0].GetCode() != string(street) || !strings.Contains(found[0].GetReason(), "node:"+string(street)) {
				t.Fatalf("evidence %v", found)
			}
			for _, note := range [][]byte{found[0].GetAcceptedCheckpoint(), found[0].GetRefusedCheckpoint()} {
				if _, err := tree.Keys[street].Public().Open(note); err != nil {
					t.Errorf("evidence that proves nothing: %v", err)
				}
			}
			if st := mid.Downlink.Status()[id]; !strings.Contains(st.Refused, c.want) || st.Size != 10 {
				t.Errorf("shown as %+v", st)
			}
			// A new stream, the honest way on: refused until people have settled it.
			again := dial(t, mid.Address, tree.Pair(t, street))
			if err := again.Send(hello(street, id)); err != nil {
				t.Fatal(err)
			}
			if m, err := again.Recv(); err != nil || !m.GetWelcome().GetPositions()[0].GetRefused() {
				t.Errorf("welcomed with %v, %v", m, err)
			}
			other := newStore(t, tree, second)
			record(t, other, 20)
			tree.Start(t, second, other, federationtest.Options{Parent: mid.Address})
			federationtest.Until(t, "the other street goes on", func() bool { return size(parent, tree.ID(second)) == 20 })
		})
	}
}

// Nobody invents a street or speaks for another, whatever keys he makes.
func TestInvented(t *testing.T) {
	tree, foreign := newTree(t), newTree(t)
	parent := newStore(t, tree, city)
	record(t, parent, 1)
	up := tree.Start(t, city, parent, federationtest.Options{})
	invented := federationtest.NewChain(foreign.Keys[street])
	invented.Add(1, "payload")
	refusedWith(t, dial(t, up.Address, tree.Pair(t, district)), "is not known as a journal of 120116 or below",
		hello(district, tree.ID(district), foreign.ID(street)), batch(invented.Batch(0, 1)))
	refusedWith(t, dial(t, up.Address, tree.Pair(t, district)), "is not known as a journal of 120116 or below",
		hello(district, tree.ID(district), tree.ID("120101")))
	refusedWith(t, dial(t, up.Address, tree.Pair(t, district)), "can't speak for", hello(street, tree.ID(street)))
	// By another authority's certificate.
	s, err := tryDial(t, up.Address, foreign.Pair(t, district))
	if err == nil {
		_, err = s.Recv()
	}
	if err == nil {
		t.Error("a stranger was let in")
	}
	// With the street's journal, but under a key of his own.
	own := dial(t, up.Address, tree.Pair(t, district))
	forged := invented.Batch(0, 1)
	id := tree.ID(street)
	forged.Journal = id[:]
	if err := own.Send(hello(district, tree.ID(district), id)); err != nil {
		t.Fatal(err)
	}
	if err := own.Send(batch(forged)); err != nil {
		t.Fatal(err)
	}
	refusal(t, own)
	if st := up.Downlink.Status()[id]; st.Size != 0 || st.Refused == "" {
		t.Errorf("%+v", st)
	}
	if n := len(parent.Journals()); n != 1 {
		t.Errorf("%d journals are stored", n)
	}
}

// A patched district that changes, leaves out or forges what a street recorded is refused with it, and shown; the street is
// not condemned by it: it reaches the city itself.
func TestPatchedDistrict(t *testing.T) {
	tree := newTree(t)
	top, low := newStore(t, tree, city), newStore(t, tree, street)
	id := tree.ID(street)
	record(t, low, 10)
	up := tree.Start(t, city, top, federationtest.Options{})
	entries := all(t, low, id)
	chain := federationtest.NewChain(tree.Keys[street])
	for _, e := range entries {
		chain.Take(e)
	}
	for name, change := range map[string]func(b *dubanv1.SyncBatch){
		"changed":  func(b *dubanv1.SyncBatch) { b.Entries[3].Payload = []byte("nothing happened") },
		"left out": func(b *dubanv1.SyncBatch) { b.Entries[3] = b.Entries[4] },
		"replaced": func(b *dubanv1.SyncBatch) {
			f := chain.Fork(3)
			f.Add(entries[3].RecordedAt, "nothing happened")
			b.Entries[3] = federation.ToWire(f.Entries[3:4])[0]
		},
	} {
		s := dial(t, up.Address, tree.Pair(t, district))
		b := chain.Batch(0, 10)
		change(b)
		for _, m := range []*dubanv1.SyncRequest{hello(district, id), batch(b)} {
			if err := s.Send(m); err != nil {
				t.Fatal(err)
			}
		}
		refusal(t, s)
		if st := up.Downlink.Status()[id]; st.Refused == "" || st.Size != 0 {
			t.Errorf("%s: shown as %+v", name, st)
		}
	}
	if len(evidence(t, top)) != 0 {
		t.Error("the street is accused of what the district did")
	}
	// The district keeps the street back; the street finds its way.
	mid := tree.Start(t, district, newStore(t, tree, district), federationtest.Options{Parent: "127.0.0.1:1"})
	tree.Start(t, street, low, federationtest.Options{Parent: mid.Address, Around: 300_000_000,
		Ancestors: map[jurisdiction.Code]string{city: up.Address}})
	federationtest.Until(t, "the street reaches the city", func() bool { return size(top, id) == 10 })
	same(t, low, top, id)
	federationtest.Until(t, "and is in good standing", func() bool { return up.Downlink.Status()[id].Refused == "" })
}
