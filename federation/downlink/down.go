package downlink

import (
	"maps"
	"slices"

	"google.golang.org/protobuf/proto"

	"duban.internal/node/planted"
	dubanv1 "duban.internal/proto/duban/v1"
)

// letters is where a child stands with what comes down to it.
type letters struct {
	at      map[string]*dubanv1.LetterPosition // by sender and addressee
	order   []string
	stopped map[string]bool // senders of which the child refused one
	asked   bool            // Next is under way
	again   bool            // there may be more than when it was asked
	flying  int             // sent and not acknowledged
	sent    uint64          // on this stream
}

func positionKey(p *dubanv1.LetterPosition) string {
	return string(p.GetJournal()) + p.GetAddressee()
}

func (l *letters) begin(at []*dubanv1.LetterPosition) {
	l.at, l.stopped = map[string]*dubanv1.LetterPosition{}, map[string]bool{}
	for _, p := range at[:min(len(at), maxPositions)] {
		l.put(p)
	}
}

// maxPositions bounds the positions of one child: senders above times jurisdictions below.
const maxPositions = 4096

func (l *letters) put(p *dubanv1.LetterPosition) {
	k := positionKey(p)
	if l.at[k] == nil {
		if len(l.order) >= maxPositions {
			return
		}
		l.order = append(l.order, k)
	}
	l.at[k] = p
}

func (l *letters) acked(a *dubanv1.SyncLetterAck) {
	if planted.On("downlink.letters-stall") {
		l.flying++
	}
	l.flying = max(0, l.flying-1)
	if a.GetPosition() != nil {
		l.put(a.GetPosition())
		if a.GetRefused() != "" {
			l.stopped[string(a.GetPosition().GetJournal())] = true
		}
	}
}

// next asks for letters once those before are acknowledged.
func (c *Core) next(s *session) {
	l := &s.letters
	if !c.cfg.Letters || s.state != open {
		return
	}
	if l.asked || l.flying > 0 {
		l.again = true
		return
	}
	l.asked, l.again = true, false
	n := &Next{Session: s.id, Child: s.code, Bytes: c.cfg.LetterWindow}
	for _, k := range l.order {
		n.At = append(n.At, proto.Clone(l.at[k]).(*dubanv1.LetterPosition))
	}
	c.out = append(c.out, Effect{Next: n})
}

// Nexted answers Next.
func (c *Core) Nexted(id uint64, out []*dubanv1.SyncLetter) {
	s := c.sessions[id]
	if s == nil {
		return
	}
	l := &s.letters
	l.asked = false
	for _, m := range out {
		if !l.stopped[string(m.GetLetter().GetJournal())] {
			l.flying++
			l.sent++
			c.send(s, &dubanv1.SyncResponse{Message: &dubanv1.SyncResponse_Letter{Letter: &dubanv1.SyncLetter{
				Letter: m.GetLetter(), ConsistentFrom: m.GetConsistentFrom(), Consistency: m.GetConsistency(), Sequence: l.sent}}})
		}
	}
	if l.flying == 0 && l.again {
		c.next(s)
	}
}

// Grown tells that there may be letters that were not there before.
func (c *Core) Grown() {
	for _, s := range c.inOrder() {
		c.next(s)
	}
}

func (c *Core) inOrder() []*session {
	out := make([]*session, 0, len(c.sessions))
	for _, id := range slices.Sorted(maps.Keys(c.sessions)) {
		out = append(out, c.sessions[id])
	}
	return out
}

// recall asks what nodes above countersigned of the child's journals.
func (c *Core) recall(s *session) {
	if n, _ := c.cfg.Tree.Node(c.cfg.Code); n.Parent == "" || s.recall {
		return
	}
	s.recall = true
	c.out = append(c.out, Effect{Recall: &Recall{Session: s.id, Journals: s.order}})
}

// Recalled answers Recall; what is new to the child goes down.
func (c *Core) Recalled(id uint64, found []Countersigned) {
	s := c.sessions[id]
	if s == nil {
		return
	}
	s.recall = false
	for _, w := range found {
		k := string(w.Journal[:]) + string(w.By)
		if w.Time <= s.told[k] || s.lanes[w.Journal] == nil {
			continue
		}
		s.told[k] = w.Time
		c.send(s, &dubanv1.SyncResponse{Message: &dubanv1.SyncResponse_Witness{Witness: &dubanv1.SyncWitness{
			Journal: w.Journal[:], Countersigned: w.Note}}})
	}
}

// Ask sends a request for an attachment down a child's open stream; false where there is none.
func (c *Core) Ask(id uint64, f *dubanv1.SyncFetch) bool {
	s := c.sessions[id]
	if s == nil || s.state != open {
		return false
	}
	c.send(s, &dubanv1.SyncResponse{Message: &dubanv1.SyncResponse_Fetch{Fetch: f}})
	return true
}
