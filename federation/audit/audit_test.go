package audit_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"duban.internal/federation"
	"duban.internal/federation/audit"
	"duban.internal/federation/federationtest"
	"duban.internal/node/clock"
	"duban.internal/node/journal"
	"duban.internal/node/jurisdiction"
	"duban.internal/node/store"
	"duban.internal/node/store/embedded"
)

// What two nodes really exchanged is checked; then each way of meddling with it is found.
func TestCheckpoints(t *testing.T) {
	const district, street = jurisdiction.Code("120116"), jurisdiction.Code("120116013")
	tree := federationtest.NewTree(t, clock.System().Now())
	open := func(code jurisdiction.Code) *embedded.Store {
		fold := federation.Fold()
		s, err := embedded.Open(t.Context(), embedded.Config{Dir: t.TempDir(), Journal: tree.ID(code), Clock: clock.System(),
			Folds: []*store.Fold{&fold}, Tables: federation.Tables(), Known: federation.Kinds()})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
		return s
	}
	parent, child := open(district), open(street)
	add := func() {
		for range 40 {
			if _, errs := child.Append(context.Background(), store.Command{Entries: []store.Proposal{
				{Stream: "case/1", Kind: 23, Actor: "agency:x", Payload: []byte(strings.Repeat("explanation ", 2000))}}}); errors.Join(errs...) != nil {
				t.Fatal(errors.Join(errs...))
			}
		}
	}
	id := tree.ID(street)
	mid := tree.Start(t, district, parent, federationtest.Options{})
	low := tree.Start(t, street, child, federationtest.Options{Parent: mid.Address, Batch: 100 << 10})
	for n := range 2 {
		add()
		federationtest.Until(t, "all is acknowledged", func() bool { return low.Uplink.Status().Acknowledged[id] == uint64(40*(n+1)) })
	}
	low.Stop()
	mid.Stop()

	check := func(s audit.Store, code jurisdiction.Code) audit.Report {
		t.Helper()
		r, err := audit.Checkpoints(context.Background(), s, tree.Tree, code)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	if r := check(parent, district); len(r.Problems) > 0 || r.Checkpoints < 3 || r.Countersignatures != 0 {
		t.Errorf("parent: %+v", r)
	}
	if r := check(child, street); len(r.Problems) > 0 || r.Countersignatures != 1 {
		t.Errorf("child: %+v", r)
	}

	put := func(s *embedded.Store, table *store.Table, row store.Row) {
		t.Helper()
		if _, errs := s.Append(context.Background(), store.Command{Changes: []store.Change{{Table: table, Owner: id, Row: row}}}); errors.Join(errs...) != nil {
			t.Fatal(errors.Join(errs...))
		}
	}
	found := func(s *embedded.Store, code jurisdiction.Code, want string) {
		t.Helper()
		r := check(s, code)
		for _, p := range r.Problems {
			if p.Journal == id && strings.Contains(p.String(), want) {
				return
			}
		}
		t.Errorf("not found: %q in %v", want, r.Problems)
	}
	hashes, err := child.Hashes(id)
	if err != nil {
		t.Fatal(err)
	}
	sign := func(size uint64, at int64, fork bool) []byte {
		t.Helper()
		root, err := journal.Root(hashes, size)
		if err != nil {
			t.Fatal(err)
		}
		if fork {
			root[0] ^= 1
		}
		note, err := tree.Keys[street].Sign(journal.Checkpoint{Journal: id, Size: size, Root: root, Time: at})
		if err != nil {
			t.Fatal(err)
		}
		return note
	}
	put(parent, federation.Checkpoint, store.Row{int64(7), int64(1), sign(7, 1, true)})
	found(parent, district, "size 7: another root")
	put(parent, federation.Checkpoint, store.Row{int64(8), int64(1), sign(9, 1, false)})
	found(parent, district, "its row says otherwise")
	late := clock.Micros(clock.System().Now())
	put(parent, federation.Checkpoint, store.Row{int64(10), late, sign(10, late, false)})
	found(parent, district, "entry 10 was recorded before")
	put(parent, federation.Checkpoint, store.Row{int64(11), int64(1), []byte("nothing")})
	found(parent, district, "malformed")
	put(child, federation.Acknowledged, store.Row{int64(12), int64(1), sign(12, 1, false)})
	found(child, street, "countersignature")
}
