package letters

import (
	"context"

	"duban.internal/federation"
	"duban.internal/node/journal"
	"duban.internal/node/jurisdiction"
)

// Status says how one sender's letters stand with this node.
type Status struct {
	Code     jurisdiction.Code // whose journal
	Journal  journal.ID
	Size     uint64 // of the checkpoint kept; 0 for none
	Time     int64  // that it states, in microseconds
	Received uint64 // entries addressed to this node, so far
	Refused  string // what was refused last and not settled; empty for nothing
	Blocked  bool   // nothing more is taken until people readmit the journal
}

// Status lists the nodes above, the parent first.
func (b *Box) Status(ctx context.Context) ([]Status, error) {
	var out []Status
	for _, n := range b.cfg.above() {
		h, err := b.head(ctx, n.Journal)
		if err != nil {
			return nil, err
		}
		s := Status{Code: n.Code, Journal: n.Journal, Size: h.size, Time: h.point.Time}
		row, ok, err := b.cfg.Store.Get(ctx, b.own, At, n.Journal[:], string(b.cfg.Code))
		if err != nil {
			return nil, err
		}
		if ok {
			s.Received = uint64(row[2].(int64))
		}
		row, ok, err = b.cfg.Store.Get(ctx, b.own, federation.PeerRefusal, n.Journal[:])
		if err != nil {
			return nil, err
		}
		if ok {
			s.Refused, _ = row[2].(string)
			s.Blocked = h.blocked != ""
		}
		out = append(out, s)
	}
	return out, nil
}
