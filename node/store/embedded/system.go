package embedded

import (
	"fmt"

	"duban.internal/node/fault"
	"duban.internal/node/journal"
	"duban.internal/node/store"
)

// The engine's own tables. Rows of the first five belong to ordinal 0.
var (
	streamTable = &store.Table{Name: "store_stream", Key: 1, Columns: []store.Column{
		{Name: "stream", Type: store.Text}, {Name: "version", Type: store.Int}}}
	keyTable = &store.Table{Name: "store_key", Key: 2, Columns: []store.Column{
		{Name: "client", Type: store.Text}, {Name: "key", Type: store.Text}, {Name: "request", Type: store.Blob},
		{Name: "first", Type: store.Int}, {Name: "count", Type: store.Int}, {Name: "recorded_at", Type: store.Int}},
		Indexes: []store.Index{{Name: "store_key_age", Columns: []string{"recorded_at"}}}}
	naturalTable = &store.Table{Name: "store_natural", Key: 1, Columns: []store.Column{
		{Name: "digest", Type: store.Blob}, // SHA-256 of the key
		{Name: "first", Type: store.Int}, {Name: "count", Type: store.Int}, {Name: "recorded_at", Type: store.Int}}}
	cursorTable = &store.Table{Name: "store_cursor", Key: 2, Columns: []store.Column{
		{Name: "follower", Type: store.Text}, {Name: "id", Type: store.Blob}, {Name: "at", Type: store.Int}}}
	// What each raft log since the marker before the last came to: one byte for each operation, 1 where it added.
	outcomeTable = &store.Table{Name: "store_outcome", Key: 1, Columns: []store.Column{
		{Name: "raft_index", Type: store.Int}, {Name: "added", Type: store.Blob}}}
	// Entries that a fold refused, by the journal's ordinal.
	foldErrorTable = &store.Table{Name: "store_fold_error", Key: 2, Columns: []store.Column{
		{Name: "fold", Type: store.Text}, {Name: "number", Type: store.Int}, {Name: "error", Type: store.Text}}}
)

// schemaVersion of the engine's own tables; a newer one is refused.
const schemaVersion = 1

var schema = []string{
	`CREATE TABLE IF NOT EXISTS store_meta (name TEXT NOT NULL PRIMARY KEY, value NOT NULL) WITHOUT ROWID`,
	`CREATE TABLE IF NOT EXISTS store_journal (ordinal INTEGER NOT NULL PRIMARY KEY, id BLOB NOT NULL UNIQUE,
		size INTEGER NOT NULL, bytes INTEGER NOT NULL, recorded_at INTEGER NOT NULL, stamp INTEGER NOT NULL,
		folded INTEGER NOT NULL, stopped TEXT NOT NULL)`,
	`CREATE TABLE IF NOT EXISTS store_fold (name TEXT NOT NULL PRIMARY KEY, signature TEXT NOT NULL) WITHOUT ROWID`,
	`CREATE TABLE IF NOT EXISTS store_table (name TEXT NOT NULL PRIMARY KEY, signature TEXT NOT NULL) WITHOUT ROWID`,
}

const (
	putMeta    = `REPLACE INTO store_meta (name, value) VALUES (?1, ?2)`
	putJournal = `REPLACE INTO store_journal (ordinal, id, size, bytes, recorded_at, stamp, folded, stopped) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)`
	getJournal = `SELECT ordinal, id, size, bytes, recorded_at, stamp, folded, stopped FROM store_journal ORDER BY ordinal`
)

var journalTypes = []store.Type{store.Int, store.Blob, store.Int, store.Int, store.Int, store.Int, store.Int, store.Text}

// log is the state of one journal in the ordered apply.
type log struct {
	id         journal.ID
	ordinal    int64
	at         position
	recordedAt int64 // of the last entry
	stamp      int64 // no later entry bears an earlier time; own journal only
	folded     uint64
	stopped    string
	tree       tree
	files      *files
	dirty      bool // changed since the writer last took changes
	run        *run // added since then
}

func (l *log) info(own bool) store.Info {
	return store.Info{ID: l.id, Ordinal: l.ordinal, Own: own, Size: l.at.size, RecordedAt: l.recordedAt,
		Folded: l.folded, Stopped: l.stopped}
}

const ownOrdinal = 1

func systemTables() (map[*store.Table]*table, []*table) {
	byDef := map[*store.Table]*table{}
	var all []*table
	for _, def := range []*store.Table{streamTable, keyTable, naturalTable, cursorTable, outcomeTable, foldErrorTable} {
		t, err := newTable(def, nil)
		if err != nil {
			panic(err) // declared above
		}
		t.once = def == keyTable || def == naturalTable || def == outcomeTable
		byDef[def] = t
		all = append(all, t)
	}
	return byDef, all
}

// metaInt reads one number of store_meta, 0 where it is missing.
func metaInt(c *conn, name string) (v int64, err error) {
	s, err := c.prepare("SELECT value FROM store_meta WHERE name = ?1")
	if err != nil {
		return 0, err
	}
	err = s.query(func(row store.Row) bool { v = row[0].(int64); return false }, []store.Type{store.Int}, name)
	return v, err
}

// createSchema makes the engine's own tables, or checks that it knows those there.
func createSchema(c *conn) error {
	for _, text := range schema {
		if err := c.exec(text); err != nil {
			return err
		}
	}
	_, all := systemTables()
	for _, t := range all {
		if err := createAll(c, t.Table); err != nil {
			return err
		}
	}
	v, err := metaInt(c, "schema")
	switch {
	case err != nil:
		return err
	case v > schemaVersion:
		return fault.New(fault.Unsupported, "tables have schema %d, this program knows %d: upgrade", v, schemaVersion)
	case v == 0:
		return c.exec(putMeta, "schema", int64(schemaVersion))
	}
	return nil
}

func createAll(c *conn, t *store.Table) error {
	for _, text := range append([]string{createTable(t)}, createIndexes(t)...) {
		if err := c.exec(text); err != nil {
			return fmt.Errorf("table %s: %w", t.Name, err)
		}
	}
	return nil
}
