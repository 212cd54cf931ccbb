package embedded

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"duban.internal/node/fault"
	"duban.internal/node/journal"
	"duban.internal/node/store"
)

// gate is a disk of journals whose writes wait while it is shut: the writer stands still between an answer and the tables.
type gate struct {
	realDisk
	*gateState
}

type gateState struct {
	mu   sync.Mutex
	open chan struct{} // nil while it is open
	err  error         // what writes fail with
}

func newGate() gate { return gate{gateState: &gateState{}} }

func (g gate) shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.open = make(chan struct{})
}

// release lets writes go on, or fail.
func (g gate) release(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.open != nil {
		close(g.open)
	}
	g.open, g.err = nil, err
}

func (g gate) pass() error {
	g.mu.Lock()
	open := g.open
	g.mu.Unlock()
	if open != nil {
		<-open
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.err
}

func (g gate) Open(name string, create bool) (file, error) {
	f, err := g.realDisk.Open(name, create)
	return gatedFile{f, g}, err
}

type gatedFile struct {
	file
	g gate
}

func (f gatedFile) WriteAt(b []byte, at int64) (int, error) {
	if err := f.g.pass(); err != nil {
		return 0, err
	}
	return f.file.WriteAt(b, at)
}

func gated(t *testing.T, cfg Config) (*Store, gate) {
	t.Helper()
	g := newGate()
	cfg.disk = g
	s := open(t, cfg)
	t.Cleanup(func() { g.release(nil) }) // before the store closes
	return s, g
}

func view(ctx context.Context, s *Store) (n int64, err error) {
	err = s.View(ctx, func(q store.Queryer) error {
		return q.QueryRowContext(ctx, "SELECT coalesce(sum(n), 0) FROM tally").Scan(&n)
	})
	return n, err
}

// TestReadsWhileTheWriterStands answers from memory what the tables do not have, and lets wait what needs the tables.
func TestReadsWhileTheWriterStands(t *testing.T) {
	s, g := gated(t, testConfig(t.TempDir(), journal.NewID()))
	mustFill(t, s, 0, 10)
	if _, err := view(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	g.shut()
	mustFill(t, s, 10, 10)
	if _, errs := s.Append(t.Context(), store.Command{Cursors: []store.Advance{{Follower: "f", Journal: s.Own(), To: 7}}}); errs[0] != nil {
		t.Fatal(errs[0])
	}
	if v, err := s.Version(t.Context(), "case/3"); err != nil || v != 4 {
		t.Errorf("version %d %v, expected 4", v, err)
	}
	if at, err := s.Cursor(t.Context(), "f", s.Own()); err != nil || at != 7 {
		t.Errorf("cursor %d %v, expected 7", at, err)
	}
	row, ok, err := s.Get(t.Context(), s.Own(), tally, "case/3")
	if err != nil || !ok || row[1] != int64(4) {
		t.Fatalf("row %v %v %v", row, ok, err)
	}
	row[1] = int64(99) // the caller's
	if row, _, _ := s.Get(t.Context(), s.Own(), tally, "case/3"); row[1] != int64(4) {
		t.Errorf("a caller changed the row to %v", row)
	}
	if _, ok, err := s.Get(t.Context(), s.Own(), tally, "case/none"); ok || err != nil {
		t.Errorf("a row that is not there: %v %v", ok, err)
	}
	info, _ := s.Journal(s.Own())
	if info.Size != 20 || info.Folded != 20 {
		t.Errorf("journal %+v", info)
	}
	if es, err := s.Read(t.Context(), s.Own(), 0, 1); err != nil || len(es) != 1 {
		t.Errorf("what is in files is read at once: %d %v", len(es), err)
	}
	ended, end := context.WithCancel(t.Context())
	end()
	if _, err := view(ended, s); !fault.Is(err, fault.Unavailable) {
		t.Errorf("a view whose caller gave up: %v", err)
	}
	var reads sync.WaitGroup
	for _, read := range []func() error{
		func() error {
			n, err := view(t.Context(), s)
			if err == nil && n != 20 {
				err = fmt.Errorf("a view of %d entries", n)
			}
			return err
		},
		func() error {
			es, err := s.Read(t.Context(), s.Own(), 5, 1<<20)
			if err == nil && len(es) != 15 {
				err = fmt.Errorf("%d entries read from 5 on, expected 15", len(es))
			}
			return err
		},
		func() error {
			es, err := s.Read(t.Context(), s.Own(), 19, 1)
			if err == nil && len(es) != 1 {
				err = fmt.Errorf("%d entries read at the end", len(es))
			}
			return err
		},
		func() error {
			h, err := s.Hashes(s.Own())
			if err == nil {
				_, err = tlog.TreeHash(20, h)
			}
			return err
		},
		func() error { return s.Erase(t.Context(), s.Own(), 15) },
	} {
		reads.Add(1)
		go func() {
			defer reads.Done()
			if err := read(); err != nil {
				t.Error(err)
			}
		}()
	}
	watch := s.Watch()
	g.release(nil)
	reads.Wait()
	<-watch
	if es, err := s.Read(t.Context(), s.Own(), 15, 1); err != nil || !es[0].Erased {
		t.Errorf("erased and read: %v", err)
	}
}

// TestUnwrittenIsBounded lets commands wait when the writer is too far behind.
func TestUnwrittenIsBounded(t *testing.T) {
	for _, x := range []struct {
		name   string
		change func(*Config)
		least  int
	}{
		{"entries", func(c *Config) { c.unwrittenEntries = 8 }, 8},
		{"bytes", func(c *Config) { c.UnwrittenBytes = 2000 }, 4},
	} {
		t.Run(x.name, func(t *testing.T) {
			cfg := testConfig(t.TempDir(), journal.NewID())
			x.change(&cfg)
			s, g := gated(t, cfg)
			g.shut()
			answered := 0
			for ; answered < 20; answered++ {
				ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
				_, errs := s.Append(ctx, store.Command{Natural: fmt.Sprint("n", answered), Entries: []store.Proposal{{Stream: "s", Kind: 1, Payload: fmt.Appendf(nil, "%d %s", answered, strings.Repeat("x", 200))}}})
				cancel()
				if errs[0] != nil {
					break
				}
			}
			if answered < x.least || answered > x.least+4 {
				t.Errorf("%d were answered while nothing was written, expected about %d", answered, x.least)
			}
			g.release(nil)
			mustFill(t, s, answered+1, 30)
			check(t, s, answered+31, answered+31)
		})
	}
}

// TestWriterFails stops the store; what was answered is there after the next start.
func TestWriterFails(t *testing.T) {
	cfg := testConfig(t.TempDir(), journal.NewID())
	s, g := gated(t, cfg)
	mustFill(t, s, 0, 5)
	if _, err := view(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	g.shut()
	mustFill(t, s, 5, 5)
	lead, err := s.Lease(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	waiting := make(chan error, 1)
	go func() {
		_, err := view(t.Context(), s)
		waiting <- err
	}()
	g.release(errDisk)
	<-s.Failed()
	<-lead.Done()
	if err := <-waiting; !fault.Is(err, fault.Unavailable) || !errors.Is(err, errDisk) {
		t.Errorf("a view that waited: %v", err)
	}
	if _, err := fill(s, 10, 1); !fault.Is(err, fault.Unavailable) {
		t.Errorf("a command to a store that failed: %v", err)
	}
	_ = s.Close() // it failed
	check(t, open(t, cfg), 10, 10)
}

// TestGroupsShowWhole shows nothing of a group before its end: a fold's rows may be undone.
func TestGroupsShowWhole(t *testing.T) {
	in, on := make(chan struct{}), make(chan struct{})
	cfg := testConfig(t.TempDir(), journal.NewID())
	cfg.Folds[0].Apply = func(tx store.Tx, e *journal.Entry) error {
		tx.Put(tally, store.Row{"a", int64(e.Number)})
		if string(e.Payload) == "fail" {
			in <- struct{}{}
			<-on
			return errors.New("undone")
		}
		return nil
	}
	s := open(t, cfg)
	entry := func(payload string) store.Command {
		return store.Command{Entries: []store.Proposal{{Stream: "s", Kind: 1, Payload: []byte(payload)}}}
	}
	look := func(when string, want any, version uint64) {
		t.Helper()
		row, ok, err := s.Get(t.Context(), s.Own(), tally, "a")
		if err != nil || ok != (want != nil) || ok && row[1] != want {
			t.Errorf("%s: row %v %v, expected %v", when, row, err, want)
		}
		if v, err := s.Version(t.Context(), "s"); err != nil || v != version {
			t.Errorf("%s: version %d %v, expected %d", when, v, err, version)
		}
	}
	done := make(chan []error)
	add := func() {
		_, errs := s.Append(t.Context(), entry("1"), entry("fail"))
		done <- errs
	}
	go add()
	<-in
	look("in the first group", nil, 0)
	on <- struct{}{}
	if err := errors.Join(<-done...); err != nil {
		t.Fatal(err)
	}
	look("after it", int64(0), 2)
	go add()
	<-in
	look("in the second", int64(0), 2)
	on <- struct{}{}
	if err := errors.Join(<-done...); err != nil {
		t.Fatal(err)
	}
	look("after that", int64(2), 4)
}

const behindEnv = "DUBAN_TEST_BEHIND_DIR"

// behindProcess appends while its writer stands still, and says what was answered.
func behindProcess(dir string) error {
	id, err := journal.ParseID(os.Getenv(behindEnv + "_ID"))
	if err != nil {
		return err
	}
	cfg, g := testConfig(dir, id), newGate()
	cfg.disk = g
	s, err := Open(context.Background(), cfg)
	if err != nil {
		return err
	}
	info, _ := s.Journal(id)
	if _, err := fill(s, int(info.Size), 10); err != nil {
		return err
	}
	if _, err := view(context.Background(), s); err != nil {
		return err
	}
	g.shut()
	if _, err := fill(s, int(info.Size)+10, 10); err != nil {
		return err
	}
	if _, errs := s.Append(context.Background(), store.Command{Cursors: []store.Advance{{Follower: "f", Journal: id, From: info.Size, To: info.Size + 20}}}); errs[0] != nil {
		return errs[0]
	}
	fmt.Println("answered")
	select {}
}

// TestKillBetweenAnswerAndTables kills a process whose last answers are only in the raft log.
func TestKillBetweenAnswerAndTables(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	dir, id := t.TempDir(), journal.NewID()
	for round := 1; round <= 3; round++ {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), behindEnv+"="+dir, behindEnv+"_ID="+id.String())
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		if !lines.Scan() || lines.Text() != "answered" {
			t.Fatalf("round %d: %q", round, lines.Text())
		}
		_ = cmd.Process.Kill() // SIGKILL reaches a living process
		_ = cmd.Wait()         // it was killed
		left := copyFolder(t, dir)
		c, err := openConn(filepath.Join(left, tablesFile), readWrite)
		if err != nil {
			t.Fatal(err)
		}
		n, err := c.number("SELECT size FROM store_journal WHERE ordinal = 1")
		c.close()
		if err != nil || n != int64(round*20-10) {
			t.Fatalf("round %d: the tables had %d entries (%v), expected %d: the test does not show what it says", round, n, err, round*20-10)
		}
		cfg := testConfig(copyFolder(t, dir), id)
		s := open(t, cfg)
		if at, err := s.Cursor(t.Context(), "f", id); err != nil || at != uint64(round*20) {
			t.Errorf("round %d: cursor %d %v", round, at, err)
		}
		if d, errs := s.Append(t.Context(), store.Command{Natural: fmt.Sprint("n", round*20-1)}); errs[0] != nil || !d[0].Duplicate {
			t.Errorf("round %d: the last key was lost: %v", round, errs[0])
		}
		if n, err := view(t.Context(), s); err != nil || n != int64(round*20) {
			t.Errorf("round %d: %d rows' entries (%v)", round, n, err)
		}
		check(t, s, round*20, round*20)
	}
}
