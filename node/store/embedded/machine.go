package embedded

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"duban.internal/node/fault"
	"duban.internal/node/journal"
	"duban.internal/node/store"
)

// machine is the ordered apply: what raft has ordered goes in, changes for the writer come out. It looks at no clock;
// it reads the database only through rows. mu is held while a group is applied and while the writer takes the changes.
type machine struct {
	mu   sync.Mutex
	room *sync.Cond // the writer took the changes

	dir    string
	disk   disk
	limit  int64
	tables map[string]*table // followers' own, by name
	system map[*store.Table]*table
	rows   *rows
	folder *folder

	own     *log
	logs    map[journal.ID]*log
	order   []*log
	floor   int64  // keys recorded before are expired; only grows
	applied uint64 // raft index

	// What is applied and not in the tables yet: the job that is being gathered, and the one that is being written.
	job      uint64 // number of the one being gathered
	done     atomic.Uint64
	groups   int
	erased   []erasure
	entries  int
	bytes    int64         // of raft logs
	writing  load          // of the job being written
	progress atomic.Uint32 // of it, in jobSteps

	// reused between groups
	header []byte
	entry  journal.Entry
}

type erasure struct {
	log    *log
	number uint64
}

// load is how much there is to write.
type load struct {
	entries int
	bytes   int64
}

// jobSteps is a job that is written.
const jobSteps = 64

// unwritten is how much waits for the writer. mu is held.
func (m *machine) unwritten() load {
	left := jobSteps - min(jobSteps, int64(m.progress.Load()))
	return load{m.entries + int(int64(m.writing.entries)*left/jobSteps), m.bytes + m.writing.bytes*left/jobSteps}
}

// wrote tells how far the writer is with its job, so that the ordered apply goes on at its pace rather than in leaps.
func (m *machine) wrote(steps int) {
	if m.progress.Swap(uint32(steps)) != uint32(steps) {
		m.room.Broadcast() // one that is missed is followed by others, the last of them under mu
	}
}

// outcome of one group.
type outcome struct {
	results []result
}

type result struct {
	store.Result
	err error
}

// apply runs one group. An error means that this replica can't go on: nothing of the index counts as applied.
func (m *machine) apply(index uint64, data []byte) (out *outcome, err error) {
	g, err := decodeGroup(data)
	if err != nil {
		return nil, fmt.Errorf("raft log %d: %w", index, err)
	}
	if err := m.rows.begin(); err != nil {
		return nil, err
	}
	defer func() {
		if e := m.rows.end(); err == nil {
			err = e
		}
	}()
	out = &outcome{results: make([]result, len(g.ops))}
	added := make([]byte, len(g.ops))
	// The floor of keys moves by recorded time only: a leader whose clock is ahead expires nothing early.
	m.floor = max(m.floor, min(g.floor, m.own.stamp))
	for i, o := range g.ops {
		r := &out.results[i]
		var did bool
		var broken error
		switch o.kind {
		case opCommand:
			did, broken = m.command(g.stamp, o.body, r)
		case opReplica:
			did, broken = m.replica(o.body, r)
		case opStamp:
			m.own.stamp = max(m.own.stamp, g.stamp)
			m.own.dirty = true
			r.First, r.RecordedAt = m.own.at.size, m.own.stamp
		case opErase:
			did, broken = m.erase(o.body, r)
		default:
			broken = fault.New(fault.Unsupported, "operation %d: upgrade", o.kind)
		}
		if broken != nil {
			return nil, fmt.Errorf("raft log %d: %w", index, broken)
		}
		if did {
			added[i] = 1
		}
	}
	m.rows.set(m.system[outcomeTable], 0, []any{int64(index)}, store.Row{int64(index), added})
	m.applied = index
	m.bytes += int64(len(data))
	m.groups++
	return out, nil
}

func (m *machine) get(t *store.Table, key ...any) (store.Row, error) {
	return m.rows.get(m.system[t], 0, key)
}

func (m *machine) set(t *store.Table, row store.Row) {
	m.rows.set(m.system[t], 0, row[:t.Key], row)
}

