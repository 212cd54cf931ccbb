package storetest

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"duban.internal/node/clock"
	"duban.internal/node/fault"
	"duban.internal/node/journal"
	"duban.internal/node/store"
)

func cursors(t *testing.T, open Open) {
	b := start(t, open)
	other := journal.NewID()
	move := func(from, to uint64) store.Command {
		return store.Command{Cursors: []store.Advance{{Follower: "runner", Journal: other, From: from, To: to}}, Entries: []store.Proposal{put("case/1", "a", "1")}}
	}
	b.must(move(0, 5))
	_ = b.refused(fault.Conflict, move(0, 5))
	b.must(move(5, 5))
	b.must(move(5, 7))
	if at, err := b.Cursor(b.ctx, "runner", other); at != 7 || err != nil {
		t.Errorf("cursor %d %v, expected 7", at, err)
	}
	if at, err := b.Cursor(b.ctx, "uplink", other); at != 0 || err != nil {
		t.Errorf("another follower's cursor %d %v", at, err)
	}
	if info, _ := b.Journal(b.Own()); info.Size != 3 {
		t.Errorf("%d entries, expected 3: output and cursor go together", info.Size)
	}
	rs, errs := b.Append(b.ctx, move(7, 8), move(7, 8))
	if errs[0] != nil || !fault.Is(errs[1], fault.Conflict) {
		t.Errorf("twice in one group: %+v %v", rs, errs)
	}
	b.reopen()
	_ = b.refused(fault.Conflict, move(7, 8))
	b.must(move(8, 9))
}

func changes(t *testing.T, open Open) {
	b := start(t, open)
	other := journal.NewID()
	b.must(store.Command{Changes: []store.Change{
		{Table: mark, Owner: b.Own(), Row: store.Row{"x", int64(-1), "first"}},
		{Table: mark, Owner: other, Row: store.Row{"x", int64(-1), "other"}},
		{Table: mark, Owner: b.Own(), Row: store.Row{"y\x00z", int64(1), nil}},
		{Table: mark, Owner: b.Own(), Row: store.Row{"x", int64(-1), "second"}},
	}})
	row, ok, err := b.Get(b.ctx, b.Own(), mark, "x", int64(-1))
	if err != nil || !ok || row[2] != "second" {
		t.Errorf("row %v %v %v", row, ok, err)
	}
	row, ok, err = b.Get(b.ctx, other, mark, "x", int64(-1))
	if err != nil || !ok || row[2] != "other" {
		t.Errorf("another owner's row %v %v %v", row, ok, err)
	}
	row, ok, err = b.Get(b.ctx, b.Own(), mark, "y\x00z", int64(1))
	if err != nil || !ok || row[2] != nil {
		t.Errorf("a row with null %v %v %v", row, ok, err)
	}
	_ = b.refused(fault.Conflict, store.Command{Expect: []store.Expect{{Stream: "s", Version: 3}}, Changes: []store.Change{{Table: mark, Owner: b.Own(), Delete: true, Row: store.Row{"x", int64(-1)}}}})
	b.must(store.Command{Changes: []store.Change{{Table: mark, Owner: b.Own(), Delete: true, Row: store.Row{"x", int64(-1)}}}})
	if _, ok, _ := b.Get(b.ctx, b.Own(), mark, "x", int64(-1)); ok {
		t.Error("a deleted row is there")
	}
	before := b.dump(mark)
	b.reopen()
	if after := b.dump(mark); after != before || before == "" {
		t.Errorf("rows after reopening:\n%s\nbefore:\n%s", after, before)
	}
}

// source makes entries of another node's journal.
func source(id journal.ID, from, n int, kind uint32) []journal.Entry {
	out := make([]journal.Entry, n)
	for i := range out {
		number := uint64(from + i)
		p := store.Proposal{Payload: fmt.Appendf(nil, "k%d=%d", number%7, number)}
		p.Seal()
		h := journal.Header{Journal: id, Number: number, OccurredAt: 5, RecordedAt: clock.Micros(begin) + int64(number), Kind: kind,
			Algorithm: journal.SHA256, Digest: p.Digest, Actor: "office:x@1", Stream: "case/r", Extensions: []byte("later")}
		e, err := journal.Open(h.Append(nil), p.Salt, p.Payload, false)
		if err != nil {
			panic(err)
		}
		out[i] = e
	}
	return out
}

