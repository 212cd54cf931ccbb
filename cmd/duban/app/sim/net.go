package sim

import (
	"duban.internal/federation/downlink"
	dubanv1 "duban.internal/proto/duban/v1"
)

// network is the lines between nodes. A line carries streams; a stream is what it is over TCP, in order and whole until it
// breaks, unless the plan has messages lost, repeated or overtaken one by one.
type network struct {
	h     *history
	cut   map[line]int // how many cuts are on it
	conns []*conn      // those with an end that is open
	ids   uint64
}

// line is a way from one node to another, in one direction.
type line struct{ from, to *node }

// conn is a stream from a child to a node above it.
type conn struct {
	id     uint64
	child  *node
	parent *node
	// Each end: whether it is open, and whether messages to the other end still arrive.
	childOpen, parentOpen bool
	begun                 bool // at the parent: a stream begins once
	upBroken, downBroken  bool
	breaking              bool
	upLast, downLast      int64 // arrival of the last message that keeps the order
}

// dial opens a stream; whether the other end is there shows later.
func (w *network) dial(child, parent *node) *conn {
	w.ids++
	c := &conn{id: w.ids, child: child, parent: parent, childOpen: true}
	w.conns = append(w.conns, c)
	return c
}

// up sends a message of a child.
func (w *network) up(c *conn, m *dubanv1.SyncRequest) {
	w.carry(c, line{c.child, c.parent}, &c.upBroken, &c.upLast, true, func() {
		p := c.parent
		if !p.up {
			w.reset(c, true)
			return
		}
		hello := m.GetHello() != nil
		if hello && !c.parentOpen && !c.begun {
			c.parentOpen, c.begun = true, true
			p.above.connected(c)
		}
		if !c.parentOpen {
			w.reset(c, true)
			return
		}
		p.above.received(c, downlink.Open(w.h.city.tree, m))
	})
}

// down sends a message of a parent.
func (w *network) down(c *conn, m *dubanv1.SyncResponse) {
	w.carry(c, line{c.parent, c.child}, &c.downBroken, &c.downLast, true, func() {
		if !c.child.up || !c.childOpen {
			w.reset(c, false)
			return
		}
		c.child.child.received(c, m)
	})
}

// carry brings a message over a line, or loses it.
func (w *network) carry(c *conn, l line, broken *bool, last *int64, bad bool, arrive func()) {
	h, p := w.h, &w.h.plan
	lost := bad && !h.mended && p.loss > 0 && h.rng.Float64() < p.loss
	if lost {
		w.breaks(c)
	}
	if w.cut[l] > 0 {
		*broken = *broken || p.loss == 0
		lost = true
	}
	if lost || *broken {
		return
	}
	at := h.now + 1 + h.rng.Int64N(p.latency.Microseconds())
	if !bad || h.mended || p.overtake == 0 || h.rng.Float64() >= p.overtake {
		at = max(at, *last+1)
		*last = at
	} else {
		w.breaks(c)
	}
	h.at(at, arrive)
	if bad && !h.mended && p.repeat > 0 && h.rng.Float64() < p.repeat {
		h.at(at+h.rng.Int64N(4*p.latency.Microseconds()), arrive)
		w.breaks(c)
	}
}

// breaks ends a stream some time after a message of it was lost, repeated or overtaken: what is no line does not last, and
// until then both ends may notice by themselves.
func (w *network) breaks(c *conn) {
	if c.breaking {
		return
	}
	c.breaking = true
	w.h.at(w.h.now+w.h.rng.Int64N(30*w.h.plan.patience.Microseconds()), func() {
		c.upBroken, c.downBroken = true, true
		if c.childOpen && c.child.up {
			c.childOpen = false
			c.child.child.closed(c, "the line broke")
		}
		if c.parentOpen && c.parent.up {
			c.parentOpen = false
			c.parent.above.closed(c)
		}
		w.prune()
	})
}

// close closes one end; the other hears of it where the line carries.
func (w *network) close(c *conn, childsEnd bool) {
	if childsEnd {
		if !c.childOpen {
			return
		}
		c.childOpen = false
	} else {
		if !c.parentOpen {
			return
		}
		c.parentOpen = false
	}
	w.reset(c, !childsEnd)
	w.prune()
}

// reset tells the child's end, or the parent's, that the stream is no more.
func (w *network) reset(c *conn, toChild bool) {
	if toChild {
		w.carry(c, line{c.parent, c.child}, &c.downBroken, &c.downLast, false, func() {
			if c.childOpen && c.child.up {
				c.childOpen = false
				c.child.child.closed(c, "the stream was reset")
			}
		})
		return
	}
	w.carry(c, line{c.child, c.parent}, &c.upBroken, &c.upLast, false, func() {
		if c.parentOpen && c.parent.up {
			c.parentOpen = false
			c.parent.above.closed(c)
		}
	})
}

// dropped closes every end at a node that crashed.
func (w *network) dropped(n *node) {
	for _, c := range w.conns {
		if c.child == n && c.childOpen {
			c.childOpen = false
			w.reset(c, false)
		}
		if c.parent == n && c.parentOpen {
			c.parentOpen = false
			w.reset(c, true)
		}
	}
	w.prune()
}

func (w *network) prune() {
	open := w.conns[:0]
	for _, c := range w.conns {
		if c.childOpen || c.parentOpen {
			open = append(open, c)
		}
	}
	clear(w.conns[len(open):])
	w.conns = open
}
