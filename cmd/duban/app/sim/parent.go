package sim

import (
	"fmt"

	"duban.internal/escalation"
	"duban.internal/federation"
	"duban.internal/federation/downlink"
	"duban.internal/federation/letters"
	"duban.internal/node/identity"
	"duban.internal/node/journal"
)

// parent drives the end that children dial.
type parent struct {
	n     *node
	core  *downlink.Core
	post  *letters.Post
	talks *letters.Runner
	conns map[uint64]*conn
	grown uint64 // own entries when the core was told last
	doing bool   // effects are being carried out
}

// Portions of the parent's end; small, so that a history meets their bounds.
const (
	maxBatch = federation.MaxMessage
	window   = 1 << 20
	room     = 8 << 20
	together = 256 << 10
)

func newParent(n *node) (*parent, error) {
	c := n.h.city
	p := &parent{n: n, conns: map[uint64]*conn{}, core: downlink.NewCore(downlink.CoreConfig{
		Code: n.code, Tree: c.tree, Key: n.key, Version: "sim", Kinds: known,
		MaxBatch: maxBatch, Window: window, Memory: room, Together: together, Letters: true, LetterWindow: 64 << 10,
	})}
	var err error
	if p.post, err = letters.NewPost(n.post()); err != nil {
		return nil, err
	}
	if p.talks, err = letters.NewRunner(n.post(), n.store, n); err != nil {
		return nil, err
	}
	kinds, err := federation.ReadAnnounced(ctx, n.store)
	if err != nil {
		return nil, err
	}
	p.core.Announced(kinds)
	for _, m := range c.members {
		if m.Code == n.code || !c.tree.Within(m.Code, n.code) {
			continue
		}
		s, err := downlink.ReadState(ctx, n.store, m.Key)
		if err != nil {
			return nil, fmt.Errorf("journal of %s: %w", m.Code, err)
		}
		if err := p.core.Known(m.Journal, s); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// connected takes a stream that a child dialed.
func (p *parent) connected(c *conn) {
	p.conns[c.id] = c
	p.core.Connected(c.id, identity.Identity{City: cityCode, Kind: identity.Node, Code: c.child.code})
}

func (p *parent) received(c *conn, o *downlink.Opened) {
	p.core.Received(c.id, o, p.n.micros())
	p.do()
	p.n.after()
}

func (p *parent) closed(c *conn) {
	delete(p.conns, c.id)
	p.core.Closed(c.id)
	p.do()
	p.n.after()
}

// grow tells the core that there may be letters that were not there before.
func (p *parent) grow() {
	p.core.Grown()
	p.do()
}

// step writes what the own journal addresses to those below, and tells the core of what others wrote.
func (p *parent) step() {
	if len(p.n.below) == 0 {
		return
	}
	for range maxSteps {
		busy, err := p.talks.Step(ctx)
		if err != nil && !p.n.disbelieved() {
			p.n.h.fail(p.n, "letters are addressed", "%v", err)
		}
		if err != nil || !busy {
			break
		}
	}
	if info, _ := p.n.store.Journal(p.n.own); info.Size != p.grown {
		p.grown = info.Size
		p.grow()
	}
}

// do carries out what the core asks for. What a commit on the way brings about is carried out after that: a driver's
// goroutine does not overtake itself either.
func (p *parent) do() {
	if p.doing {
		return
	}
	p.doing = true
	defer func() { p.doing = false }()
	for effects := p.core.Effects(); len(effects) > 0; effects = p.core.Effects() {
		for _, e := range effects {
			switch {
			case e.Send != nil:
				if c := p.conns[e.Send.Session]; c != nil {
					m := e.Send.Message
					p.n.out(func() { p.n.h.net.down(c, m) })
				}
			case e.Load != nil:
				states, err := downlink.ReadStates(ctx, p.n.store, p.n.h.city.tree, e.Load)
				if p.can(e.Load.Session, err) {
					p.core.Loaded(e.Load.Session, states, p.n.micros())
				}
			case e.Commit != nil:
				p.commit(e.Commit)
			case e.Compare != nil:
				root, next, err := downlink.ReadCompare(ctx, p.n.store, e.Compare)
				if p.can(e.Compare.Session, err) {
					p.core.Compared(e.Compare, root, next, p.n.micros())
				}
			case e.Recall != nil:
				found, err := downlink.ReadRecall(ctx, p.n.store, p.n.h.city.tree, p.n.code, e.Recall)
				if p.can(e.Recall.Session, err) {
					p.core.Recalled(e.Recall.Session, found)
				}
			case e.Next != nil:
				some, err := p.post.Next(ctx, e.Next.Child, e.Next.At, e.Next.Bytes)
				if p.can(e.Next.Session, err) {
					p.core.Nexted(e.Next.Session, some)
				}
			case e.Hangup != nil:
				p.hangup(e.Hangup)
			}
		}
	}
}

func (p *parent) can(session uint64, err error) bool {
	if err != nil {
		p.core.Failed(session, err)
	}
	return err == nil
}

func (p *parent) hangup(u *downlink.Hangup) {
	c := p.conns[u.Session]
	if c == nil {
		return
	}
	delete(p.conns, u.Session)
	p.n.trace("hangs up", u.Err.Error(), int64(c.id), 0)
	p.n.out(func() { p.n.h.net.close(c, false) })
}

// commit stores what came from below; the core is told once it is durable.
func (p *parent) commit(w *downlink.Commit) {
	n := p.n
	var replicas, commands []error
	runs := []func(){
		func() { replicas = n.store.AppendReplica(ctx, w.Replicas...) },
		func() { _, commands = n.store.Append(ctx, w.Commands...) },
	}
	if n.h.rng.IntN(2) == 0 {
		runs[0], runs[1] = runs[1], runs[0]
	}
	for _, run := range runs {
		run()
	}
	n.out(func() {
		p.core.Stored(w, replicas, commands, n.micros())
		p.do()
		n.poke(0)
	})
}

// peer is what silence and lateness are judged by.
func (p *parent) peer(id journal.ID) escalation.Peer {
	s := p.core.Status(id)
	return escalation.Peer{Checkpoint: s.Checkpoint, Size: s.Covered, Heard: s.Heard, Since: p.n.since}
}
