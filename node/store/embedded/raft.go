package embedded

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"
	"github.com/hashicorp/raft-wal/segment"

	"duban.internal/node/clock"
	"duban.internal/node/fault"
)

// raftLogger passes raft's warnings on.
func raftLogger(l *slog.Logger, name string) hclog.Logger {
	return hclog.New(&hclog.LoggerOptions{Name: name, Level: hclog.Warn, Output: lineWriter{l}, DisableTime: true})
}

type lineWriter struct{ l *slog.Logger }

func (w lineWriter) Write(p []byte) (int, error) {
	w.l.Warn(strings.TrimSpace(string(p)))
	return len(p), nil
}

func (s *Store) openLog() error {
	dir := filepath.Join(s.cfg.Dir, "raft")
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	logger := raftLogger(s.cfg.Logger, "wal")
	meta := &sealedTail{clock: s.cfg.Clock}
	var err error
	s.wal, err = wal.Open(dir, wal.WithMetaStore(meta), wal.WithLogger(logger), wal.WithSegmentSize(s.cfg.walSegment),
		wal.WithSegmentFiler(segment.NewFiler(dir, s.cfg.walVFS)))
	if err != nil {
		return fault.New(fault.Corrupt, "raft log: %w", err)
	}
	snaps, err := raft.NewFileSnapshotStoreWithLogger(s.cfg.Dir, 2, raftLogger(s.cfg.Logger, "snapshot"))
	if err != nil {
		return fmt.Errorf("raft snapshots: %w", err)
	}
	s.snaps = snaps // raft is given snapshots{}, which sends whole states
	return nil
}

const (
	aloneAddress = "alone"
	aloneTimeout = 50 * time.Millisecond // nobody else votes: elections only delay the start
	peersTimeout = 500 * time.Millisecond
)

func (s *Store) startRaft() error {
	c := raft.DefaultConfig()
	c.LocalID = raft.ServerID(s.cfg.Replica)
	c.NoSnapshotRestoreOnStart = true // the tables are what was applied; recover brought them up to the marker
	c.TrailingLogs = s.cfg.TrailingLogs
	c.SnapshotThreshold = 1 << 62 // markers are asked for by bytes
	c.SnapshotInterval = 24 * time.Hour
	c.BatchApplyCh = true
	c.MaxAppendEntries = 64
	c.Logger = raftLogger(s.cfg.Logger, "raft")
	c.NoLegacyTelemetry = true
	notify := make(chan bool, 64)
	c.NotifyCh = notify
	timeout, listen, tlsConfig := aloneTimeout, "127.0.0.1:0", s.cfg.TLS
	servers := []raft.Server{{ID: c.LocalID, Address: aloneAddress}}
	if len(s.cfg.Peers) > 0 {
		timeout, servers = peersTimeout, nil
		for _, p := range s.cfg.Peers {
			servers = append(servers, raft.Server{ID: raft.ServerID(p.ID), Address: raft.ServerAddress(p.Address)})
		}
		if listen = s.cfg.Listen; listen == "" {
			listen = s.cfg.peer(s.cfg.Replica).Address
		}
	} else if tlsConfig == nil {
		var err error
		if tlsConfig, err = aloneTLS(); err != nil {
			return err
		}
	}
	c.HeartbeatTimeout, c.ElectionTimeout, c.LeaderLeaseTimeout = timeout, timeout, timeout
	layer, err := listenTLS(listen, tlsConfig)
	if err != nil {
		return err
	}
	s.trans = raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream: layer, MaxPool: 4, Timeout: 10 * time.Second, Logger: raftLogger(s.cfg.Logger, "transport"),
	})
	begun, err := raft.HasExistingState(s.wal, s.wal, s.snaps)
	if err != nil {
		return err
	}
	if !begun {
		if err := raft.BootstrapCluster(c, s.wal, s.wal, s.snaps, s.trans, raft.Configuration{Servers: servers}); err != nil {
			return fmt.Errorf("raft bootstrap: %w", err)
		}
	}
	s.b = newBatcher(s, s.cfg.QueueBytes)
	if s.raft, err = raft.NewRaft(c, fsm{s}, s.wal, s.wal, snapshots{s.snaps, s}, s.trans); err != nil {
		return fmt.Errorf("raft: %w", err)
	}
	s.follows.Add(1)
	go s.follow(notify)
	s.b.done.Add(1)
	go s.b.run()
	return nil
}

// catchUp waits until everything that was committed before Open is in the tables.
func (s *Store) catchUp(ctx context.Context) error {
	// Elections take real time, also where the node's own clock stands still.
	pause := func() error { return clock.Pause(ctx, clock.System(), 2*time.Millisecond) }
	for {
		if err := s.failure(); err != nil {
			return err
		}
		if s.raft.State() == raft.Leader {
			if err := s.raft.Barrier(0).Error(); err == nil {
				break
			}
		} else if _, id := s.raft.LeaderWithID(); id != "" && s.raft.AppliedIndex() >= s.raft.CommitIndex() && s.raft.CommitIndex() > 0 {
			break
		}
		if err := pause(); err != nil {
			return fault.New(fault.Unavailable, "no leader among the replicas yet: %w", err)
		}
	}
	return s.onWriter(func() error { return nil })
}

// lease tells followers whether this replica leads.
type lease struct {
	mu      sync.Mutex
	ctx     context.Context // while it leads
	cancel  context.CancelFunc
	changed chan struct{}
}

func (l *lease) gain() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ctx == nil {
		l.ctx, l.cancel = context.WithCancel(context.Background())
		l.wake()
	}
}

func (l *lease) lose() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ctx != nil {
		l.cancel()
		l.ctx = nil
	}
	l.wake()
}

func (l *lease) wake() {
	if l.changed != nil {
		close(l.changed)
		l.changed = nil
	}
}

func (l *lease) wait() (ctx context.Context, changed <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.changed == nil {
		l.changed = make(chan struct{})
	}
	return l.ctx, l.changed
}

// follow gains the lease when raft elected this replica and it has applied all that its predecessors committed.
func (s *Store) follow(notify <-chan bool) {
	defer s.follows.Done()
	for {
		select {
		case <-s.quit:
			return
		case leads := <-notify:
			if !leads {
				s.lease.lose()
			} else if err := s.raft.Barrier(0).Error(); err == nil {
				s.lease.gain()
			}
		}
	}
}

// Lease is store.Store.
func (s *Store) Lease(ctx context.Context) (context.Context, error) {
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if s.closed.Load() {
			return nil, fault.New(fault.Unavailable, "the store is closed")
		}
		if err := s.failure(); err != nil {
			return nil, fault.New(fault.Unavailable, "the store failed: %w", err)
		}
		lead, changed := s.lease.wait()
		if lead != nil {
			out, cancel := context.WithCancelCause(ctx)
			stop := context.AfterFunc(lead, func() { cancel(fault.New(fault.NotLeader, "this replica no longer leads")) })
			context.AfterFunc(out, func() { stop() })
			return out, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// Leader is store.Store: the address at which the leader serves its clients, where the configuration says it, and
// otherwise raft's.
func (s *Store) Leader() (address string, self bool) {
	at, id := s.raft.LeaderWithID()
	if id == "" {
		return "", false
	}
	if p := s.cfg.peer(string(id)); p != nil && p.Service != "" {
		at = raft.ServerAddress(p.Service)
	}
	return string(at), string(id) == s.cfg.Replica && s.raft.State() == raft.Leader
}
