// Package downlink is the parent's end of the sync: it takes the journals of the nodes below (federation has the protocol).
//
// What it promises: nothing is stored that was not verified, nothing acknowledged that is not durable; a node speaks only
// for itself and for what lies below it; a journal that contradicts itself is refused, with the evidence in the own journal
// once, and survives no restart unrefused; one bad journal or child holds up no other. What children sent and was not
// acknowledged is bounded in bytes, for each and for all; they share commits, and their journals are served in turn.
// What it doesn't do: it opens no alert (escalation follows the journals), and it believes the topology that it was started
// with. One message of each child beyond the bound may lie in gRPC's buffers.
//
// Core is the state machine; Downlink is the thin driver that gives it a store, streams and a clock.
package downlink

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

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
	Reader
	Append(ctx context.Context, commands ...store.Command) ([]store.Result, []error)
	AppendReplica(ctx context.Context, replicas ...store.Replica) []error
	Watch() <-chan struct{}
}

// Config is what a Downlink is made of.
type Config struct {
	Code    jurisdiction.Code // whose node this is
	Tree    *topology.Tree
	Key     *journal.Key // of the own journal: countersigns
	Store   Store
	Clock   clock.Clock
	Log     *slog.Logger
	Version string
	Letters federation.Below // what goes down; nil for nothing
	// MaxBatch bounds one message in bytes: federation.MaxMessage where 0.
	MaxBatch int
	// Memory bounds what all children together have sent and not yet been acknowledged, in bytes: 256 MiB where 0.
	Memory int
	// Window bounds it for one child; where 0, an even share of Memory among the children that the topology has, between
	// 256 KiB and 8 MiB.
	Window int
}

const (
	// maxEntries bounds the entries of one batch; the smallest take about 100 bytes.
	maxEntries = 1 << 16
	// together bounds what is stored in one commit, in bytes.
	together = 4 << 20
	// flights is how many commits are on their way: one flood's need not be waited for.
	flights = 2
	// pace is how often the store is looked at for what concerns the children, in patience.
	pace = 100 * time.Millisecond
	// letterWindow bounds the letters that a child has not yet acknowledged, in bytes.
	letterWindow = 1 << 20
)

// Status says how one journal from below stands. Times are microseconds.
type Status struct {
	Size       uint64
	Heard      int64  // when a later checkpoint than before was accepted last, by the own clock; 0 where none was since the start
	Skew       int64  // the child's clock less the own one; known where its writer speaks itself
	Checkpoint int64  // time stated by the last accepted checkpoint
	Covered    uint64 // size of the last accepted checkpoint
	Refused    string // why nothing more is taken; empty where it is
}

// Peer is what silence and lateness of a journal's writer are judged by. Times are microseconds.
type Peer struct {
	Checkpoint int64  // stated by the last accepted checkpoint; everything it covers is stored here
	Size       uint64 // of that checkpoint
	Heard      int64  // when this node last accepted a later checkpoint than before, by its own clock; 0 for not since Since
	Since      int64  // when this node began to listen
}

// Downlink serves duban.v1.SyncService. Its methods may be called from many goroutines.
type Downlink struct {
	dubanv1.UnimplementedSyncServiceServer
	cfg   Config
	since int64

	mu      sync.Mutex
	core    *Core
	room    *sync.Cond
	streams map[uint64]*stream
	last    uint64 // number of the last stream
	fetches map[uint64]*fetch
	asked   uint64 // number of the last fetch
}

