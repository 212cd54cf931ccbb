package downlink

import (
	"context"
	"fmt"

	"golang.org/x/mod/sumdb/tlog"

	"duban.internal/federation"
	"duban.internal/federation/topology"
	"duban.internal/node/fault"
	"duban.internal/node/journal"
	"duban.internal/node/jurisdiction"
	"duban.internal/node/store"
)

// Reader is what answers the effects of a Core that read.
type Reader interface {
	Own() journal.ID
	Journal(id journal.ID) (store.Info, bool)
	Hashes(id journal.ID) (tlog.HashReader, error)
	Read(ctx context.Context, id journal.ID, from uint64, max int) ([]journal.Entry, error)
	Get(ctx context.Context, id journal.ID, t *store.Table, key ...any) (store.Row, bool, error)
	Scan(ctx context.Context, id journal.ID, t *store.Table, from []any, most int) ([]store.Row, error)
}

// ReadState reads what a Copy goes on from.
func ReadState(ctx context.Context, r Reader, key *journal.PublicKey) (State, error) {
	id, s := key.Journal(), State{Key: key}
	if info, ok := r.Journal(id); ok && info.Size > 0 {
		hashes, err := r.Hashes(id)
		if err != nil {
			return s, fmt.Errorf("journal %s: %w", id, err)
		}
		if s.Edge, err = journal.NewFrontier(hashes, info.Size); err != nil {
			return s, err
		}
		s.Recorded = info.RecordedAt
		row, ok, err := r.Get(ctx, id, federation.Head)
		if err != nil {
			return s, err
		}
		if ok {
			s.Note, _ = row[2].([]byte)
		}
	}
	row, ok, err := r.Get(ctx, r.Own(), federation.PeerRefusal, id[:])
	if err != nil {
		return s, err
	}
	if ok {
		s.Refused, _ = row[2].(string)
	}
	if row, ok, err = r.Get(ctx, r.Own(), federation.PeerReadmission, id[:]); ok && err == nil {
		s.Readmitted = uint64(row[1].(int64)) + 1
	}
	return s, err
}

// ReadStates answers Load.
func ReadStates(ctx context.Context, r Reader, tree *topology.Tree, l *Load) (map[journal.ID]State, error) {
	out := make(map[journal.ID]State, len(l.Journals))
	for _, id := range l.Journals {
		n, ok := tree.Journal(id)
		if !ok {
			return nil, fault.New(fault.NotFound, "topology: no journal %s", id)
		}
		var err error
		if out[id], err = ReadState(ctx, r, n.Key); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// ReadCompare answers Compare.
func ReadCompare(ctx context.Context, r Reader, q *Compare) (root tlog.Hash, next int64, err error) {
	hashes, err := r.Hashes(q.Journal)
	if err != nil {
		return root, 0, err
	}
	if root, err = journal.Root(hashes, q.Size); err != nil {
		return root, 0, err
	}
	entries, err := r.Read(ctx, q.Journal, q.Size, 1)
	if err != nil {
		return root, 0, err
	}
	if len(entries) == 0 {
		return root, 0, fault.New(fault.Corrupt, "journal %s: entry %d is not there", q.Journal, q.Size)
	}
	return root, entries[0].RecordedAt, nil
}

// ReadRecall answers Recall: the parent's word, and that of the nodes above it.
func ReadRecall(ctx context.Context, r Reader, tree *topology.Tree, code jurisdiction.Code, q *Recall) (out []Countersigned, err error) {
	self, _ := tree.Node(code)
	for _, id := range q.Journals {
		row, ok, err := r.Get(ctx, id, federation.Acknowledged)
		if err != nil {
			return nil, err
		}
		if ok {
			out = append(out, Countersigned{Journal: id, By: self.Parent, Time: row[1].(int64), Note: row[2].([]byte)})
		}
		rows, err := r.Scan(ctx, id, federation.Ancestor, nil, 16)
		if err != nil {
			return nil, err
		}
		for _, row := range rows {
			by, _ := row[0].(string)
			out = append(out, Countersigned{Journal: id, By: jurisdiction.Code(by), Time: row[2].(int64), Note: row[4].([]byte)})
		}
	}
	return out, nil
}

// ReadWitnessed finds when an entry was first shown to a node above its writer, by what is kept here: the earliest acceptance
// of a checkpoint that covers it, and that checkpoint's size. ok is false where none is known.
func ReadWitnessed(ctx context.Context, r Reader, tree *topology.Tree, id journal.ID, number uint64) (at int64, size uint64, ok bool, err error) {
	n, _ := tree.Journal(id)
	for above, more := tree.Node(n.Parent); more; above, more = tree.Node(above.Parent) {
		rows, err := r.Scan(ctx, id, federation.Witness, []any{string(above.Code), int64(number) + 1}, 1)
		if err != nil {
			return 0, 0, false, err
		}
		if len(rows) == 0 || rows[0][0] != string(above.Code) {
			continue
		}
		if accepted := rows[0][3].(int64); !ok || accepted < at {
			at, size, ok = accepted, uint64(rows[0][1].(int64)), true
		}
	}
	return at, size, ok, nil
}
