// Package downlink is the parent's end of the sync: it takes the journals of the nodes below (federation has the protocol).
//
// What it promises: nothing is stored that was not verified, nothing acknowledged that is not durable; a child speaks only
// for itself and for what lies below it; a journal that contradicts itself is refused, with the evidence in the own journal
// once, and survives no restart unrefused; one bad journal or child holds up no other. What it doesn't do: it opens no
// alert (escalation follows the journals), and it believes the topology that it was started with.
package downlink

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"sync"

	"golang.org/x/mod/sumdb/tlog"
	"golang.org/x/sync/semaphore"

	"duban.internal/federation"
	"duban.internal/federation/topology"
	"duban.internal/node/clock"
	"duban.internal/node/fault"
	"duban.internal/node/journal"
	"duban.internal/node/jurisdiction"
	"duban.internal/node/store"
	dubanv1 "duban.internal/proto/duban/v1"
)

// Store is what the downlink needs of a store.
type Store interface {
	Own() journal.ID
	Append(ctx context.Context, commands ...store.Command) ([]store.Result, []error)
	AppendReplica(ctx context.Context, replicas ...store.Replica) []error
	Journal(id journal.ID) (store.Info, bool)
	Hashes(id journal.ID) (tlog.HashReader, error)
	Read(ctx context.Context, id journal.ID, from uint64, max int) ([]journal.Entry, error)
	Get(ctx context.Context, id journal.ID, t *store.Table, key ...any) (store.Row, bool, error)
}

// Config is what a Downlink is made of.
type Config struct {
	Code  jurisdiction.Code // whose node this is
	Tree  *topology.Tree
	Key   *journal.Key // of the own journal: countersigns
	Store Store
	Clock clock.Clock
	Log   *slog.Logger

	// MaxBatch bounds one batch in bytes: federation.MaxMessage where 0.
	MaxBatch int
	// Budget bounds what all children together have sent and not yet been acknowledged, in bytes: 256 MiB where 0.
	Budget int64
}

// maxEntries bounds the entries of one batch; the smallest take about 100 bytes.
const maxEntries = 1 << 16

// Status says how one journal from below stands. Times are microseconds.
type Status struct {
	Size       uint64
	Heard      int64  // when the last message about it came, by the own clock; 0 where none did since the start
	Skew       int64  // the child's clock less the own one; known for direct children
	Checkpoint int64  // time stated by the last accepted checkpoint
	Refused    string // why nothing more is taken; empty where it is
}

// Downlink serves duban.v1.SyncService. Its methods may be called from many goroutines.
type Downlink struct {
	dubanv1.UnimplementedSyncServiceServer

	cfg    Config
	budget *semaphore.Weighted

	mu       sync.Mutex
	status   map[journal.ID]Status
	sessions map[jurisdiction.Code]*session
}

// New reads where each journal below stands.
func New(ctx context.Context, cfg Config) (*Downlink, error) {
	if cfg.MaxBatch == 0 {
		cfg.MaxBatch = federation.MaxMessage
	}
	if cfg.Budget == 0 {
		cfg.Budget = 256 << 20
	}
	cfg.Budget = max(cfg.Budget, int64(cfg.MaxBatch))
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if err := federation.CheckKey(cfg.Tree, cfg.Code, cfg.Key); err != nil {
		return nil, err
	}
	d := &Downlink{cfg: cfg, budget: semaphore.NewWeighted(cfg.Budget), status: map[journal.ID]Status{}, sessions: map[jurisdiction.Code]*session{}}
	for _, n := range cfg.Tree.All() {
		if n.Code == cfg.Code || !cfg.Tree.Within(n.Code, cfg.Code) {
			continue
		}
		s, err := d.stored(ctx, n.Key)
		if err != nil {
			return nil, err
		}
		status := Status{Size: s.Edge.Size(), Refused: s.Refused}
		if s.Note != nil {
			c, err := journal.ParseCheckpoint(s.Note)
			if err != nil {
				return nil, fault.New(fault.Corrupt, "journal %s: stored checkpoint: %w", n.Journal, err)
			}
			status.Checkpoint = c.Time
		}
		d.status[n.Journal] = status
	}
	return d, nil
}

// Status says how each journal of the tree below stands.
func (d *Downlink) Status() map[journal.ID]Status {
	d.mu.Lock()
	defer d.mu.Unlock()
	return maps.Clone(d.status)
}

// Witnessed is the time, in microseconds, that the last accepted checkpoint of a journal states: whatever it recorded
// before then is stored here. It is 0 for a journal that never sent one.
func (d *Downlink) Witnessed(id journal.ID) int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.status[id].Checkpoint
}

func (d *Downlink) update(id journal.ID, change func(*Status)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.status[id]
	change(&s)
	d.status[id] = s
}

// stored reads what a Copy goes on from.
func (d *Downlink) stored(ctx context.Context, key *journal.PublicKey) (State, error) {
	id, s := key.Journal(), State{Key: key}
	if info, ok := d.cfg.Store.Journal(id); ok && info.Size > 0 {
		hashes, err := d.cfg.Store.Hashes(id)
		if err != nil {
			return s, fmt.Errorf("journal %s: %w", id, err)
		}
		if s.Edge, err = journal.NewFrontier(hashes, info.Size); err != nil {
			return s, err
		}
		s.Recorded = info.RecordedAt
		row, ok, err := d.cfg.Store.Get(ctx, id, federation.Head)
		if err != nil {
			return s, err
		}
		if ok {
			s.Note, _ = row[2].([]byte)
		}
	}
	row, ok, err := d.cfg.Store.Get(ctx, d.cfg.Store.Own(), federation.PeerRefusal, id[:])
	if err != nil {
		return s, err
	}
	if ok {
		s.Refused, _ = row[2].(string)
	}
	return s, nil
}
