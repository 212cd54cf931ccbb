package downlink

import (
	"errors"

	"golang.org/x/mod/sumdb/tlog"

	"duban.internal/federation"
	"duban.internal/node/fault"
	"duban.internal/node/jurisdiction"
	"duban.internal/node/planted"
	"duban.internal/node/store"
	dubanv1 "duban.internal/proto/duban/v1"
)

// take verifies a message. An error ends the stream.
func (c *Core) take(s *session, o *Opened, now int64) error {
	m := o.message
	switch {
	case o.bytes > c.cfg.MaxBatch:
		return fault.New(fault.Exhausted, "a message of %d bytes, at most %d are allowed", o.bytes, c.cfg.MaxBatch)
	case len(m.GetBatch().GetEntries()) > maxEntries:
		return fault.New(fault.Exhausted, "a batch of %d entries, at most %d are allowed", len(m.GetBatch().GetEntries()), maxEntries)
	case m.GetLetterAck() != nil:
		s.letters.acked(m.GetLetterAck())
		c.next(s)
		return nil
	case m.GetChunk() != nil:
		c.out = append(c.out, Effect{Chunk: &Chunk{Session: s.id, Chunk: m.GetChunk()}})
		return nil
	case m.GetBatch() == nil && m.GetHeartbeat() == nil:
		return fault.New(fault.Invalid, "expected a batch or a heartbeat")
	case o.idErr != nil:
		return fault.New(fault.Invalid, "%w", o.idErr)
	}
	l, h := s.lanes[o.id], c.copies[o.id]
	if l == nil {
		return fault.New(fault.Denied, "journal %s was not named in the hello", o.id)
	}
	if h == nil {
		return fault.New(fault.Unavailable, "journal %s moved on: come again", o.id)
	}
	if l.own {
		c.heard(o.id, m.GetHeartbeat().GetNowUs(), now)
	}
	if l.refused != "" || h.Refused() != "" {
		return nil // said already; what was on its way is dropped
	}
	t, older, err := h.Take(o, l.own)
	var r *Refusal
	switch {
	case errors.As(err, &r):
		c.refuse(s, r)
		return nil
	case err != nil:
		return err
	case older:
		compare := &Compare{Session: s.id, Journal: o.id, Size: t.Checkpoint.Size, taken: t}
		if t.Checkpoint.Size >= h.stored { // the entry after it has to be there, too
			if len(h.parked) >= maxParked {
				return fault.New(fault.Exhausted, "journal %s: %d checkpoints of earlier sizes", o.id, len(h.parked))
			}
			h.parked = append(h.parked, compare)
			return nil
		}
		c.out = append(c.out, Effect{Compare: compare})
		return nil
	}
	return c.accept(s, h, t, o.bytes, now)
}

// maxParked bounds the checkpoints of one journal that wait to be compared.
const maxParked = 64

// accept puts what was verified in line for the store.
func (c *Core) accept(s *session, h *held, t *Taken, bytes int, now int64) error {
	var err error
	if t.Note, err = c.cfg.Key.Countersign(t.Note, now); err != nil {
		return fault.New(fault.Invalid, "journal %s: %w", t.Journal, err)
	}
	if planted.On("downlink.acks-before-durable") {
		c.send(s, &dubanv1.SyncResponse{Message: &dubanv1.SyncResponse_Ack{Ack: &dubanv1.SyncAck{
			Journal: t.Journal[:], Size: t.Checkpoint.Size, Countersigned: t.Note, NowUs: now}}})
	}
	if !t.Stale {
		t.beside = h.witnessed(c.cfg.Code, t, now)
		c.update(t.Journal, func(st *Status) { st.Heard = now })
	}
	s.bytes += bytes
	c.wait(h, item{session: s.id, journal: t.Journal, taken: t, bytes: bytes})
	return nil
}

func (c *Core) wait(h *held, it item) {
	h.waiting++
	it.held = h
	c.bytes += it.bytes
	c.turns.add(it)
}

// witnessed are the rows of federation.Witness that go with new entries: this node's acceptance, and what ancestors of the
// writer signed before.
func (h *held) witnessed(own jurisdiction.Code, t *Taken, now int64) (changes []store.Change) {
	if len(t.Entries) == 0 {
		return nil
	}
	for _, w := range append([]signature{{own, now}}, t.signed...) {
		r, ok := h.runs[w.by]
		if ok && w.at >= r.begun && w.at-r.begun < federation.WitnessEvery {
			changes = append(changes, store.Change{Table: federation.Witness, Owner: t.Journal, Delete: true,
				Row: store.Row{string(w.by), int64(r.size)}})
		} else {
			r.begun = w.at
		}
		r.size = t.Checkpoint.Size
		h.runs[w.by] = r
		changes = append(changes, store.Change{Table: federation.Witness, Owner: t.Journal,
			Row: store.Row{string(w.by), int64(r.size), t.Checkpoint.Time, w.at, nil}})
	}
	return changes
}

// refuse takes no more of a journal: with evidence, from nobody, once that is stored; without, on this stream.
func (c *Core) refuse(s *session, r *Refusal) {
	if r.Proven {
		c.wait(c.copies[r.Journal], item{session: s.id, journal: r.Journal, refusal: r})
		return
	}
	s.lanes[r.Journal].refused = r.Reason
	c.update(r.Journal, func(st *Status) { st.Refused = r.Reason })
	c.send(s, refusal(r))
}

func refusal(r *Refusal) *dubanv1.SyncResponse {
	return &dubanv1.SyncResponse{Message: &dubanv1.SyncResponse_Refusal{Refusal: &dubanv1.SyncRefusal{
		Journal: r.Journal[:], Reason: r.Reason}}}
}

// Compared answers Compare: the root that the stored tree has at that size, and when the entry after it was recorded.
func (c *Core) Compared(q *Compare, root tlog.Hash, next int64, now int64) {
	s, h := c.sessions[q.Session], c.copies[q.Journal]
	if s == nil || h == nil || h.Refused() != "" {
		return
	}
	var r *Refusal
	if err := h.Older(q.taken, root, next); errors.As(err, &r) {
		c.refuse(s, r)
	} else if err = c.accept(s, h, q.taken, 0, now); err != nil {
		c.hangup(s, err)
	}
	c.pump()
}

// Failed ends a session for which something could not be read.
func (c *Core) Failed(id uint64, err error) {
	if s := c.sessions[id]; s != nil {
		c.hangup(s, err)
	}
}
