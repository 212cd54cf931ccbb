package memory

import (
	"fmt"

	"duban.internal/node/journal"
	"duban.internal/node/store"
)

// folder applies folds.
type folder struct {
	disk    *Disk
	folds   []*store.Fold
	byKind  map[uint32][]*store.Fold
	known   map[uint32]bool
	belongs map[*store.Table]bool // to a fold
}

func newFolder(d *Disk, folds []*store.Fold, known []uint32) *folder {
	f := &folder{disk: d, folds: folds, byKind: map[uint32][]*store.Fold{}, known: map[uint32]bool{}, belongs: map[*store.Table]bool{}}
	for _, k := range known {
		f.known[k] = true
	}
	for _, fold := range folds {
		for _, k := range fold.Kinds {
			f.known[k], f.byKind[k] = true, append(f.byKind[k], fold)
		}
		for _, t := range fold.Tables {
			f.belongs[t] = true
		}
	}
	return f
}

// next folds what is not folded yet of a journal, up to a kind that nobody knows.
func (f *folder) next(l *log) {
	for l.folded < uint64(len(l.entries)) {
		e := &l.entries[l.folded]
		if !e.Skippable && !f.known[e.Kind] {
			l.stopped = fmt.Sprintf("entry %d is of kind %d, which this version does not know", e.Number, e.Kind)
			return
		}
		l.stopped = ""
		for _, fold := range f.byKind[e.Kind] {
			f.apply(fold, l, e)
		}
		l.folded++
	}
}

// apply folds one entry; one that fails leaves nothing.
func (f *folder) apply(fold *store.Fold, l *log, e *journal.Entry) {
	mark := len(f.disk.rowsBefore)
	tx := tx{folder: f, log: l}
	defer func() {
		if r := recover(); r != nil {
			f.disk.undoRows(mark)
		}
	}()
	if err := fold.Apply(&tx, e); err != nil || tx.failed != nil {
		f.disk.undoRows(mark)
	}
}

type tx struct {
	*folder
	log    *log
	failed error
}

// Get is store.Tx.
func (t *tx) Get(table *store.Table, key ...any) (store.Row, bool) {
	if t.log.tables[table] == nil {
		return nil, false
	}
	var space [96]byte
	return t.log.tables[table].get(appendKey(space[:0], key))
}

// Put is store.Tx.
func (t *tx) Put(table *store.Table, row store.Row) {
	if err := fits(table, row, false); err != nil || !t.belongs[table] {
		t.failed = fmt.Errorf("a row of %s: %w", table.Name, err)
		return
	}
	var space [96]byte
	t.disk.write(t.log, table, appendKey(space[:0], row[:table.Key]), row)
}

// Delete is store.Tx.
func (t *tx) Delete(table *store.Table, key ...any) {
	if err := fits(table, key, true); err != nil || !t.belongs[table] {
		t.failed = fmt.Errorf("a key of %s: %w", table.Name, err)
		return
	}
	var space [96]byte
	t.disk.write(t.log, table, appendKey(space[:0], key), nil)
}

// refold brings tables up to the folds that the store was opened with.
func (f *folder) refold() {
	now := map[string]int{}
	for _, fold := range f.folds {
		now[fold.Name] = fold.Version
		if v, ok := f.disk.folds[fold.Name]; ok && v == fold.Version {
			continue
		}
		for _, l := range f.disk.order {
			for _, t := range fold.Tables {
				delete(l.tables, t)
			}
			for i := range l.entries[:l.folded] {
				if e := &l.entries[i]; has(fold.Kinds, e.Kind) {
					f.apply(fold, l, e)
				}
			}
		}
	}
	f.disk.folds = now // one that is away is folded anew when it comes back
	for _, l := range f.disk.order {
		f.next(l)
	}
}

func has(kinds []uint32, k uint32) bool {
	for _, x := range kinds {
		if x == k {
			return true
		}
	}
	return false
}
