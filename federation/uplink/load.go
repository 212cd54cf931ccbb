package uplink

import (
	"context"
	"fmt"

	"duban.internal/federation"
	"duban.internal/node/fault"
	"duban.internal/node/journal"
	"duban.internal/node/store"
)

// load reads entries and finds, or for the own journal signs, the checkpoint of their end.
func (u *Uplink) load(ctx context.Context, l *Load) ([]journal.Entry, []byte, error) {
	entries, err := u.cfg.Store.Read(ctx, l.Journal, l.From, l.Bytes)
	if err != nil {
		return nil, nil, fmt.Errorf("reading journal %s from %d: %w", l.Journal, l.From, err)
	}
	if len(entries) == 0 {
		return nil, nil, nil
	}
	if l.Journal != u.cfg.Store.Own() {
		return u.forwarded(ctx, l, entries)
	}
	point := journal.Checkpoint{Journal: l.Journal, Size: l.From + uint64(len(entries)), Time: entries[len(entries)-1].RecordedAt}
	note, err := u.sign(point)
	return entries, note, err
}

// sign adds the root to a checkpoint of the own journal and signs it.
func (u *Uplink) sign(point journal.Checkpoint) ([]byte, error) {
	hashes, err := u.cfg.Store.Hashes(point.Journal)
	if err != nil {
		return nil, err
	}
	if point.Root, err = journal.Root(hashes, point.Size); err != nil {
		return nil, err
	}
	return u.cfg.Key.Sign(point)
}

// forwarded cuts or lengthens entries of a journal from below so that they end where it has a checkpoint.
func (u *Uplink) forwarded(ctx context.Context, l *Load, entries []journal.Entry) ([]journal.Entry, []byte, error) {
	end, note, err := u.cut(ctx, l.Journal, l.From, l.From+uint64(len(entries)))
	if err != nil || note == nil {
		return nil, nil, err
	}
	for have := l.From + uint64(len(entries)); have < end; have = l.From + uint64(len(entries)) {
		more, err := u.cfg.Store.Read(ctx, l.Journal, have, l.Bytes)
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
func (u *Uplink) cut(ctx context.Context, id journal.ID, from, most uint64) (size uint64, note []byte, err error) {
	info, ok := u.cfg.Store.Journal(id)
	if !ok {
		return 0, nil, nil
	}
	err = u.cfg.Store.View(ctx, func(q store.Queryer) error {
		for _, query := range []string{
			`SELECT size, note FROM checkpoint WHERE journal = $1 AND size > $2 AND size <= $3 ORDER BY size DESC LIMIT 1`,
			`SELECT size, note FROM checkpoint WHERE journal = $1 AND size > $2 AND size > $3 ORDER BY size LIMIT 1`,
		} {
			rows, err := q.QueryContext(ctx, query, info.Ordinal, int64(from), int64(most))
			if err != nil {
				return err
			}
			for rows.Next() {
				if err := rows.Scan(&size, &note); err != nil {
					rows.Close()
					return err
				}
			}
			rows.Close()
			if err := rows.Err(); err != nil || note != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return 0, nil, fmt.Errorf("checkpoints of journal %s: %w", id, err)
	}
	return size, note, nil
}

// beat makes a fresh checkpoint of the own journal, or finds the last one of another.
func (u *Uplink) beat(ctx context.Context, id journal.ID) error {
	if id != u.cfg.Store.Own() {
		row, ok, err := u.cfg.Store.Get(ctx, id, federation.Head)
		if err != nil || !ok {
			return err
		}
		note, _ := row[2].([]byte)
		point, err := journal.ParseCheckpoint(note)
		if err != nil {
			return fault.New(fault.Corrupt, "journal %s: stored checkpoint: %w", id, err)
		}
		u.core.Stamped(id, point, note, u.now())
		return nil
	}
	size, at, err := u.cfg.Store.Stamp(ctx)
	if err != nil {
		return fmt.Errorf("stamping a checkpoint: %w", err)
	}
	point := journal.Checkpoint{Journal: id, Size: size, Time: at}
	note, err := u.sign(point)
	if err != nil {
		return err
	}
	u.core.Stamped(id, point, note, u.now())
	return nil
}
