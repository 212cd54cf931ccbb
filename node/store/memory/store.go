package memory

import (
	"context"
	"fmt"
	"sync"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"duban.internal/node/clock"
	"duban.internal/node/fault"
	"duban.internal/node/journal"
	"duban.internal/node/store"
)

// Config of a Store.
type Config struct {
	Disk   *Disk
	Folds  []*store.Fold
	Tables []*store.Table // that followers keep beside the folds
	Known  []uint32       // kinds that are known and folded by nothing
	Clock  clock.Clock
	KeyTTL time.Duration // of idempotency keys, in recorded time: a day where 0
	// Salt gives the salts of entries, so that the same history has the same hashes; nil for those that came with them.
	Salt func() []byte
	// Synced makes every write survive a crash at once.
	Synced bool
}

// Store is store.Store over a Disk.
type Store struct {
	Config
	disk   *Disk
	own    journal.ID
	folder *folder
	tables map[*store.Table]bool
	closed bool
	watch  chan struct{} // nil while nobody waits
	ends   []context.CancelFunc
	once   sync.Once
}

// Open opens a disk and folds what is not folded as these folds have it.
func Open(c Config) *Store {
	if c.KeyTTL == 0 {
		c.KeyTTL = 24 * time.Hour
	}
	s := &Store{Config: c, disk: c.Disk, own: c.Disk.own().id, tables: map[*store.Table]bool{}}
	for _, t := range c.Tables {
		s.tables[t] = true
	}
	s.disk.mu.Lock()
	defer s.disk.mu.Unlock()
	s.folder = newFolder(s.disk, c.Folds, c.Known)
	s.folder.refold()
	s.disk.sync()
	return s
}

// Own is store.Store.
func (s *Store) Own() journal.ID { return s.own }

// begin locks the disk of a store that is open.
func (s *Store) begin() error {
	s.disk.mu.Lock()
	if s.closed {
		s.disk.mu.Unlock()
		return fault.New(fault.Unavailable, "the store is closed")
	}
	return nil
}

func (s *Store) committed() {
	if s.Synced {
		s.disk.sync()
	}
	if s.watch != nil {
		close(s.watch)
		s.watch = nil
	}
	s.disk.mu.Unlock()
}

// Append is store.Store.
func (s *Store) Append(_ context.Context, commands ...store.Command) ([]store.Result, []error) {
	results, errs := make([]store.Result, len(commands)), make([]error, len(commands))
	if err := s.begin(); err != nil {
		for i := range errs {
			errs[i] = err
		}
		return results, errs
	}
	defer s.committed()
	now := clock.Micros(s.Clock.Now())
	s.disk.floor = max(s.disk.floor, min(now-s.KeyTTL.Microseconds(), s.disk.own().stamp))
	for i := range commands {
		results[i], errs[i] = s.command(now, &commands[i])
	}
	return results, errs
}

func (s *Store) command(now int64, c *store.Command) (store.Result, error) {
	d, own := s.disk, s.disk.own()
	if err := s.checkCommand(c); err != nil {
		return store.Result{}, err
	}
	if before, ok := d.keys[key{c.Client, c.Key}]; ok && c.Key != "" && before.result.RecordedAt >= d.floor {
		if before.request != c.Request {
			return store.Result{}, fault.Refuse(fault.Exists, "this idempotency key was used for another request",
				fault.Field{Field: "key", Description: fmt.Sprintf("%q is taken; use a new key for a new request", c.Key)})
		}
		return before.result, nil
	}
	if before, ok := d.naturals[c.Natural]; ok && c.Natural != "" {
		return before, nil
	}
	for _, x := range c.Expect {
		if v := d.streams[x.Stream]; v != x.Version {
			return store.Result{}, fault.New(fault.Conflict, "stream %s has version %d, the command was decided on %d: read and decide again", x.Stream, v, x.Version)
		}
	}
	if err := s.cursorsStand(c.Cursors); err != nil {
		return store.Result{}, err
	}
	at := own.stamp
	if len(c.Entries) > 0 {
		at = max(at, now)
		d.touch(own)
		own.stamp = at
	}
	r := store.Result{First: uint64(len(own.entries)), Count: len(c.Entries), RecordedAt: at}
	for i := range c.Entries {
		s.propose(own, &c.Entries[i], at)
	}
	s.beside(c.Cursors, c.Changes)
	again := r
	again.Duplicate = true
	if c.Key != "" {
		d.setKey(key{c.Client, c.Key}, keyed{c.Request, again})
	}
	if c.Natural != "" {
		d.naturals[c.Natural] = again
		d.naturalsNew, d.dirty = append(d.naturalsNew, c.Natural), true
	}
	return r, nil
}

