package embedded

import (
	"context"

	"duban.internal/node/fault"
	"duban.internal/node/journal"
	"duban.internal/node/store"
)

// show lets readers see a group that was applied, before it is answered. Its rows are in memory and its entries wait for
// the writer; settled waits until they are in files and tables. The machine's mu is held.
func (s *Store) show() {
	m := s.m
	s.applied.Store(m.applied) // who sees more than that waits for more
	s.mu.Lock()
	for _, l := range m.order {
		if l.dirty {
			s.at(l).Info = l.info(l == m.own)
		}
	}
	s.mu.Unlock()
	m.rows.show()
}

// at is what is published of a journal. s.mu is held.
func (s *Store) at(l *log) *published {
	i, ok := s.byID[l.id]
	if !ok {
		i = len(s.infos)
		s.byID[l.id] = i
		s.infos = append(s.infos, published{files: l.files})
	}
	return &s.infos[i]
}

// publish lets readers of files and tables see a commit.
func (s *Store) publish(j *job) {
	s.mu.Lock()
	for _, t := range j.logs {
		s.at(t.log).written = t.info.Size
	}
	s.commit(j.applied)
	s.mu.Unlock()
}

// commit wakes who waits for the tables. s.mu is held.
func (s *Store) commit(applied uint64) {
	s.written = applied
	close(s.watch)
	s.watch = make(chan struct{})
}

// republish replaces everything that was published by the machine's state, all of which is in files and tables.
func (s *Store) republish() {
	m := s.m
	s.mu.Lock()
	s.infos, s.byID = nil, map[journal.ID]int{}
	for _, l := range m.order {
		p := s.at(l)
		p.Info, p.written = l.info(l == m.own), l.at.size
	}
	s.commit(m.applied)
	s.mu.Unlock()
	s.applied.Store(m.applied)
	m.rows.show()
}

// settled waits until files and tables have everything that readers could see when it was called: for at most two
// commits of the writer, which never waits for a timer.
func (s *Store) settled(ctx context.Context) error {
	for target := s.applied.Load(); ; {
		s.mu.Lock()
		done, next := s.written >= target, s.watch
		s.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-next:
		case <-ctx.Done():
			return fault.New(fault.Unavailable, "gave up waiting for the tables: %w", ctx.Err())
		case <-s.failing:
			return fault.New(fault.Unavailable, "the store failed before the tables had everything: %w", s.failure())
		case <-s.stop:
			return fault.New(fault.Unavailable, "the store is closed")
		}
	}
}

// journal is the published state of a journal.
func (s *Store) journal(id journal.ID) (published, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i, ok := s.byID[id]
	if !ok {
		return published{}, false
	}
	return s.infos[i], true
}

// Journals is store.Store.
func (s *Store) Journals() []store.Info {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]store.Info, len(s.infos))
	for i := range s.infos {
		out[i] = s.infos[i].Info
	}
	return out
}

// Journal is store.Store.
func (s *Store) Journal(id journal.ID) (store.Info, bool) {
	p, ok := s.journal(id)
	return p.Info, ok
}

// Watch is store.Store. It wakes when entries and rows can be read without waiting.
func (s *Store) Watch() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.watch
}
