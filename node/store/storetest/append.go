package storetest

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"duban.internal/node/clock"
	"duban.internal/node/fault"
	"duban.internal/node/journal"
	"duban.internal/node/store"
)

func numbers(t *testing.T, open Open) {
	b := start(t, open)
	if got := b.Own(); got != b.opts.Journal {
		t.Fatalf("own journal %s, expected %s", got, b.opts.Journal)
	}
	stated := clock.Micros(begin.Add(-time.Hour))
	first := b.must(store.Command{Entries: []store.Proposal{put("case/1", "a", "1"), {Stream: "case/2", Kind: kindPlain, OccurredAt: stated, Skippable: true}}})
	if first.First != 0 || first.Count != 2 || first.RecordedAt != clock.Micros(begin) || first.Duplicate {
		t.Fatalf("first result %+v", first)
	}
	b.clock.Advance(time.Minute)
	second := b.must(store.Command{Entries: []store.Proposal{put("case/1", "a", "2")}})
	b.clock.Set(begin.Add(-time.Hour)) // a clock that is put back
	third := b.must(store.Command{Entries: []store.Proposal{put("case/1", "a", "3")}})
	if second.First != 2 || third.First != 3 {
		t.Fatalf("numbers %d and %d, expected 2 and 3", second.First, third.First)
	}
	if want := clock.Micros(begin.Add(time.Minute)); second.RecordedAt != want || third.RecordedAt != want {
		t.Fatalf("recorded at %d and %d, expected %d: times never go back", second.RecordedAt, third.RecordedAt, want)
	}
	es := b.all(b.Own())
	if len(es) != 4 {
		t.Fatalf("%d entries, expected 4", len(es))
	}
	for i, e := range es {
		if e.Number != uint64(i) || e.Journal != b.Own() || journal.Digest(e.Salt, e.Payload) != e.Digest {
			t.Errorf("entry %d: %+v", i, e.Header)
		}
		if h, err := journal.DecodeHeader(e.Raw); err != nil || !bytes.Equal(h.Append(nil), e.Raw) {
			t.Errorf("entry %d: raw header does not decode: %v", i, err)
		}
	}
	if es[0].OccurredAt != es[0].RecordedAt || es[1].OccurredAt != stated || !es[1].Skippable || es[0].Actor != "agency:1" {
		t.Errorf("headers: %+v %+v", es[0].Header, es[1].Header)
	}
	info, ok := b.Journal(b.Own())
	if !ok || info.Size != 4 || info.Folded != 4 || info.Stopped != "" || !info.Own || info.RecordedAt != third.RecordedAt {
		t.Errorf("info %+v", info)
	}
	if all := b.Journals(); len(all) != 1 || all[0] != info {
		t.Errorf("journals %+v", all)
	}
	nothing := b.must(store.Command{})
	if nothing.First != 4 || nothing.Count != 0 {
		t.Errorf("an empty command: %+v", nothing)
	}
	// At least one entry is read, however few bytes are asked for.
	if run, err := b.Read(b.ctx, b.Own(), 1, 1); err != nil || len(run) != 1 || run[0].Number != 1 {
		t.Errorf("read of one byte: %v %v", run, err)
	}
	if run, err := b.Read(b.ctx, b.Own(), 4, 100); err != nil || len(run) != 0 {
		t.Errorf("read behind the end: %v %v", run, err)
	}
}

func bounds(t *testing.T, open Open) {
	b := start(t, open)
	ok := store.Proposal{Stream: strings.Repeat("s", journal.MaxStream), Kind: kindPlain, Actor: strings.Repeat("a", journal.MaxActor), Payload: make([]byte, journal.MaxPayload)}
	b.must(store.Command{Entries: []store.Proposal{ok}})
	over := ok
	over.Stream += "s"
	over.Actor += "a"
	over.Payload = make([]byte, journal.MaxPayload+1)
	err := b.refused(fault.Invalid, store.Command{Entries: []store.Proposal{put("x", "x", "x"), over}})
	var fields []string
	for _, f := range fault.Fields(err) {
		fields = append(fields, f.Field)
	}
	if got := strings.Join(fields, " "); got != "entries[1].stream entries[1].actor entries[1].payload" {
		t.Errorf("fields at fault: %s", got)
	}
	_ = b.refused(fault.Invalid, store.Command{Entries: []store.Proposal{{Kind: kindPlain}}})
	_ = b.refused(fault.Invalid, store.Command{Cursors: []store.Advance{{Follower: "f", Journal: b.Own(), From: 2, To: 1}}})
	_ = b.refused(fault.Invalid, store.Command{Changes: []store.Change{{Table: item, Row: store.Row{"a", "b", int64(1), nil, []byte{}}}}})
	_ = b.refused(fault.Invalid, store.Command{Changes: []store.Change{{Table: mark, Row: store.Row{"a", 1, "int is not int64"}}}})
	if info, _ := b.Journal(b.Own()); info.Size != 1 {
		t.Errorf("%d entries, expected 1: a refused command adds nothing", info.Size)
	}
}

