// Package federationtest has what the tests of both ends of the sync share: a tree with keys, and a store in memory that
// keeps the contract as far as the sync can see it and makes nothing durable.
package federationtest

import (
	"bytes"
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"sync"

	"golang.org/x/mod/sumdb/tlog"
	_ "modernc.org/sqlite" // View is SQL

	"duban.internal/federation"
	"duban.internal/node/clock"
	"duban.internal/node/fault"
	"duban.internal/node/journal"
	"duban.internal/node/store"
)

// Store is a store in memory.
type Store struct {
	own   journal.ID
	clock clock.Clock

	mu       sync.Mutex
	journals map[journal.ID]*held
	order    []journal.ID
	rows     map[*store.Table]map[string]row
	natural  map[string]store.Result
	watch    chan struct{}
}

type held struct {
	entries []journal.Entry
	hashes  []tlog.Hash
	stamped int64
}

type row struct {
	owner  journal.ID
	values store.Row
}

// NewStore makes an empty store for a journal.
func NewStore(own journal.ID, c clock.Clock) *Store {
	s := &Store{own: own, clock: c, journals: map[journal.ID]*held{}, rows: map[*store.Table]map[string]row{},
		natural: map[string]store.Result{}, watch: make(chan struct{})}
	s.journal(own)
	return s
}

func (s *Store) journal(id journal.ID) *held {
	h := s.journals[id]
	if h == nil {
		h = &held{}
		s.journals[id], s.order = h, append(s.order, id)
	}
	return h
}

func (h *held) add(e journal.Entry) {
	hashes, err := tlog.StoredHashes(int64(len(h.entries)), e.Raw, h)
	if err != nil {
		panic(err) // h has all hashes before
	}
	h.entries, h.hashes = append(h.entries, e), append(h.hashes, hashes...)
}

func (h *held) recorded() int64 {
	if len(h.entries) == 0 {
		return 0
	}
	return h.entries[len(h.entries)-1].RecordedAt
}

// ReadHashes reads the tree.
func (h *held) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(indexes))
	for i, x := range indexes {
		if x >= int64(len(h.hashes)) {
			return nil, fmt.Errorf("no hash %d", x)
		}
		out[i] = h.hashes[x]
	}
	return out, nil
}

// Own is the id of the store's own journal.
func (s *Store) Own() journal.ID { return s.own }

func (s *Store) committed() {
	close(s.watch)
	s.watch = make(chan struct{})
}

// Append commits commands: entries, natural keys and changes; expectations and cursors are not looked at.
func (s *Store) Append(_ context.Context, commands ...store.Command) ([]store.Result, []error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.committed()
	results, errs := make([]store.Result, len(commands)), make([]error, len(commands))
	h := s.journal(s.own)
	for i, c := range commands {
		if before, ok := s.natural[c.Natural]; ok && c.Natural != "" {
			before.Duplicate = true
			results[i] = before
			continue
		}
		at := max(clock.Micros(s.clock.Now()), h.stamped, h.recorded())
		results[i] = store.Result{First: uint64(len(h.entries)), Count: len(c.Entries), RecordedAt: at}
		for _, p := range c.Entries {
			h.add(Entry(s.own, uint64(len(h.entries)), at, p))
			s.fold(s.own, h.entries[len(h.entries)-1])
		}
		s.change(c.Changes)
		if c.Natural != "" {
			s.natural[c.Natural] = results[i]
		}
	}
	return results, errs
}

// Entry makes the entry that a proposal becomes.
func Entry(id journal.ID, number uint64, at int64, p store.Proposal) journal.Entry {
	p.Seal()
	header := journal.Header{Journal: id, Number: number, OccurredAt: p.OccurredAt, RecordedAt: at, Kind: p.Kind, Skippable: p.Skippable,
		Algorithm: journal.SHA256, Digest: p.Digest, Actor: p.Actor, Stream: p.Stream}
	return journal.Entry{Header: header, Raw: header.Append(nil), Salt: p.Salt, Payload: p.Payload}
}

func (s *Store) fold(id journal.ID, e journal.Entry) {
	f := federation.Fold()
	if !slices.Contains(f.Kinds, e.Kind) {
		return
	}
	if err := f.Apply(tx{s, id}, &e); err != nil {
		panic(err)
	}
}

type tx struct {
	s  *Store
	id journal.ID
}

func (t tx) Get(table *store.Table, key ...any) (store.Row, bool) {
	r, ok := t.s.rows[table][rowKey(t.id, key)]
	return r.values, ok
}

func (t tx) Put(table *store.Table, r store.Row) {
	t.s.change([]store.Change{{Table: table, Owner: t.id, Row: r}})
}

func (t tx) Delete(table *store.Table, key ...any) {
	t.s.change([]store.Change{{Table: table, Owner: t.id, Row: key, Delete: true}})
}

func rowKey(owner journal.ID, key []any) string { return fmt.Sprintf("%s %v", owner, key) }

func (s *Store) change(changes []store.Change) {
	for _, c := range changes {
		if s.rows[c.Table] == nil {
			s.rows[c.Table] = map[string]row{}
		}
		k := rowKey(c.Owner, c.Row[:c.Table.Key])
		if c.Delete {
			delete(s.rows[c.Table], k)
		} else {
			s.rows[c.Table][k] = row{c.Owner, c.Row}
		}
	}
}

