package alertview_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

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
	return &journal.Entry{Header: journal.Header{Number: number, RecordedAt: at, Kind: uint32(kind)}, Payload: payload}
}

// at is what a row of Level says: settled, due, handled, late.
func at(r rows, level int64) string {
	row, ok := r.Get(alertview.Level, "a", int64(1), level)
	if !ok {
		return "none"
	}
	return fmt.Sprint(row[3], row[4], row[12], row[13])
}

func TestFold(t *testing.T) {
	opened := func(level uint32, due int64, change ...func(*dubanv1.LevelOpened)) *dubanv1.LevelOpened {
		o := &dubanv1.LevelOpened{AlertId: "a", Round: 1, Level: level, DueUs: due, Journal: []byte{1}}
		for _, f := range change {
			f(o)
		}
		return o
	}
	last := func(o *dubanv1.LevelOpened) { o.Last = true }
	vacant := func(o *dubanv1.LevelOpened) { o.Vacant = true }
	handled := &dubanv1.LevelHandled{AlertId: "a", Round: 1, Level: 1, Action: "explained", Explanation: "so", HandledBy: "p"}
	const open, handle = dubanv1.EntryKind_ENTRY_KIND_LEVEL_OPENED, dubanv1.EntryKind_ENTRY_KIND_LEVEL_HANDLED
	for _, c := range []struct {
		name    string
		entries []*journal.Entry
		levels  [2]string
		err     string
	}{
		{"open", []*journal.Entry{entry(t, 1, 5, open, opened(1, 10))}, [2]string{"0 10 0 0", "none"}, ""},
		{"open-ended sorts last", []*journal.Entry{entry(t, 1, 5, open, opened(1, 0))}, [2]string{"0 9223372036854775807 0 0", "none"}, ""},
		{"handled in time", []*journal.Entry{entry(t, 1, 5, open, opened(1, 10)), entry(t, 2, 9, handle, handled)}, [2]string{"1 10 9 0", "none"}, ""},
		{"handled at its due time is late", []*journal.Entry{entry(t, 1, 5, open, opened(1, 10)), entry(t, 2, 10, handle, handled)}, [2]string{"0 10 10 1", "none"}, ""},
		{"the last is never late", []*journal.Entry{entry(t, 1, 5, open, opened(1, 10, last)), entry(t, 2, 99, handle, handled)}, [2]string{"1 10 99 0", "none"}, ""},
		{"open-ended is never late", []*journal.Entry{entry(t, 1, 5, open, opened(1, 0)), entry(t, 2, 99, handle, handled)}, [2]string{"1 9223372036854775807 99 0", "none"}, ""},
		{"passed", []*journal.Entry{entry(t, 1, 5, open, opened(1, 10)), entry(t, 2, 10, open, opened(2, 20))}, [2]string{"1 10 0 0", "0 20 0 0"}, ""},
		{"passed, then handled", []*journal.Entry{entry(t, 1, 5, open, opened(1, 10)), entry(t, 2, 10, open, opened(2, 20)), entry(t, 3, 11, handle, handled)},
			[2]string{"1 10 11 1", "0 20 0 0"}, ""},
		{"vacant", []*journal.Entry{entry(t, 1, 5, open, opened(1, 5, vacant))}, [2]string{"1 5 0 0", "none"}, ""},
		{"twice open", []*journal.Entry{entry(t, 1, 5, open, opened(1, 10)), entry(t, 2, 6, open, opened(1, 11))}, [2]string{"0 11 0 0", "none"}, ""},
		{"twice handled", []*journal.Entry{entry(t, 1, 5, open, opened(1, 10)), entry(t, 2, 6, handle, handled), entry(t, 3, 7, handle, handled)}, [2]string{"1 10 6 0", "none"}, "second time"},
		{"handled unopened", []*journal.Entry{entry(t, 3, 7, handle, handled)}, [2]string{"none", "none"}, "never opened"},
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
			if diff := cmp.Diff(c.levels, [2]string{at(r, 1), at(r, 2)}); diff != "" {
				t.Error(diff)
			}
			if c.err == "" && said != "" || !strings.Contains(said, c.err) {
				t.Errorf("said %q, want %q", said, c.err)
			}
		})
	}
}
