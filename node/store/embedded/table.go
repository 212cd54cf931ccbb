package embedded

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"regexp"
	"strings"

	"duban.internal/node/store"
)

// table is what the engine knows of one SQL table: its statements and the rows it remembers.
type table struct {
	*store.Table
	fold  *fold // whose it is; nil for a follower's own and for the engine's
	types []store.Type

	put, insert, del, get string
	updates               map[uint64]*update // by the columns that change
	once                  bool               // rows are looked for once and never changed: not worth remembering

	young, old, passing map[string]*cell // see cache.go
}

var nameRule = regexp.MustCompile(`^[a-z][a-z0-9_]{0,62}$`)

func newTable(def *store.Table, owner *fold) (*table, error) {
	if !nameRule.MatchString(def.Name) {
		return nil, fmt.Errorf("table %q: a name is lower-case letters, digits and _", def.Name)
	}
	if def.Key < 0 || def.Key > len(def.Columns) || len(def.Columns) == 0 {
		return nil, fmt.Errorf("table %s: key of %d columns, it has %d", def.Name, def.Key, len(def.Columns))
	}
	t := &table{Table: def, fold: owner, updates: map[uint64]*update{},
		young: map[string]*cell{}, old: map[string]*cell{}, passing: map[string]*cell{}}
	names, marks, where := []string{"journal"}, []string{"?1"}, []string{"journal = ?1"}
	for i, c := range def.Columns {
		if !nameRule.MatchString(c.Name) || c.Name == "journal" {
			return nil, fmt.Errorf("table %s: column %q: a name is lower-case letters, digits and _, and not journal", def.Name, c.Name)
		}
		if i < def.Key && c.Null {
			return nil, fmt.Errorf("table %s: column %s: a key column is never null", def.Name, c.Name)
		}
		t.types = append(t.types, c.Type)
		names = append(names, quote(c.Name))
		marks = append(marks, fmt.Sprintf("?%d", i+2))
		if i < def.Key {
			where = append(where, fmt.Sprintf("%s = ?%d", quote(c.Name), i+2))
		}
	}
	t.insert = fmt.Sprintf("INSERT INTO %s (%s) VALUES (%s)", quote(def.Name), strings.Join(names, ", "), strings.Join(marks, ", "))
	t.put = "REPLACE" + strings.TrimPrefix(t.insert, "INSERT")
	t.del = fmt.Sprintf("DELETE FROM %s WHERE %s", quote(def.Name), strings.Join(where, " AND "))
	t.get = fmt.Sprintf("SELECT %s FROM %s WHERE %s", strings.Join(names[1:], ", "), quote(def.Name), strings.Join(where, " AND "))
	return t, nil
}

// update changes some columns of a row that is there: indexes on the others are left alone.
type update struct {
	sql     string
	columns []int
}

// change is the update that turns base into row; nil where there is nothing to change.
func (t *table) change(base, row store.Row) *update {
	var mask uint64
	for i := t.Key; i < len(row); i++ {
		if !equalValues(base[i], row[i]) {
			mask |= 1 << (i % 64)
		}
	}
	if mask == 0 {
		return nil
	}
	u := t.updates[mask]
	if u != nil {
		return u
	}
	u = &update{}
	var set, where []string
	where = append(where, "journal = ?1")
	for i := range t.Columns {
		switch {
		case i < t.Key:
			where = append(where, fmt.Sprintf("%s = ?%d", quote(t.Columns[i].Name), i+2))
		case mask&(1<<(i%64)) != 0:
			set = append(set, fmt.Sprintf("%s = ?%d", quote(t.Columns[i].Name), len(u.columns)+t.Key+2))
			u.columns = append(u.columns, i)
		}
	}
	u.sql = fmt.Sprintf("UPDATE %s SET %s WHERE %s", quote(t.Name), strings.Join(set, ", "), strings.Join(where, " AND "))
	if len(t.updates) < 64 { // a table whose rows change in ever new ways costs no memory without end
		t.updates[mask] = u
	}
	return u
}

