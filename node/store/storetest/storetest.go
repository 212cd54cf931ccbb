// Package storetest is the contract of node/store as a test suite: every engine passes Run. It stores real data through
// the engine under test and looks only at what the contract shows.
package storetest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"duban.internal/node/clock"
	"duban.internal/node/fault"
	"duban.internal/node/journal"
	"duban.internal/node/store"
)

// Options is what a test asks of an engine. An engine opened twice with the same Dir (the first closed) finds its data.
type Options struct {
	Dir     string
	Journal journal.ID
	Folds   []*store.Fold
	Tables  []*store.Table
	Known   []uint32
	Clock   clock.Clock
	KeyTTL  time.Duration
}

// Open opens the engine under test.
type Open func(t *testing.T, o Options) store.Store

// Kinds of the suite's entries.
const (
	kindPut    = 1 // payload "key=value"
	kindDelete = 2 // payload "key"
	kindFail   = 3 // the fold puts a row, then fails
	kindPanic  = 4 // the fold puts a row, then panics
	kindPlain  = 5 // known, folded by nothing
	kindNew    = 9 // unknown to the suite's first fold
)

var item = &store.Table{Name: "item", Key: 1, Columns: []store.Column{
	{Name: "key", Type: store.Text}, {Name: "value", Type: store.Text}, {Name: "changes", Type: store.Int},
	{Name: "note", Type: store.Text, Null: true}, {Name: "raw", Type: store.Blob},
}, Indexes: []store.Index{{Name: "item_changes", Columns: []string{"journal", "changes"}, Where: "changes > 1"}}}

var mark = &store.Table{Name: "mark", Key: 2, Columns: []store.Column{
	{Name: "name", Type: store.Text}, {Name: "at", Type: store.Int}, {Name: "text", Type: store.Text, Null: true}}}

// itemFold folds the suite's entries; version 2 also knows kindNew.
func itemFold(version int) *store.Fold {
	f := &store.Fold{Name: "item", Version: version, Tables: []*store.Table{item}, Kinds: []uint32{kindPut, kindDelete, kindFail, kindPanic}}
	if version > 1 {
		f.Kinds = append(f.Kinds, kindNew)
	}
	f.Apply = func(tx store.Tx, e *journal.Entry) error {
		if e.Erased {
			return nil
		}
		key, value, _ := strings.Cut(string(e.Payload), "=")
		if e.Kind == kindDelete {
			tx.Delete(item, key)
			return nil
		}
		changes := int64(0)
		if row, ok := tx.Get(item, key); ok {
			changes = row[2].(int64)
		}
		var note any
		if e.Kind == kindNew {
			note = "new"
		}
		tx.Put(item, store.Row{key, value, changes + 1, note, []byte{0, byte(e.Number)}})
		switch e.Kind {
		case kindFail:
			return errors.New("this entry does not fold")
		case kindPanic:
			panic("this entry does not fold either")
		}
		return nil
	}
	return f
}

// bench is one store under test.
type bench struct {
	*testing.T
	store.Store
	open  Open
	opts  Options
	clock *clock.Manual
	ctx   context.Context
	noSQL bool // View refuses
}

var begin = time.Date(2026, 3, 2, 1, 0, 0, 0, time.UTC)

