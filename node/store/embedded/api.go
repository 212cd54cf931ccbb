package embedded

import (
	"context"
	"database/sql"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"unicode/utf8"

	"golang.org/x/mod/sumdb/tlog"

	"duban.internal/node/fault"
	"duban.internal/node/journal"
	"duban.internal/node/store"
)

// Own is store.Store.
func (s *Store) Own() journal.ID { return s.own }

// Append is store.Store.
func (s *Store) Append(ctx context.Context, commands ...store.Command) ([]store.Result, []error) {
	results, errs := make([]store.Result, len(commands)), make([]error, len(commands))
	ops := make([]op, 0, len(commands))
	at := make([]int, 0, len(commands))
	for i := range commands {
		c := &commands[i]
		if errs[i] = s.checkCommand(c); errs[i] != nil {
			continue
		}
		size := 128
		for k := range c.Entries {
			p := &c.Entries[k]
			p.Seal()
			size += len(p.Stream) + len(p.Actor) + len(p.Payload) + 96
		}
		ops = append(ops, op{opCommand, encodeCommand(newBody(size), c)})
		at = append(at, i)
	}
	out, err := s.submit(ctx, ops)
	for k, i := range at {
		if err != nil {
			errs[i] = err
		} else {
			results[i], errs[i] = out[k].Result, out[k].err
		}
	}
	return results, errs
}

// submit hands operations to the batcher of a store that leads.
func (s *Store) submit(ctx context.Context, ops []op) ([]result, error) {
	if len(ops) == 0 {
		return nil, nil
	}
	if err := s.failure(); err != nil {
		return nil, fault.New(fault.Unavailable, "the store failed and takes no more commands: %w", err)
	}
	return s.b.submit(ctx, ops)
}

// maxCommand bounds what one command carries, so that a group stays far below what a raft log may have.
const maxCommand = 24 << 20

func (s *Store) checkCommand(c *store.Command) error {
	var l fault.List
	size := 0
	for i := range c.Entries {
		p := &c.Entries[i]
		field := func(name string) string { return fmt.Sprintf("entries[%d].%s", i, name) }
		size += len(p.Payload)
		if p.Stream == "" || len(p.Stream) > journal.MaxStream || !utf8.ValidString(p.Stream) {
			l.Add(field("stream"), "%d bytes, expected 1 to %d of UTF-8", len(p.Stream), journal.MaxStream)
		}
		if len(p.Actor) > journal.MaxActor || !utf8.ValidString(p.Actor) {
			l.Add(field("actor"), "%d bytes, at most %d of UTF-8 are allowed", len(p.Actor), journal.MaxActor)
		}
		if len(p.Payload) > journal.MaxPayload {
			l.Add(field("payload"), "%d bytes, at most %d are allowed", len(p.Payload), journal.MaxPayload)
		}
		if p.Salt != nil && len(p.Salt) != journal.SaltSize {
			l.Add(field("salt"), "%d bytes, expected %d", len(p.Salt), journal.SaltSize)
		}
	}
	if size > maxCommand {
		l.Add("entries", "payloads of %d bytes in one command, at most %d are allowed", size, maxCommand)
	}
	for i, x := range c.Expect {
		if x.Stream == "" || len(x.Stream) > journal.MaxStream {
			l.Add(fmt.Sprintf("expect[%d].stream", i), "%d bytes, expected 1 to %d", len(x.Stream), journal.MaxStream)
		}
	}
	for _, x := range []struct{ name, value string }{{"client", c.Client}, {"key", c.Key}, {"natural", c.Natural}} {
		if len(x.value) > maxKey {
			l.Add(x.name, "%d bytes, at most %d are allowed", len(x.value), maxKey)
		}
	}
	s.checkBeside(&l, c.Cursors, c.Changes)
	return l.Err(fault.Invalid, "the command is out of bounds")
}

const maxKey = 1024

