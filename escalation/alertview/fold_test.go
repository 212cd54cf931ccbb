package alertview_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	"duban.internal/escalation/alert"
	"duban.internal/escalation/alertview"
	"duban.internal/node/journal"
	"duban.internal/node/store"
	dubanv1 "duban.internal/proto/duban/v1"
)

// rows is a store.Tx over a map.
type rows map[string]store.Row

func key(t *store.Table, k []any) string { return t.Name + fmt.Sprint(k...) }

func (r rows) Get(t *store.Table, k ...any) (store.Row, bool) {
	row, ok := r[key(t, k)]
	return row, ok
}
func (r rows) Put(t *store.Table, row store.Row) {
	if len(row) != len(t.Columns) {
		panic("columns")
	}
	for i, c := range t.Columns {
		ok := row[i] == nil && c.Null
		switch row[i].(type) {
		case int64:
			ok = c.Type == store.Int
		case string:
			ok = c.Type == store.Text
		case []byte:
			ok = c.Type == store.Blob
		}
		if !ok {
			panic(c.Name)
		}
	}
	r[key(t, row[:t.Key])] = row
}
func (r rows) Delete(t *store.Table, k ...any) { delete(r, key(t, k)) }

func entry(t *testing.T, number uint64, at int64, kind dubanv1.EntryKind, m proto.Message) *journal.Entry {
	t.Helper()
	payload, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return &journal.Entry{Header: journal.Header{Journal: home, Number: number, RecordedAt: at, Kind: uint32(kind)}, Payload: payload}
}

// home is the journal of the case, and the one that is folded; id is its alert.
var (
	home = journal.ID{1}
	id   = alert.ID(home, "C-1", "late", 7)
)

// at is what a row of Level says: settled, due, handled, late, basis of a withdrawal.
func at(r rows, t *store.Table, level int64) string {
	row, ok := r.Get(t, id, int64(1), level)
	if !ok {
		return "none"
	}
	return fmt.Sprint(row[3], row[4], row[12], row[13], row[15])
}

func opened(level uint32, due int64, change ...func(*dubanv1.LevelOpened)) *dubanv1.LevelOpened {
	o := &dubanv1.LevelOpened{
		AlertId: id, Round: 1, Level: level, DueUs: due, Journal: home[:], CaseId: "C-1", Point: "late", Trigger: 7, Receiver: "120116013",
	}
	for _, f := range change {
		f(o)
	}
	return o
}

const (
	open     = dubanv1.EntryKind_ENTRY_KIND_LEVEL_OPENED
	handle   = dubanv1.EntryKind_ENTRY_KIND_LEVEL_HANDLED
	withdraw = dubanv1.EntryKind_ENTRY_KIND_LEVEL_WITHDRAWN
	reopen   = dubanv1.EntryKind_ENTRY_KIND_LEVEL_REOPENED
)

