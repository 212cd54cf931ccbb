// Package audit checks what a node has of checkpoints and countersignatures against the trees that it holds.
//
// What it promises: when it reports nothing, every checkpoint kept is signed by its journal's key, states the root that the
// stored tree has at its size, and no stored entry above its size was recorded before the time that it states; and what the
// parent, or a node above it, acknowledged bears its signature. What it doesn't do: it takes the stored tree's hashes as they are.
// Whether they are those of the stored entries is for the store's own check to say.
package audit

import (
	"context"
	"fmt"

	"golang.org/x/mod/sumdb/tlog"

	"duban.internal/federation"
	"duban.internal/federation/topology"
	"duban.internal/node/journal"
	"duban.internal/node/jurisdiction"
	"duban.internal/node/store"
)

// Store is what is read.
type Store interface {
	Journals() []store.Info
	Hashes(id journal.ID) (tlog.HashReader, error)
	Read(ctx context.Context, id journal.ID, from uint64, max int) ([]journal.Entry, error)
	View(ctx context.Context, fn func(q store.Queryer) error) error
}

// Problem is something that does not hold.
type Problem struct {
	Journal journal.ID
	Size    uint64 // of the checkpoint
	Text    string
}

// String is the problem as a sentence.
func (p Problem) String() string {
	return fmt.Sprintf("journal %s, checkpoint of size %d: %s", p.Journal, p.Size, p.Text)
}

// Report says how much was checked and what does not hold.
type Report struct {
	Checkpoints       int // of journals from below
	Countersignatures int // of the nodes above
	Problems          []Problem
}

// Checkpoints checks all that a node keeps. An error means that the store could not be read.
func Checkpoints(ctx context.Context, s Store, tree *topology.Tree, code jurisdiction.Code) (Report, error) {
	a := audit{s: s, tree: tree}
	self, _ := tree.Node(code)
	for above, ok := tree.Node(self.Parent); ok; above, ok = tree.Node(above.Parent) {
		a.above = append(a.above, above.Key)
	}
	for _, info := range s.Journals() {
		for _, t := range []*store.Table{federation.Checkpoint, federation.Head, federation.Acknowledged, federation.Ancestor} {
			notes, err := a.notes(ctx, t, info.Ordinal)
			if err != nil {
				return a.report, fmt.Errorf("table %s: %w", t.Name, err)
			}
			for _, n := range notes {
				var by []*journal.PublicKey // one of them has to have countersigned it
				switch t {
				case federation.Acknowledged:
					by = a.above[:min(1, len(a.above))]
				case federation.Ancestor:
					by = a.above[min(1, len(a.above)):]
				}
				if err := a.check(ctx, info, n, t == federation.Acknowledged || t == federation.Ancestor, by); err != nil {
					return a.report, err
				}
			}
		}
	}
	return a.report, nil
}

type audit struct {
	s      Store
	tree   *topology.Tree
	above  []*journal.PublicKey // from the parent up; none at the root
	report Report
}

type kept struct {
	size int64
	time int64
	note []byte
}

func (a *audit) notes(ctx context.Context, t *store.Table, ordinal int64) (out []kept, err error) {
	err = a.s.View(ctx, func(q store.Queryer) error {
		rows, err := q.QueryContext(ctx, `SELECT size, time_us, note FROM `+t.Name+` WHERE journal = $1 ORDER BY size`, ordinal)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var k kept
			if err := rows.Scan(&k.size, &k.time, &k.note); err != nil {
				return err
			}
			out = append(out, k)
		}
		return rows.Err()
	})
	return out, err
}

func (a *audit) check(ctx context.Context, info store.Info, k kept, acknowledged bool, by []*journal.PublicKey) error {
	problem := func(format string, args ...any) {
		a.report.Problems = append(a.report.Problems, Problem{info.ID, uint64(k.size), fmt.Sprintf(format, args...)})
	}
	n, ok := a.tree.Journal(info.ID)
	if !ok {
		problem("the topology has no key of this journal")
		return nil
	}
	point, err := n.Key.Open(k.note)
	if err != nil {
		problem("%v", err)
		return nil
	}
	if int64(point.Size) != k.size || point.Time != k.time {
		problem("it is of size %d and time %d, its row says otherwise", point.Size, point.Time)
	}
	if acknowledged {
		a.report.Countersignatures++
		err := fmt.Errorf("acknowledged, and the topology has nobody above to do so")
		for _, key := range by {
			if _, err = key.Witnessed(k.note); err == nil {
				break
			}
		}
		if err != nil {
			problem("%v", err)
		}
	} else {
		a.report.Checkpoints++
	}
	if point.Size > info.Size {
		problem("only %d entries are here: what was acknowledged is missing", info.Size)
		return nil
	}
	hashes, err := a.s.Hashes(info.ID)
	if err != nil {
		return fmt.Errorf("journal %s: %w", info.ID, err)
	}
	root, err := journal.Root(hashes, point.Size)
	if err != nil {
		return err
	}
	if root != point.Root {
		problem("another root than the stored tree has at that size: an entry below it was changed")
	}
	if point.Size == info.Size {
		return nil
	}
	next, err := a.s.Read(ctx, info.ID, point.Size, 1)
	if err != nil {
		return fmt.Errorf("journal %s entry %d: %w", info.ID, point.Size, err)
	}
	if len(next) > 0 && next[0].RecordedAt < point.Time {
		problem("entry %d was recorded before the time that it states: it was put in later", point.Size)
	}
	return nil
}