func (b *bench) replica(r store.Replica) error { return b.AppendReplica(b.ctx, r)[0] }

func replicas(t *testing.T, open Open) {
	b := start(t, open)
	child := journal.NewID()
	es := source(child, 0, 20, kindPut)
	if err := b.replica(store.Replica{Journal: child, From: 1, Entries: es[1:5]}); !fault.Is(err, fault.Conflict) {
		t.Fatalf("a gap: %v, expected a conflict", err)
	}
	if _, ok := b.Journal(child); ok {
		t.Error("a refused run began a journal")
	}
	note := []store.Change{{Table: mark, Owner: child, Row: store.Row{"checkpoint", int64(5), "signed"}}}
	if err := b.replica(store.Replica{Journal: child, From: 0, Entries: es[:5], Changes: note, Cursors: []store.Advance{{Follower: "d", Journal: child, From: 0, To: 5}}}); err != nil {
		t.Fatal(err)
	}
	if err := b.replica(store.Replica{Journal: child, From: 0, Entries: es[:5]}); !fault.Is(err, fault.Conflict) {
		t.Errorf("a repeated run: %v, expected a conflict", err)
	}
	other := journal.NewID()
	errs := b.AppendReplica(b.ctx,
		store.Replica{Journal: child, From: 5, Entries: es[5:10]},
		store.Replica{Journal: child, From: 11, Entries: es[11:12]},
		store.Replica{Journal: other, From: 0, Entries: source(other, 0, 3, kindPut)},
		store.Replica{Journal: child, From: 10, Entries: es[10:20]})
	if errs[0] != nil || !fault.Is(errs[1], fault.Conflict) || errs[2] != nil || errs[3] != nil {
		t.Fatalf("several runs: %v", errs)
	}
	if err := b.replica(store.Replica{Journal: child, From: 20, Changes: []store.Change{{Table: mark, Owner: child, Row: store.Row{"checkpoint", int64(20), "signed"}}}}); err != nil {
		t.Errorf("rows alone: %v", err)
	}
	if err := b.replica(store.Replica{Journal: b.Own(), From: 0, Entries: source(b.Own(), 0, 1, kindPut)}); !fault.Is(err, fault.Invalid) {
		t.Errorf("the own journal as a replica: %v", err)
	}
	if err := b.replica(store.Replica{Journal: child, From: 20, Entries: source(other, 20, 1, kindPut)}); !fault.Is(err, fault.Invalid) {
		t.Errorf("an entry of another journal: %v", err)
	}
	check := func(when string) {
		info, ok := b.Journal(child)
		if !ok || info.Size != 20 || info.Folded != 20 || info.Own || info.RecordedAt != es[19].RecordedAt || info.Ordinal == 0 {
			t.Errorf("%s: info %+v", when, info)
		}
		got := b.all(child)
		for i := range got {
			if string(got[i].Raw) != string(es[i].Raw) || string(got[i].Payload) != string(es[i].Payload) || string(got[i].Extensions) != "later" {
				t.Errorf("%s: entry %d is not the one that came", when, i)
			}
		}
		if len(got) != 20 {
			t.Errorf("%s: %d entries", when, len(got))
		}
		if v := b.value(child, "k1"); v != "15" {
			t.Errorf("%s: k1 is %q, expected 15", when, v)
		}
		if v := b.value(other, "k1"); v != "1" {
			t.Errorf("%s: the other journal's k1 is %q, expected 1", when, v)
		}
		if v := b.value(b.Own(), "k1"); v != "" {
			t.Errorf("%s: the own journal has %q", when, v)
		}
		if at, _ := b.Cursor(b.ctx, "d", child); at != 5 {
			t.Errorf("%s: cursor %d", when, at)
		}
		if row, ok, _ := b.Get(b.ctx, child, mark, "checkpoint", int64(20)); !ok || row[2] != "signed" {
			t.Errorf("%s: checkpoint %v", when, row)
		}
		if all := b.Journals(); len(all) != 3 || !all[0].Own {
			t.Errorf("%s: journals %+v", when, all)
		}
	}
	check("at once")
	if r := b.must(store.Command{Entries: []store.Proposal{put("case/1", "own", "1")}}); r.First != 0 {
		t.Errorf("the own journal begins at %d", r.First)
	}
	b.reopen()
	check("after reopening")
}

