package embedded

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"duban.internal/node/store"
)

// cell is one remembered row, or its absence. While changed, or handed to the writer and not committed, it is the only
// place where the newest row is, and it is never forgotten.
type cell struct {
	t       *table
	key     string // journal and key columns, encoded
	ordinal int64
	row     store.Row // nil for absent; keyRow then says what to delete
	keyRow  store.Row
	base    store.Row // what the database has, or will have after the jobs before; nil for absent
	known   bool      // row is known; false only after an undone first write
	based   bool      // base is known
	dirty   bool      // changed since the writer last took changes
	kept    bool      // remembered beyond its commit: it was read
	job     uint64    // the job that writes it; forgotten only after that one is committed

	// What readers see while the group that changed the cell is being applied.
	turn     uint64 // that group's
	was      store.Row
	wasKnown bool
}

// rows is the overlay over the tables: what was read, and what was written and is not committed yet. Many writes to one
// row between two jobs become one. Rows that were only written are forgotten when they are committed.
//
// Only the ordered apply changes it, and the writer while nothing is applied: they read without a lock. Readers see it as
// it was at the end of the last group, by peek.
type rows struct {
	mu        sync.RWMutex // held for every change of maps and of what cells show
	turn      uint64       // the group that is being applied: what it changed is not shown yet
	most      int          // rows to remember, in each of two generations
	count     int          // in the young generation
	survived  int          // of the old one, when it was forgotten last
	tables    []*table
	dirty     []*cell
	passing   []*cell // only written; in the order of their jobs
	reader    *conn   // reads what was committed when the group began
	committed func() uint64
	seen      uint64 // the last job that reader sees
	reading   bool   // reader has a transaction open
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

// begin lets the reads of one group share a transaction: opening one costs as much as a read.
func (r *rows) begin() error {
	r.seen, r.reading = r.committed(), true
	return r.reader.run("BEGIN")
}

func (r *rows) end() error {
	r.reading = false
	return r.reader.run("COMMIT")
}

// visible is the last job whose rows the reader sees: what came later must be remembered.
func (r *rows) visible() uint64 {
	if r.reading {
		return r.seen
	}
	return r.committed()
}

// find returns the cell of a key, without reading the database: nil where it is not remembered.
func (r *rows) find(t *table, ordinal int64, key []any) *cell {
	r.scratch = appendKey(r.scratch[:0], ordinal, key)
	if c := t.young[string(r.scratch)]; c != nil {
		return c
	}
	if c := t.old[string(r.scratch)]; c != nil {
		r.mu.Lock()
		delete(t.old, c.key)
		r.keep(c)
		r.mu.Unlock()
		return c
	}
	return t.passing[string(r.scratch)]
}

// peek returns a row as it was when the last group ended, where it is remembered. Where it is not, the database has it
// or will not.
func (r *rows) peek(t *table, ordinal int64, key []any) (row store.Row, known bool) {
	var room [128]byte
	k := appendKey(room[:0], ordinal, key)
	r.mu.RLock()
	defer r.mu.RUnlock()
	c := t.young[string(k)]
	if c == nil {
		c = t.old[string(k)]
	}
	if c == nil {
		c = t.passing[string(k)]
	}
	switch {
	case c == nil:
		return nil, false
	case c.turn == r.turn:
		return slices.Clone(c.was), c.wasKnown
	}
	return slices.Clone(c.row), c.known
}

// show ends a group: readers see what it changed.
func (r *rows) show() {
	r.mu.Lock()
	r.turn++
	r.mu.Unlock()
}

// get returns the row of a key, nil where there is none.
func (r *rows) get(t *table, ordinal int64, key []any) (store.Row, error) {
	c := r.find(t, ordinal, key)
	if c != nil && c.known {
		if !c.kept && !t.once {
			r.mu.Lock()
			delete(t.passing, c.key)
			r.keep(c)
			r.mu.Unlock()
		}
		return c.row, nil
	}
	s, err := r.reader.prepare(t.get)
	if err != nil {
		return nil, err
	}
	var row store.Row
	r.keyArgs = append(append(r.keyArgs[:0], ordinal), key...)
	if err := s.query(func(found store.Row) bool { row = found; return false }, t.types, r.keyArgs...); err != nil {
		return nil, err
	}
	if c == nil && t.once {
		return row, nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if c == nil {
		c = &cell{t: t, key: string(r.scratch), ordinal: ordinal}
		r.keep(c)
	}
	c.row, c.base, c.known, c.based = row, row, true, true
	return row, nil
}

// undo is what a cell was before a fold changed it.
type undo struct {
	r     *rows
	c     *cell
	row   store.Row
	known bool
}

// set writes a row, or with a nil row its absence.
func (r *rows) set(t *table, ordinal int64, key []any, row store.Row) undo {
	c := r.find(t, ordinal, key)
	r.mu.Lock()
	defer r.mu.Unlock()
	if c == nil {
		c = &cell{t: t, key: string(r.scratch), ordinal: ordinal}
		t.passing[c.key] = c
		r.passing = append(r.passing, c)
	}
	if c.turn != r.turn {
		c.turn, c.was, c.wasKnown = r.turn, c.row, c.known
	}
	was := undo{r, c, c.row, c.known}
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

func (u undo) do() {
	u.r.mu.Lock()
	u.c.row, u.c.known = u.row, u.known
	u.r.mu.Unlock()
}

// keep puts a cell into the young generation; when that is full the old one is forgotten, but for what is not committed.
// mu is held.
func (r *rows) keep(c *cell) {
	c.kept = true
	if r.count >= max(r.most, 2*r.survived) { // what is not committed may be more than is to be remembered
		done := r.visible()
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
		r.survived = r.count
	}
	c.t.young[c.key] = c
	r.count++
}

// write is one row for the writer.
type write struct {
	t       *table
	key     string
	ordinal int64
	row     store.Row // nil to delete keyRow
	keyRow  store.Row
	base    store.Row // what is there, where based and not nil
	based   bool
}

// take hands the changes over to a job, and forgets what only passed through and is committed.
func (r *rows) take(job uint64) []*write {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pass()
	if len(r.dirty) == 0 {
		return nil
	}
	all, out := make([]write, 0, len(r.dirty)), make([]*write, 0, len(r.dirty))
	for _, c := range r.dirty {
		c.dirty, c.was, c.wasKnown = false, nil, false
		if c.known {
			c.job = job
			all = append(all, write{c.t, c.key, c.ordinal, c.row, c.keyRow, c.base, c.based})
			out = append(out, &all[len(all)-1])
			c.base, c.based = c.row, true
		}
	}
	clear(r.dirty)
	r.dirty = r.dirty[:0]
	return out
}

func (r *rows) pass() {
	done := r.visible()
	n := 0
	for _, c := range r.passing {
		if c.dirty || c.job > done {
			r.passing[n] = c
			n++
			continue
		}
		if !c.kept {
			delete(c.t.passing, c.key)
		}
	}
	clear(r.passing[n:])
	r.passing = r.passing[:n]
}

// forget drops what is remembered; nothing may be unwritten.
func (r *rows) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, t := range r.tables {
		clear(t.young)
		clear(t.old)
		clear(t.passing)
	}
	clear(r.passing)
	r.passing, r.count, r.survived = r.passing[:0], 0, 0
}