func equalValues(a, b any) bool {
	x, ok := a.([]byte)
	if y, also := b.([]byte); ok || also {
		return ok == also && bytes.Equal(x, y)
	}
	return a == b
}

func quote(name string) string { return `"` + name + `"` }

var sqlTypes = [...]string{store.Int: "INTEGER", store.Text: "TEXT", store.Blob: "BLOB"}

// createTable is the statement that makes a table under a name.
func createTable(t *store.Table) string {
	var b strings.Builder
	fmt.Fprintf(&b, "CREATE TABLE IF NOT EXISTS %s (journal INTEGER NOT NULL", quote(t.Name))
	for _, c := range t.Columns {
		fmt.Fprintf(&b, ", %s %s", quote(c.Name), sqlTypes[c.Type])
		if !c.Null {
			b.WriteString(" NOT NULL")
		}
	}
	b.WriteString(", PRIMARY KEY (journal")
	for _, c := range t.Columns[:t.Key] {
		b.WriteString(", " + quote(c.Name))
	}
	b.WriteString(")) WITHOUT ROWID")
	return b.String()
}

// createIndexes are the statements that make its indexes.
func createIndexes(t *store.Table) []string {
	var all []string
	for _, x := range t.Indexes {
		columns := make([]string, len(x.Columns))
		for i, c := range x.Columns {
			columns[i] = quote(c)
		}
		text := fmt.Sprintf("CREATE INDEX IF NOT EXISTS %s ON %s (%s)", quote(x.Name), quote(t.Name), strings.Join(columns, ", "))
		if x.Where != "" {
			text += " WHERE " + x.Where
		}
		all = append(all, text)
	}
	return all
}

// ddl is everything that makes the table: its signature.
func ddl(t *store.Table) string {
	return strings.Join(append([]string{createTable(t)}, createIndexes(t)...), ";\n")
}

// checkRow names the column that does not fit; key limits it to the key columns.
func checkRow(t *store.Table, row store.Row, key bool) error {
	want := len(t.Columns)
	if key {
		want = t.Key
	}
	if len(row) != want {
		return fmt.Errorf("table %s: %d values, expected %d", t.Name, len(row), want)
	}
	for i, v := range row {
		c := &t.Columns[i]
		ok := false
		switch v.(type) {
		case nil:
			ok = c.Null
		case int64:
			ok = c.Type == store.Int
		case string:
			ok = c.Type == store.Text
		case []byte:
			ok = c.Type == store.Blob
		}
		if !ok {
			return fmt.Errorf("table %s column %s: a value of type %T, expected %s%s", t.Name, c.Name, v, sqlTypes[c.Type],
				map[bool]string{true: " or nil"}[c.Null])
		}
	}
	return nil
}

// appendKey encodes ordinal and key columns so that bytes sort as SQLite sorts the primary key.
func appendKey(dst []byte, ordinal int64, key []any) []byte {
	dst = binary.BigEndian.AppendUint64(dst, uint64(ordinal)^1<<63)
	for _, v := range key {
		switch v := v.(type) {
		case int64:
			dst = binary.BigEndian.AppendUint64(dst, uint64(v)^1<<63)
		case string:
			dst = appendEscaped(dst, v)
		case []byte:
			if bytes.IndexByte(v, 0) < 0 {
				dst = append(append(dst, v...), 0, 0)
			} else {
				dst = appendEscaped(dst, string(v))
			}
		}
	}
	return dst
}

func appendEscaped(dst []byte, s string) []byte {
	for {
		i := strings.IndexByte(s, 0)
		if i < 0 {
			return append(append(dst, s...), 0, 0)
		}
		dst = append(append(dst, s[:i]...), 0, 0xff)
		s = s[i+1:]
	}
}
