package escalation_test

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"sync"
	"testing"

	_ "modernc.org/sqlite"

	"golang.org/x/mod/sumdb/tlog"

	"duban.internal/node/clock"
	"duban.internal/node/fault"
	"duban.internal/node/journal"
	"duban.internal/node/store"
)

// memStore keeps a store in memory, one commit at a time.
type memStore struct {
	mu       sync.Mutex
	db       *sql.DB
	own      journal.ID
	clock    clock.Clock
	folds    []store.Fold
	journals map[journal.ID]*memJournal
	order    []journal.ID
	streams  map[string]uint64
	natural  map[string]store.Result
	cursors  map[string]uint64
	watch    chan struct{}
}

type memJournal struct {
	info    store.Info
	entries []journal.Entry
}

func openMem(t testing.TB, c clock.Clock, folds []store.Fold, tables []*store.Table) store.Store {
	db, err := sql.Open("sqlite", ":memory:")
	if err != nil {
		t.Fatal(err)
	}
	db.SetMaxOpenConns(1)
	t.Cleanup(func() { _ = db.Close() })
	s := &memStore{db: db, own: journal.NewID(), clock: c, folds: folds, journals: map[journal.ID]*memJournal{}, streams: map[string]uint64{},
		natural: map[string]store.Result{}, cursors: map[string]uint64{}, watch: make(chan struct{})}
	for _, f := range folds {
		tables = append(tables, f.Tables...)
	}
	for _, table := range tables {
		var cols []string
		for _, c := range table.Columns {
			cols = append(cols, c.Name+" "+[]string{"INTEGER", "TEXT", "BLOB"}[c.Type])
		}
		key := []string{"journal"}
		for _, c := range table.Columns[:table.Key] {
			key = append(key, c.Name)
		}
		s.exec(fmt.Sprintf("CREATE TABLE %s (journal INTEGER, %s, PRIMARY KEY (%s)) WITHOUT ROWID", table.Name, strings.Join(cols, ", "), strings.Join(key, ", ")))
		for _, i := range table.Indexes {
			s.exec(fmt.Sprintf("CREATE INDEX %s ON %s (%s)", i.Name, table.Name, strings.Join(i.Columns, ", ")))
		}
	}
	s.journal(s.own)
	return s
}

func (s *memStore) exec(q string, args ...any) {
	if _, err := s.db.Exec(q, args...); err != nil {
		panic(fmt.Sprint(q, args, err))
	}
}

func (s *memStore) journal(id journal.ID) *memJournal {
	j := s.journals[id]
	if j == nil {
		j = &memJournal{info: store.Info{ID: id, Ordinal: int64(len(s.order) + 1), Own: id == s.own}}
		s.journals[id] = j
		s.order = append(s.order, id)
	}
	return j
}

func (s *memStore) Own() journal.ID { return s.own }

func (s *memStore) Append(_ context.Context, commands ...store.Command) ([]store.Result, []error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	results, errs := make([]store.Result, len(commands)), make([]error, len(commands))
	for i, c := range commands {
		results[i], errs[i] = s.one(c)
	}
	s.wake()
	return results, errs
}

func (s *memStore) wake() { close(s.watch); s.watch = make(chan struct{}) }

func (s *memStore) one(c store.Command) (store.Result, error) {
	for _, e := range c.Expect {
		if s.streams[e.Stream] != e.Version {
			return store.Result{}, fault.New(fault.Conflict, "%s is at %d, not %d", e.Stream, s.streams[e.Stream], e.Version)
		}
	}
	for _, a := range c.Cursors {
		if s.cursors[a.Follower+a.Journal.String()] != a.From {
			return store.Result{}, fault.New(fault.Conflict, "cursor")
		}
	}
	j := s.journal(s.own)
	r := store.Result{First: j.info.Size, Count: len(c.Entries), RecordedAt: max(j.info.RecordedAt, clock.Micros(s.clock.Now()))}
	for _, p := range c.Entries {
		p.Seal()
		h := journal.Header{Journal: s.own, Number: j.info.Size, OccurredAt: p.OccurredAt, RecordedAt: r.RecordedAt, Kind: p.Kind, Algorithm: journal.SHA256, Digest: p.Digest, Actor: p.Actor, Stream: p.Stream}
		if h.OccurredAt == 0 {
			h.OccurredAt = h.RecordedAt
		}
		s.fold(j, journal.Entry{Header: h, Raw: h.Append(nil), Salt: p.Salt, Payload: p.Payload})
		s.streams[p.Stream]++
	}
	s.rest(c.Changes, c.Cursors)
	return r, nil
}

func (s *memStore) rest(changes []store.Change, cursors []store.Advance) {
	for _, c := range changes {
		tx := memTx{s, s.journal(c.Owner).info.Ordinal}
		if c.Delete {
			tx.Delete(c.Table, c.Row...)
		} else {
			tx.Put(c.Table, c.Row)
		}
	}
	for _, a := range cursors {
		s.cursors[a.Follower+a.Journal.String()] = a.To
	}
}

