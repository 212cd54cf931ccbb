package storetest

import (
	"fmt"
	"sync"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"duban.internal/node/journal"
	"duban.internal/node/store"
)

// seen has many writers look, by every kind of read, for what they were answered just now.
func seen(t *testing.T, open Open) {
	b := start(t, open)
	const writers, each = 8, 30
	var wg sync.WaitGroup
	for w := range writers {
		wg.Add(1)
		go func() {
			defer wg.Done()
			name := fmt.Sprint("w", w)
			for i := range uint64(each) {
				watch := b.Watch()
				r, errs := b.Append(b.ctx, store.Command{
					Entries: []store.Proposal{put(name, name, fmt.Sprint(i))},
					Cursors: []store.Advance{{Follower: name, Journal: b.Own(), From: i, To: i + 1}},
					Changes: []store.Change{{Table: mark, Owner: b.Own(), Row: store.Row{name, int64(i), "seen"}}},
				})
				if errs[0] != nil {
					t.Error(errs[0])
					return
				}
				if missing := b.sees(name, i, r[0]); missing != "" {
					t.Errorf("after entry %d of %s was answered as %d: %s", i, name, r[0].First, missing)
					return
				}
				select {
				case <-watch:
				case <-b.ctx.Done():
					t.Error("nobody was told of a commit")
					return
				}
			}
		}()
	}
	// Meanwhile another journal's runs arrive, and are seen.
	wg.Add(1)
	go func() {
		defer wg.Done()
		child := journal.NewID()
		for i := range each {
			if err := b.replica(store.Replica{Journal: child, From: uint64(7 * i), Entries: source(child, 7*i, 7, kindPut)}); err != nil {
				t.Error(err)
				return
			}
			if info, ok := b.Journal(child); !ok || info.Size != uint64(7*i+7) || info.Folded != info.Size {
				t.Errorf("journal after run %d: %+v", i, info)
			}
			if v := b.value(child, "k6"); v != fmt.Sprint(7*i+6) {
				t.Errorf("k6 after run %d is %q", i, v)
			}
			if got := len(b.all(child)); got != 7*i+7 {
				t.Errorf("%d entries after run %d", got, i)
			}
		}
	}()
	wg.Wait()
}

// sees looks for an entry, its row and its cursor by every kind of read, and says what a read does not show.
func (b *bench) sees(name string, i uint64, r store.Result) (missing string) {
	if row, ok, err := b.Get(b.ctx, b.Own(), item, name); err != nil || !ok || row[1] != fmt.Sprint(i) {
		return fmt.Sprintf("Get shows %v %v", row, err)
	}
	if row, ok, err := b.Get(b.ctx, b.Own(), mark, name, int64(i)); err != nil || !ok || row[2] != "seen" {
		return fmt.Sprintf("Get of a follower's row shows %v %v", row, err)
	}
	if v, err := b.Version(b.ctx, name); err != nil || v != i+1 {
		return fmt.Sprintf("Version is %d %v", v, err)
	}
	if at, err := b.Cursor(b.ctx, name, b.Own()); err != nil || at != i+1 {
		return fmt.Sprintf("Cursor is %d %v", at, err)
	}
	info, ok := b.Journal(b.Own())
	if !ok || info.Size <= r.First || b.Journals()[0].Size <= r.First {
		return fmt.Sprintf("Journal says %+v", info)
	}
	switch i % 4 { // what waits for tables or files must not be helped by the others
	case 0:
		if b.noSQL {
			break
		}
		var value string
		var marks int64
		err := b.View(b.ctx, func(q store.Queryer) error {
			if err := q.QueryRowContext(b.ctx, "SELECT value FROM item WHERE key = $1", name).Scan(&value); err != nil {
				return err
			}
			return q.QueryRowContext(b.ctx, "SELECT count(*) FROM mark WHERE name = $1", name).Scan(&marks)
		})
		if err != nil || value != fmt.Sprint(i) || marks != int64(i+1) {
			return fmt.Sprintf("View shows %q, %d marks, %v", value, marks, err)
		}
	case 1:
		es, err := b.Read(b.ctx, b.Own(), r.First, 1<<20)
		if err != nil || len(es) == 0 || string(es[0].Payload) != fmt.Sprintf("%s=%d", name, i) {
			return fmt.Sprintf("Read gives %d entries, %v", len(es), err)
		}
	case 2:
		rows, err := b.Scan(b.ctx, b.Own(), mark, []any{name}, int(i)+1)
		if err != nil || len(rows) != int(i)+1 || rows[i][0] != name {
			return fmt.Sprintf("Scan gives %d rows, %v", len(rows), err)
		}
	case 3:
		h, err := b.Hashes(b.Own())
		if err == nil {
			_, err = tlog.TreeHash(int64(info.Size), h)
		}
		if err != nil {
			return fmt.Sprintf("Hashes: %v", err)
		}
	}
	return ""
}
