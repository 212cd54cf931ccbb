package embedded

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/mod/sumdb/tlog"

	"duban.internal/node/fault"
	"duban.internal/node/journal"
	"duban.internal/node/store"
)

// Options of Verify and Rebuild: what the node that owns the folder is opened with.
type Options struct {
	Folds  []*store.Fold
	Tables []*store.Table
	Known  []uint32
	// Also checks what the engine knows nothing of, such as checkpoints; each error that it returns is a finding.
	// Nil for nothing. Rebuild ignores it.
	Also func(ctx context.Context, c Contents) []error
}

// Contents of a folder that nobody has open, to be read.
type Contents interface {
	Journals() []store.Info
	Read(ctx context.Context, id journal.ID, from uint64, max int) ([]journal.Entry, error)
	Hashes(id journal.ID) (tlog.HashReader, error)
	View(ctx context.Context, fn func(q store.Queryer) error) error
}

// Progress is told while long work goes on: how far it is in what.
type Progress func(doing string, done, total uint64)

// Report is what Verify found.
type Report struct {
	Own      journal.ID
	Journals []JournalReport
	Tables   []TableReport
	Findings []Finding // what is wrong; empty for a sound folder
	Notes    []string  // what could not be checked, or is worth knowing
}

// JournalReport is one journal's state.
type JournalReport struct {
	ID      journal.ID
	Own     bool
	Size    uint64
	Folded  uint64
	Erased  uint64
	Bytes   int64
	Root    tlog.Hash
	Stopped string
}

// TableReport is one folded table, compared with a fresh folding of all entries.
type TableReport struct {
	Name string
	Rows uint64
}

// Finding is one thing that is wrong.
type Finding struct {
	Journal journal.ID // zero where it is about no journal
	Entry   int64      // number of the entry; -1 where it is about none
	Where   string     // file or table
	What    string
}

// String is the finding for people.
func (f Finding) String() string {
	s := f.Where + ": " + f.What
	if f.Entry >= 0 {
		s = fmt.Sprintf("entry %d: %s", f.Entry, s)
	}
	if !f.Journal.IsZero() {
		s = fmt.Sprintf("journal %s: %s", f.Journal, s)
	}
	return s
}

// maxFindings bounds the report of a folder that is damaged all over.
const maxFindings = 100

func (r *Report) find(f Finding) {
	if len(r.Findings) < maxFindings {
		r.Findings = append(r.Findings, f)
	}
}

// verifier reads a folder, and works in a scratch one.
type verifier struct {
	dir, scratch string
	opts         Options
	report       *Report
	progress     Progress
	s            *Store // its tables are a copy
}