// command checks that a decision still stands and appends its entries.
func (m *machine) command(stamp int64, body []byte, r *result) (added bool, broken error) {
	var c store.Command
	if err := decodeCommand(body, &c, m.tables); err != nil {
		return false, err
	}
	if c.Key != "" {
		row, err := m.get(keyTable, c.Client, c.Key)
		if err != nil {
			return false, err
		}
		if row != nil && row[5].(int64) >= m.floor {
			if !bytes.Equal(row[2].([]byte), c.Request[:]) {
				r.err = fault.Refuse(fault.Exists, "this idempotency key was used for another request",
					fault.Field{Field: "key", Description: fmt.Sprintf("%q is taken; use a new key for a new request", c.Key)})
				return false, nil
			}
			r.Result = store.Result{First: uint64(row[3].(int64)), Count: int(row[4].(int64)), RecordedAt: row[5].(int64), Duplicate: true}
			return false, nil
		}
	}
	var natural []byte
	if c.Natural != "" {
		sum := sha256.Sum256([]byte(c.Natural))
		natural = sum[:]
		row, err := m.get(naturalTable, natural)
		if err != nil {
			return false, err
		}
		if row != nil {
			r.Result = store.Result{First: uint64(row[1].(int64)), Count: int(row[2].(int64)), RecordedAt: row[3].(int64), Duplicate: true}
			return false, nil
		}
	}
	for _, x := range c.Expect {
		v, err := m.version(x.Stream)
		if err != nil {
			return false, err
		}
		if v != x.Version {
			r.err = fault.New(fault.Conflict, "stream %s has version %d, the command was decided on %d: read and decide again", x.Stream, v, x.Version)
			return false, nil
		}
	}
	if ok, err := m.beside(c.Cursors, c.Changes, r); !ok || err != nil {
		return false, err
	}
	at := m.own.stamp
	if len(c.Entries) > 0 {
		at = max(at, stamp)
		m.own.stamp = at
	}
	r.Result = store.Result{First: m.own.at.size, Count: len(c.Entries), RecordedAt: at}
	for i := range c.Entries {
		if err := m.propose(&c.Entries[i], at); err != nil {
			return false, err
		}
	}
	if c.Key != "" {
		m.set(keyTable, store.Row{c.Client, c.Key, append([]byte(nil), c.Request[:]...), int64(r.First), int64(r.Count), at})
	}
	if natural != nil {
		m.set(naturalTable, store.Row{natural, int64(r.First), int64(r.Count), at})
	}
	return true, m.change(c.Cursors, c.Changes)
}

func (m *machine) version(stream string) (uint64, error) {
	row, err := m.get(streamTable, stream)
	if row == nil || err != nil {
		return 0, err
	}
	return uint64(row[1].(int64)), nil
}

// propose turns a proposal into the next entry of the own journal.
func (m *machine) propose(p *store.Proposal, at int64) error {
	e := m.build(p, at)
	v, err := m.version(p.Stream)
	if err != nil {
		return err
	}
	m.set(streamTable, store.Row{p.Stream, int64(v + 1)})
	return m.add(m.own, e)
}

// build makes the next entry of the own journal; it is good until the next one is built.
func (m *machine) build(p *store.Proposal, at int64) *journal.Entry {
	e := &m.entry
	*e = journal.Entry{Header: journal.Header{
		Journal: m.own.id, Number: m.own.at.size, OccurredAt: p.OccurredAt, RecordedAt: at, Kind: p.Kind, Skippable: p.Skippable,
		Algorithm: journal.SHA256, Digest: p.Digest, Actor: p.Actor, Stream: p.Stream,
	}, Salt: p.Salt, Payload: p.Payload}
	if e.OccurredAt == 0 {
		e.OccurredAt = at
	}
	m.header = e.Header.Append(m.header[:0])
	e.Raw = m.header
	return e
}

// add appends an entry to a journal's files and folds it.
func (m *machine) add(l *log, e *journal.Entry) error {
	m.write(l, e)
	if l.stopped != "" {
		return nil
	}
	if l.stopped = m.folder.stops(e); l.stopped != "" {
		return nil
	}
	l.folded++
	return m.folder.apply(l.ordinal, e, nil)
}

// write appends an entry to what the writer will append to the journal's files.
func (m *machine) write(l *log, e *journal.Entry) {
	if l.run == nil {
		l.run = newRun(l.at)
	}
	l.dirty = true
	l.at.bytes += l.run.add(e)
	l.run.hashes = l.tree.add(l.run.hashes, journal.LeafHash(e.Raw))
	l.run.ends = binary.BigEndian.AppendUint64(l.run.ends, uint64(l.at.bytes))
	l.at.size++
	l.recordedAt = e.RecordedAt
	m.entries++
}

