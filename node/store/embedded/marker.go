package embedded

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/hashicorp/raft"

	"duban.internal/node/journal"
)

func errorsJoin(errs ...error) error { return errors.Join(errs...) }

const markerMagic = "dubanMARK1\n"

// marker is what a raft snapshot holds: how far segments and tables are durable.
type marker struct {
	Applied  uint64       `json:"applied"` // the last raft log that the tables have; raft's own index may be higher
	Own      string       `json:"own"`
	Stamp    int64        `json:"stamp"`
	Journals []markedSize `json:"journals"`
	Files    []sentFile   `json:"files,omitempty"` // whose bytes follow, in a state that the leader sent
}

type markedSize struct {
	ID    string `json:"id"`
	Size  uint64 `json:"size"`
	Bytes int64  `json:"bytes"`
	Root  string `json:"root"` // hexadecimal
}

func (mk *marker) write(w io.Writer) error {
	b, err := json.Marshal(mk)
	if err != nil {
		return err
	}
	_, err = w.Write(append([]byte(markerMagic), append(b, '\n')...))
	return err
}

func (mk *marker) position(id journal.ID) position {
	name := id.String()
	for _, j := range mk.Journals {
		if j.ID == name {
			return position{j.Size, j.Bytes}
		}
	}
	return position{}
}

// newestMarker is the marker of the newest raft snapshot, with raft's index of it; an empty one where there is none.
func newestMarker(snaps raft.SnapshotStore) (*marker, uint64, error) {
	list, err := snaps.List()
	if err != nil || len(list) == 0 {
		return &marker{}, 0, err
	}
	meta, r, err := snaps.Open(list[0].ID)
	if err != nil {
		return nil, 0, fmt.Errorf("raft snapshot %s: %w", list[0].ID, err)
	}
	defer func() { _ = r.Close() }() // only read
	mk, _, err := readMarker(r)
	return mk, meta.Index, err
}

// mark makes segments and tables durable. Nothing is being applied meanwhile: raft calls it between logs.
func (s *Store) mark() (mk *marker, err error) {
	err = s.onWriter(func() (err error) {
		defer func() {
			if err != nil { // after a failed fsync nobody knows what is on the disk
				s.fail(err)
			}
		}()
		m := s.m
		m.mu.Lock()
		mk = &marker{Applied: m.applied, Own: m.own.id.String(), Stamp: m.own.stamp}
		floor := m.floor
		for _, l := range m.order {
			root := l.tree.root()
			mk.Journals = append(mk.Journals, markedSize{l.id.String(), l.at.size, l.at.bytes, hex.EncodeToString(root[:])})
		}
		logs := append([]*log(nil), m.order...)
		m.mu.Unlock()
		for _, l := range logs {
			if err := l.files.sync(); err != nil {
				return fmt.Errorf("journal %s: %w", l.id, err)
			}
		}
		return s.w.durable(mk.Applied, s.marked.Load(), floor)
	})
	return mk, err
}

// durable makes one commit that reaches the disk, and with it all before. Outcomes up to the marker before this one and
// expired keys go.
func (w *writer) durable(applied, before uint64, floor int64) error {
	if err := w.run("PRAGMA synchronous=FULL"); err != nil {
		return err
	}
	err := w.transaction(func() error {
		if err := w.run(`DELETE FROM store_outcome WHERE raft_index <= ?1`, int64(before)); err != nil {
			return err
		}
		if err := w.run(`DELETE FROM store_key WHERE recorded_at < ?1`, floor); err != nil {
			return err
		}
		return w.meta("marked", int64(applied))
	})
	return errors.Join(err, w.run("PRAGMA synchronous=NORMAL"))
}