// New reads where each journal below stands.
func New(ctx context.Context, cfg Config) (*Downlink, error) {
	if cfg.MaxBatch == 0 {
		cfg.MaxBatch = federation.MaxMessage
	}
	if cfg.Memory == 0 {
		cfg.Memory = 256 << 20
	}
	if cfg.Window == 0 {
		cfg.Window = min(max(cfg.Memory/max(1, len(cfg.Tree.Children(cfg.Code))), 256<<10), 8<<20)
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if err := federation.CheckKey(cfg.Tree, cfg.Code, cfg.Key); err != nil {
		return nil, err
	}
	d := &Downlink{cfg: cfg, since: clock.Micros(cfg.Clock.Now()), streams: map[uint64]*stream{}, fetches: map[uint64]*fetch{},
		core: NewCore(CoreConfig{Code: cfg.Code, Tree: cfg.Tree, Key: cfg.Key, Version: cfg.Version, Kinds: federation.Kinds(),
			MaxBatch: cfg.MaxBatch, Window: cfg.Window, Memory: cfg.Memory, Together: together, Flights: flights,
			Letters: cfg.Letters != nil, LetterWindow: letterWindow})}
	d.room = sync.NewCond(&d.mu)
	for _, n := range cfg.Tree.All() {
		if n.Code == cfg.Code || !cfg.Tree.Within(n.Code, cfg.Code) {
			continue
		}
		s, err := ReadState(ctx, cfg.Store, n.Key)
		if err != nil {
			return nil, err
		}
		if err := d.core.Known(n.Journal, s); err != nil {
			return nil, err
		}
	}
	return d, d.announced(ctx)
}

// Status says how each journal of the tree below stands.
func (d *Downlink) Status() map[journal.ID]Status {
	d.mu.Lock()
	defer d.mu.Unlock()
	return maps.Clone(d.core.status)
}

// Peer says how the writer of a journal below is heard.
func (d *Downlink) Peer(id journal.ID) Peer {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.core.status[id]
	return Peer{Checkpoint: s.Checkpoint, Size: s.Covered, Heard: s.Heard, Since: d.since}
}

// Witnessed says when an entry of a journal below was first shown to this node, or to another above its writer: the
// earliest acceptance, in microseconds, of a checkpoint that covers it, and that checkpoint's size. It is late by less than
// federation.WitnessEvery. ok is false where no such checkpoint is known.
func (d *Downlink) Witnessed(ctx context.Context, id journal.ID, number uint64) (acceptedUs int64, size uint64, ok bool, err error) {
	return ReadWitnessed(ctx, d.cfg.Store, d.cfg.Tree, id, number)
}

// Window is how many bytes a child may have sent and not yet been acknowledged.
func (d *Downlink) Window() int { return d.cfg.Window }

// Waiting is how many bytes came from all children and are not acknowledged yet.
func (d *Downlink) Waiting() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.core.bytes
}

// announced tells the core which kinds are known above.
func (d *Downlink) announced(ctx context.Context) error {
	kinds, err := federation.ReadAnnounced(ctx, d.cfg.Store)
	if err == nil {
		d.step(func() { d.core.Announced(kinds) })
	}
	return err
}

// Run looks after what changes in the store beside the streams, until ctx ends: letters to go down, readmitted journals,
// kinds announced from above. Without it children are told at their next stream.
func (d *Downlink) Run(ctx context.Context) error {
	own := uint64(0)
	for {
		watch := d.cfg.Store.Watch()
		if err := d.announced(ctx); err != nil {
			return err
		}
		if info, _ := d.cfg.Store.Journal(d.cfg.Store.Own()); info.Size != own {
			own = info.Size
			d.step(d.core.Grown)
			if err := d.readmit(ctx); err != nil {
				return err
			}
		}
		// Letters that are only passed on are rows, not entries: Poke, and every heartbeat, look for them.
		select {
		case <-watch:
		case <-ctx.Done():
			return ctx.Err()
		}
		if err := clock.Pause(ctx, d.cfg.Clock, pace); err != nil { // a busy journal is not looked at for every entry
			return err
		}
	}
}

// Poke tells that there may be letters to send down that were not there before.
func (d *Downlink) Poke() { d.step(d.core.Grown) }

func (d *Downlink) readmit(ctx context.Context) error {
	d.mu.Lock()
	refused := d.core.Refused()
	d.mu.Unlock()
	slices.SortFunc(refused, func(a, b journal.ID) int { return slices.Compare(a[:], b[:]) })
	for _, id := range refused {
		_, again, err := d.cfg.Store.Get(ctx, d.cfg.Store.Own(), federation.PeerReadmission, id[:])
		if err != nil {
			return err
		}
		_, still, err := d.cfg.Store.Get(ctx, d.cfg.Store.Own(), federation.PeerRefusal, id[:])
		if err != nil {
			return err
		}
		if again && !still {
			d.cfg.Log.Info("journal readmitted", "journal", id.String())
			d.step(func() { d.core.Readmitted(id) })
		}
	}
	return nil
}

// unavailable is what is said to streams that can't go on.
func unavailable(err error) error {
	if fault.Of(err) == fault.Internal {
		return fault.New(fault.Unavailable, "%w", err)
	}
	return err
}
