package memory

import (
	"maps"
	"slices"
	"sync"

	"golang.org/x/mod/sumdb/tlog"

	"duban.internal/node/journal"
	"duban.internal/node/store"
)

// Disk is what a node keeps, and what of it is not synced yet. It belongs to one Store at a time.
type Disk struct {
	mu       sync.Mutex
	logs     map[journal.ID]*log
	order    []*log // the own journal first
	streams  map[string]uint64
	cursors  map[cursor]uint64
	keys     map[key]keyed
	naturals map[string]store.Result
	floor    int64 // keys recorded before are expired; only grows
	folds    map[string]int

	// How to get back to the last sync.
	held        int // journals
	touched     []*log
	rowsBefore  []rowBefore
	streamsWere []was[string]
	cursorsWere []was[cursor]
	keysWere    []keyBefore
	naturalsNew []string
	floorWas    int64
	dirty       bool
}

type cursor struct {
	follower string
	journal  journal.ID
}

type key struct{ client, key string }

type keyed struct {
	request [32]byte
	result  store.Result
}

type was[K comparable] struct {
	key K
	n   uint64
}

type keyBefore struct {
	key   key
	was   keyed
	there bool
}

// log is one journal with the rows that belong to it.
type log struct {
	id      journal.ID
	ordinal int64
	state
	tables map[*store.Table]*rows
	saved  *state // at the last sync; nil while nothing changed since
}

// state is what of a journal changes. Slices are shared with those who read them, so they are only appended to.
type state struct {
	entries  []journal.Entry
	hashes   []tlog.Hash
	recorded int64 // of the last entry
	stamp    int64 // nothing later is recorded before
	folded   uint64
	stopped  string
}

// NewDisk makes a disk with an empty journal of its own.
func NewDisk(own journal.ID) *Disk {
	d := &Disk{logs: map[journal.ID]*log{}, streams: map[string]uint64{}, cursors: map[cursor]uint64{}, keys: map[key]keyed{},
		naturals: map[string]store.Result{}, folds: map[string]int{}}
	d.log(own)
	d.sync()
	return d
}

// Clone is an independent disk with the same content, synced.
func (d *Disk) Clone() *Disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	c := &Disk{logs: make(map[journal.ID]*log, len(d.logs)), streams: maps.Clone(d.streams), cursors: maps.Clone(d.cursors),
		keys: maps.Clone(d.keys), naturals: maps.Clone(d.naturals), floor: d.floor, folds: maps.Clone(d.folds)}
	for _, l := range d.order {
		n := &log{id: l.id, ordinal: l.ordinal, state: l.state, tables: make(map[*store.Table]*rows, len(l.tables))}
		n.entries, n.hashes = slices.Clip(l.entries), slices.Clip(l.hashes)
		for t, r := range l.tables {
			n.tables[t] = &rows{table: t, keys: slices.Clone(r.keys), rows: slices.Clone(r.rows)}
		}
		c.logs[l.id], c.order = n, append(c.order, n)
	}
	c.sync()
	return c
}

// Dirty says whether something was written since the last Sync. Whoever is told of it before then may be told of
// something that never was.
func (d *Disk) Dirty() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.dirty
}

// Sync makes everything written so far survive Crash.
func (d *Disk) Sync() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.sync()
}

func (d *Disk) sync() {
	for _, l := range d.touched {
		l.saved = nil
	}
	clear(d.rowsBefore)
	d.touched, d.rowsBefore, d.streamsWere, d.cursorsWere = d.touched[:0], d.rowsBefore[:0], d.streamsWere[:0], d.cursorsWere[:0]
	d.keysWere, d.naturalsNew, d.floorWas, d.held, d.dirty = d.keysWere[:0], d.naturalsNew[:0], d.floor, len(d.order), false
}

