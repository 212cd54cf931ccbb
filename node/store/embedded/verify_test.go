package embedded_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"duban.internal/node/clock"
	"duban.internal/node/journal"
	"duban.internal/node/store"
	"duban.internal/node/store/embedded"
)

var noteTable = &store.Table{Name: "note", Key: 1, Columns: []store.Column{{Name: "name", Type: store.Text}, {Name: "n", Type: store.Int}}}

var countTable = &store.Table{Name: "count", Key: 1, Columns: []store.Column{
	{Name: "stream", Type: store.Text}, {Name: "n", Type: store.Int}, {Name: "last", Type: store.Blob, Null: true}}}

// countFold counts the entries of streams: the one-row fold.
func countFold() *store.Fold {
	return &store.Fold{Name: "count", Version: 1, Tables: []*store.Table{countTable}, Kinds: []uint32{1},
		Apply: func(tx store.Tx, e *journal.Entry) error {
			n := int64(0)
			if row, ok := tx.Get(countTable, e.Stream); ok {
				n = row[1].(int64)
			}
			tx.Put(countTable, store.Row{e.Stream, n + 1, nil})
			return nil
		}}
}

func config(dir string, id journal.ID) embedded.Config {
	return embedded.Config{Dir: dir, Journal: id, Folds: []*store.Fold{countFold()}, Tables: []*store.Table{noteTable}, Clock: clock.System(), SegmentBytes: 4096}
}