func (s *Store) checkBeside(l *fault.List, cursors []store.Advance, changes []store.Change) {
	for i, a := range cursors {
		if a.Follower == "" || len(a.Follower) > journal.MaxStream {
			l.Add(fmt.Sprintf("cursors[%d].follower", i), "%d bytes, expected 1 to %d", len(a.Follower), journal.MaxStream)
		}
		if a.To < a.From || a.To > math.MaxInt64 {
			l.Add(fmt.Sprintf("cursors[%d].to", i), "%d is before %d: a cursor only goes forward", a.To, a.From)
		}
	}
	for i, c := range changes {
		field := fmt.Sprintf("changes[%d]", i)
		if c.Table == nil || s.m.tables[c.Table.Name] == nil || s.m.tables[c.Table.Name].Table != c.Table {
			l.Add(field+".table", "not among the tables that followers own in this store")
			continue
		}
		if err := checkRow(c.Table, c.Row, c.Delete && len(c.Row) == c.Table.Key); err != nil {
			l.Add(field+".row", "%v", err)
		}
	}
}

// AppendReplica is store.Store.
func (s *Store) AppendReplica(ctx context.Context, replicas ...store.Replica) []error {
	errs := make([]error, len(replicas))
	ops := make([]op, 0, len(replicas))
	at := make([]int, 0, len(replicas))
	for i := range replicas {
		r := &replicas[i]
		if errs[i] = s.checkReplica(r); errs[i] != nil {
			continue
		}
		size := 256
		for k := range r.Entries {
			size += len(r.Entries[k].Raw) + len(r.Entries[k].Payload) + 32
		}
		ops = append(ops, op{opReplica, encodeReplica(make([]byte, 0, size), r)})
		at = append(at, i)
	}
	out, err := s.submit(ctx, ops)
	for k, i := range at {
		if err != nil {
			errs[i] = err
		} else {
			errs[i] = out[k].err
		}
	}
	return errs
}

func (s *Store) checkReplica(r *store.Replica) error {
	var l fault.List
	if r.Journal.IsZero() || r.Journal == s.Own() {
		l.Add("journal", "%s: expected another node's journal", r.Journal)
	}
	size := 0
	for i := range r.Entries {
		e := &r.Entries[i]
		size += len(e.Raw) + len(e.Payload)
		field := fmt.Sprintf("entries[%d]", i)
		h, err := journal.DecodeHeader(e.Raw)
		switch {
		case err != nil:
			l.Add(field, "%v", err)
		case h.Journal != r.Journal || h.Number != r.From+uint64(i):
			l.Add(field, "is entry %d of journal %s, expected entry %d of %s", h.Number, h.Journal, r.From+uint64(i), r.Journal)
		case len(e.Raw) > maxRaw:
			l.Add(field, "header of %d bytes, at most %d are allowed", len(e.Raw), maxRaw)
		case !e.Erased && (len(e.Salt) != journal.SaltSize || len(e.Payload) > journal.MaxPayload):
			l.Add(field, "salt of %d and payload of %d bytes, expected %d and at most %d", len(e.Salt), len(e.Payload), journal.SaltSize, journal.MaxPayload)
		}
		if len(l) >= 8 {
			break
		}
	}
	if size > maxCommand {
		l.Add("entries", "%d bytes in one run, at most %d are allowed: send fewer at once", size, maxCommand)
	}
	s.checkBeside(&l, r.Cursors, r.Changes)
	return l.Err(fault.Invalid, "the run of entries is malformed")
}

// Stamp is store.Store.
func (s *Store) Stamp(ctx context.Context) (size uint64, at int64, err error) {
	out, err := s.submit(ctx, []op{{kind: opStamp}})
	if err != nil {
		return 0, 0, err
	}
	return out[0].First, out[0].RecordedAt, out[0].err
}

// Erase is store.Store. When it answers, the payload is overwritten in its segment; it stays in the raft log until
// markers trim that. It takes the caller's word that the erasure is approved: that an approving entry exists is for the
// caller to see to.
func (s *Store) Erase(ctx context.Context, id journal.ID, number uint64) error {
	out, err := s.submit(ctx, []op{{opErase, binary.AppendUvarint(append([]byte(nil), id[:]...), number)}})
	if err != nil {
		return err
	}
	if out[0].err != nil {
		return out[0].err
	}
	return s.settled(ctx)
}