func TestFold(t *testing.T) {
	last := func(o *dubanv1.LevelOpened) { o.Last = true }
	vacant := func(o *dubanv1.LevelOpened) { o.Vacant = true }
	handled := &dubanv1.LevelHandled{AlertId: id, Round: 1, Level: 1, Action: "explained", Explanation: "so", HandledBy: "p"}
	claimed := &dubanv1.LevelWithdrawn{AlertId: id, Round: 1, Level: 1, Basis: dubanv1.Basis_BASIS_CLAIMED}
	again := &dubanv1.LevelReopened{AlertId: id, Round: 1, Level: 1, DueUs: 50}
	is := func(number uint64, at int64, kind dubanv1.EntryKind, m proto.Message) *journal.Entry {
		return entry(t, number, at, kind, m)
	}
	for _, c := range []struct {
		name    string
		entries []*journal.Entry
		levels  [2]string
		err     string
	}{
		{"open", []*journal.Entry{is(1, 5, open, opened(1, 10))}, [2]string{"0 10 0 0 0", "none"}, ""},
		{"open-ended sorts last", []*journal.Entry{is(1, 5, open, opened(1, 0))}, [2]string{"0 9223372036854775807 0 0 0", "none"}, ""},
		{"handled in time", []*journal.Entry{is(1, 5, open, opened(1, 10)), is(2, 9, handle, handled)}, [2]string{"1 10 9 0 0", "none"}, ""},
		{"handled at its due time is late", []*journal.Entry{is(1, 5, open, opened(1, 10)), is(2, 10, handle, handled)}, [2]string{"0 10 10 1 0", "none"}, ""},
		{"the last is never late", []*journal.Entry{is(1, 5, open, opened(1, 10, last)), is(2, 99, handle, handled)}, [2]string{"1 10 99 0 0", "none"}, ""},
		{"open-ended is never late", []*journal.Entry{is(1, 5, open, opened(1, 0)), is(2, 99, handle, handled)}, [2]string{"1 9223372036854775807 99 0 0", "none"}, ""},
		{"passed", []*journal.Entry{is(1, 5, open, opened(1, 10)), is(2, 10, open, opened(2, 20))}, [2]string{"1 10 0 0 0", "0 20 0 0 0"}, ""},
		{"passed, then handled", []*journal.Entry{is(1, 5, open, opened(1, 10)), is(2, 10, open, opened(2, 20)), is(3, 11, handle, handled)},
			[2]string{"1 10 11 1 0", "0 20 0 0 0"}, ""},
		{"vacant", []*journal.Entry{is(1, 5, open, opened(1, 5, vacant))}, [2]string{"1 5 0 0 0", "none"}, ""},
		{"twice open", []*journal.Entry{is(1, 5, open, opened(1, 10)), is(2, 6, open, opened(1, 11))}, [2]string{"0 11 0 0 0", "none"}, ""},
		{"twice handled", []*journal.Entry{is(1, 5, open, opened(1, 10)), is(2, 6, handle, handled), is(3, 7, handle, handled)}, [2]string{"1 10 6 0 0", "none"}, "second time"},
		{"handled unopened", []*journal.Entry{is(3, 7, handle, handled)}, [2]string{"none", "none"}, "never opened"},
		{"withdrawn", []*journal.Entry{is(1, 5, open, opened(1, 10)), is(2, 30, withdraw, claimed)}, [2]string{"1 10 0 0 2", "none"}, ""},
		{"withdrawn on nothing", []*journal.Entry{is(1, 5, open, opened(1, 10)), is(2, 30, withdraw, &dubanv1.LevelWithdrawn{AlertId: id, Round: 1, Level: 1})},
			[2]string{"0 10 0 0 0", "none"}, "no basis"},
		{"withdrawn unopened", []*journal.Entry{is(2, 30, withdraw, claimed)}, [2]string{"none", "none"}, "never opened"},
		{"twice withdrawn", []*journal.Entry{is(1, 5, open, opened(1, 10)), is(2, 30, withdraw, claimed), is(3, 31, withdraw, claimed)},
			[2]string{"1 10 0 0 2", "none"}, "second time"},
		{"reopened", []*journal.Entry{is(1, 5, open, opened(1, 10)), is(2, 30, withdraw, claimed), is(3, 40, reopen, again)}, [2]string{"0 50 0 0 0", "none"}, ""},
		{"handled by its new due time", []*journal.Entry{is(1, 5, open, opened(1, 10)), is(2, 30, withdraw, claimed), is(3, 40, reopen, again), is(4, 49, handle, handled)},
			[2]string{"1 50 49 0 0", "none"}, ""},
		{"reopened what stands", []*journal.Entry{is(1, 5, open, opened(1, 10)), is(3, 40, reopen, again)}, [2]string{"0 10 0 0 0", "none"}, "not withdrawn"},
		{"withdrawn after its reopening", []*journal.Entry{is(1, 5, open, opened(1, 10)), is(2, 30, withdraw, claimed), is(3, 40, reopen, again), is(4, 41, withdraw, claimed)},
			[2]string{"0 50 0 0 0", "none"}, "second time"},
		{"another's id", []*journal.Entry{is(1, 5, open, opened(1, 10, func(o *dubanv1.LevelOpened) { o.CaseId = "C-2" }))}, [2]string{"none", "none"}, "its id is not that of"},
		{"another's case", []*journal.Entry{is(1, 5, open, opened(1, 10, func(o *dubanv1.LevelOpened) {
			o.Journal = make([]byte, 16)
			o.AlertId = alert.ID(journal.ID{}, "C-1", "late", 7)
		}))}, [2]string{"none", "none"}, "in the case's journal"},
		{"another's level", []*journal.Entry{is(0, 1, dubanv1.EntryKind_ENTRY_KIND_JURISDICTION_NAMED, &dubanv1.JurisdictionNamed{Code: "120116013"}),
			is(1, 5, open, opened(1, 10)), is(2, 6, open, opened(2, 20, func(o *dubanv1.LevelOpened) { o.Receiver = "120116" }))},
			[2]string{"0 10 0 0 0", "none"}, "is received by 120116"},
		{"garbage", []*journal.Entry{{Header: journal.Header{Kind: uint32(open)}, Payload: []byte{0xff}}}, [2]string{"none", "none"}, "proto"},
		{"erased", []*journal.Entry{{Header: journal.Header{Kind: uint32(open)}, Erased: true}}, [2]string{"none", "none"}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := rows{}
			said := ""
			for _, e := range c.entries {
				if err := alertview.Fold().Apply(r, e); err != nil {
					said = err.Error()
				}
			}
			if diff := cmp.Diff(c.levels, [2]string{at(r, alertview.Level, 1), at(r, alertview.Level, 2)}); diff != "" {
				t.Error(diff)
			}
			if c.err == "" && said != "" || !strings.Contains(said, c.err) {
				t.Errorf("said %q, want %q", said, c.err)
			}
		})
	}
}