func versions(t *testing.T, open Open) {
	b := start(t, open)
	expect := func(stream string, v uint64) []store.Expect { return []store.Expect{{Stream: stream, Version: v}} }
	b.must(store.Command{Expect: expect("case/1", 0), Entries: []store.Proposal{put("case/1", "a", "1"), put("case/1", "a", "2")}})
	_ = b.refused(fault.Conflict, store.Command{Expect: expect("case/1", 0), Entries: []store.Proposal{put("case/1", "a", "3")}})
	_ = b.refused(fault.Conflict, store.Command{Expect: expect("case/1", 1), Entries: []store.Proposal{put("case/1", "a", "3")}})
	b.must(store.Command{Expect: expect("case/1", 2), Entries: []store.Proposal{put("case/2", "b", "1")}})
	// All expectations hold or nothing happens.
	_ = b.refused(fault.Conflict, store.Command{Expect: append(expect("case/2", 1), expect("case/1", 9)...), Entries: []store.Proposal{put("case/2", "b", "2")}})
	b.must(store.Command{Entries: []store.Proposal{put("case/2", "b", "3")}})
	for stream, want := range map[string]uint64{"case/1": 2, "case/2": 2, "case/3": 0} {
		if v, err := b.Version(b.ctx, stream); err != nil || v != want {
			t.Errorf("version of %s: %d %v, expected %d", stream, v, err, want)
		}
	}
	if got := b.value(b.Own(), "b"); got != "3" {
		t.Errorf("b is %q, expected 3", got)
	}
}

func failsAlone(t *testing.T, open Open) {
	b := start(t, open)
	var group []store.Command
	for i := range 9 {
		c := store.Command{Entries: []store.Proposal{put("case/x", "n", string(rune('0'+i)))}}
		if i%3 == 1 {
			c.Expect = []store.Expect{{Stream: "case/x", Version: 1000}}
		}
		group = append(group, c)
	}
	results, errs := b.Append(b.ctx, group...)
	number := uint64(0)
	for i := range group {
		if i%3 == 1 {
			if !fault.Is(errs[i], fault.Conflict) {
				t.Errorf("command %d: %v, expected a conflict", i, errs[i])
			}
			continue
		}
		if errs[i] != nil || results[i].First != number {
			t.Errorf("command %d: %+v %v, expected number %d", i, results[i], errs[i], number)
		}
		number++
	}
	if got := b.value(b.Own(), "n"); got != "8" {
		t.Errorf("n is %q, expected 8", got)
	}
}

func keyed(client, key, request string, p ...store.Proposal) store.Command {
	c := store.Command{Client: client, Key: key, Entries: p}
	copy(c.Request[:], request)
	return c
}

func keys(t *testing.T, open Open) {
	b := start(t, open)
	first := b.must(keyed("agency:1", "k", "one", put("case/1", "a", "1"), put("case/1", "a", "2")))
	b.clock.Advance(time.Minute)
	b.must(store.Command{Entries: []store.Proposal{put("case/1", "a", "3")}})
	again := keyed("agency:1", "k", "one", put("case/1", "a", "1"), put("case/1", "a", "2"))
	again.Expect = []store.Expect{{Stream: "case/1", Version: 0}} // decided on a state that is gone: still the same answer
	r := b.must(again)
	if !r.Duplicate || r.First != first.First || r.Count != first.Count || r.RecordedAt != first.RecordedAt {
		t.Errorf("repeated: %+v, expected %+v as a duplicate", r, first)
	}
	_ = b.refused(fault.Exists, keyed("agency:1", "k", "two", put("case/1", "a", "4")))
	if r := b.must(keyed("agency:2", "k", "two", put("case/1", "a", "4"))); r.Duplicate || r.First != 3 {
		t.Errorf("another client's key: %+v", r)
	}
	// A command that failed leaves no key behind.
	failing := keyed("agency:1", "f", "one", put("case/9", "f", "1"))
	failing.Expect = []store.Expect{{Stream: "case/9", Version: 5}}
	_ = b.refused(fault.Conflict, failing)
	failing.Expect = nil
	if r := b.must(failing); r.Duplicate {
		t.Errorf("after a failure the key was taken: %+v", r)
	}
	// Two with one key in one group.
	c := keyed("agency:1", "g", "one", put("case/3", "g", "1"))
	rs, errs := b.Append(b.ctx, c, c)
	if errs[0] != nil || errs[1] != nil || rs[0].Duplicate || !rs[1].Duplicate || rs[0].First != rs[1].First {
		t.Errorf("in one group: %+v %v", rs, errs)
	}
	b.reopen()
	if r := b.must(again); !r.Duplicate || r.First != first.First {
		t.Errorf("after reopening: %+v", r)
	}
}

