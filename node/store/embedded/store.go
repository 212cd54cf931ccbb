package embedded

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"

	"duban.internal/node/fault"
	"duban.internal/node/journal"
	"duban.internal/node/store"
)

// Store is one replica. Open makes it.
type Store struct {
	cfg   Config
	lock  *os.File
	wal   *wal.WAL
	snaps raft.SnapshotStore
	raft  *raft.Raft
	trans *raft.NetworkTransport
	m     *machine
	w     *writer
	b     *batcher
	own   journal.ID

	readers atomic.Pointer[readers]

	wake    chan struct{}     // the machine has changes
	control chan func() error // run by the writer between jobs
	replies chan error
	stop    chan struct{} // ends the writer and what waits on it
	ended   sync.WaitGroup
	quit    chan struct{} // ends follow, before raft stops: raft answers no barrier afterwards
	follows sync.WaitGroup
	closing sync.Once
	closed  atomic.Bool

	failed  atomic.Pointer[error]
	failing chan struct{}

	marked      atomic.Uint64 // applied index of the newest marker
	sinceMarker atomic.Int64
	marking     atomic.Bool
	applied     atomic.Uint64 // raft index up to which readers see everything, in memory where not in the tables

	mu      sync.Mutex // what is published
	infos   []published
	byID    map[journal.ID]int
	written uint64        // raft index up to which everything is in files and tables
	watch   chan struct{} // closed when written grows

	lease lease
	check *checkpointer
}

type published struct {
	store.Info
	files   *files
	written uint64 // entries that are in files
}

var _ store.Store = (*Store)(nil)

// Open opens or begins the store in cfg.Dir. It returns when everything committed before is in the tables; with peers,
// when there is a leader and this replica has applied what it knows to be committed. ctx bounds the waiting.
func Open(ctx context.Context, cfg Config) (_ *Store, err error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	s := &Store{
		cfg: cfg, wake: make(chan struct{}, 1), control: make(chan func() error), replies: make(chan error),
		stop: make(chan struct{}), quit: make(chan struct{}), failing: make(chan struct{}), watch: make(chan struct{}), byID: map[journal.ID]int{},
	}
	defer func() {
		if err != nil {
			_ = s.release() // the reason why it does not open is the one to tell
		}
	}()
	if s.lock, err = lockDir(cfg.Dir); err != nil {
		return nil, err
	}
	if err := settleArrived(cfg.Dir); err != nil {
		return nil, err
	}
	if err := s.openTables(); err != nil {
		return nil, err
	}
	if err := s.openLog(); err != nil {
		return nil, err
	}
	if err := s.recover(); err != nil {
		return nil, err
	}
	if err := s.settle(ctx); err != nil {
		return nil, err
	}
	s.republish()
	if err := s.w.run("PRAGMA wal_autocheckpoint=0"); err != nil { // startCheckpointer takes over
		return nil, err
	}
	if err := s.startCheckpointer(); err != nil {
		return nil, err
	}
	s.ended.Add(1)
	go s.write()
	if err := s.startRaft(); err != nil {
		s.end()
		return nil, err
	}
	if err := s.catchUp(ctx); err != nil {
		_ = s.Close() // the reason why it does not open is the one to tell
		return nil, err
	}
	return s, nil
}

func (s *Store) openTables() error {
	if err := s.openWriter(); err != nil {
		return err
	}
	return s.openReaders()
}

// openWriter opens the connections of the writer and of the ordered apply.
func (s *Store) openWriter() error {
	path := filepath.Join(s.cfg.Dir, tablesFile)
	c, err := openConn(path, readWrite, "journal_mode=WAL", "synchronous=NORMAL", "wal_autocheckpoint=16000",
		"cache_size=-65536", "temp_store=MEMORY", "foreign_keys=OFF")
	if err != nil {
		return err
	}
	s.w = &writer{conn: c}
	if err := createSchema(c); err != nil {
		return err
	}
	reader, err := openConn(path, readOnly, "query_only=ON", "cache_size=-65536")
	if err != nil {
		return err
	}
	if s.m != nil {
		s.m.rows.reader = reader
		return nil
	}
	if s.m, err = newMachine(&s.cfg, reader); err != nil {
		reader.close()
	}
	return err
}

// readers are the connections of queries.
type readers struct {
	gets    chan *conn
	views   *sql.DB
	retired atomic.Bool // the tables were exchanged: connections in use close when they are given back
}

func (s *Store) openReaders() error {
	path := filepath.Join(s.cfg.Dir, tablesFile)
	r := &readers{gets: make(chan *conn, getters)}
	for range getters {
		c, err := openConn(path, readOnly, "query_only=ON", "cache_size=-4096")
		if err != nil {
			return errors.Join(err, r.retire())
		}
		r.gets <- c
	}
	var err error
	r.views, err = sql.Open("sqlite", "file:"+path+"?_pragma=busy_timeout(10000)&_pragma=query_only(1)&_pragma=cache_size(-8192)")
	if err != nil {
		return errors.Join(err, r.retire())
	}
	r.views.SetMaxIdleConns(4)
	r.views.SetMaxOpenConns(16)
	s.readers.Store(r)
	return nil
}