// letter is an entry that keeps a letter with entries of a journal above.
func letter(t testing.TB, entries ...*journal.Entry) *journal.Entry {
	t.Helper()
	m := &dubanv1.ReceivedFromAbove{Letter: &dubanv1.Letter{}}
	for _, e := range entries {
		e.Journal = journal.ID{9}
		e.Algorithm = journal.SHA256
		m.Letter.Entries = append(m.Letter.Entries, &dubanv1.ProvenEntry{Header: e.Header.Append(nil), Payload: e.Payload, Erased: e.Erased})
	}
	payload, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return &journal.Entry{Header: journal.Header{Journal: home, Number: 9, RecordedAt: 99, Kind: uint32(dubanv1.EntryKind_ENTRY_KIND_RECEIVED_FROM_ABOVE)}, Payload: payload}
}

// What a letter tells is kept beside what the own journal says, with the journal and time of who wrote it; what doesn't fit
// is left out.
func TestFoldLetter(t *testing.T) {
	r := rows{}
	level2 := opened(2, 20, func(o *dubanv1.LevelOpened) { o.Receiver = "120116" })
	handled := &dubanv1.LevelHandled{AlertId: id, Round: 1, Level: 2, Action: "explained", Explanation: "so", HandledBy: "p"}
	for _, e := range []*journal.Entry{
		entry(t, 0, 1, dubanv1.EntryKind_ENTRY_KIND_JURISDICTION_NAMED, &dubanv1.JurisdictionNamed{Code: "120116013"}),
		entry(t, 1, 5, open, opened(1, 10)),
		letter(t, entry(t, 30, 11, handle, &dubanv1.LevelHandled{AlertId: id, Round: 1, Level: 3}), entry(t, 31, 12, open, level2),
			&journal.Entry{Header: journal.Header{Number: 32, Kind: uint32(handle)}, Erased: true}),
		letter(t, entry(t, 33, 15, handle, handled), entry(t, 34, 16, dubanv1.EntryKind_ENTRY_KIND_LEVEL_DISPUTED, &dubanv1.LevelDisputed{AlertId: id, Round: 1, Level: 1})),
	} {
		if err := alertview.Fold().Apply(r, e); err != nil {
			t.Error(err)
		}
	}
	if diff := cmp.Diff([]string{"0 10 0 0 0", "none", "none", "1 20 15 0 0"}, []string{
		at(r, alertview.Level, 1), at(r, alertview.Level, 2), at(r, alertview.LevelAbove, 1), at(r, alertview.LevelAbove, 2)}); diff != "" {
		t.Error(diff)
	}
	row, _ := r.Get(alertview.LevelAbove, id, int64(1), int64(2))
	above := journal.ID{9}
	if row == nil || row[6] != int64(31) || row[7] != int64(12) || string(row[20].([]byte)) != string(above[:]) {
		t.Errorf("row %v", row)
	}
	if _, ok := r.Get(alertview.DisputeAbove, id, int64(1), int64(1)); !ok {
		t.Error("no dispute")
	}
	if _, ok := r.Get(alertview.Dispute, id, int64(1), int64(1)); ok {
		t.Error("the dispute is the own journal's")
	}
}

// Whatever a child's journal brings, folding it neither panics nor puts what a table can't hold.
func FuzzFold(f *testing.F) {
	kinds := alertview.Fold().Kinds
	seed := func(e *journal.Entry) { f.Add(e.Kind, e.Payload) }
	b, _ := proto.Marshal(opened(1, 10))
	f.Add(uint32(open), b)
	b, _ = proto.Marshal(&dubanv1.LevelWithdrawn{AlertId: id, Round: 1, Level: 1, Basis: 2})
	f.Add(uint32(withdraw), b)
	seed(letter(f, &journal.Entry{Header: journal.Header{Number: 3, Kind: uint32(open)}, Payload: b}))
	f.Fuzz(func(t *testing.T, kind uint32, payload []byte) {
		r := rows{}
		if err := alertview.Fold().Apply(r, entry(t, 1, 5, open, opened(1, 10))); err != nil {
			t.Fatal(err)
		}
		for _, k := range append([]uint32{kind}, kinds...) {
			_ = alertview.Fold().Apply(r, &journal.Entry{Header: journal.Header{Journal: home, Number: 2, RecordedAt: 6, Kind: k}, Payload: payload})
		}
	})
}