// Read is store.Store.
func (s *Store) Read(ctx context.Context, id journal.ID, from uint64, most int) ([]journal.Entry, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if s.closed.Load() {
		return nil, fault.New(fault.Unavailable, "the store is closed")
	}
	p, ok := s.journal(id)
	if !ok || from >= p.Size {
		return nil, nil
	}
	out, err := p.files.read(from, p.written, most)
	if err != nil || p.written >= p.Size || from+uint64(len(out)) < p.written {
		return out, err
	}
	// It reached the end of what is in files, and there is more.
	for i := range out {
		most -= len(out[i].Raw) + len(out[i].Payload)
	}
	if most <= 0 && len(out) > 0 {
		return out, nil
	}
	if err := s.settled(ctx); err != nil {
		return nil, err
	}
	p, _ = s.journal(id)
	more, err := p.files.read(from+uint64(len(out)), p.written, most)
	return append(out, more...), err
}

// Hashes is store.Store.
func (s *Store) Hashes(id journal.ID) (tlog.HashReader, error) {
	if _, ok := s.journal(id); !ok {
		return nil, fault.New(fault.NotFound, "journal %s is not held here", id)
	}
	return tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		p, _ := s.journal(id)
		if len(indexes) > 0 && slices.Max(indexes) >= storedHashes(p.written) && p.written < p.Size {
			if err := s.settled(context.Background()); err != nil {
				return nil, err
			}
		}
		return p.files.ReadHashes(indexes)
	}), nil
}

// lookup reads one row: from memory where it is remembered or not yet in the tables, otherwise on a connection of its own.
func (s *Store) lookup(ctx context.Context, t *table, ordinal int64, key []any) (found store.Row, err error) {
	if err := checkKey(t, key); err != nil {
		return nil, fault.New(fault.Invalid, "%w", err)
	}
	if s.closed.Load() {
		return nil, fault.New(fault.Unavailable, "the store is closed")
	}
	if row, known := s.m.rows.peek(t, ordinal, key); known {
		return row, nil
	}
	r := s.readers.Load()
	select {
	case c := <-r.gets:
		defer r.put(c)
		q, err := c.prepare(t.get)
		if err != nil {
			return nil, err
		}
		err = q.query(func(row store.Row) bool { found = row; return false }, t.types, append([]any{ordinal}, key...)...)
		return found, err
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-s.stop:
		return nil, fault.New(fault.Unavailable, "the store is closed")
	}
}

// Cursor is store.Store.
func (s *Store) Cursor(ctx context.Context, follower string, id journal.ID) (uint64, error) {
	row, err := s.lookup(ctx, s.m.system[cursorTable], 0, []any{follower, id[:]})
	if row == nil || err != nil {
		return 0, err
	}
	return uint64(row[2].(int64)), nil
}

// Version is store.Store.
func (s *Store) Version(ctx context.Context, stream string) (uint64, error) {
	row, err := s.lookup(ctx, s.m.system[streamTable], 0, []any{stream})
	if row == nil || err != nil {
		return 0, err
	}
	return uint64(row[1].(int64)), nil
}

// Get is store.Store.
func (s *Store) Get(ctx context.Context, id journal.ID, def *store.Table, key ...any) (store.Row, bool, error) {
	t := s.m.folder.byDef[def]
	if t == nil {
		t = s.m.tables[def.Name]
	}
	if t == nil || t.Table != def {
		return nil, false, fault.New(fault.Invalid, "table %s is not in this store", def.Name)
	}
	p, ok := s.journal(id)
	if !ok {
		return nil, false, nil
	}
	row, err := s.lookup(ctx, t, p.Ordinal, key)
	return row, row != nil, err
}

// View is store.Store.
func (s *Store) View(ctx context.Context, fn func(q store.Queryer) error) error {
	if err := s.settled(ctx); err != nil {
		return err
	}
	tx, err := s.readers.Load().views.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return fault.New(fault.Unavailable, "view: %w", err)
	}
	defer func() { _ = tx.Rollback() }() // it changed nothing
	return fn(tx)
}