func (s *Store) propose(own *log, p *store.Proposal, at int64) {
	if s.Salt != nil {
		p.Salt = s.Salt()
		p.Digest = journal.Digest(p.Salt, p.Payload)
	}
	p.Seal()
	h := journal.Header{Journal: own.id, Number: uint64(len(own.entries)), OccurredAt: p.OccurredAt, RecordedAt: at, Kind: p.Kind,
		Skippable: p.Skippable, Algorithm: journal.SHA256, Digest: p.Digest, Actor: p.Actor, Stream: p.Stream}
	if h.OccurredAt == 0 {
		h.OccurredAt = at
	}
	raw := h.Append(make([]byte, 0, 96+len(p.Actor)+len(p.Stream)))
	s.disk.setStream(p.Stream, s.disk.streams[p.Stream]+1)
	own.add(journal.Entry{Header: h, Raw: raw, Salt: p.Salt, Payload: p.Payload})
	s.folder.next(own)
}

// Restore appends entries of the own journal as they are, to fold them anew.
func (s *Store) Restore(entries []journal.Entry) {
	s.disk.mu.Lock()
	defer s.disk.mu.Unlock()
	own := s.disk.own()
	s.disk.touch(own)
	for _, e := range entries {
		s.disk.setStream(e.Stream, s.disk.streams[e.Stream]+1)
		own.add(e)
		own.stamp = max(own.stamp, e.RecordedAt)
	}
	s.folder.next(own)
}

func (s *Store) cursorsStand(cursors []store.Advance) error {
	for _, a := range cursors {
		if at := s.disk.cursors[cursor{a.Follower, a.Journal}]; at != a.From {
			return fault.New(fault.Conflict, "follower %s stands at entry %d of journal %s, not at %d: read its cursor and go on from there", a.Follower, at, a.Journal, a.From)
		}
	}
	return nil
}

func (s *Store) beside(cursors []store.Advance, changes []store.Change) {
	for _, a := range cursors {
		s.disk.setCursor(cursor{a.Follower, a.Journal}, a.To)
	}
	var space [96]byte
	for _, c := range changes {
		l := s.disk.own()
		if !c.Owner.IsZero() {
			l = s.disk.log(c.Owner)
		}
		row := c.Row
		if c.Delete {
			row = nil
		}
		s.disk.write(l, c.Table, appendKey(space[:0], c.Row[:c.Table.Key]), row)
	}
}

// AppendReplica is store.Store.
func (s *Store) AppendReplica(_ context.Context, replicas ...store.Replica) []error {
	errs := make([]error, len(replicas))
	if err := s.begin(); err != nil {
		for i := range errs {
			errs[i] = err
		}
		return errs
	}
	defer s.committed()
	for i := range replicas {
		errs[i] = s.replica(&replicas[i])
	}
	return errs
}

func (s *Store) replica(r *store.Replica) error {
	if err := s.checkReplica(r); err != nil {
		return err
	}
	size := uint64(0)
	if l := s.disk.logs[r.Journal]; l != nil {
		size = uint64(len(l.entries))
	}
	if r.From != size {
		return fault.New(fault.Conflict, "journal %s has %d entries here, the run starts at %d: send from there", r.Journal, size, r.From)
	}
	if err := s.cursorsStand(r.Cursors); err != nil {
		return err
	}
	l := s.disk.log(r.Journal)
	if len(r.Entries) > 0 {
		s.disk.touch(l)
		for _, e := range r.Entries {
			l.add(e)
		}
		s.folder.next(l)
	}
	s.beside(r.Cursors, r.Changes)
	return nil
}

// Stamp is store.Store.
func (s *Store) Stamp(context.Context) (size uint64, at int64, err error) {
	if err := s.begin(); err != nil {
		return 0, 0, err
	}
	defer s.committed()
	own := s.disk.own()
	if now := clock.Micros(s.Clock.Now()); now > own.stamp {
		s.disk.touch(own)
		own.stamp = now
	}
	return uint64(len(own.entries)), own.stamp, nil
}

// Erase is store.Store.
func (s *Store) Erase(_ context.Context, id journal.ID, number uint64) error {
	if err := s.begin(); err != nil {
		return err
	}
	defer s.committed()
	l := s.disk.logs[id]
	if l == nil || number >= uint64(len(l.entries)) {
		return fault.New(fault.NotFound, "journal %s has no entry %d here", id, number)
	}
	s.disk.touch(l)
	l.entries = append([]journal.Entry(nil), l.entries...) // others may read the slice as it was
	e := &l.entries[number]
	e.Salt, e.Payload, e.Erased = nil, nil, true
	return nil
}

// Read is store.Store.
func (s *Store) Read(ctx context.Context, id journal.ID, from uint64, most int) ([]journal.Entry, error) {
	if err := s.begin(); err != nil {
		return nil, err
	}
	defer s.disk.mu.Unlock()
	l := s.disk.logs[id]
	if l == nil || from >= uint64(len(l.entries)) {
		return nil, ctx.Err()
	}
	to, n := from, 0
	for ; to < uint64(len(l.entries)) && (to == from || n < most); to++ {
		n += len(l.entries[to].Raw) + len(l.entries[to].Payload)
	}
	return l.entries[from:to:to], ctx.Err()
}