func keysExpire(t *testing.T, open Open) {
	b := start(t, open)
	b.must(keyed("agency:1", "k", "one", put("case/1", "a", "1")))
	b.clock.Advance(59 * time.Minute)
	b.must(store.Command{Entries: []store.Proposal{put("case/1", "a", "2")}})
	_ = b.refused(fault.Exists, keyed("agency:1", "k", "two", put("case/1", "a", "3")))
	b.clock.Advance(2 * time.Minute)
	b.must(store.Command{Entries: []store.Proposal{put("case/1", "a", "4")}}) // recorded time moves with entries
	if r := b.must(keyed("agency:1", "k", "two", put("case/1", "a", "5"))); r.Duplicate {
		t.Errorf("an expired key still counts: %+v", r)
	}
	_ = b.refused(fault.Exists, keyed("agency:1", "k", "one", put("case/1", "a", "6")))
}

func naturals(t *testing.T, open Open) {
	b := start(t, open)
	c := store.Command{Natural: "row/1", Entries: []store.Proposal{put("case/1", "a", "1")}, Changes: []store.Change{{Table: mark, Row: store.Row{"seen", int64(1), nil}}}}
	first := b.must(c)
	b.clock.Advance(1000 * time.Hour)
	c.Changes[0].Row = store.Row{"seen", int64(2), nil}
	if r := b.must(c); !r.Duplicate || r.First != first.First || r.RecordedAt != first.RecordedAt {
		t.Errorf("again: %+v", r)
	}
	b.reopen()
	if r := b.must(c); !r.Duplicate {
		t.Errorf("after reopening: %+v", r)
	}
	if info, _ := b.Journal(b.Own()); info.Size != 1 {
		t.Errorf("%d entries, expected 1", info.Size)
	}
	if _, ok, err := b.Get(b.ctx, b.Own(), mark, "seen", int64(2)); ok || err != nil {
		t.Errorf("a duplicate changed a row (%v)", err)
	}
	rs, errs := b.Append(b.ctx, store.Command{Natural: "row/2", Entries: c.Entries}, store.Command{Natural: "row/2", Entries: c.Entries})
	if errs[0] != nil || errs[1] != nil || rs[0].Duplicate || !rs[1].Duplicate {
		t.Errorf("in one group: %+v %v", rs, errs)
	}
}

func stamp(t *testing.T, open Open) {
	b := start(t, open)
	size, at, err := b.Stamp(b.ctx)
	if err != nil || size != 0 || at != clock.Micros(begin) {
		t.Fatalf("stamp of an empty journal: %d %d %v", size, at, err)
	}
	b.must(store.Command{Entries: []store.Proposal{put("case/1", "a", "1")}})
	b.clock.Advance(time.Hour)
	size, at, err = b.Stamp(b.ctx)
	if err != nil || size != 1 || at != clock.Micros(begin.Add(time.Hour)) {
		t.Fatalf("stamp: %d %d %v", size, at, err)
	}
	if info, _ := b.Journal(b.Own()); info.RecordedAt != clock.Micros(begin) {
		t.Errorf("a stamp moved the last entry's time to %d", info.RecordedAt)
	}
	b.clock.Set(begin)
	b.reopen()
	if r := b.must(store.Command{Entries: []store.Proposal{put("case/1", "a", "2")}}); r.RecordedAt < at {
		t.Errorf("an entry after a stamp of %d bears the earlier time %d", at, r.RecordedAt)
	}
}
