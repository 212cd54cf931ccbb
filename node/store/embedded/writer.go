package embedded

import (
	"fmt"

	"duban.internal/node/store"
)

// job is what one commit writes.
type job struct {
	number  uint64
	applied uint64
	floor   int64
	logs    []taken
	writes  []*write
	erased  []erasure
	bytes   int64 // of raft logs in it
}

// taken is the state of a journal after a job, and what the job adds to its files.
type taken struct {
	log   *log
	run   *run
	info  store.Info
	bytes int64
	stamp int64
}

// writer is the only writer of the database and of journals' files.
type writer struct {
	conn *conn
	args store.Row // reused
}

// write commits one job: files first, then the tables that say how far they count. It tells wrote about its progress, in
// jobSteps.
func (w *writer) write(j *job, wrote func(steps int)) error {
	for _, t := range j.logs {
		if t.run != nil {
			if err := t.log.files.append(t.run.at, t.run); err != nil {
				return fmt.Errorf("journal %s: %w", t.info.ID, err)
			}
			t.run.free()
		}
	}
	for _, e := range j.erased {
		if err := e.log.files.erase(e.number); err != nil {
			return fmt.Errorf("erase: %w", err)
		}
	}
	sortWrites(j.writes)
	return w.transaction(func() error {
		for i := range j.writes {
			if err := w.row(j.writes[i]); err != nil {
				return err
			}
			if i%64 == 0 {
				wrote(i * rowSteps / len(j.writes))
			}
		}
		wrote(jobSteps)
		if err := w.journals(j.logs); err != nil {
			return err
		}
		if err := w.meta("floor", j.floor); err != nil {
			return err
		}
		return w.meta("applied", int64(j.applied))
	})
}

// rowSteps is the share of rows in the work of a job. The rest, the commit and what is done between jobs, tells nothing of
// its progress: the ordered apply may go on through it.
const rowSteps = jobSteps * 3 / 4

func (w *writer) transaction(fn func() error) error {
	if err := w.run("BEGIN IMMEDIATE"); err != nil {
		return err
	}
	err := fn()
	if err == nil {
		err = w.run("COMMIT")
	}
	if err != nil {
		_ = w.run("ROLLBACK") // the first error is the one to tell
	}
	return err
}

func (w *writer) run(text string, args ...any) error { return w.conn.run(text, args...) }

func (w *writer) row(x *write) error {
	switch {
	case x.row == nil && x.based && x.base == nil:
		return nil
	case x.row == nil:
		return w.rowBy(x.t.del, x.keyRow, x.ordinal)
	case !x.based:
		return w.rowBy(x.t.put, x.row, x.ordinal)
	case x.base == nil:
		return w.rowBy(x.t.insert, x.row, x.ordinal)
	}
	u := x.t.change(x.base, x.row)
	if u == nil {
		return nil
	}
	w.args = append(w.args[:0], x.row[:x.t.Key]...)
	for _, i := range u.columns {
		w.args = append(w.args, x.row[i])
	}
	return w.rowBy(u.sql, w.args, x.ordinal)
}

func (w *writer) rowBy(text string, row store.Row, ordinal int64) error {
	s, err := w.conn.prepare(text)
	if err != nil {
		return err
	}
	return s.runRow(row, ordinal)
}

func (w *writer) journals(logs []taken) error {
	for _, t := range logs {
		i := &t.info
		if err := w.run(putJournal, i.Ordinal, i.ID[:], int64(i.Size), t.bytes, i.RecordedAt, t.stamp, int64(i.Folded), i.Stopped); err != nil {
			return err
		}
	}
	return nil
}

func (w *writer) meta(name string, v int64) error { return w.run(putMeta, name, v) }