// Verify checks a data folder that no process has open, and changes nothing in it: every byte of every journal's files,
// the trees, the raft log's reach, and that folding all entries afresh gives the same tables. Followers' own tables are
// not made of entries and only read. It needs room for a copy of tables.db and for another set of folded tables among
// temporary files. An error means that it could not look; what is wrong is in the report.
func Verify(ctx context.Context, dir string, o Options, progress Progress) (*Report, error) {
	if progress == nil {
		progress = func(string, uint64, uint64) {}
	}
	if _, err := os.Stat(filepath.Join(dir, tablesFile)); err != nil {
		return nil, fault.New(fault.NotFound, "%s is no data folder: it has no %s", dir, tablesFile)
	}
	if f, err := os.Open(filepath.Join(dir, "lock")); err == nil {
		defer func() { _ = f.Close() }() // only read
		if err := flock(f); err != nil {
			return nil, fault.New(fault.Precondition, "data folder %s is in use by another process: stop it, or verify a copy", dir)
		}
	}
	scratch, err := os.MkdirTemp("", "duban-verify-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(scratch) }() // temporary files
	v := &verifier{dir: dir, scratch: scratch, opts: o, report: &Report{}, progress: progress}
	if err := v.open(); err != nil {
		return nil, err
	}
	defer func() { _ = v.s.release() }() // only a copy
	if err := v.run(ctx); err != nil {
		return nil, err
	}
	return v.report, nil
}

// open opens a copy of the tables, and the journals' files for reading.
func (v *verifier) open() error {
	for _, name := range []string{tablesFile, tablesFile + "-wal"} {
		if err := copyFile(filepath.Join(v.scratch, name), filepath.Join(v.dir, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	cfg := Config{Dir: v.scratch, Folds: v.opts.Folds, Tables: v.opts.Tables, Known: v.opts.Known, disk: realDisk{readOnly: true}}.withDefaults()
	v.s = &Store{cfg: cfg, stop: make(chan struct{}), byID: map[journal.ID]int{}, watch: make(chan struct{})}
	if err := v.s.openTables(); err != nil {
		return err
	}
	v.s.m.dir = v.dir
	return nil
}

func copyFile(to, from string) error {
	in, err := os.Open(filepath.Clean(from))
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }() // only read
	out, err := os.Create(filepath.Clean(to))
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

func (v *verifier) run(ctx context.Context) error {
	r := v.report
	if s, err := v.s.w.conn.text("PRAGMA quick_check(5)"); err != nil || s != "ok" {
		if err != nil {
			s = err.Error()
		}
		r.find(Finding{Entry: -1, Where: tablesFile, What: "SQLite finds damage: " + s})
		return nil
	}
	if err := v.s.load(); err != nil {
		if fault.Is(err, fault.Corrupt) || fault.Is(err, fault.Unsupported) || errors.Is(err, os.ErrNotExist) {
			r.find(Finding{Entry: -1, Where: v.dir, What: err.Error()})
			return nil
		}
		return err
	}
	v.s.republish()
	m := v.s.m
	r.Own = m.own.id
	mk := v.marker()
	for _, l := range m.order {
		if err := v.journal(ctx, l, mk); err != nil {
			return err
		}
	}
	if len(r.Findings) > 0 {
		r.Notes = append(r.Notes, "the tables were not compared: the journals are damaged")
	} else if err := v.refold(ctx); err != nil {
		return err
	}
	if v.opts.Also != nil {
		for _, err := range v.opts.Also(ctx, v.s) {
			r.find(Finding{Entry: -1, Where: "check", What: err.Error()})
		}
	}
	return nil
}

func (c *conn) text(sql string) (out string, err error) {
	q, err := c.compile(sql)
	if err != nil {
		return "", err
	}
	defer q.finalize()
	err = q.query(func(row store.Row) bool { out, _ = row[0].(string); return false }, []store.Type{store.Text})
	return out, err
}

// refold folds every entry into an empty database and compares it table by table.
func (v *verifier) refold(ctx context.Context) error {
	dir := filepath.Join(v.scratch, "refold")
	if err := os.Mkdir(dir, 0o750); err != nil {
		return err
	}
	was, err := v.s.signatures("store_fold")
	if err != nil {
		return err
	}
	cfg := v.s.cfg
	cfg.Dir = dir
	fresh := &Store{cfg: cfg, stop: make(chan struct{})}
	if err := fresh.openTables(); err != nil {
		return err
	}
	fresh.m.order, fresh.m.own = v.s.m.order, v.s.m.own
	defer func() {
		fresh.m.order = nil // their files belong to v.s
		_ = fresh.release() // temporary files
	}()
	var folds []*fold
	for _, f := range fresh.m.folder.folds {
		if was[f.Name] != f.signature() {
			v.report.Notes = append(v.report.Notes, fmt.Sprintf("the tables of fold %s were made by another version of it and were not compared; the next start folds them anew", f.Name))
			continue
		}
		folds = append(folds, f)
	}
	if err := fresh.refold(ctx, folds, func(done, total uint64) { v.progress("folding", done, total) }); err != nil {
		return err
	}
	if err := v.s.w.run("ATTACH DATABASE ?1 AS fresh", filepath.Join(dir, tablesFile)); err != nil {
		return err
	}
	for _, f := range folds {
		for _, t := range f.tables {
			n, err := v.compare(ctx, t, "")
			if err != nil {
				return err
			}
			v.report.Tables = append(v.report.Tables, TableReport{t.Name, n})
		}
		if _, err := v.compare(ctx, v.s.m.system[foldErrorTable], f.Name); err != nil {
			return err
		}
	}
	return nil
}

// compare walks a table and its fresh twin side by side and reports the first row that differs. With a name, only rows
// whose first key column has it are compared.
func (v *verifier) compare(ctx context.Context, t *table, name string) (rows uint64, err error) {
	columns, order := "journal", "journal"
	for i, c := range t.Columns {
		columns += ", " + quote(c.Name)
		if i < t.Key {
			order += ", " + quote(c.Name)
		}
	}
	where := ""
	if name != "" {
		where = " WHERE fold = '" + name + "'" // names of folds come from the program
	}
	types := append([]store.Type{store.Int}, t.types...)
	next := func(schema string) (func() (store.Row, error), func(), error) {
		q, err := v.s.w.conn.compile("SELECT " + columns + " FROM " + schema + "." + quote(t.Name) + where + " ORDER BY " + order)
		if err != nil {
			return nil, nil, err
		}
		return func() (store.Row, error) { return q.next(types) }, q.finalize, nil
	}
	left, endLeft, err := next("main")
	if err != nil {
		return 0, err
	}
	defer endLeft()
	right, endRight, err := next("fresh")
	if err != nil {
		return 0, err
	}
	defer endRight()
	for {
		if err := ctx.Err(); err != nil {
			return rows, err
		}
		a, err := left()
		if err != nil {
			return rows, err
		}
		b, err := right()
		if err != nil {
			return rows, err
		}
		if a == nil && b == nil {
			return rows, nil
		}
		if !equalRows(a, b) {
			v.differ(t, a, b)
			return rows, nil
		}
		rows++
	}
}

func (v *verifier) differ(t *table, a, b store.Row) {
	f := Finding{Entry: -1, Where: "table " + t.Name}
	row := a
	switch {
	case a == nil, b != nil && string(rowKey(t, b)) < string(rowKey(t, a)):
		row, f.What = b, fmt.Sprintf("row %s is missing", showKey(t, b))
	case b == nil, string(rowKey(t, a)) < string(rowKey(t, b)):
		f.What = fmt.Sprintf("row %s is not made by any entry", showKey(t, a))
	default:
		for i := range t.Columns {
			if !equalRows(a[i+1:i+2], b[i+1:i+2]) {
				f.What = fmt.Sprintf("row %s column %s is %v, the entries give %v", showKey(t, a), t.Columns[i].Name, show(a[i+1]), show(b[i+1]))
				break
			}
		}
	}
	for _, l := range v.s.m.order {
		if l.ordinal == row[0].(int64) {
			f.Journal = l.id
		}
	}
	v.report.find(f)
}

func rowKey(t *table, row store.Row) []byte { return appendKey(nil, row[0].(int64), row[1:t.Key+1]) }

func showKey(t *table, row store.Row) string {
	s := "("
	for i, x := range row[1 : t.Key+1] {
		if i > 0 {
			s += ", "
		}
		s += show(x)
	}
	return s + ")"
}

func show(x any) string {
	switch x := x.(type) {
	case nil:
		return "null"
	case []byte:
		return fmt.Sprintf("%.64x", x)
	case string:
		return fmt.Sprintf("%.64q", x)
	}
	return fmt.Sprint(x)
}

func equalRows(a, b store.Row) bool { return slices.EqualFunc(a, b, equalValues) }

var _ Contents = (*Store)(nil)
var _ store.Queryer = (*sql.Tx)(nil)

// Rebuild drops the tables of all folds in a folder that no process has open, and folds every entry again. Followers'
// own tables stay as they are.
func Rebuild(ctx context.Context, dir string, o Options, progress Progress) error {
	if _, err := os.Stat(filepath.Join(dir, tablesFile)); err != nil {
		return fault.New(fault.NotFound, "%s is no data folder: it has no %s", dir, tablesFile)
	}
	s := &Store{
		cfg:  Config{Dir: dir, Folds: o.Folds, Tables: o.Tables, Known: o.Known}.withDefaults(),
		stop: make(chan struct{}), byID: map[journal.ID]int{}, watch: make(chan struct{}),
	}
	err := func() (err error) {
		if s.lock, err = lockDir(dir); err != nil {
			return err
		}
		if err := s.openTables(); err != nil {
			return err
		}
		if err := s.openLog(); err != nil {
			return err
		}
		if err := s.recover(); err != nil {
			return err
		}
		if err := s.ownTables(); err != nil {
			return err
		}
		if err := s.refold(ctx, s.m.folder.folds, func(done, total uint64) {
			if progress != nil {
				progress("folding", done, total)
			}
		}); err != nil {
			return err
		}
		return s.resume(ctx)
	}()
	return errors.Join(err, s.release())
}
