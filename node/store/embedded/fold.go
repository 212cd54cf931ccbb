package embedded

import (
	"errors"
	"fmt"
	"sort"
	"strings"

	"duban.internal/node/journal"
	"duban.internal/node/store"
)

// fold is a store.Fold with its tables.
type fold struct {
	*store.Fold
	tables []*table
}

// signature changes with whatever asks for folding anew.
func (f *fold) signature() string {
	var b strings.Builder
	fmt.Fprintf(&b, "version %d\n", f.Version)
	for _, t := range f.tables {
		b.WriteString(ddl(t.Table) + ";\n")
	}
	return b.String()
}

// folder applies folds to entries; its writes go to rows.
type folder struct {
	rows   *rows
	byDef  map[*store.Table]*table
	byKind map[uint32][]*fold
	known  map[uint32]bool
	folds  []*fold
	errors *table // store_fold_error

	// The transaction that a fold sees: one at a time.
	current *fold
	ordinal int64
	undo    []undo
	broken  error
}

func newFolder(folds []*store.Fold, known []uint32) (*folder, error) {
	d := &folder{byDef: map[*store.Table]*table{}, byKind: map[uint32][]*fold{}, known: map[uint32]bool{}}
	names := map[string]bool{}
	for _, k := range known {
		d.known[k] = true
	}
	for _, def := range folds {
		f := &fold{Fold: def}
		if names[def.Name] || def.Name == "" || def.Apply == nil {
			return nil, fmt.Errorf("fold %q: a fold has a name of its own and Apply", def.Name)
		}
		names[def.Name] = true
		for _, td := range def.Tables {
			t, err := newTable(td, f)
			if err != nil {
				return nil, err
			}
			f.tables = append(f.tables, t)
			d.byDef[td] = t
		}
		for _, k := range def.Kinds {
			d.byKind[k] = append(d.byKind[k], f)
			d.known[k] = true
		}
		d.folds = append(d.folds, f)
	}
	sort.Slice(d.folds, func(i, j int) bool { return d.folds[i].Name < d.folds[j].Name })
	return d, nil
}

// stops says why an entry can't be folded; empty where it can.
func (d *folder) stops(e *journal.Entry) string {
	if d.known[e.Kind] || e.Skippable {
		return ""
	}
	return fmt.Sprintf("entry %d has kind %d, which this program does not know: upgrade", e.Number, e.Kind)
}

// apply folds one entry by all folds that want it, or by only one.
func (d *folder) apply(ordinal int64, e *journal.Entry, only *fold) error {
	for _, f := range d.byKind[e.Kind] {
		if only != nil && f != only {
			continue
		}
		err := d.one(f, ordinal, e)
		if d.broken != nil {
			return d.broken // the database failed: nothing was decided
		}
		if err == nil {
			continue
		}
		for i := len(d.undo) - 1; i >= 0; i-- {
			d.undo[i].do()
		}
		d.rows.set(d.errors, ordinal, []any{f.Name, int64(e.Number)}, store.Row{f.Name, int64(e.Number), err.Error()})
	}
	return nil
}

// one runs a fold over an entry. A panic is a defect of the fold and keeps the entry out like any error: the same on
// every replica.
func (d *folder) one(f *fold, ordinal int64, e *journal.Entry) (err error) {
	d.current, d.ordinal, d.undo = f, ordinal, d.undo[:0]
	defer func() {
		if p := recover(); p != nil {
			if e, ok := p.(error); ok && errors.Is(e, errFold) {
				err = e
			} else {
				err = fmt.Errorf("panic: %v", p)
			}
		}
	}()
	return f.Apply(d, e)
}

var errFold = errors.New("fold")

func (d *folder) table(t *store.Table) *table {
	own := d.byDef[t]
	if own == nil || own.fold != d.current {
		panic(fmt.Errorf("%w %s: table %s is not among its tables", errFold, d.current.Name, t.Name))
	}
	return own
}

func (d *folder) key(t *table, key []any) {
	if err := checkKey(t, key); err != nil {
		panic(fmt.Errorf("%w %s: %w", errFold, d.current.Name, err))
	}
}

// Get is store.Tx.
func (d *folder) Get(def *store.Table, key ...any) (store.Row, bool) {
	t := d.table(def)
	d.key(t, key)
	row, err := d.rows.get(t, d.ordinal, key)
	if err != nil {
		d.broken = err
		panic(err)
	}
	return row, row != nil
}

// Put is store.Tx.
func (d *folder) Put(def *store.Table, row store.Row) {
	t := d.table(def)
	if err := checkRow(def, row, false); err != nil {
		panic(fmt.Errorf("%w %s: %w", errFold, d.current.Name, err))
	}
	d.undo = append(d.undo, d.rows.set(t, d.ordinal, row[:t.Key], row))
}

// Delete is store.Tx.
func (d *folder) Delete(def *store.Table, key ...any) {
	t := d.table(def)
	d.key(t, key)
	d.undo = append(d.undo, d.rows.set(t, d.ordinal, key, nil))
}
