package embedded

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"duban.internal/node/clock"
	"duban.internal/node/fault"
	"duban.internal/node/journal"
	"duban.internal/node/store"
)

var tally = &store.Table{Name: "tally", Key: 1, Columns: []store.Column{{Name: "stream", Type: store.Text}, {Name: "n", Type: store.Int}}}

func tallyFold() *store.Fold {
	return &store.Fold{Name: "tally", Version: 1, Tables: []*store.Table{tally}, Kinds: []uint32{1},
		Apply: func(tx store.Tx, e *journal.Entry) error {
			n := int64(0)
			if row, ok := tx.Get(tally, e.Stream); ok {
				n = row[1].(int64)
			}
			tx.Put(tally, store.Row{e.Stream, n + 1})
			return nil
		}}
}

func testConfig(dir string, id journal.ID) Config {
	return Config{Dir: dir, Journal: id, Folds: []*store.Fold{tallyFold()}, Clock: clock.System(), SegmentBytes: 4096}
}

func open(t *testing.T, cfg Config) *Store {
	t.Helper()
	s, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// fill appends n entries, numbered on from next, each its own command and the payload its number.
func fill(s *Store, next, n int) (done int, err error) {
	for i := next; i < next+n; i++ {
		c := store.Command{Natural: fmt.Sprint("n", i), Entries: []store.Proposal{{Stream: fmt.Sprint("case/", i%5), Kind: 1, Payload: fmt.Appendf(nil, "%d %s", i, strings.Repeat("x", 200))}}}
		if _, errs := s.Append(s.test(), c); errs[0] != nil {
			return done, errs[0]
		}
		done++
	}
	return done, nil
}

func mustFill(t *testing.T, s *Store, next, n int) {
	t.Helper()
	if _, err := fill(s, next, n); err != nil {
		t.Fatal(err)
	}
}

func (s *Store) marker(t *testing.T) {
	t.Helper()
	if err := s.raft.Snapshot().Error(); err != nil {
		t.Fatal(err)
	}
}

// check reads everything and refolds it: n entries or up to more, in order, and tables that agree.
func check(t *testing.T, s *Store, least, most int) int {
	t.Helper()
	var got []journal.Entry
	for {
		run, err := s.Read(t.Context(), s.Own(), uint64(len(got)), 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		if len(run) == 0 {
			break
		}
		got = append(got, run...)
	}
	if len(got) < least || len(got) > most {
		t.Fatalf("%d entries, expected %d to %d", len(got), least, most)
	}
	for i, e := range got {
		if !strings.HasPrefix(string(e.Payload), fmt.Sprint(i, " ")) {
			t.Fatalf("entry %d holds %.8q", i, e.Payload)
		}
	}
	dir := s.cfg.Dir
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	r, err := Verify(t.Context(), dir, Options{Folds: []*store.Fold{tallyFold()}}, nil)
	if err != nil || len(r.Findings) > 0 || r.Journals[0].Size != uint64(len(got)) {
		t.Fatalf("verify: %v %+v", err, r)
	}
	return len(got)
}

func copyFolder(t *testing.T, from string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "copy")
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	return to
}

// TestOlderTables is the trap of NoSnapshotRestoreOnStart: raft starts at the marker and ignores the logs before it, so
// older tables would be left with a hole.
func TestOlderTables(t *testing.T) {
	for _, trailing := range []uint64{1000, 1} {
		dir := t.TempDir()
		cfg := testConfig(dir, journal.NewID())
		cfg.TrailingLogs = trailing
		s := open(t, cfg)
		mustFill(t, s, 0, 20)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		old, err := os.ReadFile(filepath.Join(dir, tablesFile))
		if err != nil {
			t.Fatal(err)
		}
		s = open(t, cfg)
		mustFill(t, s, 20, 20)
		s.marker(t)
		mustFill(t, s, 40, 3)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, tablesFile), old, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err = Open(t.Context(), cfg)
		if trailing == 1 {
			if !fault.Is(err, fault.Corrupt) || !strings.Contains(err.Error(), "does not reach back") {
				t.Fatalf("a log that was trimmed behind the tables: %v", err)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		check(t, s, 43, 43)
	}
}

// TestTrimmedLog opens a folder whose log begins behind the marker: raft's own logs never reach the tables, and yet the
// folder is not too old.
func TestTrimmedLog(t *testing.T) {
	cfg := testConfig(t.TempDir(), journal.NewID())
	cfg.TrailingLogs = 1
	n := 0
	for range 4 {
		s := open(t, cfg)
		mustFill(t, s, n, 5)
		n += 5
		if err := s.raft.Barrier(0).Error(); err != nil {
			t.Fatal(err)
		}
		s.marker(t)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	check(t, open(t, cfg), n, n)
}

// TestLossOfPower takes from segments, tree and tables what was not fsynced; the raft log gives it back.
func TestLossOfPower(t *testing.T) {
	dir := t.TempDir()
	cfg := testConfig(dir, journal.NewID())
	s := open(t, cfg)
	mustFill(t, s, 0, 40)
	if err := s.Erase(t.Context(), s.Own(), 7); err != nil {
		t.Fatal(err)
	}
	s.marker(t)
	wal, err := os.Stat(filepath.Join(dir, tablesFile+"-wal"))
	if err != nil {
		t.Fatal(err)
	}
	mustFill(t, s, 40, 40)
	if err := s.Erase(t.Context(), s.Own(), 50); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Stamp(t.Context()); err != nil {
		t.Fatal(err)
	}
	mustFill(t, s, 80, 20)
	marked := s.m.own.files
	safe, err := marked.end(40)
	if err != nil {
		t.Fatal(err)
	}
	id := s.Own()
	for seed := range uint64(12) {
		r := rand.New(rand.NewPCG(seed, 1))
		lost := copyFolder(t, dir)
		at := filepath.Join(lost, journalsDir, id.String())
		cut := func(name string, least int64) {
			info, err := os.Stat(name)
			if err != nil {
				t.Fatal(err)
			}
			if info.Size() <= least {
				return
			}
			to := least + r.Int64N(info.Size()-least)
			if err := os.Truncate(name, to); err != nil {
				t.Fatal(err)
			}
			if r.IntN(2) == 0 { // or the size got to the disk, and the bytes did not
				if err := os.Truncate(name, info.Size()); err != nil {
					t.Fatal(err)
				}
			}
		}
		cut(filepath.Join(at, "hashes"), storedHashes(40)*32)
		cut(filepath.Join(at, "ends"), 40*endSize)
		segments, _ := filepath.Glob(filepath.Join(at, "*.seg"))
		for _, name := range segments {
			f, err := os.Open(name)
			if err != nil {
				t.Fatal(err)
			}
			x := &segmentFile{f: realFile{f}}
			if err := x.readHeader(id); err != nil {
				t.Fatal(err)
			}
			_ = f.Close()
			if x.base > safe {
				cut(name, 0)
			} else if x.base+8192 > safe {
				cut(name, segmentHeader+safe-x.base)
			}
		}
		cut(filepath.Join(lost, tablesFile+"-wal"), wal.Size())
		_ = os.Remove(filepath.Join(lost, tablesFile+"-shm"))
		c := cfg
		c.Dir = lost
		again := open(t, c)
		for _, n := range []uint64{7, 50} {
			es, err := again.Read(t.Context(), id, n, 1)
			if err != nil || !es[0].Erased {
				t.Fatalf("seed %d: entry %d came back: %v", seed, n, err)
			}
		}
		info, _ := again.Journal(id)
		if info.Size != 100 || info.Folded != 100 {
			t.Fatalf("seed %d: %+v", seed, info)
		}
		if d, err := again.Append(t.Context(), store.Command{Natural: "n99"}); err[0] != nil || !d[0].Duplicate {
			t.Fatalf("seed %d: a key was lost", seed)
		}
		if err := again.Close(); err != nil {
			t.Fatal(err)
		}
		rep, err := Verify(t.Context(), lost, Options{Folds: []*store.Fold{tallyFold()}}, nil)
		if err != nil || len(rep.Findings) > 0 {
			t.Fatalf("seed %d: %v %v", seed, err, rep)
		}
	}
}

func TestMixedFolders(t *testing.T) {
	cfg := testConfig(t.TempDir(), journal.NewID())
	s := open(t, cfg)
	mustFill(t, s, 0, 3)
	if second, err := Open(t.Context(), cfg); !fault.Is(err, fault.Precondition) {
		t.Fatalf("one folder opened twice: %v %v", second, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	other := cfg
	other.Journal = journal.NewID()
	if _, err := Open(t.Context(), other); !fault.Is(err, fault.Precondition) {
		t.Fatalf("another journal's folder: %v", err)
	}
	if err := os.RemoveAll(filepath.Join(cfg.Dir, "raft")); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), cfg); !fault.Is(err, fault.Corrupt) {
		t.Fatalf("a folder without its raft log: %v", err)
	}
}

// faulty is a disk that fails for good at one of its operations, as a process that dies there.
type faulty struct {
	realDisk
	left *atomic.Int64
}

var errDisk = errors.New("the disk failed")

func (d faulty) fail() error {
	if d.left.Add(-1) < 0 {
		return errDisk
	}
	return nil
}

func (d faulty) Open(name string, create bool) (file, error) {
	if err := d.fail(); err != nil {
		return nil, err
	}
	f, err := d.realDisk.Open(name, create)
	return faultyFile{f, d}, err
}

type faultyFile struct {
	file
	d faulty
}

func (f faultyFile) WriteAt(b []byte, at int64) (int, error) {
	if err := f.d.fail(); err != nil {
		n, _ := f.file.WriteAt(b[:len(b)/2], at) // torn
		return n, err
	}
	return f.file.WriteAt(b, at)
}

func (f faultyFile) Truncate(size int64) error {
	if err := f.d.fail(); err != nil {
		return err
	}
	return f.file.Truncate(size)
}

func (f faultyFile) Sync() error {
	if err := f.d.fail(); err != nil {
		return err
	}
	return f.file.Sync()
}

// TestEveryWritePoint fails the disk of journals at each of its operations in turn.
func TestEveryWritePoint(t *testing.T) {
	for n := int64(0); ; n += 3 {
		dir := t.TempDir()
		d := faulty{left: &atomic.Int64{}}
		d.left.Store(n)
		cfg := testConfig(dir, journal.NewID())
		cfg.SegmentBytes = 1500
		good := cfg
		cfg.disk = d
		done := 0
		s, err := Open(t.Context(), cfg)
		if err == nil {
			done, err = fill(s, 0, 8)
			if err == nil {
				err = s.raft.Snapshot().Error()
			}
			if err == nil {
				var more int
				more, err = fill(s, 8, 8)
				done += more
			}
			if err == nil {
				err = s.Erase(s.test(), s.Own(), 3)
			}
			if err != nil && !strings.Contains(err.Error(), errDisk.Error()) {
				t.Fatalf("operation %d: %v", n, err)
			}
			_ = s.Close() // its disk is broken
		} else if !errors.Is(err, errDisk) {
			t.Fatalf("operation %d: open: %v", n, err)
		}
		finished := err == nil
		again := open(t, good)
		if size, _ := again.Journal(again.Own()); size.Size < uint64(done) || size.Size > uint64(done+1) {
			t.Fatalf("operation %d: %d entries, %d were answered", n, size.Size, done)
		}
		if err := again.Close(); err != nil {
			t.Fatal(err)
		}
		r, err := Verify(t.Context(), dir, Options{Folds: []*store.Fold{tallyFold()}}, nil)
		if err != nil || len(r.Findings) > 0 {
			t.Fatalf("operation %d: %v %v", n, err, r)
		}
		if finished {
			t.Log("operations:", n)
			return
		}
	}
}
