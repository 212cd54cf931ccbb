package embedded

import (
	"crypto/tls"
	"errors"
	"log/slog"
	"time"

	wal "github.com/hashicorp/raft-wal"
	"github.com/hashicorp/raft-wal/fs"
	"github.com/hashicorp/raft-wal/types"

	"duban.internal/node/clock"
	"duban.internal/node/fault"
	"duban.internal/node/journal"
	"duban.internal/node/store"
)

// Config of a store. Dir, Journal and Clock are required.
type Config struct {
	Dir     string         // the data folder; one process at a time
	Journal journal.ID     // the own journal; zero for the one that the folder has
	Folds   []*store.Fold  // tables folded from entries
	Tables  []*store.Table // followers' own tables, written by Command.Changes
	Known   []uint32       // kinds that need no fold, beside those that folds name
	Clock   clock.Clock
	Logger  *slog.Logger // nil for none

	// Replica is this replica's name among Peers; both empty for one replica alone.
	Replica string
	Peers   []Peer
	Listen  string      // raft's address, host:port; its own address among Peers where empty
	TLS     *tls.Config // for dialling and listening between replicas; required with Peers

	KeyTTL       time.Duration // life of idempotency keys in recorded time; 0 for 72 h
	CacheRows    int           // rows remembered in each of two generations; 0 for 131,072
	SegmentBytes int64         // size at which a segment file is full; 0 for 64 MiB
	MarkerBytes  int64         // raft log between markers: bounds disk and the time to start; 0 for 256 MiB
	TrailingLogs uint64        // raft logs kept behind a marker for a replica that lags; 0 for 64, with Peers 512
	QueueBytes   int64         // commands waiting for an answer; 0 for 64 MiB

	// UnwrittenBytes bounds the raft logs that are answered and not in the tables yet: commands wait where the writer is
	// so far behind. While a commit ends there may be twice as much. 0 for 48 MiB.
	UnwrittenBytes   int64
	unwrittenEntries int // the same bound in entries

	disk       disk      // files of journals
	walVFS     types.VFS // files of the raft log
	walSegment int       // size of its segments
}

// Peer is one replica of the node.
type Peer struct {
	ID      string
	Address string // raft's
	Service string // where its clients are served; Leader returns it
}

// Sizes of groups. One command a log halves the speed; a larger group only waits longer.
const (
	groupOps   = 1024
	groupBytes = 4 << 20

	// What makes a group go while another is under way.
	worthwhileOps   = 192
	worthwhileBytes = 256 << 10

	inFlight    = 3
	journalsDir = "journals"
	tablesFile  = "tables.db"
)

func (c Config) withDefaults() Config {
	def := func(v *int64, d int64) {
		if *v == 0 {
			*v = d
		}
	}
	if c.KeyTTL == 0 {
		c.KeyTTL = 72 * time.Hour
	}
	if c.CacheRows == 0 {
		c.CacheRows = 131_072
	}
	def(&c.SegmentBytes, 64<<20)
	def(&c.MarkerBytes, 256<<20)
	def(&c.QueueBytes, 64<<20)
	def(&c.UnwrittenBytes, 48<<20)
	if c.unwrittenEntries == 0 {
		c.unwrittenEntries = 16_384
	}
	if c.TrailingLogs == 0 {
		c.TrailingLogs = 64
		if len(c.Peers) > 1 {
			c.TrailingLogs = 512
		}
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.walSegment == 0 {
		c.walSegment = wal.DefaultSegmentSize
	}
	if c.walVFS == nil {
		c.walVFS = fs.New()
	}
	if c.disk == nil {
		c.disk = realDisk{}
	}
	if len(c.Peers) == 0 {
		c.Replica = "alone"
	}
	return c
}

func (c *Config) validate() error {
	var l fault.List
	if c.Dir == "" {
		l.Add("dir", "expected the data folder")
	}
	if c.Clock == nil {
		l.Add("clock", "expected a clock")
	}
	if len(c.Peers) > 0 {
		if c.peer(c.Replica) == nil {
			l.Add("replica", "%q is not among the peers", c.Replica)
		}
		if c.TLS == nil {
			l.Add("tls", "expected certificates: replicas speak only TLS")
		}
	}
	return l.Err(fault.Invalid, "the store's configuration is wrong")
}

func (c *Config) peer(id string) *Peer {
	for i := range c.Peers {
		if c.Peers[i].ID == id {
			return &c.Peers[i]
		}
	}
	return nil
}

var errClosed = errors.New("the store is closed")
