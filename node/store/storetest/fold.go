package storetest

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"duban.internal/node/fault"
	"duban.internal/node/journal"
	"duban.internal/node/store"
)

func rowsFold(t *testing.T, open Open) {
	b := start(t, open)
	b.must(store.Command{Entries: []store.Proposal{put("s", "a", "1"), put("s", "a", "2"), put("s", "b", "1"), {Stream: "s", Kind: kindDelete, Payload: []byte("b")}}})
	b.must(store.Command{Entries: []store.Proposal{put("s", "a", "3"), put("s", "b", "4"), put("s", "字", "")}})
	row, ok, err := b.Get(b.ctx, b.Own(), item, "a")
	if err != nil || !ok || row[1] != "3" || row[2] != int64(3) || row[3] != nil || !bytes.Equal(row[4].([]byte), []byte{0, 4}) {
		t.Errorf("a: %v %v %v", row, ok, err)
	}
	row, _, _ = b.Get(b.ctx, b.Own(), item, "b")
	if row == nil || row[2] != int64(1) {
		t.Errorf("b was deleted in between: %v", row)
	}
	if _, _, err := b.Get(b.ctx, b.Own(), item, int64(3)); !fault.Is(err, fault.Invalid) {
		t.Errorf("a key of another type: %v", err)
	}
	if b.noSQL {
		return
	}
	err = b.View(b.ctx, func(q store.Queryer) error {
		var n int
		if err := q.QueryRowContext(b.ctx, "SELECT count(*) FROM item WHERE changes > $2 AND value = $1", "3", 2).Scan(&n); err != nil {
			return err
		}
		if n != 1 {
			t.Errorf("%d rows, expected 1: parameters are bound by number", n)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func scan(t *testing.T, open Open) {
	b := start(t, open)
	other := journal.NewID()
	changes := []store.Change{{Table: mark, Owner: other, Row: store.Row{"a", int64(5), nil}}}
	for _, name := range []string{"b", "a", "c"} {
		for _, at := range []int64{20, -3, 10} {
			changes = append(changes, store.Change{Table: mark, Row: store.Row{name, at, name}})
		}
	}
	b.must(store.Command{Changes: changes})
	for _, c := range []struct {
		from []any
		most int
		want string
	}{
		{nil, 100, "a-3 a10 a20 b-3 b10 b20 c-3 c10 c20"},
		{nil, 2, "a-3 a10"},
		{[]any{"b"}, 100, "b-3 b10 b20 c-3 c10 c20"},
		{[]any{"a", int64(11)}, 3, "a20 b-3 b10"},
		{[]any{"b", int64(20)}, 1, "b20"},
		{[]any{"d"}, 9, ""},
	} {
		rows, err := b.Scan(b.ctx, b.Own(), mark, c.from, c.most)
		if err != nil {
			t.Fatal(err)
		}
		got := make([]string, len(rows))
		for i, r := range rows {
			got[i] = fmt.Sprint(r[0], r[1])
		}
		if g := strings.Join(got, " "); g != c.want {
			t.Errorf("from %v, %d: %q, expected %q", c.from, c.most, g, c.want)
		}
	}
	if rows, err := b.Scan(b.ctx, other, mark, nil, 9); err != nil || len(rows) != 1 {
		t.Errorf("another journal's rows: %v %v", rows, err)
	}
	if rows, err := b.Scan(b.ctx, journal.NewID(), mark, nil, 9); err != nil || len(rows) != 0 {
		t.Errorf("rows of a journal that is not here: %v %v", rows, err)
	}
	if _, err := b.Scan(b.ctx, b.Own(), mark, []any{"a", int64(1), "x"}, 9); err == nil {
		t.Error("more key columns than the key has")
	}
}

func foldsFail(t *testing.T, open Open) {
	b := start(t, open)
	b.must(store.Command{Entries: []store.Proposal{put("s", "a", "1")}})
	b.must(store.Command{Entries: []store.Proposal{{Stream: "s", Kind: kindFail, Payload: []byte("a=bad")}, {Stream: "s", Kind: kindPanic, Payload: []byte("new=bad")}, put("s", "b", "2")}})
	if got := b.value(b.Own(), "a") + b.value(b.Own(), "new") + b.value(b.Own(), "b"); got != "12" {
		t.Errorf("values %q, expected 12: a failing fold leaves nothing", got)
	}
	if info, _ := b.Journal(b.Own()); info.Folded != 4 || info.Stopped != "" {
		t.Errorf("a failing fold stopped something: %+v", info)
	}
	b.must(store.Command{Entries: []store.Proposal{put("s", "new", "3")}})
	if row, _, _ := b.Get(b.ctx, b.Own(), item, "new"); row == nil || row[2] != int64(1) {
		t.Errorf("new: %v", row)
	}
}

func unknownKinds(t *testing.T, open Open) {
	b := start(t, open)
	child, quiet := journal.NewID(), journal.NewID()
	run := source(child, 0, 3, kindPut)
	run = append(run, source(child, 3, 2, kindNew)...)
	run = append(run, source(child, 5, 2, kindPut)...)
	if err := b.replica(store.Replica{Journal: child, Entries: run[:6]}); err != nil {
		t.Fatal(err)
	}
	if err := b.replica(store.Replica{Journal: child, From: 6, Entries: run[6:]}); err != nil {
		t.Fatalf("storing goes on where folding stopped: %v", err)
	}
	if err := b.replica(store.Replica{Journal: quiet, Entries: source(quiet, 0, 3, kindPut)}); err != nil {
		t.Fatal(err)
	}
	b.must(store.Command{Entries: []store.Proposal{{Stream: "s", Kind: kindNew + 1, Skippable: true, Payload: []byte("x=1")}, put("s", "a", "1")}})
	check := func(when string) {
		info, _ := b.Journal(child)
		if info.Size != 7 || info.Folded != 3 || !strings.Contains(info.Stopped, "9") || !strings.Contains(info.Stopped, "3") {
			t.Errorf("%s: %+v, expected to be stopped at entry 3 by kind 9", when, info)
		}
		for _, id := range []journal.ID{quiet, b.Own()} {
			if info, _ := b.Journal(id); info.Folded != info.Size || info.Stopped != "" {
				t.Errorf("%s: another journal stopped: %+v", when, info)
			}
		}
		if v := b.value(child, "k5"); v != "" {
			t.Errorf("%s: folding went on behind an unknown kind: %q", when, v)
		}
	}
	check("at once")
	b.reopen()
	check("reopened by the same program")
	b.reopen(func(o *Options) { o.Folds = []*store.Fold{itemFold(2)} })
	if info, _ := b.Journal(child); info.Folded != 7 || info.Stopped != "" {
		t.Errorf("reopened by a program that knows it: %+v", info)
	}
	if v := b.value(child, "k5") + b.value(child, "k3"); v != "53" {
		t.Errorf("rows behind the kind: %q, expected 53", v)
	}
	row, _, _ := b.Get(b.ctx, child, item, "k3")
	if row == nil || row[3] != "new" {
		t.Errorf("the new kind's row: %v", row)
	}
}

func erasure(t *testing.T, open Open) {
	b := start(t, open)
	child := journal.NewID()
	for i := range 5 {
		b.must(store.Command{Entries: []store.Proposal{put("s", fmt.Sprint("k", i), strings.Repeat("secret", 20))}})
	}
	if err := b.replica(store.Replica{Journal: child, Entries: source(child, 0, 3, kindPut)}); err != nil {
		t.Fatal(err)
	}
	before := b.all(b.Own())
	if err := b.Erase(b.ctx, b.Own(), 2); err != nil {
		t.Fatal(err)
	}
	if err := b.Erase(b.ctx, b.Own(), 2); err != nil {
		t.Fatalf("erasing again: %v", err)
	}
	if err := b.Erase(b.ctx, child, 1); err != nil {
		t.Fatal(err)
	}
	if err := b.Erase(b.ctx, b.Own(), 99); !fault.Is(err, fault.NotFound) {
		t.Errorf("an entry that is not there: %v", err)
	}
	check := func(when string) {
		after := b.all(b.Own())
		for i, e := range after {
			if string(e.Raw) != string(before[i].Raw) {
				t.Errorf("%s: header %d changed", when, i)
			}
			if e.Erased != (i == 2) || (e.Erased && (e.Payload != nil || e.Salt != nil)) || (!e.Erased && string(e.Payload) != string(before[i].Payload)) {
				t.Errorf("%s: entry %d erased=%v with %d bytes", when, i, e.Erased, len(e.Payload))
			}
		}
		if es := b.all(child); len(es) != 3 || !es[1].Erased || es[0].Erased {
			t.Errorf("%s: replica %v", when, es)
		}
	}
	check("at once")
	b.reopen()
	check("after reopening")
	b.reopen(func(o *Options) { o.Folds = []*store.Fold{itemFold(2)} })
	if v := b.value(b.Own(), "k2"); v != "" {
		t.Errorf("folded anew, an erased payload is back: %q", v)
	}
	if v := b.value(b.Own(), "k3"); v == "" {
		t.Error("folded anew, a neighbour is gone")
	}
	// An erased entry also arrives erased.
	second := start(t, open)
	if err := second.replica(store.Replica{Journal: b.opts.Journal, Entries: b.all(b.Own())}); err != nil {
		t.Fatal(err)
	}
	if es := second.all(b.opts.Journal); len(es) != 5 || !es[2].Erased || es[3].Erased {
		t.Errorf("replicated: %v", es)
	}
}

// work does many different things under a seed.
func work(b *bench, seed uint64, n int) {
	b.Helper()
	r := rand.New(rand.NewPCG(seed, 0))
	children := []journal.ID{journal.NewID(), journal.NewID()}
	sizes := make([]int, len(children))
	for i := range n {
		switch r.IntN(6) {
		case 0:
			c := r.IntN(len(children))
			k := 1 + r.IntN(9)
			if err := b.replica(store.Replica{Journal: children[c], From: uint64(sizes[c]), Entries: source(children[c], sizes[c], k, kindPut)}); err != nil {
				b.Fatal(err)
			}
			sizes[c] += k
		case 1:
			b.must(store.Command{Entries: []store.Proposal{{Stream: "d", Kind: kindDelete, Payload: fmt.Appendf(nil, "k%d", r.IntN(20))}}})
		case 2:
			b.must(store.Command{Entries: []store.Proposal{{Stream: "d", Kind: kindFail, Payload: fmt.Appendf(nil, "k%d=x", r.IntN(20))}}})
		default:
			c := store.Command{Natural: fmt.Sprint("n", r.IntN(n))}
			for range 1 + r.IntN(4) {
				c.Entries = append(c.Entries, put(fmt.Sprint("case/", r.IntN(9)), fmt.Sprint("k", r.IntN(20)), fmt.Sprint(i)))
			}
			b.must(c)
		}
	}
}

func reopen(t *testing.T, open Open) {
	b := start(t, open)
	for round := range 3 {
		work(b, uint64(round), 60)
		items, infos, own := b.dump(item), b.Journals(), b.all(b.Own())
		b.reopen()
		if got := b.dump(item); got != items {
			t.Fatalf("round %d: rows changed:\n%s\nexpected\n%s", round, got, items)
		}
		if got := fmt.Sprint(b.Journals()); got != fmt.Sprint(infos) {
			t.Fatalf("round %d: journals %v, expected %v", round, got, infos)
		}
		if got := b.all(b.Own()); fmt.Sprint(got) != fmt.Sprint(own) {
			t.Fatalf("round %d: entries changed", round)
		}
	}
}

func refold(t *testing.T, open Open) {
	b := start(t, open)
	work(b, 42, 200)
	before := b.dump(item)
	b.reopen(func(o *Options) { o.Folds = []*store.Fold{itemFold(3)} }) // a new version folds everything anew
	if after := b.dump(item); after != before || before == "" {
		t.Fatalf("folded anew:\n%s\nexpected\n%s", after, before)
	}
	// A fold that was away is folded anew when it comes back.
	b.reopen(func(o *Options) {
		o.Folds, o.Known = nil, []uint32{kindPut, kindDelete, kindFail, kindPanic, kindPlain}
	})
	b.must(store.Command{Entries: []store.Proposal{put("s", "meanwhile", "1")}})
	b.reopen(func(o *Options) { o.Folds = []*store.Fold{itemFold(3)} })
	if v := b.value(b.Own(), "meanwhile"); v != "1" {
		t.Errorf("what came while the fold was away is %q", v)
	}
}

func concurrent(t *testing.T, open Open) {
	b := start(t, open)
	const writers, each = 16, 40
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for range 2 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for {
				select {
				case <-stop:
					return
				default:
				}
				// In one view every row's count is the count of its journal's entries.
				err := b.view(b.ctx, func(q store.Queryer) error {
					var sum, size int64
					if err := q.QueryRowContext(b.ctx, "SELECT coalesce(sum(changes), 0) FROM item").Scan(&sum); err != nil {
						return err
					}
					if err := q.QueryRowContext(b.ctx, "SELECT coalesce(sum(changes), 0) FROM item").Scan(&size); err != nil {
						return err
					}
					if sum != size {
						return fmt.Errorf("one view shows %d and %d", sum, size)
					}
					return nil
				})
				if err != nil {
					t.Error(err)
					return
				}
				info, _ := b.Journal(b.Own())
				if info.Size > 0 {
					es, err := b.Read(b.ctx, b.Own(), info.Size-1, 1)
					if err != nil || len(es) != 1 || es[0].Number != info.Size-1 {
						t.Errorf("read of entry %d: %v %v", info.Size-1, es, err)
						return
					}
				}
			}
		}()
	}
	var writing sync.WaitGroup
	for w := range writers {
		writing.Add(1)
		go func() {
			defer writing.Done()
			stream := fmt.Sprint("case/", w)
			for i := range each {
				r, errs := b.Append(b.ctx, store.Command{Expect: []store.Expect{{Stream: stream, Version: uint64(i)}}, Entries: []store.Proposal{put(stream, stream, fmt.Sprint(i))}})
				if errs[0] != nil {
					t.Error(errs[0])
					return
				}
				// What was answered is seen by reads that begin afterwards.
				if v := b.value(b.Own(), stream); v != fmt.Sprint(i) {
					t.Errorf("%s is %q after entry %d was answered as %d", stream, v, r[0].First, i)
					return
				}
				if v, err := b.Version(b.ctx, stream); err != nil || v != uint64(i+1) {
					t.Errorf("version %d %v, expected %d", v, err, i+1)
					return
				}
			}
		}()
	}
	writing.Wait()
	close(stop)
	wg.Wait()
	if es := b.all(b.Own()); len(es) != writers*each {
		t.Errorf("%d entries, expected %d", len(es), writers*each)
	}
}

// race has everyone add to one stream; every success saw the one before.
func race(t *testing.T, open Open) {
	b := start(t, open)
	const writers, each = 8, 20
	var wg sync.WaitGroup
	for range writers {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for done := 0; done < each; {
				v, err := b.Version(b.ctx, "hot")
				if err != nil {
					t.Error(err)
					return
				}
				_, errs := b.Append(b.ctx, store.Command{Expect: []store.Expect{{Stream: "hot", Version: v}}, Entries: []store.Proposal{put("hot", "hot", fmt.Sprint(v+1))}})
				switch {
				case errs[0] == nil:
					done++
				case !fault.Is(errs[0], fault.Conflict):
					t.Error(errs[0])
					return
				}
			}
		}()
	}
	wg.Wait()
	es := b.all(b.Own())
	for i, e := range es {
		if want := fmt.Sprintf("hot=%d", i+1); string(e.Payload) != want {
			t.Fatalf("entry %d is %q, expected %q", i, e.Payload, want)
		}
	}
	if len(es) != writers*each {
		t.Errorf("%d entries, expected %d", len(es), writers*each)
	}
}