// AppendReplica commits runs of other journals.
func (s *Store) AppendReplica(_ context.Context, replicas ...store.Replica) []error {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.committed()
	errs := make([]error, len(replicas))
	for i, r := range replicas {
		h := s.journal(r.Journal)
		if r.From != uint64(len(h.entries)) {
			errs[i] = fault.New(fault.Conflict, "journal %s: from %d, here are %d", r.Journal, r.From, len(h.entries))
			continue
		}
		for _, e := range r.Entries {
			h.add(e)
			s.fold(r.Journal, e)
		}
		s.change(r.Changes)
	}
	return errs
}

// Stamp is a time below which nothing is recorded any more.
func (s *Store) Stamp(context.Context) (uint64, int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.journal(s.own)
	h.stamped = max(clock.Micros(s.clock.Now()), h.stamped, h.recorded())
	return uint64(len(h.entries)), h.stamped, nil
}

// Read returns entries.
func (s *Store) Read(_ context.Context, id journal.ID, from uint64, most int) ([]journal.Entry, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.journals[id]
	if h == nil || from >= uint64(len(h.entries)) {
		return nil, nil
	}
	to := from
	for n := 0; to < uint64(len(h.entries)) && (to == from || n < most); to++ {
		n += len(h.entries[to].Raw) + len(h.entries[to].Payload)
	}
	return h.entries[from:to:to], nil
}

// Hashes reads a journal's tree.
func (s *Store) Hashes(id journal.ID) (tlog.HashReader, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.journals[id]
	if h == nil {
		return nil, fault.New(fault.NotFound, "journal %s", id)
	}
	return &held{hashes: h.hashes[:len(h.hashes):len(h.hashes)]}, nil
}

// Journals lists what is held.
func (s *Store) Journals() []store.Info {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]store.Info, len(s.order))
	for i, id := range s.order {
		h := s.journals[id]
		out[i] = store.Info{ID: id, Ordinal: int64(i), Own: id == s.own, Size: uint64(len(h.entries)), RecordedAt: h.recorded()}
	}
	return out
}

// Journal is the state of one.
func (s *Store) Journal(id journal.ID) (store.Info, bool) {
	for _, i := range s.Journals() {
		if i.ID == id {
			return i, true
		}
	}
	return store.Info{}, false
}

// Get reads a row.
func (s *Store) Get(_ context.Context, id journal.ID, t *store.Table, key ...any) (store.Row, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, ok := s.rows[t][rowKey(id, key)]
	return r.values, ok, nil
}

// Rows lists a table's rows of one journal, in no order.
func (s *Store) Rows(id journal.ID, t *store.Table) []store.Row {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []store.Row
	for _, r := range s.rows[t] {
		if r.owner == id {
			out = append(out, r.values)
		}
	}
	return out
}

// Scan reads rows in key order.
func (s *Store) Scan(_ context.Context, id journal.ID, t *store.Table, from []any, most int) ([]store.Row, error) {
	before := func(r store.Row, key []any) bool {
		for i, k := range key {
			if c := compare(r[i], k); c != 0 {
				return c < 0
			}
		}
		return false
	}
	rows := slices.DeleteFunc(s.Rows(id, t), func(r store.Row) bool { return before(r, from) })
	slices.SortFunc(rows, func(a, b store.Row) int {
		for i := range t.Key {
			if c := compare(a[i], b[i]); c != 0 {
				return c
			}
		}
		return 0
	})
	return rows[:min(most, len(rows))], nil
}

func compare(a, b any) int {
	switch a := a.(type) {
	case int64:
		return cmp.Compare(a, b.(int64))
	case string:
		return cmp.Compare(a, b.(string))
	}
	return bytes.Compare(a.([]byte), b.([]byte))
}

// View reads the table of checkpoints by SQL.
func (s *Store) View(ctx context.Context, fn func(q store.Queryer) error) error {
	db, err := sql.Open("sqlite", ":memory:")
	if err != nil {
		return err
	}
	db.SetMaxOpenConns(1)
	if _, err := db.ExecContext(ctx, `CREATE TABLE checkpoint (journal INTEGER, size INTEGER, time_us INTEGER, note BLOB)`); err != nil {
		return err
	}
	for i, j := range s.Journals() {
		for _, r := range s.Rows(j.ID, federation.Checkpoint) {
			if _, err := db.ExecContext(ctx, `INSERT INTO checkpoint VALUES ($1, $2, $3, $4)`, i, r[0], r[1], r[2]); err != nil {
				return err
			}
		}
	}
	return errors.Join(fn(db), db.Close())
}

// Watch is closed at the next commit.
func (s *Store) Watch() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.watch
}

// Lease is had at once and for ever.
func (s *Store) Lease(ctx context.Context) (context.Context, error) { return ctx, nil }

// Put appends an entry as it is.
func (s *Store) Put(id journal.ID, e journal.Entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.journal(id).add(e)
	s.committed()
}

// Tamper changes the payload of an entry under its header, as somebody with access to the disk would.
func (s *Store) Tamper(id journal.ID, number uint64, payload []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.journals[id].entries[number].Payload = payload
}
