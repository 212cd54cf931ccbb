package embedded

import (
	"errors"
	"fmt"
	"path/filepath"
	"sync"

	"github.com/hashicorp/raft"

	"duban.internal/node/fault"
	"duban.internal/node/journal"
	"duban.internal/node/store"
)

func newMachine(cfg *Config, reader *conn) (*machine, error) {
	f, err := newFolder(cfg.Folds, cfg.Known)
	if err != nil {
		return nil, fault.New(fault.Invalid, "%w", err)
	}
	m := &machine{
		dir: cfg.Dir, disk: cfg.disk, limit: cfg.SegmentBytes, tables: map[string]*table{}, folder: f,
		logs: map[journal.ID]*log{}, job: 1,
	}
	m.room = sync.NewCond(&m.mu)
	var all []*table
	m.system, all = systemTables()
	names := map[string]bool{}
	for _, def := range cfg.Tables {
		t, err := newTable(def, nil)
		if err != nil {
			return nil, fault.New(fault.Invalid, "%w", err)
		}
		m.tables[def.Name] = t
		all = append(all, t)
	}
	for _, x := range f.folds {
		all = append(all, x.tables...)
	}
	for _, t := range all {
		if names[t.Name] {
			return nil, fault.New(fault.Invalid, "table %s is declared twice", t.Name)
		}
		names[t.Name] = true
	}
	m.rows = &rows{turn: 1, most: cfg.CacheRows, tables: all, reader: reader, committed: m.done.Load}
	f.rows, f.errors = m.rows, m.system[foldErrorTable]
	return m, nil
}

// load reads positions from the tables, and begins the own journal where the folder is new.
func (s *Store) load() error {
	m := s.m
	applied, err := metaInt(s.w.conn, "applied")
	if err != nil {
		return err
	}
	if m.floor, err = metaInt(s.w.conn, "floor"); err != nil {
		return err
	}
	m.applied = uint64(applied)
	q, err := s.w.conn.prepare(getJournal)
	if err != nil {
		return err
	}
	if err := q.query(func(row store.Row) bool {
		l := &log{
			ordinal: row[0].(int64), id: journal.ID(row[1].([]byte)), at: position{uint64(row[2].(int64)), row[3].(int64)},
			recordedAt: row[4].(int64), stamp: row[5].(int64), folded: uint64(row[6].(int64)), stopped: row[7].(string),
		}
		m.order = append(m.order, l)
		m.logs[l.id] = l
		return true
	}, journalTypes); err != nil {
		return err
	}
	if len(m.order) == 0 {
		if s.cfg.Journal.IsZero() {
			return fault.Refuse(fault.Invalid, "the data folder is new",
				fault.Field{Field: "journal", Description: "expected the id of the journal to begin"})
		}
		l := &log{id: s.cfg.Journal, ordinal: ownOrdinal}
		m.order, m.logs[l.id] = []*log{l}, l
		if err := s.w.journals([]taken{{log: l, info: l.info(true)}}); err != nil {
			return err
		}
	}
	m.own = m.order[0]
	s.own = m.own.id
	if !s.cfg.Journal.IsZero() && s.cfg.Journal != m.own.id {
		return fault.New(fault.Precondition, "data folder %s belongs to journal %s, not to %s: name the right folder", s.cfg.Dir, m.own.id, s.cfg.Journal)
	}
	for _, l := range m.order {
		if l.files, err = openFiles(m.disk, filepath.Join(m.dir, journalsDir, l.id.String()), l.id, m.limit); err != nil {
			return err
		}
	}
	return nil
}

// recover brings files and tables to one state, before raft starts. Whatever came after the marker may be torn after a
// loss of power: files are cut there and written again from the raft log. Tables behind the marker (an older copy) are
// brought up from the log by hand, for raft starts at the marker and would leave a hole.
func (s *Store) recover() error {
	if err := s.load(); err != nil {
		return err
	}
	mk, index, err := newestMarker(s.snaps)
	if err != nil {
		return err
	}
	m := s.m
	if len(mk.Files) > 0 && m.applied < mk.Applied { // stopped while it took over the leader's state
		if err := s.restoreNewest(); err != nil {
			return err
		}
	}
	if mk.Own != "" && mk.Own != m.own.id.String() {
		return fault.New(fault.Corrupt, "the marker is of journal %s, the tables are of %s: the folder was mixed from two", mk.Own, m.own.id)
	}
	first, err := s.wal.FirstIndex()
	if err != nil {
		return err
	}
	last, err := s.wal.LastIndex()
	if err != nil {
		return err
	}
	s.marked.Store(mk.Applied)
	if m.applied >= mk.Applied {
		// Between the marker's last log and raft's own index there are only raft's own logs.
		from := max(mk.Applied, index)
		if m.applied > from && (first == 0 || first > from+1 || last < m.applied) {
			return s.tooOld(m.applied, first, last)
		}
		return s.rewrite(mk)
	}
	if first == 0 || first > m.applied+1 || last < index {
		return s.tooOld(m.applied, first, last)
	}
	for _, l := range m.order {
		if err := s.cut(l, l.at); err != nil {
			return err
		}
	}
	s.cfg.Logger.Warn("the tables are older than the last marker; replaying the raft log", "from", m.applied+1, "to", index)
	return s.replay(m.applied+1, index)
}