// replica appends a run of another journal.
func (m *machine) replica(body []byte, r *result) (added bool, broken error) {
	var c store.Replica
	if err := decodeReplica(body, &c, m.tables); err != nil {
		return false, err
	}
	l := m.logs[c.Journal]
	size := uint64(0)
	if l != nil {
		size = l.at.size
	}
	if c.From != size {
		r.err = fault.New(fault.Conflict, "journal %s has %d entries here, the run starts at %d: send from there", c.Journal, size, c.From)
		return false, nil
	}
	if ok, err := m.beside(c.Cursors, c.Changes, r); !ok || err != nil {
		return false, err
	}
	l, err := m.journal(c.Journal)
	if err != nil {
		return false, err
	}
	for i := range c.Entries {
		if err := m.add(l, &c.Entries[i]); err != nil {
			return false, err
		}
	}
	r.First, r.Count = c.From, len(c.Entries)
	return true, m.change(c.Cursors, c.Changes)
}

// beside checks what is committed with entries: cursors and rows of followers' own tables.
func (m *machine) beside(cursors []store.Advance, changes []store.Change, r *result) (ok bool, broken error) {
	for _, a := range cursors {
		row, err := m.get(cursorTable, a.Follower, a.Journal[:])
		if err != nil {
			return false, err
		}
		at := uint64(0)
		if row != nil {
			at = uint64(row[2].(int64))
		}
		if at != a.From {
			r.err = fault.New(fault.Conflict, "follower %s stands at entry %d of journal %s, not at %d: read its cursor and go on from there", a.Follower, at, a.Journal, a.From)
			return false, nil
		}
	}
	for _, c := range changes {
		if c.Table == nil {
			return false, fault.New(fault.Unsupported, "a change of a table that this program does not have: every replica needs the same tables")
		}
	}
	return true, nil
}

func (m *machine) change(cursors []store.Advance, changes []store.Change) error {
	for _, a := range cursors {
		m.set(cursorTable, store.Row{a.Follower, append([]byte(nil), a.Journal[:]...), int64(a.To)})
	}
	for _, c := range changes {
		owner := m.own
		if !c.Owner.IsZero() {
			var err error
			if owner, err = m.journal(c.Owner); err != nil {
				return err
			}
		}
		t := m.tables[c.Table.Name]
		if c.Delete {
			m.rows.set(t, owner.ordinal, c.Row[:t.Key], nil)
		} else {
			m.rows.set(t, owner.ordinal, c.Row[:t.Key], c.Row)
		}
	}
	return nil
}

// journal is the state of a journal, begun where it is new.
func (m *machine) journal(id journal.ID) (*log, error) {
	if l := m.logs[id]; l != nil {
		return l, nil
	}
	l := &log{id: id, ordinal: int64(len(m.order)) + ownOrdinal, dirty: true}
	var err error
	if l.files, err = openFiles(m.disk, filepath.Join(m.dir, journalsDir, id.String()), id, m.limit); err != nil {
		return nil, err
	}
	if err := l.files.truncate(position{}); err != nil { // left by a run that never committed
		return nil, err
	}
	m.logs[id] = l
	m.order = append(m.order, l)
	return l, nil
}

func (m *machine) erase(body []byte, r *result) (added bool, broken error) {
	d := decoder{b: body}
	var id journal.ID
	copy(id[:], d.take(len(id)))
	number := d.uvarint()
	if err := d.end(); err != nil {
		return false, err
	}
	l := m.logs[id]
	if l == nil || number >= l.at.size {
		r.err = fault.New(fault.NotFound, "journal %s has no entry %d here", id, number)
		return false, nil
	}
	m.erased = append(m.erased, erasure{l, number})
	return true, nil
}

// take hands the changes since the last job over to the writer, which has written that one; nil where there are none. mu
// is held.
func (m *machine) take() *job {
	defer m.room.Broadcast()
	m.writing = load{m.entries, m.bytes}
	m.progress.Store(0)
	if m.groups == 0 {
		return nil
	}
	j := &job{number: m.job, applied: m.applied, floor: m.floor, erased: m.erased, bytes: m.bytes, writes: m.rows.take(m.job)}
	for _, l := range m.order {
		if l.dirty {
			j.logs = append(j.logs, taken{log: l, run: l.run, info: l.info(l == m.own), bytes: l.at.bytes, stamp: l.stamp})
			l.dirty, l.run = false, nil
		}
	}
	m.job++
	m.groups, m.erased, m.entries, m.bytes = 0, nil, 0, 0
	return j
}

// sortWrites brings rows into the order in which they lie in the database.
func sortWrites(w []*write) {
	slices.SortFunc(w, func(a, b *write) int {
		if a.t != b.t {
			return strings.Compare(a.t.Name, b.t.Name)
		}
		return strings.Compare(a.key, b.key)
	})
}