func (r *readers) put(c *conn) {
	if r.retired.Load() {
		c.close()
	} else {
		r.gets <- c
	}
}

// retire closes what is not in use.
func (r *readers) retire() error {
	r.retired.Store(true)
	for {
		select {
		case c := <-r.gets:
			c.close()
			continue
		default:
		}
		break
	}
	if r.views == nil {
		return nil
	}
	return r.views.Close()
}

const getters = 4

// write is the writer's goroutine.
func (s *Store) write() {
	defer s.ended.Done()
	for {
		select {
		case <-s.stop:
			return
		case fn := <-s.control:
			s.writeAll()
			err := s.failure()
			if err == nil {
				err = fn()
			}
			s.replies <- err
		case <-s.wake:
			s.writeAll()
		}
	}
}

func (s *Store) writeAll() {
	for {
		s.m.mu.Lock()
		j := s.m.take()
		s.m.mu.Unlock()
		if j == nil {
			return
		}
		err := s.failure()
		if err == nil {
			if err = s.w.write(j, s.m.wrote); err == nil {
				err = s.checkpoint()
			}
			if err != nil {
				s.fail(err)
			}
		}
		if err == nil {
			s.m.done.Store(j.number)
			s.publish(j)
		}
		if s.sinceMarker.Add(j.bytes) > s.cfg.MarkerBytes {
			s.markLater()
		}
	}
}

// markLater asks raft for a snapshot, which is a marker.
func (s *Store) markLater() {
	if s.raft == nil || !s.marking.CompareAndSwap(false, true) {
		return
	}
	s.sinceMarker.Store(0)
	s.ended.Add(1)
	go func() {
		defer s.ended.Done()
		defer s.marking.Store(false)
		if err := s.raft.Snapshot().Error(); err != nil && !errors.Is(err, raft.ErrNothingNewToSnapshot) && !errors.Is(err, raft.ErrRaftShutdown) {
			s.cfg.Logger.Error("no marker was written; the raft log grows until one is", "error", err)
		}
	}()
}

// onWriter runs fn on the writer's goroutine, after everything applied is written.
func (s *Store) onWriter(fn func() error) error {
	select {
	case s.control <- fn:
		return <-s.replies
	case <-s.stop:
		return errClosed
	}
}

// fail stops the store: what was not committed never will be here.
func (s *Store) fail(err error) {
	if s.failed.CompareAndSwap(nil, &err) {
		s.cfg.Logger.Error("the store stopped: nothing more is written", "error", err)
		close(s.failing)
		if s.b != nil {
			s.lease.lose()
		}
	}
	if s.m != nil {
		s.m.room.Broadcast()
	}
}

func (s *Store) failure() error {
	if p := s.failed.Load(); p != nil {
		return *p
	}
	return nil
}

// Failed is closed when the store met a failure after which it writes nothing more: a disk that refuses, a log that this
// program does not know. The process should end.
func (s *Store) Failed() <-chan struct{} { return s.failing }

// Close answers what was submitted, then stops.
func (s *Store) Close() error {
	var err error
	s.closing.Do(func() {
		s.closed.Store(true)
		s.b.close()
		if s.failure() == nil && s.sinceMarker.Load() > s.cfg.MarkerBytes/8 {
			if e := s.raft.Snapshot().Error(); e != nil { // it would have left the next start less to rewrite
				s.cfg.Logger.Warn("no marker at the end", "error", e)
			}
		}
		close(s.quit)
		s.follows.Wait()
		s.lease.lose()
		if s.raft != nil {
			err = s.raft.Shutdown().Error()
		}
		s.end()
		err = errors.Join(err, s.release())
	})
	return err
}

// end lets the writer finish.
func (s *Store) end() {
	if s.failure() == nil {
		_ = s.onWriter(func() error { return nil }) // what was applied is written
	}
	close(s.stop)
	s.ended.Wait()
}

// release closes files; it may be called on a half-opened store.
func (s *Store) release() error {
	var errs []error
	if s.trans != nil {
		errs = append(errs, s.trans.Close())
	}
	if r := s.readers.Load(); r != nil {
		errs = append(errs, r.retire())
	}
	if s.m != nil {
		s.m.rows.reader.close()
		for _, l := range s.m.order {
			if l.files != nil { // nil where loading failed
				errs = append(errs, l.files.close())
			}
		}
	}
	if s.w != nil && s.w.conn != nil {
		s.w.conn.close()
	}
	if s.wal != nil {
		errs = append(errs, s.wal.Close())
	}
	if s.lock != nil {
		errs = append(errs, s.lock.Close())
	}
	return errors.Join(errs...)
}

func lockDir(dir string) (*os.File, error) {
	if err := os.MkdirAll(filepath.Join(dir, journalsDir), 0o750); err != nil {
		return nil, fault.New(fault.Precondition, "data folder: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o640)
	if err != nil {
		return nil, fault.New(fault.Precondition, "data folder: %w", err)
	}
	if err := flock(f); err != nil {
		_ = f.Close()
		return nil, fault.New(fault.Precondition, "data folder %s is in use by another process (%w): stop that one first, or name another folder", dir, err)
	}
	return f, nil
}