func (s *memStore) fold(j *memJournal, e journal.Entry) {
	j.entries = append(j.entries, e)
	j.info.Size++
	j.info.Folded++
	j.info.RecordedAt = e.RecordedAt
	for _, f := range s.folds {
		for _, k := range f.Kinds {
			if k == e.Kind {
				if err := f.Apply(memTx{s, j.info.Ordinal}, &e); err != nil {
					panic(err)
				}
			}
		}
	}
}

func (s *memStore) AppendReplica(_ context.Context, replicas ...store.Replica) []error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range replicas {
		j := s.journal(r.Journal)
		for _, e := range r.Entries {
			s.fold(j, e)
		}
	}
	s.wake()
	return make([]error, len(replicas))
}

func (s *memStore) Stamp(context.Context) (uint64, int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.journal(s.own).info.Size, clock.Micros(s.clock.Now()), nil
}

func (s *memStore) Read(_ context.Context, id journal.ID, from uint64, most int) (out []journal.Entry, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.journals[id].entries[from:] {
		if most -= len(e.Payload); most < 0 && len(out) > 0 {
			break
		}
		out = append(out, e)
	}
	return out, nil
}

func (s *memStore) Erase(context.Context, journal.ID, uint64) error    { return nil }
func (s *memStore) Hashes(journal.ID) (tlog.HashReader, error)         { return nil, nil }
func (s *memStore) Leader() (string, bool)                             { return "", true }
func (s *memStore) Close() error                                       { return s.db.Close() }
func (s *memStore) Lease(ctx context.Context) (context.Context, error) { return ctx, ctx.Err() }
func (s *memStore) Version(_ context.Context, st string) (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.streams[st], nil
}
func (s *memStore) Watch() <-chan struct{} { s.mu.Lock(); defer s.mu.Unlock(); return s.watch }
func (s *memStore) Cursor(_ context.Context, f string, id journal.ID) (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cursors[f+id.String()], nil
}

func (s *memStore) Scan(ctx context.Context, id journal.ID, t *store.Table, from []any, most int) ([]store.Row, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.journals[id] == nil {
		return nil, nil
	}
	return store.ScanRows(ctx, s.db, s.journals[id].info.Ordinal, t, from, most)
}

func (s *memStore) Journals() (out []store.Info) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range s.order {
		out = append(out, s.journals[id].info)
	}
	return out
}

func (s *memStore) Journal(id journal.ID) (store.Info, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	j := s.journals[id]
	if j == nil {
		return store.Info{}, false
	}
	return j.info, true
}

func (s *memStore) Get(_ context.Context, id journal.ID, t *store.Table, key ...any) (store.Row, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	j := s.journals[id]
	if j == nil {
		return nil, false, nil
	}
	row, ok := memTx{s, j.info.Ordinal}.Get(t, key...)
	return row, ok, nil
}

func (s *memStore) View(_ context.Context, fn func(q store.Queryer) error) error { return fn(s.db) }

type memTx struct {
	s       *memStore
	ordinal int64
}

func (tx memTx) where(t *store.Table, key []any) (string, []any) {
	w := []string{"journal = ?"}
	args := []any{tx.ordinal}
	for i, k := range key {
		w = append(w, t.Columns[i].Name+" = ?")
		args = append(args, k)
	}
	return " WHERE " + strings.Join(w, " AND "), args
}

func (tx memTx) Get(t *store.Table, key ...any) (store.Row, bool) {
	w, args := tx.where(t, key)
	var cols []string
	for _, c := range t.Columns {
		cols = append(cols, c.Name)
	}
	row := make(store.Row, len(t.Columns))
	ptr := make([]any, len(row))
	for i := range row {
		ptr[i] = &row[i]
	}
	if err := tx.s.db.QueryRow("SELECT "+strings.Join(cols, ", ")+" FROM "+t.Name+w, args...).Scan(ptr...); err != nil {
		if err != sql.ErrNoRows {
			panic(err)
		}
		return nil, false
	}
	return row, true
}

func (tx memTx) Put(t *store.Table, row store.Row) {
	tx.s.exec("INSERT OR REPLACE INTO "+t.Name+" VALUES (?"+strings.Repeat(", ?", len(row))+")", append([]any{tx.ordinal}, row...)...)
}

func (tx memTx) Delete(t *store.Table, key ...any) {
	w, args := tx.where(t, key)
	tx.s.exec("DELETE FROM "+t.Name+w, args...)
}

// forget throws away what a follower keeps.
func (s *memStore) forget(follower string, tables ...*store.Table) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range tables {
		s.exec("DELETE FROM " + t.Name)
	}
	for key := range s.cursors {
		if strings.HasPrefix(key, follower) {
			delete(s.cursors, key)
		}
	}
}
