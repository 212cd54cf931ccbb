package embedded

import (
	"fmt"

	"github.com/hashicorp/raft"
)

// fsm is raft's view of the store.
type fsm struct{ s *Store }

// Apply is raft.FSM; raft calls ApplyBatch instead.
func (f fsm) Apply(l *raft.Log) any { return f.ApplyBatch([]*raft.Log{l})[0] }

// ApplyBatch applies what the tables do not have yet. Each response is an *outcome or an error.
func (f fsm) ApplyBatch(logs []*raft.Log) []any {
	out := make([]any, len(logs))
	for i, l := range logs {
		if l.Type != raft.LogCommand {
			continue
		}
		o, err := f.s.applyLog(l.Index, l.Data)
		if err != nil {
			out[i] = err
		} else {
			out[i] = o
		}
	}
	return out
}

func (s *Store) applyLog(index uint64, data []byte) (*outcome, error) {
	m := s.m
	m.mu.Lock()
	defer m.mu.Unlock()
	if index <= m.applied {
		return nil, nil
	}
	for u := m.unwritten(); (u.entries >= s.cfg.unwrittenEntries || u.bytes >= s.cfg.UnwrittenBytes) && s.failure() == nil; u = m.unwritten() {
		m.room.Wait()
	}
	if err := s.failure(); err != nil {
		return nil, err
	}
	o, err := m.apply(index, data)
	if err != nil {
		s.fail(err)
		return nil, err
	}
	s.show()
	select {
	case s.wake <- struct{}{}:
	default:
	}
	return o, nil
}

// Snapshot makes everything applied durable and says so in a marker.
func (f fsm) Snapshot() (raft.FSMSnapshot, error) {
	mk, err := f.s.mark()
	if err != nil {
		return nil, err
	}
	return &markerSnapshot{f.s, mk}, nil
}

type markerSnapshot struct {
	s  *Store
	mk *marker
}

// Persist writes the marker; the state that it speaks of is durable already.
func (p *markerSnapshot) Persist(sink raft.SnapshotSink) error {
	if err := p.mk.write(sink); err != nil {
		return fmt.Errorf("marker: %w", errorsJoin(err, sink.Cancel()))
	}
	if err := sink.Close(); err != nil {
		return err
	}
	p.s.marked.Store(p.mk.Applied)
	return nil
}

// Release is raft.FSMSnapshot.
func (p *markerSnapshot) Release() {}
