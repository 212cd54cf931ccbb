package memory

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"duban.internal/node/store"
)

var errHash = errors.New("memory: a hash beyond the end of the tree")

// rows are a table's rows of one journal, by key.
type rows struct {
	table *store.Table
	keys  []string // in the order of the key's columns; see appendKey
	rows  []store.Row
}

// rowBefore is what stood where a row was written; no row for none.
type rowBefore struct {
	rows *rows
	key  string
	row  store.Row
}

// find is where a key is, or would be.
func (r *rows) find(key []byte) (int, bool) {
	low, high := 0, len(r.keys)
	if high > 0 && r.keys[high-1] < string(key) { // rows often come in order
		return high, false
	}
	for low < high {
		mid := int(uint(low+high) >> 1)
		if r.keys[mid] < string(key) {
			low = mid + 1
		} else {
			high = mid
		}
	}
	return low, low < len(r.keys) && r.keys[low] == string(key)
}

func (r *rows) get(key []byte) (store.Row, bool) {
	if i, ok := r.find(key); ok {
		return r.rows[i], true
	}
	return nil, false
}

// set puts a row, or with nil takes it out, and says what was there.
func (r *rows) set(key []byte, row store.Row) (at string, before store.Row) {
	i, there := r.find(key)
	switch {
	case there && row != nil:
		at, before = r.keys[i], r.rows[i]
		r.rows[i] = row
	case there:
		at, before = r.keys[i], r.rows[i]
		r.keys, r.rows = slices.Delete(r.keys, i, i+1), slices.Delete(r.rows, i, i+1)
	case row != nil:
		at = string(key)
		r.keys, r.rows = slices.Insert(r.keys, i, at), slices.Insert(r.rows, i, row)
	}
	return at, before
}

// scan gives rows from a key on.
func (r *rows) scan(from []byte, most int) []store.Row {
	i, _ := r.find(from)
	return slices.Clone(r.rows[i:min(len(r.rows), i+max(most, 0))])
}

func (d *Disk) rows(l *log, t *store.Table) *rows {
	r := l.tables[t]
	if r == nil {
		r = &rows{table: t}
		l.tables[t] = r
	}
	return r
}

// write puts a row, or with nil takes it out.
func (d *Disk) write(l *log, t *store.Table, key []byte, row store.Row) {
	r := d.rows(l, t)
	at, before := r.set(key, row)
	if before != nil || row != nil {
		d.rowsBefore, d.dirty = append(d.rowsBefore, rowBefore{r, at, before}), true
	}
}

// undoRows takes writes of rows back, until only so many are left.
func (d *Disk) undoRows(left int) {
	for _, b := range slices.Backward(d.rowsBefore[left:]) {
		b.rows.set([]byte(b.key), b.row)
	}
	clear(d.rowsBefore[left:])
	d.rowsBefore = d.rowsBefore[:left]
}

// appendKey encodes values so that bytes sort as the values do, column by column.
func appendKey(dst []byte, values []any) []byte {
	for _, v := range values {
		switch v := v.(type) {
		case int64:
			dst = binary.BigEndian.AppendUint64(dst, uint64(v)^1<<63)
		case string:
			dst = appendText(dst, v)
		case []byte:
			dst = appendText(dst, v)
		}
	}
	return dst
}

// appendText ends with 0 1, and has 0 255 for a 0 inside.
func appendText[T string | []byte](dst []byte, s T) []byte {
	for i := range len(s) {
		if s[i] == 0 {
			dst = append(dst, 0, 255)
		} else {
			dst = append(dst, s[i])
		}
	}
	return append(dst, 0, 1)
}

// fits says whether values are of a table's first columns.
func fits(t *store.Table, values []any, key bool) error {
	want := len(t.Columns)
	if key {
		want = t.Key
	}
	if len(values) != want {
		return fmt.Errorf("table %s: %d values, expected %d", t.Name, len(values), want)
	}
	return typed(t, values)
}

func typed(t *store.Table, values []any) error {
	for i, v := range values {
		ok := false
		switch c := &t.Columns[i]; v.(type) {
		case int64:
			ok = c.Type == store.Int
		case string:
			ok = c.Type == store.Text
		case []byte:
			ok = c.Type == store.Blob
		case nil:
			ok = c.Null
		}
		if !ok {
			return fmt.Errorf("table %s: column %s can't be %T", t.Name, t.Columns[i].Name, v)
		}
	}
	return nil
}

// Differs says where a table differs from another store's; empty where it does not.
func (s *Store) Differs(other *Store, t *store.Table) string {
	s.disk.mu.Lock()
	defer s.disk.mu.Unlock()
	for _, l := range s.disk.order {
		var a, b rows
		if r := l.tables[t]; r != nil {
			a = *r
		}
		if m := other.disk.logs[l.id]; m != nil && m.tables[t] != nil {
			b = *m.tables[t]
		}
		for i := range max(len(a.rows), len(b.rows)) {
			switch {
			case i >= len(a.rows):
				return fmt.Sprintf("journal %s: there is also %q", l.id, []any(b.rows[i]))
			case i >= len(b.rows):
				return fmt.Sprintf("journal %s: there is not %q", l.id, []any(a.rows[i]))
			case !same(a.rows[i], b.rows[i]):
				return fmt.Sprintf("journal %s: %q and %q", l.id, []any(a.rows[i]), []any(b.rows[i]))
			}
		}
	}
	return ""
}

func same(a, b store.Row) bool {
	for i := range a {
		x, isBlob := a[i].([]byte)
		y, _ := b[i].([]byte)
		if isBlob && string(x) != string(y) || !isBlob && a[i] != b[i] {
			return false
		}
	}
	return true
}

// Dump writes every row of a table that belongs to a journal, in order; two equal texts are equal tables.
func (s *Store) Dump(b *strings.Builder, t *store.Table) {
	s.disk.mu.Lock()
	defer s.disk.mu.Unlock()
	for _, l := range s.disk.order {
		if r := l.tables[t]; r != nil {
			for _, row := range r.rows {
				fmt.Fprintf(b, "%s %s %q\n", l.id, t.Name, []any(row))
			}
		}
	}
}