// Hashes is store.Store. The reader goes on to show the tree as it was.
func (s *Store) Hashes(id journal.ID) (tlog.HashReader, error) {
	if err := s.begin(); err != nil {
		return nil, err
	}
	defer s.disk.mu.Unlock()
	l := s.disk.logs[id]
	if l == nil {
		return nil, fault.New(fault.NotFound, "journal %s is not held here", id)
	}
	return state{hashes: l.hashes}, nil
}

func (l *log) info(own bool) store.Info {
	return store.Info{ID: l.id, Ordinal: l.ordinal, Own: own, Size: uint64(len(l.entries)), RecordedAt: l.recorded, Folded: l.folded, Stopped: l.stopped}
}

// Journals is store.Store.
func (s *Store) Journals() []store.Info {
	s.disk.mu.Lock()
	defer s.disk.mu.Unlock()
	out := make([]store.Info, len(s.disk.order))
	for i, l := range s.disk.order {
		out[i] = l.info(i == 0)
	}
	return out
}

// Journal is store.Store.
func (s *Store) Journal(id journal.ID) (store.Info, bool) {
	s.disk.mu.Lock()
	defer s.disk.mu.Unlock()
	l := s.disk.logs[id]
	if l == nil {
		return store.Info{}, false
	}
	return l.info(l == s.disk.own()), true
}

// Cursor is store.Store.
func (s *Store) Cursor(_ context.Context, follower string, id journal.ID) (uint64, error) {
	if err := s.begin(); err != nil {
		return 0, err
	}
	defer s.disk.mu.Unlock()
	return s.disk.cursors[cursor{follower, id}], nil
}

// Version is store.Store.
func (s *Store) Version(_ context.Context, stream string) (uint64, error) {
	if err := s.begin(); err != nil {
		return 0, err
	}
	defer s.disk.mu.Unlock()
	return s.disk.streams[stream], nil
}

func (s *Store) rowsOf(id journal.ID, t *store.Table) (*rows, error) {
	if !s.tables[t] && !s.folder.belongs[t] {
		return nil, fault.New(fault.Invalid, "table %s is not in this store", t.Name)
	}
	if l := s.disk.logs[id]; l != nil {
		return l.tables[t], nil
	}
	return nil, nil
}

// Get is store.Store.
func (s *Store) Get(_ context.Context, id journal.ID, t *store.Table, k ...any) (store.Row, bool, error) {
	if err := s.begin(); err != nil {
		return nil, false, err
	}
	defer s.disk.mu.Unlock()
	if err := fits(t, k, true); err != nil {
		return nil, false, fault.New(fault.Invalid, "%w", err)
	}
	r, err := s.rowsOf(id, t)
	if r == nil || err != nil {
		return nil, false, err
	}
	var space [96]byte
	row, ok := r.get(appendKey(space[:0], k))
	return row, ok, nil
}

// Scan is store.Store.
func (s *Store) Scan(_ context.Context, id journal.ID, t *store.Table, from []any, most int) ([]store.Row, error) {
	if err := s.begin(); err != nil {
		return nil, err
	}
	defer s.disk.mu.Unlock()
	if len(from) > t.Key {
		return nil, fault.New(fault.Invalid, "table %s: %d key columns, at most %d", t.Name, len(from), t.Key)
	}
	if err := typed(t, from); err != nil {
		return nil, fault.New(fault.Invalid, "%w", err)
	}
	r, err := s.rowsOf(id, t)
	if r == nil || err != nil {
		return nil, err
	}
	var space [96]byte
	return r.scan(appendKey(space[:0], from), most), nil
}

// View is store.Store: there is no SQL here.
func (s *Store) View(context.Context, func(store.Queryer) error) error {
	return fault.New(fault.Unsupported, "the store in memory has no SQL: read by Get and Scan")
}

// Watch is store.Store.
func (s *Store) Watch() <-chan struct{} {
	s.disk.mu.Lock()
	defer s.disk.mu.Unlock()
	if s.watch == nil {
		s.watch = make(chan struct{})
	}
	return s.watch
}

// Lease is store.Store: the only replica leads at once, until Close.
func (s *Store) Lease(ctx context.Context) (context.Context, error) {
	if err := s.begin(); err != nil {
		return nil, err
	}
	defer s.disk.mu.Unlock()
	ctx, cancel := context.WithCancel(ctx)
	s.ends = append(s.ends, cancel)
	return ctx, nil
}

// Leader is store.Store.
func (s *Store) Leader() (address string, self bool) { return "", true }

// Close is store.Store: everything is synced.
func (s *Store) Close() error {
	s.once.Do(func() {
		s.disk.mu.Lock()
		defer s.disk.mu.Unlock()
		s.disk.sync()
		s.end()
	})
	return nil
}

// Crash ends the store and drops what was not synced. Open the disk again.
func (s *Store) Crash() {
	s.once.Do(func() {
		s.disk.Crash()
		s.disk.mu.Lock()
		defer s.disk.mu.Unlock()
		s.end()
	})
}

func (s *Store) end() {
	s.closed = true
	for _, cancel := range s.ends {
		cancel()
	}
}