// Crash drops what was not synced. The Store over the disk must not be used any more.
func (d *Disk) Crash() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.undoRows(0)
	for _, w := range slices.Backward(d.streamsWere) {
		putBack(d.streams, w)
	}
	for _, w := range slices.Backward(d.cursorsWere) {
		putBack(d.cursors, w)
	}
	for _, w := range slices.Backward(d.keysWere) {
		if d.keys[w.key] = w.was; !w.there {
			delete(d.keys, w.key)
		}
	}
	for _, n := range d.naturalsNew {
		delete(d.naturals, n)
	}
	d.floor = d.floorWas
	for _, l := range d.touched {
		l.state = *l.saved
		l.entries, l.hashes = slices.Clip(l.entries), slices.Clip(l.hashes) // what others read of the lost end stays as it is
	}
	for _, l := range d.order[d.held:] {
		delete(d.logs, l.id)
	}
	d.order = d.order[:d.held]
	d.sync()
}

func putBack[K comparable](m map[K]uint64, w was[K]) {
	if m[w.key] = w.n; w.n == 0 {
		delete(m, w.key)
	}
}

// Entries are all of a journal's entries; they are not to be changed.
func (d *Disk) Entries(id journal.ID) []journal.Entry {
	d.mu.Lock()
	defer d.mu.Unlock()
	if l := d.logs[id]; l != nil {
		return slices.Clip(l.entries)
	}
	return nil
}

// Tree reads the hashes of a journal as they are now.
func (d *Disk) Tree(id journal.ID) tlog.HashReader {
	d.mu.Lock()
	defer d.mu.Unlock()
	if l := d.logs[id]; l != nil {
		return state{hashes: l.hashes}
	}
	return state{}
}

// Durable is how many entries of a journal would survive a crash.
func (d *Disk) Durable(id journal.ID) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	l := d.logs[id]
	switch {
	case l == nil:
		return 0
	case l.saved != nil:
		return len(l.saved.entries)
	}
	return len(l.entries)
}

// log is the state of a journal, begun where it is new.
func (d *Disk) log(id journal.ID) *log {
	l := d.logs[id]
	if l == nil {
		l = &log{id: id, ordinal: int64(len(d.order)) + 1, tables: map[*store.Table]*rows{}}
		d.logs[id], d.order = l, append(d.order, l)
		d.dirty = true
	}
	return l
}

// touch keeps the state of a journal as of the last sync before it changes.
func (d *Disk) touch(l *log) {
	d.dirty = true
	if l.saved == nil {
		before := l.state
		l.saved, d.touched = &before, append(d.touched, l)
	}
}

func (d *Disk) own() *log { return d.order[0] }

func (d *Disk) setStream(stream string, n uint64) {
	d.streamsWere, d.dirty = append(d.streamsWere, was[string]{stream, d.streams[stream]}), true
	d.streams[stream] = n
}

func (d *Disk) setCursor(c cursor, n uint64) {
	d.cursorsWere, d.dirty = append(d.cursorsWere, was[cursor]{c, d.cursors[c]}), true
	d.cursors[c] = n
}

func (d *Disk) setKey(k key, v keyed) {
	before, there := d.keys[k]
	d.keysWere, d.dirty = append(d.keysWere, keyBefore{k, before, there}), true
	d.keys[k] = v
}

// add appends an entry and what it adds to the tree.
func (l *log) add(e journal.Entry) {
	n := uint64(len(l.entries))
	h := journal.LeafHash(e.Raw)
	l.hashes = append(l.hashes, h)
	for level := 0; n&1 == 1; level, n = level+1, n>>1 {
		h = tlog.NodeHash(l.hashes[tlog.StoredHashIndex(level, int64(n-1))], h)
		l.hashes = append(l.hashes, h)
	}
	l.entries, l.recorded = append(l.entries, e), e.RecordedAt
}

// ReadHashes is tlog.HashReader.
func (s state) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(indexes))
	for i, x := range indexes {
		if x < 0 || x >= int64(len(s.hashes)) {
			return nil, errHash
		}
		out[i] = s.hashes[x]
	}
	return out, nil
}