func mustOpen(t *testing.T, cfg embedded.Config) *embedded.Store {
	t.Helper()
	s, err := embedded.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func add(t *testing.T, s *embedded.Store, n int) {
	t.Helper()
	for i := range n {
		if _, errs := s.Append(t.Context(), store.Command{Entries: []store.Proposal{{Stream: fmt.Sprint("case/", i%7), Kind: 1, Payload: fmt.Appendf(nil, "payload %d %s", i, strings.Repeat("x", 100))}}}); errs[0] != nil {
			t.Fatal(errs[0])
		}
	}
}

func options() embedded.Options {
	return embedded.Options{Folds: []*store.Fold{countFold()}, Tables: []*store.Table{noteTable}}
}

func verify(t *testing.T, dir string) *embedded.Report {
	t.Helper()
	r, err := embedded.Verify(t.Context(), dir, options(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func copyDir(t *testing.T, from string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "copy")
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	return to
}

func TestVerifyFindsEveryChangedByte(t *testing.T) {
	dir, child := t.TempDir(), journal.NewID()
	s := mustOpen(t, config(dir, journal.NewID()))
	add(t, s, 60)
	var es []journal.Entry
	for n := range uint64(9) {
		p := store.Proposal{Payload: []byte("replica")}
		p.Seal()
		h := journal.Header{Journal: child, Number: n, RecordedAt: 1, Kind: 1, Algorithm: journal.SHA256, Digest: p.Digest, Stream: "case/r"}
		e, err := journal.Open(h.Append(nil), p.Salt, p.Payload, false)
		if err != nil {
			t.Fatal(err)
		}
		es = append(es, e)
	}
	if err := s.AppendReplica(t.Context(), store.Replica{Journal: child, Entries: es})[0]; err != nil {
		t.Fatal(err)
	}
	if err := s.Erase(t.Context(), s.Own(), 30); err != nil {
		t.Fatal(err)
	}
	own := s.Own()
	// A folder as a kill leaves it: everything is there, nothing was closed.
	killed := copyDir(t, dir)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{dir, killed} {
		r := verify(t, d)
		if len(r.Findings) > 0 || len(r.Journals) != 2 || r.Journals[0].Size != 60 || r.Journals[0].Erased != 1 || r.Journals[1].Size != 9 || len(r.Tables) != 1 || r.Tables[0].Rows != 8 {
			t.Fatalf("a sound folder: %+v", r)
		}
	}
	tried := 0
	for _, id := range []journal.ID{own, child} {
		files, err := filepath.Glob(filepath.Join(dir, "journals", id.String(), "*"))
		if err != nil || len(files) < 3 {
			t.Fatal(files, err)
		}
		for _, name := range files {
			b, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			step := 97
			if id == child {
				step = 31
			}
			for at := 0; at < len(b); at += step {
				was := b[at]
				b[at] ^= 0x41
				if err := os.WriteFile(name, b, 0o600); err != nil {
					t.Fatal(err)
				}
				b[at] = was
				r := verify(t, dir)
				if len(r.Findings) == 0 || r.Findings[0].Journal != id || r.Findings[0].Entry < 0 || strings.Contains(r.Findings[0].What, "nil") {
					t.Fatalf("byte %d of %s changed: %v", at, name, r.Findings)
				}
				tried++
			}
			if err := os.WriteFile(name, b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	t.Log("changed bytes found:", tried)
	if r := verify(t, dir); len(r.Findings) > 0 {
		t.Fatalf("put back: %v", r.Findings)
	}
}

func TestVerifyNamesTheEntry(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, config(dir, journal.NewID()))
	add(t, s, 50)
	id := s.Own()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	files, _ := filepath.Glob(filepath.Join(dir, "journals", id.String(), "*.seg"))
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if at := strings.Index(string(b), "payload 33 "); at >= 0 {
			b[at+9] = '4'
			if err := os.WriteFile(name, b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	r := verify(t, dir)
	if len(r.Findings) != 1 || r.Findings[0].Entry != 33 {
		t.Fatalf("findings %v, expected one about entry 33", r.Findings)
	}
}

func TestVerifyComparesTables(t *testing.T) {
	for _, x := range []struct{ sql, what string }{
		{`UPDATE count SET n = n + 1 WHERE stream = 'case/3'`, `row ("case/3") column n is 8, the entries give 7`},
		{`DELETE FROM count WHERE stream = 'case/3'`, `row ("case/3") is missing`},
		{`INSERT INTO count (journal, stream, n) VALUES (1, 'case/31', 5)`, `row ("case/31") is not made by any entry`},
	} {
		dir := t.TempDir()
		s := mustOpen(t, config(dir, journal.NewID()))
		add(t, s, 50)
		if _, errs := s.Append(t.Context(), store.Command{Changes: []store.Change{{Table: noteTable, Row: store.Row{"kept", int64(7)}}}}); errs[0] != nil {
			t.Fatal(errs[0])
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		db, err := sql.Open("sqlite", filepath.Join(dir, "tables.db"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := db.Exec(x.sql); err != nil {
			t.Fatal(err)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		r := verify(t, dir)
		if len(r.Findings) != 1 || r.Findings[0].What != x.what || r.Findings[0].Journal != r.Own {
			t.Fatalf("findings %v, expected: %s", r.Findings, x.what)
		}
		if err := embedded.Rebuild(t.Context(), dir, options(), nil); err != nil {
			t.Fatal(err)
		}
		if r := verify(t, dir); len(r.Findings) > 0 {
			t.Fatalf("after a rebuild: %v", r.Findings)
		}
		s = mustOpen(t, config(dir, journal.ID{}))
		if row, ok, err := s.Get(t.Context(), s.Own(), noteTable, "kept"); !ok || err != nil || row[1] != int64(7) {
			t.Fatalf("a follower's own row after a rebuild: %v %v", row, err)
		}
		add(t, s, 3)
	}
}

func TestVerifyLooksFurther(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, config(dir, journal.NewID()))
	add(t, s, 5)
	if _, err := embedded.Verify(t.Context(), dir, options(), nil); err == nil {
		t.Error("a folder in use was verified")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	o := options()
	o.Also = func(ctx context.Context, c embedded.Contents) []error {
		es, err := c.Read(ctx, c.Journals()[0].ID, 0, 1<<20)
		if len(es) != 5 || err != nil {
			t.Errorf("read %d entries, %v", len(es), err)
		}
		return []error{errors.New("no checkpoint")}
	}
	r, err := embedded.Verify(t.Context(), dir, o, nil)
	if err != nil || len(r.Findings) != 1 || r.Findings[0].What != "no checkpoint" {
		t.Errorf("%v %v", r, err)
	}
	if _, err := embedded.Verify(t.Context(), t.TempDir(), options(), nil); err == nil {
		t.Error("an empty folder was verified")
	}
}
