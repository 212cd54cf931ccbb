package embedded

import "path/filepath"

// checkpointPages is how long SQLite's write-ahead log may get before its pages are moved into the database.
const checkpointPages = 8000

// checkpointer moves pages from SQLite's log into the database beside the writer. SQLite itself would do it inside a
// commit, and everybody would wait. What was committed meanwhile is moved by the writer, so that the log begins anew.
type checkpointer struct {
	conn  *conn
	begin chan struct{}
	ended chan error
	busy  bool
	pages int
}

func (s *Store) startCheckpointer() error {
	c, err := openConn(filepath.Join(s.cfg.Dir, tablesFile), readWrite, "synchronous=NORMAL")
	if err != nil {
		return err
	}
	k := &checkpointer{conn: c, begin: make(chan struct{}, 1), ended: make(chan error, 1)}
	s.check = k
	s.ended.Add(1)
	go func() {
		defer s.ended.Done()
		defer c.close()
		for {
			select {
			case <-s.stop:
				return
			case <-k.begin:
				k.ended <- c.exec("PRAGMA wal_checkpoint(PASSIVE)")
			}
		}
	}()
	return nil
}

// checkpoint is called by the writer between commits.
func (s *Store) checkpoint() error {
	k := s.check
	k.pages += s.w.conn.pagesWritten()
	if k.busy {
		select {
		case err := <-k.ended:
			k.busy, k.pages = false, 0
			if err != nil {
				return err
			}
			return s.w.conn.exec("PRAGMA wal_checkpoint(PASSIVE)")
		default:
			return nil
		}
	}
	if k.pages > checkpointPages {
		k.busy = true
		k.begin <- struct{}{}
	}
	return nil
}
