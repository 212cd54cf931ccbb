package embedded

import (
	"errors"
	"fmt"

	"duban.internal/node/store"
)

// cell is one remembered row, or its absence. While changed, or handed to the writer and not committed, it is the only
// place where the newest row is, and it is never forgotten.
type cell struct {
	t       *table
	key     string // journal and key columns, encoded
	ordinal int64
	row     store.Row // nil for absent; for an absent one keyRow says what to delete
	keyRow  store.Row
	known   bool   // false only after an undone first write
	dirty   bool   // changed since the writer last took changes
	job     uint64 // the job that writes it; forgotten only after that one is committed
}

// rows is the overlay over the tables: what was read, and what was written and is not committed yet. Many writes to one
// row between two jobs become one. It belongs to the ordered apply.
type rows struct {
	most      int // rows to remember, in each of two generations
	count     int // in the young generation
	tables    []*table
	dirty     []*cell
	reader    *conn // reads what was committed
	committed func() uint64
	scratch   []byte
	keyArgs   []any
}

var errWrongKey = errors.New("wrong number or types of key columns")

func checkKey(t *table, key []any) error {
	if len(key) != t.Key {
		return fmt.Errorf("table %s: key of %d values, expected %d: %w", t.Name, len(key), t.Key, errWrongKey)
	}
	return checkRow(t.Table, key, true)
}

// find returns the cell of a key, without reading the database: nil where it is not remembered.
func (r *rows) find(t *table, ordinal int64, key []any) *cell {
	r.scratch = appendKey(r.scratch[:0], ordinal, key)
	if c := t.young[string(r.scratch)]; c != nil {
		return c
	}
	if c := t.old[string(r.scratch)]; c != nil {
		r.remember(c)
		return c
	}
	return nil
}

// get returns the row of a key, nil where there is none.
func (r *rows) get(t *table, ordinal int64, key []any) (store.Row, error) {
	c := r.find(t, ordinal, key)
	if c == nil {
		c = &cell{t: t, key: string(r.scratch), ordinal: ordinal}
		r.remember(c)
	}
	if c.known {
		return c.row, nil
	}
	s, err := r.reader.prepare(t.get)
	if err != nil {
		return nil, err
	}
	c.row = nil
	r.keyArgs = append(append(r.keyArgs[:0], ordinal), key...)
	if err := s.query(func(row store.Row) bool { c.row = row; return false }, t.types, r.keyArgs...); err != nil {
		return nil, err
	}
	c.known = true
	return c.row, nil
}

// undo is what a cell was before a fold changed it.
type undo struct {
	c     *cell
	row   store.Row
	known bool
}

// set writes a row, or with a nil row its absence.
func (r *rows) set(t *table, ordinal int64, key []any, row store.Row) undo {
	c := r.find(t, ordinal, key)
	if c == nil {
		c = &cell{t: t, key: string(r.scratch), ordinal: ordinal}
		r.remember(c)
	}
	was := undo{c, c.row, c.known}
	c.row, c.known = row, true
	if row == nil && c.keyRow == nil {
		c.keyRow = append(store.Row(nil), key...)
	}
	if !c.dirty {
		c.dirty = true
		r.dirty = append(r.dirty, c)
	}
	return was
}

func (u undo) do() { u.c.row, u.c.known = u.row, u.known }

// remember puts a cell into the young generation; when that is full the old one is forgotten, but for what is not
// committed.
func (r *rows) remember(c *cell) {
	if r.count >= r.most {
		done := r.committed()
		r.count = 0
		for _, t := range r.tables {
			old := t.old
			t.old, t.young = t.young, make(map[string]*cell, len(t.young))
			for key, c := range old {
				if c.dirty || c.job > done {
					t.young[key] = c
					r.count++
				}
			}
		}
	}
	if _, ok := c.t.young[c.key]; !ok {
		c.t.young[c.key] = c
		r.count++
	}
}

// write is one row for the writer.
type write struct {
	t       *table
	key     string
	ordinal int64
	row     store.Row // nil to delete keyRow
	keyRow  store.Row
}

// take hands the changes over to a job.
func (r *rows) take(job uint64) []write {
	if len(r.dirty) == 0 {
		return nil
	}
	out := make([]write, 0, len(r.dirty))
	for _, c := range r.dirty {
		c.dirty = false
		if c.known {
			c.job = job
			out = append(out, write{c.t, c.key, c.ordinal, c.row, c.keyRow})
		}
	}
	clear(r.dirty)
	r.dirty = r.dirty[:0]
	return out
}

// forget drops what is remembered of some tables; nothing of them may be unwritten.
func (r *rows) forget() {
	for _, t := range r.tables {
		clear(t.young)
		clear(t.old)
	}
	r.count = 0
}
