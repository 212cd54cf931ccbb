package embedded

import (
	"context"
	"fmt"

	"duban.internal/node/fault"
	"duban.internal/node/store"
)

const (
	refoldRows  = 65_536  // rows written in one transaction while folding anew
	refoldBytes = 4 << 20 // read at once
)

// settle makes the tables those of the configuration: new and changed folds fold everything anew, folding that stopped
// at a kind which is known now goes on.
func (s *Store) settle(ctx context.Context) error {
	if err := s.ownTables(); err != nil {
		return err
	}
	anew, err := s.changedFolds()
	if err != nil {
		return err
	}
	if len(anew) > 0 {
		if err := s.refold(ctx, anew, nil); err != nil {
			return err
		}
	}
	return s.resume(ctx)
}

// ownTables creates the tables that followers keep. One that changed is made again only while it is empty.
func (s *Store) ownTables() error {
	was, err := s.signatures("store_table")
	if err != nil {
		return err
	}
	for _, def := range s.cfg.Tables {
		want := ddl(def)
		if got, ok := was[def.Name]; ok && got == want {
			continue
		} else if ok {
			n, err := s.w.conn.number("SELECT EXISTS (SELECT 1 FROM " + quote(def.Name) + ")")
			if err != nil {
				return err
			}
			if n > 0 {
				return fault.New(fault.Unsupported, "table %s has rows in another form than this program's: it needs a migration", def.Name)
			}
		}
		if err := s.w.transaction(func() error {
			if err := s.w.conn.exec("DROP TABLE IF EXISTS " + quote(def.Name)); err != nil {
				return err
			}
			if err := createAll(s.w.conn, def); err != nil {
				return err
			}
			return s.w.run(`REPLACE INTO store_table (name, signature) VALUES (?1, ?2)`, def.Name, want)
		}); err != nil {
			return err
		}
	}
	return nil
}

func (c *conn) number(text string) (n int64, err error) {
	q, err := c.compile(text)
	if err != nil {
		return 0, err
	}
	defer q.finalize()
	err = q.query(func(row store.Row) bool { n = row[0].(int64); return false }, []store.Type{store.Int})
	return n, err
}

func (s *Store) signatures(from string) (map[string]string, error) {
	q, err := s.w.conn.prepare("SELECT name, signature FROM " + from)
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	err = q.query(func(row store.Row) bool { out[row[0].(string)] = row[1].(string); return true }, []store.Type{store.Text, store.Text})
	return out, err
}

// changedFolds are those whose tables are not there as they are declared now. A fold that is gone is forgotten: should
// it come back, its tables are old.
func (s *Store) changedFolds() (anew []*fold, err error) {
	was, err := s.signatures("store_fold")
	if err != nil {
		return nil, err
	}
	for _, f := range s.m.folder.folds {
		if was[f.Name] != f.signature() {
			anew = append(anew, f)
		}
		delete(was, f.Name)
	}
	for name := range was {
		if err := s.w.run(`DELETE FROM store_fold WHERE name = ?1`, name); err != nil {
			return nil, err
		}
	}
	return anew, nil
}

// refold drops the tables of some folds and folds every entry again that was folded. Until it ends the folds have no
// signature: interrupted, it begins anew.
func (s *Store) refold(ctx context.Context, folds []*fold, progress func(done, total uint64)) error {
	c := s.w.conn
	only := map[*fold]bool{}
	kinds := map[uint32][]*fold{}
	for _, f := range folds {
		only[f] = true
		for _, k := range f.Kinds {
			kinds[k] = append(kinds[k], f)
		}
		if err := s.w.transaction(func() error {
			if err := s.w.run(`DELETE FROM store_fold WHERE name = ?1`, f.Name); err != nil {
				return err
			}
			if err := s.w.run(`DELETE FROM store_fold_error WHERE fold = ?1`, f.Name); err != nil {
				return err
			}
			for _, t := range f.tables {
				if err := c.exec("DROP TABLE IF EXISTS " + quote(t.Name)); err != nil {
					return err
				}
				if err := c.exec(createTable(t.Table)); err != nil { // indexes are quicker to make afterwards
					return err
				}
			}
			return nil
		}); err != nil {
			return err
		}
	}
	s.m.rows.forget()
	total, done := uint64(0), uint64(0)
	for _, l := range s.m.order {
		total += l.folded
	}
	for _, l := range s.m.order {
		for at := uint64(0); at < l.folded; {
			if err := ctx.Err(); err != nil {
				return err
			}
			entries, err := l.files.read(at, l.folded, refoldBytes)
			if err != nil {
				return err
			}
			for i := range entries {
				for _, f := range kinds[entries[i].Kind] {
					if err := s.m.folder.apply(l.ordinal, &entries[i], f); err != nil {
						return err
					}
				}
			}
			at += uint64(len(entries))
			done += uint64(len(entries))
			if len(s.m.rows.dirty) >= refoldRows {
				if err := s.flushRows(nil); err != nil {
					return err
				}
			}
			if progress != nil {
				progress(done, total)
			}
		}
	}
	return s.flushRows(func() error {
		for _, f := range folds {
			for _, t := range f.tables {
				if err := createAll(c, t.Table); err != nil {
					return err
				}
			}
			if err := s.w.run(`REPLACE INTO store_fold (name, signature) VALUES (?1, ?2)`, f.Name, f.signature()); err != nil {
				return fmt.Errorf("fold %s: %w", f.Name, err)
			}
		}
		return nil
	})
}

// flushRows commits folded rows, and what else fn does.
func (s *Store) flushRows(fn func() error) error {
	m := s.m
	writes := m.rows.take(m.job)
	sortWrites(writes)
	if err := s.w.transaction(func() error {
		for i := range writes {
			if err := s.w.row(writes[i]); err != nil {
				return err
			}
		}
		if fn != nil {
			return fn()
		}
		return nil
	}); err != nil {
		return err
	}
	m.done.Store(m.job)
	m.job++
	return nil
}

// resume folds on where folding stopped at a kind that is known now.
func (s *Store) resume(ctx context.Context) error {
	for _, l := range s.m.order {
		if l.folded == l.at.size {
			continue
		}
		l.stopped = ""
		for l.folded < l.at.size && l.stopped == "" {
			if err := ctx.Err(); err != nil {
				return err
			}
			entries, err := l.files.read(l.folded, l.at.size, refoldBytes)
			if err != nil {
				return err
			}
			for i := range entries {
				if l.stopped = s.m.folder.stops(&entries[i]); l.stopped != "" {
					break
				}
				l.folded++
				if err := s.m.folder.apply(l.ordinal, &entries[i], nil); err != nil {
					return err
				}
			}
			if err := s.flushRows(func() error {
				return s.w.journals([]taken{{log: l, info: l.info(l == s.m.own), bytes: l.at.bytes, stamp: l.stamp}})
			}); err != nil {
				return err
			}
		}
		if l.stopped != "" {
			s.cfg.Logger.Warn("folding of a journal stopped", "journal", l.id.String(), "reason", l.stopped)
		}
	}
	return nil
}
