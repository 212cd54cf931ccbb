package federation_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"duban.internal/federation"
	"duban.internal/federation/federationtest"
	"duban.internal/node/clock"
	"duban.internal/node/fault"
	"duban.internal/node/journal"
	"duban.internal/node/jurisdiction"
	"duban.internal/node/store"
	"duban.internal/node/store/embedded"
	dubanv1 "duban.internal/proto/duban/v1"
)

const (
	city     = jurisdiction.Code("120000")
	district = jurisdiction.Code("120116")
	street   = jurisdiction.Code("120116013")
	second   = jurisdiction.Code("120116014")
)

func newTree(t testing.TB) *federationtest.Tree {
	return federationtest.NewTree(t, clock.System().Now())
}

func newStore(t testing.TB, tree *federationtest.Tree, code jurisdiction.Code) federationtest.EngineStore {
	t.Helper()
	s := openStore(t, tree, code, t.TempDir())
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// openStore opens the engine that nodes run on.
func openStore(t testing.TB, tree *federationtest.Tree, code jurisdiction.Code, dir string) *embedded.Store {
	t.Helper()
	fold := federation.Fold()
	s, err := embedded.Open(t.Context(), embedded.Config{Dir: dir, Journal: tree.ID(code), Clock: clock.System(),
		Folds: []*store.Fold{&fold}, Tables: federation.Tables(), Known: federation.Kinds()})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// record appends entries, a few to a command.
func record(t testing.TB, s federationtest.EngineStore, n int) {
	t.Helper()
	commands := make([]store.Command, n)
	for i := range commands {
		p := store.Proposal{Stream: fmt.Sprint("case/", i), Kind: uint32(dubanv1.EntryKind_ENTRY_KIND_EXPLANATION_GIVEN), Actor: "agency:x",
			Payload: []byte(strings.Repeat("explanation ", i%50))}
		p.Seal()
		commands[i].Entries = []store.Proposal{p}
	}
	_, errs := s.Append(context.Background(), commands...)
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

func size(s federationtest.EngineStore, id journal.ID) uint64 {
	info, _ := s.Journal(id)
	return info.Size
}

func all(t testing.TB, s federationtest.EngineStore, id journal.ID) (out []journal.Entry) {
	t.Helper()
	for {
		more, err := s.Read(context.Background(), id, uint64(len(out)), 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		if len(more) == 0 {
			return out
		}
		out = append(out, more...)
	}
}

// same checks that two stores hold the same bytes and tree of a journal.
func same(t testing.TB, a, b federationtest.EngineStore, id journal.ID) {
	t.Helper()
	left, right := all(t, a, id), all(t, b, id)
	if len(left) != len(right) || len(left) == 0 {
		t.Fatalf("journal %s: %d and %d entries", id, len(left), len(right))
	}
	for i := range left {
		if !bytes.Equal(left[i].Raw, right[i].Raw) || !bytes.Equal(left[i].Payload, right[i].Payload) || !bytes.Equal(left[i].Salt, right[i].Salt) {
			t.Fatalf("journal %s: entry %d differs", id, i)
		}
	}
	var roots [2][32]byte
	for i, s := range []federationtest.EngineStore{a, b} {
		hashes, err := s.Hashes(id)
		if err != nil {
			t.Fatal(err)
		}
		if roots[i], err = journal.Root(hashes, uint64(len(left))); err != nil {
			t.Fatal(err)
		}
	}
	if roots[0] != roots[1] {
		t.Fatalf("journal %s: roots differ", id)
	}
}

// countersigned checks what a child has kept of its parent's word.
func countersigned(t testing.TB, tree *federationtest.Tree, s federationtest.EngineStore, child, parent jurisdiction.Code) journal.Checkpoint {
	t.Helper()
	var row store.Row
	federationtest.Until(t, "the parent's word is kept", func() bool {
		r, ok, err := s.Get(context.Background(), tree.ID(child), federation.Acknowledged)
		row = r
		return ok && err == nil && r[0] == int64(size(s, tree.ID(child)))
	})
	point, err := tree.Keys[child].Public().Open(row[2].([]byte))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tree.Keys[parent].Public().Witnessed(row[2].([]byte)); err != nil {
		t.Fatal(err)
	}
	hashes, err := s.Hashes(tree.ID(child))
	if err != nil {
		t.Fatal(err)
	}
	if root, err := journal.Root(hashes, point.Size); err != nil || root != point.Root {
		t.Fatalf("%s: the acknowledged root is not the own one: %v", child, err)
	}
	return point
}

// A street's entries reach the city as they are, through a district that can't change them.
func TestStreetToCity(t *testing.T) {
	tree := newTree(t)
	stores := map[jurisdiction.Code]federationtest.EngineStore{}
	for _, code := range []jurisdiction.Code{city, district, street, second} {
		stores[code] = newStore(t, tree, code)
		record(t, stores[code], 300)
	}
	up := tree.Start(t, city, stores[city], federationtest.Options{})
	mid := tree.Start(t, district, stores[district], federationtest.Options{Parent: up.Address, Batch: 20 << 10})
	one := tree.Start(t, street, stores[street], federationtest.Options{Parent: mid.Address, Batch: 10 << 10})
	tree.Start(t, second, stores[second], federationtest.Options{Parent: mid.Address})
	for range 5 {
		record(t, stores[street], 40)
		record(t, stores[district], 10)
	}
	record(t, stores[second], 1)
	for _, code := range []jurisdiction.Code{district, street, second} {
		federationtest.Until(t, "the city has all of "+string(code), func() bool {
			return size(stores[city], tree.ID(code)) == size(stores[code], tree.ID(code))
		})
		same(t, stores[code], stores[city], tree.ID(code))
	}
	same(t, stores[street], stores[district], tree.ID(street))

	federationtest.Until(t, "everything is acknowledged", func() bool {
		s := one.Uplink.Status()
		return s.Connected && s.Problem == "" && s.Acknowledged[tree.ID(street)] == 500 && len(s.Refused) == 0 &&
			mid.Uplink.Status().Acknowledged[tree.ID(street)] == 500
	})
	if p := countersigned(t, tree, stores[street], street, district); p.Size != 500 {
		t.Errorf("acknowledged at %d", p.Size)
	}
	federationtest.Until(t, "the district keeps the city's word about the street", func() bool {
		_, ok, err := stores[district].Get(context.Background(), tree.ID(street), federation.Acknowledged)
		return ok && err == nil
	})

	// Idle nodes tell their time: it goes on at the city, also of a street that the city never spoke with.
	for _, code := range []jurisdiction.Code{district, street} {
		before := up.Downlink.Peer(tree.ID(code)).Checkpoint
		if before == 0 {
			t.Errorf("%s: nothing witnessed", code)
		}
		federationtest.Until(t, "time goes on for "+string(code), func() bool { return up.Downlink.Peer(tree.ID(code)).Checkpoint > before })
	}
	st := up.Downlink.Status()[tree.ID(district)]
	if st.Heard == 0 || st.Refused != "" || st.Size != size(stores[district], tree.ID(district)) || st.Skew > time.Minute.Microseconds() {
		t.Errorf("status %+v", st)
	}
	up.Stop()
	again := tree.Start(t, city, stores[city], federationtest.Options{})
	if again.Downlink.Peer(tree.ID(street)).Checkpoint == 0 {
		t.Error("what was witnessed did not survive a restart")
	}
}

// Whichever end goes away, the stream goes on where the parent stands; nothing is sent twice into its journal.
func TestResume(t *testing.T) {
	tree := newTree(t)
	parent, child := newStore(t, tree, district), newStore(t, tree, street)
	record(t, parent, 1)
	record(t, child, 1000)
	mid := tree.Start(t, district, parent, federationtest.Options{})
	low := tree.Start(t, street, child, federationtest.Options{Parent: mid.Address, Batch: 4 << 10})
	for round := range 4 {
		federationtest.Until(t, "some entries are there", func() bool { return size(parent, tree.ID(street)) > uint64(round*200) })
		if round%2 == 0 {
			address := mid.Address
			mid.Stop()
			mid = tree.Start(t, district, parent, federationtest.Options{Listen: address})
		} else {
			low.Stop()
			low = tree.Start(t, street, child, federationtest.Options{Parent: mid.Address, Batch: 4 << 10})
		}
		record(t, child, 100)
	}
	federationtest.Until(t, "all is there", func() bool { return size(parent, tree.ID(street)) == 1400 })
	same(t, child, parent, tree.ID(street))
	federationtest.Until(t, "all is acknowledged", func() bool { return low.Uplink.Status().Acknowledged[tree.ID(street)] == 1400 })
	countersigned(t, tree, child, street, district)
}

// evidence finds the PeerRefused entries of a journal.
func evidence(t testing.TB, s federationtest.EngineStore) (out []*dubanv1.PeerRefused) {
	t.Helper()
	for _, e := range all(t, s, s.Own()) {
		if e.Kind == uint32(dubanv1.EntryKind_ENTRY_KIND_PEER_REFUSED) {
			var p dubanv1.PeerRefused
			if err := proto.Unmarshal(e.Payload, &p); err != nil {
				t.Fatal(err)
			}
			out = append(out, &p)
		}
	}
	return out
}

// An entry changed on a street's disk is refused by the district, with evidence, once; the other street goes on.
func TestTamperedEntryIsRefused(t *testing.T) {
	tree := newTree(t)
	parent, child, other := newStore(t, tree, district), federationtest.NewStore(tree.ID(street), clock.System()), newStore(t, tree, second)
	record(t, child, 100)
	mid := tree.Start(t, district, parent, federationtest.Options{})
	low := tree.Start(t, street, child, federationtest.Options{Parent: mid.Address})
	federationtest.Until(t, "the first hundred are there", func() bool { return size(parent, tree.ID(street)) == 100 })
	low.Stop()
	record(t, child, 20)
	child.Tamper(tree.ID(street), 110, []byte("nothing happened"))
	low = tree.Start(t, street, child, federationtest.Options{Parent: mid.Address})
	tree.Start(t, second, other, federationtest.Options{Parent: mid.Address})
	id := tree.ID(street)
	federationtest.Until(t, "the street is refused", func() bool { return low.Uplink.Status().Refused[id] != "" })
	if reason := low.Uplink.Status().Refused[id]; !strings.Contains(reason, "entry 110") {
		t.Errorf("the child is told %q", reason)
	}
	if st := mid.Downlink.Status()[id]; !strings.Contains(st.Refused, "entry 110") || st.Size != 100 {
		t.Errorf("status %+v", st)
	}
	record(t, other, 50)
	federationtest.Until(t, "the other street goes on", func() bool { return size(parent, tree.ID(second)) == 50 })

	// It stays refused, also after restarts at both ends.
	address := mid.Address
	low.Stop()
	mid.Stop()
	mid = tree.Start(t, district, parent, federationtest.Options{Listen: address})
	if st := mid.Downlink.Status()[id]; !strings.Contains(st.Refused, "entry 110") {
		t.Errorf("forgotten by a restart: %+v", st)
	}
	low = tree.Start(t, street, child, federationtest.Options{Parent: mid.Address})
	federationtest.Until(t, "the street is refused again", func() bool { return low.Uplink.Status().Refused[id] != "" })
	record(t, child, 10)
	if size(parent, id) != 100 {
		t.Errorf("%d entries were taken", size(parent, id))
	}
	found := evidence(t, parent)
	if len(found) != 1 || found[0].GetCode() != string(street) || found[0].GetFrom() != 100 || !strings.Contains(found[0].GetReason(), "node:120116013") {
		t.Fatalf("evidence %v", found)
	}
	for _, note := range [][]byte{found[0].GetAcceptedCheckpoint(), found[0].GetRefusedCheckpoint()} {
		if _, err := tree.Keys[street].Public().Open(note); err != nil {
			t.Errorf("evidence that proves nothing: %v", err)
		}
	}
}

// A street that goes on from an old copy of its own journal has forked it, whether it grew beyond what is known or not.
func TestForkIsRefused(t *testing.T) {
	for _, grown := range []int{0, 10, 200} {
		t.Run(fmt.Sprint(grown), func(t *testing.T) {
			tree := newTree(t)
			parent, id := newStore(t, tree, district), tree.ID(street)
			dir, copied := t.TempDir(), t.TempDir()
			first := openStore(t, tree, street, dir)
			record(t, first, 40)
			if err := first.Close(); err != nil {
				t.Fatal(err)
			}
			if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
				t.Fatal(err)
			}
			child, old := openStore(t, tree, street, dir), openStore(t, tree, street, copied)
			defer func() {
				if err := errors.Join(child.Close(), old.Close()); err != nil {
					t.Error(err)
				}
			}()
			record(t, child, 20)
			mid := tree.Start(t, district, parent, federationtest.Options{})
			low := tree.Start(t, street, child, federationtest.Options{Parent: mid.Address})
			federationtest.Until(t, "sixty are there", func() bool { return low.Uplink.Status().Acknowledged[id] == 60 })
			low.Stop()
			if grown > 0 {
				record(t, old, grown)
			}
			low = tree.Start(t, street, old, federationtest.Options{Parent: mid.Address})
			federationtest.Until(t, "the fork is refused", func() bool { return low.Uplink.Status().Refused[id] != "" })
			found := evidence(t, parent)
			if len(found) != 1 || size(parent, id) != 60 {
				t.Fatalf("%d entries, evidence %v", size(parent, id), found)
			}
			t.Log(found[0].GetReason())
			same(t, child, parent, id)
			low.Stop() // before its store is closed
		})
	}
}

func TestCheckKey(t *testing.T) {
	tree := newTree(t)
	if err := federation.CheckKey(tree.Tree, city, tree.Keys[city]); err != nil {
		t.Error(err)
	}
	if err := federation.CheckKey(tree.Tree, city, tree.Keys[district]); !fault.Is(err, fault.Invalid) {
		t.Errorf("another node's key passed for the city's: %v", err)
	}
	if err := federation.CheckKey(tree.Tree, "330200", tree.Keys[city]); !fault.Is(err, fault.Invalid) {
		t.Errorf("a node that is not in the tree: %v", err)
	}
}
