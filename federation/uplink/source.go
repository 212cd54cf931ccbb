package uplink

import (
	"context"
	"fmt"

	"golang.org/x/mod/sumdb/tlog"

	"duban.internal/federation"
	"duban.internal/node/fault"
	"duban.internal/node/journal"
	"duban.internal/node/jurisdiction"
	"duban.internal/node/planted"
	"duban.internal/node/store"
)

// Reader is what a Source reads.
type Reader interface {
	Own() journal.ID
	Stamp(ctx context.Context) (size uint64, at int64, err error)
	Read(ctx context.Context, id journal.ID, from uint64, max int) ([]journal.Entry, error)
	Hashes(id journal.ID) (tlog.HashReader, error)
	Journal(id journal.ID) (store.Info, bool)
	Get(ctx context.Context, id journal.ID, t *store.Table, key ...any) (store.Row, bool, error)
	Scan(ctx context.Context, id journal.ID, t *store.Table, from []any, most int) ([]store.Row, error)
}

// Source answers the effects of a Core that read.
type Source struct {
	Store Reader
	Key   *journal.Key // of the own journal
	// Ancestors are nodes above that may have been dialed around the parent: what they countersigned then is shown to it.
	Ancestors []jurisdiction.Code
}

// Load answers Load: entries, and the checkpoint of their end, which is made here for the own journal and found for others.
// No entries mean that nothing can be sent before the journal grows.
func (s *Source) Load(ctx context.Context, l *Load) ([]journal.Entry, []byte, error) {
	entries, err := s.Store.Read(ctx, l.Journal, l.From, l.Bytes)
	if err != nil {
		return nil, nil, fmt.Errorf("reading journal %s from %d: %w", l.Journal, l.From, err)
	}
	if len(entries) == 0 {
		return nil, nil, nil
	}
	if l.Journal != s.Store.Own() {
		return s.forwarded(ctx, l, entries)
	}
	end := l.From + uint64(len(entries))
	size, note, err := s.shown(ctx, l.From, end)
	if err != nil {
		return nil, nil, err
	}
	if note != nil {
		return entries[:size-l.From], note, nil
	}
	note, err = s.sign(journal.Checkpoint{Journal: l.Journal, Size: end, Time: entries[len(entries)-1].RecordedAt})
	return entries, note, err
}

// shown finds the first checkpoint above from and up to most that an ancestor countersigned past the parent.
func (s *Source) shown(ctx context.Context, from, most uint64) (size uint64, note []byte, err error) {
	for _, code := range s.Ancestors {
		rows, err := s.Store.Scan(ctx, s.Store.Own(), federation.Witness, []any{string(code), int64(from) + 1}, 1)
		if err != nil {
			return 0, nil, err
		}
		if len(rows) == 0 || rows[0][0] != string(code) {
			continue
		}
		at, _ := rows[0][1].(int64)
		if n, _ := rows[0][4].([]byte); n != nil && uint64(at) <= most && (note == nil || uint64(at) < size) {
			size, note = uint64(at), n
		}
	}
	return size, note, nil
}

// sign adds the root to a checkpoint of the own journal and signs it.
func (s *Source) sign(point journal.Checkpoint) ([]byte, error) {
	hashes, err := s.Store.Hashes(point.Journal)
	if err != nil {
		return nil, err
	}
	if planted.On("uplink.checkpoint-ahead") {
		point.Time += 3_600_000_000
	}
	if point.Root, err = journal.Root(hashes, point.Size); err != nil {
		return nil, err
	}
	return s.Key.Sign(point)
}

// forwarded cuts or lengthens entries of a journal from below so that they end where it has a checkpoint.
func (s *Source) forwarded(ctx context.Context, l *Load, entries []journal.Entry) ([]journal.Entry, []byte, error) {
	end, note, err := s.cut(ctx, l.Journal, l.From, l.From+uint64(len(entries)))
	if err != nil || note == nil {
		return nil, nil, err
	}
	for have := l.From + uint64(len(entries)); have < end; have = l.From + uint64(len(entries)) {
		more, err := s.Store.Read(ctx, l.Journal, have, l.Bytes)
		if err != nil {
			return nil, nil, fmt.Errorf("reading journal %s from %d: %w", l.Journal, have, err)
		}
		if len(more) == 0 {
			return nil, nil, fault.New(fault.Corrupt, "journal %s: a checkpoint of size %d and only %d entries", l.Journal, end, have)
		}
		entries = append(entries, more...)
	}
	return entries[:end-l.From], note, nil
}

// cut finds the checkpoint with the largest size above from and up to most, or else the smallest above; none where the
// journal has none above from.
func (s *Source) cut(ctx context.Context, id journal.ID, from, most uint64) (size uint64, note []byte, err error) {
	for next := int64(from) + 1; ; {
		rows, err := s.Store.Scan(ctx, id, federation.Checkpoint, []any{next}, 16)
		if err != nil {
			return 0, nil, fmt.Errorf("checkpoints of journal %s: %w", id, err)
		}
		for _, row := range rows {
			at, _ := row[0].(int64)
			if note != nil && uint64(at) > most {
				return size, note, nil
			}
			size, next = uint64(at), at+1
			note, _ = row[2].([]byte)
		}
		if len(rows) < 16 || size > most {
			return size, note, nil
		}
	}
}

// Stamp answers Beat: a fresh checkpoint of the own journal, or the last one of another; ok is false where there is none.
func (s *Source) Stamp(ctx context.Context, id journal.ID) (point journal.Checkpoint, note []byte, ok bool, err error) {
	if id != s.Store.Own() {
		row, ok, err := s.Store.Get(ctx, id, federation.Head)
		if err != nil || !ok {
			return point, nil, false, err
		}
		note, _ = row[2].([]byte)
		if point, err = journal.ParseCheckpoint(note); err != nil {
			return point, nil, false, fault.New(fault.Corrupt, "journal %s: stored checkpoint: %w", id, err)
		}
		return point, note, true, nil
	}
	point.Journal = id
	if point.Size, point.Time, err = s.Store.Stamp(ctx); err != nil {
		return point, nil, false, fmt.Errorf("stamping a checkpoint: %w", err)
	}
	note, err = s.sign(point)
	return point, note, err == nil, err
}

// Row is what Keep asks to store; by is whose stream it came on, where that is not the parent's.
func (k *Keep) Row(around jurisdiction.Code, now int64) store.Change {
	by := k.By
	if by == "" {
		by = around
	}
	if by == "" {
		return store.Change{Table: federation.Acknowledged, Owner: k.Journal, Row: store.Row{int64(k.Size), k.Time, k.Note}}
	}
	return store.Change{Table: federation.Ancestor, Owner: k.Journal, Row: store.Row{string(by), int64(k.Size), k.Time, now, k.Note}}
}
