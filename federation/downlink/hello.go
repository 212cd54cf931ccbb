package downlink

import (
	"maps"

	"duban.internal/node/fault"
	"duban.internal/node/identity"
	"duban.internal/node/journal"
	"duban.internal/node/jurisdiction"
	dubanv1 "duban.internal/proto/duban/v1"
)

// admit checks who speaks, for whom, and about which journals.
func (c *Core) admit(s *session, now int64) {
	var bad fault.List
	code := jurisdiction.Code(s.hello.GetCode())
	if s.caller.Kind != identity.Node || s.caller.Code != code {
		bad.Add("code", "the certificate is of %s, which can't speak for %q", s.caller.Actor(), s.hello.GetCode())
	}
	if code == c.cfg.Code || !c.cfg.Tree.Within(code, c.cfg.Code) {
		bad.Add("code", "%q is no child of %s and lies nowhere below it", s.hello.GetCode(), c.cfg.Code)
	}
	if err := bad.Err(fault.Denied, "sync"); err != nil {
		c.hangup(s, err)
		return
	}
	if len(s.hello.GetJournals()) > len(c.cfg.Tree.All()) {
		c.hangup(s, fault.Refuse(fault.Invalid, "sync", fault.Field{Field: "journals", Description: "more journals than the tree has"}))
		return
	}
	for i, b := range s.hello.GetJournals() {
		id, err := journal.IDFrom(b)
		if err != nil {
			c.hangup(s, fault.New(fault.Invalid, "journals[%d]: %w", i, err))
			return
		}
		n, ok := c.cfg.Tree.Journal(id)
		if !ok || !c.cfg.Tree.Within(n.Code, code) {
			bad.Add("journals", "%s is not known as a journal of %s or below", id, code)
			continue
		}
		if s.lanes[id] == nil {
			s.lanes[id], s.order = &lane{own: n.Code == code}, append(s.order, id)
		}
	}
	if err := bad.Err(fault.Denied, "sync"); err != nil {
		c.hangup(s, err)
		return
	}
	if before := c.sessions[c.of[code]]; before != nil {
		c.hangup(before, fault.New(fault.Unavailable, "another stream of %s took over", code))
	}
	s.code, s.state = code, loading
	c.of[code] = s.id
	for _, id := range s.order {
		if s.lanes[id].own {
			c.heard(id, s.hello.GetNowUs(), now)
		}
	}
	load := &Load{Session: s.id}
	for _, id := range s.order {
		if c.copies[id] == nil {
			load.Journals = append(load.Journals, id)
		}
	}
	c.out = append(c.out, Effect{Load: load})
}

// Loaded answers Load.
func (c *Core) Loaded(id uint64, states map[journal.ID]State, now int64) {
	s := c.sessions[id]
	if s == nil || s.state != loading {
		return
	}
	w := &dubanv1.SyncWelcome{NowUs: now, Kinds: c.kinds(), Version: c.cfg.Version, Window: uint64(c.cfg.Window)}
	fresh := map[journal.ID]*held{}
	for _, j := range s.order {
		h := c.copies[j]
		if h == nil {
			state, ok := states[j]
			if !ok { // let go since Load was asked for
				c.hangup(s, fault.New(fault.Unavailable, "journal %s moved on: come again", j))
				return
			}
			p, err := NewCopy(state)
			if err != nil {
				c.hangup(s, err)
				return
			}
			n, _ := c.cfg.Tree.Journal(j)
			h = &held{Copy: p, code: n.Code, stored: p.Size(), readmitted: state.Readmitted, runs: map[jurisdiction.Code]run{}}
			fresh[j] = h
			c.update(j, func(st *Status) { st.Size, st.Checkpoint, st.Covered = p.Size(), p.last.Time, p.last.Size })
		}
		c.update(j, func(st *Status) { st.Refused = h.Refused() })
		w.Positions = append(w.Positions, &dubanv1.SyncPosition{Journal: j[:], Size: h.stored, Refused: h.Refused() != ""})
	}
	maps.Copy(c.copies, fresh)
	for _, j := range s.order {
		c.copies[j].lanes++
	}
	s.state = open
	c.send(s, &dubanv1.SyncResponse{Message: &dubanv1.SyncResponse_Welcome{Welcome: w}})
	s.letters.begin(s.hello.GetLetters())
	c.next(s)
	c.recall(s)
	early := s.early
	s.early = nil
	for _, o := range early {
		c.Received(id, o, now)
	}
}