func (s *Store) tooOld(applied, first, last uint64) error {
	return fault.New(fault.Corrupt, "the raft log (%d to %d) does not reach back to where the tables stand (%d): this folder was restored from parts of different age. "+
		"Restore a whole backup, or begin an empty folder and let it fetch back", first, last, applied)
}

// cut puts a journal's files to a position.
func (s *Store) cut(l *log, at position) error {
	var err error
	if err = l.files.truncate(at); err == nil {
		l.tree, err = loadTree(l.files, at.size)
	}
	if err != nil {
		return fmt.Errorf("journal %s: %w", l.id, err)
	}
	return nil
}

// replay applies logs and writes them, one job each.
func (s *Store) replay(from, to uint64) error {
	var entry raft.Log
	for index := from; index <= to; index++ {
		if err := s.wal.GetLog(index, &entry); err != nil {
			return fmt.Errorf("raft log %d: %w", index, err)
		}
		if entry.Type != raft.LogCommand {
			continue
		}
		if _, err := s.m.apply(index, entry.Data); err != nil {
			return err
		}
		if err := s.flush(); err != nil {
			return err
		}
	}
	return nil
}

// flush writes what was applied, before there is a writer's goroutine.
func (s *Store) flush() error {
	j := s.m.take()
	if j == nil {
		return nil
	}
	if err := s.w.write(j, s.m.wrote); err != nil {
		return err
	}
	s.m.done.Store(j.number)
	return nil
}

// rewrite cuts files at the marker and writes what follows from the raft log, as the tables say it came out.
func (s *Store) rewrite(mk *marker) error {
	m := s.m
	target := map[*log]log{}
	for _, l := range m.order {
		target[l] = *l
		at := mk.position(l.id)
		if at.size > l.at.size {
			return fault.New(fault.Corrupt, "journal %s: the marker has %d entries, the tables %d", l.id, at.size, l.at.size)
		}
		if err := s.cut(l, at); err != nil {
			return err
		}
		l.at = at
	}
	m.own.stamp = mk.Stamp
	q, err := s.w.conn.prepare(`SELECT raft_index, added FROM store_outcome WHERE journal = 0 AND raft_index > ?1 ORDER BY raft_index`)
	if err != nil {
		return err
	}
	var failed error
	err = q.query(func(row store.Row) bool {
		failed = s.rewriteLog(uint64(row[0].(int64)), row[1].([]byte))
		return failed == nil
	}, []store.Type{store.Int, store.Blob}, int64(mk.Applied))
	if err := errors.Join(err, failed); err != nil {
		return err
	}
	for _, l := range m.order {
		was := target[l]
		if l.at != was.at {
			return fault.New(fault.Corrupt, "journal %s: the raft log gives %d entries, the tables have %d", l.id, l.at.size, was.at.size)
		}
		l.recordedAt, l.stamp, l.run, l.dirty = was.recordedAt, was.stamp, nil, false
	}
	m.entries = 0
	return nil
}

func (s *Store) rewriteLog(index uint64, added []byte) error {
	m := s.m
	var entry raft.Log
	if err := s.wal.GetLog(index, &entry); err != nil {
		return fmt.Errorf("raft log %d: %w", index, err)
	}
	g, err := decodeGroup(entry.Data)
	if err != nil {
		return fault.New(fault.Corrupt, "raft log %d is not the one that was applied: %w", index, err)
	}
	if len(g.ops) != len(added) {
		return fault.New(fault.Corrupt, "raft log %d is not the one that was applied: it has %d commands, %d were", index, len(g.ops), len(added))
	}
	m.erased = nil
	for i, o := range g.ops {
		if o.kind == opStamp {
			m.own.stamp = max(m.own.stamp, g.stamp)
		}
		if added[i] == 0 {
			continue
		}
		switch o.kind {
		case opCommand:
			var c store.Command
			if err := decodeCommand(o.body, &c, m.tables); err != nil {
				return err
			}
			if len(c.Entries) > 0 {
				m.own.stamp = max(m.own.stamp, g.stamp)
			}
			for i := range c.Entries {
				m.write(m.own, m.build(&c.Entries[i], m.own.stamp))
			}
		case opReplica:
			var c store.Replica
			if err := decodeReplica(o.body, &c, m.tables); err != nil {
				return err
			}
			l := m.logs[c.Journal]
			if l == nil && len(c.Entries) > 0 {
				return fault.New(fault.Corrupt, "raft log %d adds to journal %s, which the tables do not have", index, c.Journal)
			}
			for i := range c.Entries {
				m.write(l, &c.Entries[i])
			}
		case opErase:
			if _, err := m.erase(o.body, &result{}); err != nil {
				return err
			}
		}
	}
	for _, l := range m.order {
		if l.run != nil {
			if err := l.files.append(l.run.at, l.run); err != nil {
				return err
			}
			l.run.free()
			l.run = nil
		}
	}
	for _, e := range m.erased {
		if err := e.log.files.erase(e.number); err != nil {
			return err
		}
	}
	m.erased = nil
	return nil
}