func start(t *testing.T, open Open, change ...func(*Options)) *bench {
	t.Helper()
	c := clock.NewManual(begin)
	o := Options{Dir: t.TempDir(), Journal: journal.NewID(), Folds: []*store.Fold{itemFold(1)}, Tables: []*store.Table{mark},
		Known: []uint32{kindPlain}, Clock: c, KeyTTL: time.Hour}
	for _, f := range change {
		f(&o)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	b := &bench{T: t, open: open, opts: o, clock: c, ctx: ctx}
	b.Store = open(t, o)
	t.Cleanup(func() { _ = b.Close() })
	b.noSQL = fault.Is(b.View(ctx, func(store.Queryer) error { return nil }), fault.Unsupported)
	return b
}

func (b *bench) reopen(change ...func(*Options)) {
	b.Helper()
	if err := b.Close(); err != nil {
		b.Fatalf("close: %v", err)
	}
	for _, f := range change {
		f(&b.opts)
	}
	b.Store = b.open(b.T, b.opts)
}

func put(stream, key, value string) store.Proposal {
	return store.Proposal{Stream: stream, Kind: kindPut, Actor: "agency:1", Payload: []byte(key + "=" + value)}
}

// must appends one command that has to succeed.
func (b *bench) must(c store.Command) store.Result {
	b.Helper()
	r, errs := b.Append(b.ctx, c)
	if errs[0] != nil {
		b.Fatalf("append: %v", errs[0])
	}
	return r[0]
}

// refused appends one command that has to fail, with a kind.
func (b *bench) refused(kind fault.Kind, c store.Command) error {
	b.Helper()
	_, errs := b.Append(b.ctx, c)
	if !fault.Is(errs[0], kind) {
		b.Fatalf("append: got %v, expected a fault of kind %s", errs[0], kind)
	}
	return errs[0]
}

func (b *bench) all(id journal.ID) []journal.Entry {
	b.Helper()
	var out []journal.Entry
	for {
		run, err := b.Read(b.ctx, id, uint64(len(out)), 64<<10)
		if err != nil {
			b.Fatalf("read: %v", err)
		}
		if len(run) == 0 {
			return out
		}
		out = append(out, run...)
	}
}

// dump is every row of a table as text, in order.
func (b *bench) dump(t *store.Table) string {
	b.Helper()
	var out strings.Builder
	if b.noSQL {
		for _, info := range b.Journals() {
			rows, err := b.Scan(b.ctx, info.ID, t, nil, 1<<20)
			if err != nil {
				b.Fatalf("scan: %v", err)
			}
			for _, r := range rows {
				fmt.Fprintf(&out, "%d %q\n", info.Ordinal, []any(r))
			}
		}
		return out.String()
	}
	names := []string{"journal"}
	for _, c := range t.Columns {
		names = append(names, `"`+c.Name+`"`)
	}
	err := b.View(b.ctx, func(q store.Queryer) error {
		rows, err := q.QueryContext(b.ctx, "SELECT "+strings.Join(names, ", ")+" FROM "+t.Name+" ORDER BY journal, "+strings.Join(names[1:t.Key+1], ", "))
		if err != nil {
			return err
		}
		defer func() { _ = rows.Close() }()
		for rows.Next() {
			values, to := make([]any, len(names)), make([]any, len(names))
			for i := range values {
				to[i] = &values[i]
			}
			if err := rows.Scan(to...); err != nil {
				return err
			}
			fmt.Fprintf(&out, "%q\n", values)
		}
		return rows.Err()
	})
	if err != nil {
		b.Fatalf("view: %v", err)
	}
	return out.String()
}

// view is View where there is SQL.
func (b *bench) view(ctx context.Context, fn func(q store.Queryer) error) error {
	if b.noSQL {
		return nil
	}
	return b.View(ctx, fn)
}

func (b *bench) value(id journal.ID, key string) string {
	b.Helper()
	row, ok, err := b.Get(b.ctx, id, item, key)
	if err != nil {
		b.Fatalf("get: %v", err)
	}
	if !ok {
		return ""
	}
	return row[1].(string)
}

// Option changes what Run asks of an engine.
type Option int

// WithoutSQL leaves out what is checked by SQL, and says so: for engines that read by Get and Scan only.
const WithoutSQL Option = 1

// views says whether an engine that is asked for SQL has it.
func views(t *testing.T, open Open) {
	if b := start(t, open); b.noSQL {
		t.Error("View refuses: an engine without SQL is run with WithoutSQL")
	}
}

// Run checks that an engine keeps the contract.
func Run(t *testing.T, open Open, options ...Option) {
	if len(options) == 0 {
		t.Run("views", func(t *testing.T) { views(t, open) })
	} else {
		t.Log("left out: what is checked by SQL (View)")
	}
	for _, test := range []struct {
		name string
		run  func(t *testing.T, open Open)
	}{
		{"numbers and times", numbers},
		{"bounds", bounds},
		{"versions", versions},
		{"a failing command fails alone", failsAlone},
		{"idempotency keys", keys},
		{"idempotency keys expire in recorded time", keysExpire},
		{"natural keys", naturals},
		{"cursors", cursors},
		{"changes", changes},
		{"stamp", stamp},
		{"replicas", replicas},
		{"proofs", proofs},
		{"rows", rowsFold},
		{"scan", scan},
		{"folds that fail", foldsFail},
		{"unknown kinds", unknownKinds},
		{"erasure", erasure},
		{"reopen", reopen},
		{"refold", refold},
		{"concurrent writers and readers", concurrent},
		{"many versions raced for", race},
		{"every read sees what was answered", seen},
		{"lease and watch", lease},
		{"close", closing},
	} {
		t.Run(strings.ReplaceAll(test.name, " ", "_"), func(t *testing.T) {
			t.Parallel()
			test.run(t, open)
		})
	}
}