func proofs(t *testing.T, open Open) {
	b := start(t, open)
	child := journal.NewID()
	for i := range 37 {
		b.must(store.Command{Entries: []store.Proposal{put("case/1", "a", fmt.Sprint(i))}})
	}
	if err := b.replica(store.Replica{Journal: child, Entries: source(child, 0, 100, kindPut)}); err != nil {
		t.Fatal(err)
	}
	check := func() {
		for _, id := range []journal.ID{b.Own(), child} {
			r, err := b.Hashes(id)
			if err != nil {
				t.Fatal(err)
			}
			es := b.all(id)
			var stored []tlog.Hash
			mem := tlog.HashReaderFunc(func(x []int64) ([]tlog.Hash, error) {
				out := make([]tlog.Hash, len(x))
				for i := range x {
					out[i] = stored[x[i]]
				}
				return out, nil
			})
			for i, e := range es {
				h, err := tlog.StoredHashesForRecordHash(int64(i), journal.LeafHash(e.Raw), mem)
				if err != nil {
					t.Fatal(err)
				}
				stored = append(stored, h...)
			}
			for n := int64(1); n <= int64(len(es)); n++ {
				got, err := tlog.TreeHash(n, r)
				want, _ := tlog.TreeHash(n, mem)
				if err != nil || got != want {
					t.Fatalf("root of %d entries: %v, %v; expected %v", n, got, err, want)
				}
			}
			root, _ := tlog.TreeHash(int64(len(es)), r)
			p, err := tlog.ProveRecord(int64(len(es)), 7, r)
			if err != nil || tlog.CheckRecord(p, int64(len(es)), root, 7, journal.LeafHash(es[7].Raw)) != nil {
				t.Errorf("inclusion: %v", err)
			}
		}
	}
	check()
	b.reopen()
	b.must(store.Command{Entries: []store.Proposal{put("case/1", "a", "again")}})
	check()
	if _, err := b.Hashes(journal.NewID()); !fault.Is(err, fault.NotFound) {
		t.Errorf("hashes of an unknown journal: %v", err)
	}
}

func lease(t *testing.T, open Open) {
	b := start(t, open)
	changed := b.Watch()
	ctx, cancel := context.WithCancel(b.ctx)
	lead, err := b.Lease(ctx)
	if err != nil || lead.Err() != nil {
		t.Fatalf("lease: %v", err)
	}
	if _, self := b.Leader(); !self {
		t.Error("the only replica does not say that it leads")
	}
	b.must(store.Command{Entries: []store.Proposal{put("case/1", "a", "1")}})
	select {
	case <-changed:
	case <-b.ctx.Done():
		t.Error("nobody was told of a commit")
	}
	cancel()
	<-lead.Done()
	lead, err = b.Lease(b.ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-lead.Done():
	case <-b.ctx.Done():
		t.Error("the lease outlives the store")
	}
	if _, err := b.Lease(b.ctx); err == nil {
		t.Error("a closed store gave a lease")
	}
}

func closing(t *testing.T, open Open) {
	b := start(t, open)
	b.must(store.Command{Entries: []store.Proposal{put("case/1", "a", "1")}})
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	_ = b.refused(fault.Unavailable, store.Command{Entries: []store.Proposal{put("case/1", "a", "2")}})
	if _, err := b.Read(b.ctx, b.Own(), 0, 100); err == nil {
		t.Error("a closed store reads")
	}
	if err := b.View(b.ctx, func(store.Queryer) error { return errors.New("ran") }); err == nil {
		t.Error("a closed store shows")
	}
	if err := b.Close(); err != nil {
		t.Errorf("closing twice: %v", err)
	}
}
