//go:build simwip

package sim

import (
	"context"
	"fmt"
	"math"
	"time"

	"duban.internal/federation/uplink"
	"duban.internal/node/fault"
	"duban.internal/node/journal"
	dubanv1 "duban.internal/proto/duban/v1"
)

// child drives the end that dials the parent.
type child struct {
	n     *node
	core  *uplink.Core
	conn  *conn
	dial  int64 // when to dial, true time; 0 where not
	asked int64 // since when the parent owes an answer; 0 where it does not
	tick  int64 // wake-up that is scheduled
	keep  []*uplink.Keep
}

// silence is how long an answer is waited for, in patience.
const silence = 60

func newChild(n *node) *child {
	h := n.h
	self, _ := h.city.tree.Node(n.code)
	up, _ := h.city.tree.Node(self.Parent)
	c := &child{n: n}
	journals := []journal.ID{n.own}
	for _, m := range h.city.members {
		if m.Code != n.code && h.city.tree.Within(m.Code, n.code) {
			journals = append(journals, m.Journal)
		}
	}
	c.core = uplink.NewCore(uplink.CoreConfig{
		Code: n.code, Journals: journals, Parent: up.Key, Version: "sim",
		Interval: h.plan.beat.Microseconds(), Batch: 64 << 10, Window: 256 << 10, InFlight: 16, Jitter: h.rng.Float64,
	})
	return c
}

// patience is virtual time for what people feel as d.
func (c *child) patience(d time.Duration) int64 {
	return int64(d.Seconds() * float64(c.n.h.plan.patience.Microseconds()))
}

// step does what the core asks for.
func (c *child) step() {
	for _, info := range c.n.store.Journals() {
		c.core.Grown(info.ID, info.Size)
	}
	c.do()
	if at, ok := c.core.NextTick(); ok {
		if at <= c.n.micros() {
			c.core.Ticked(c.n.micros())
			c.do()
			at, ok = c.core.NextTick()
		}
		if ok && at != c.tick {
			c.tick = at
			c.n.wakeUp(at)
		}
	}
	c.watch()
}

// watch gives up on a parent that does not answer.
func (c *child) watch() {
	if c.conn == nil || !c.core.Waiting() {
		c.asked = 0
		return
	}
	if c.asked != 0 {
		return
	}
	since := c.n.h.now
	c.asked = since
	life, stream := c.n.life, c.conn
	c.n.h.at(since+c.patience(silence*time.Second), func() {
		if c.n.up && c.n.life == life && c.conn == stream && c.asked == since {
			c.close("no answer")
			c.n.after()
		}
	})
}

func (c *child) received(from *conn, m *dubanv1.SyncResponse) {
	if c.conn != from {
		return
	}
	c.asked = 0
	c.core.Received(m, c.n.micros())
	c.step()
	c.n.after()
}

// closed tells that the other end, or the line, closed a stream.
func (c *child) closed(from *conn, reason string) {
	if c.conn != from {
		return
	}
	c.conn, c.asked = nil, 0
	c.core.Closed(reason)
	c.do()
	c.n.after()
}

// close ends the stream from here.
func (c *child) close(reason string) {
	if c.conn != nil {
		c.n.h.net.close(c.conn, true)
		c.conn, c.asked = nil, 0
	}
	c.n.trace("closes", reason, 0, 0)
	c.core.Closed(reason)
	c.do()
}

func (c *child) do() {
	ctx := context.Background()
	for effects := c.core.Effects(); len(effects) > 0; effects = c.core.Effects() {
		for _, e := range effects {
			if err := c.one(ctx, e); err != nil {
				c.n.h.fail(c.n, "the uplink goes on", "%v", err)
				return
			}
		}
	}
	if len(c.keep) > 0 {
		keep := c.keep
		c.keep = nil
		if err := uplink.Store(ctx, c.n.store, keep); err != nil {
			c.n.h.fail(c.n, "the uplink goes on", "%v", err)
		}
	}
}

func (c *child) one(ctx context.Context, e uplink.Effect) error {
	switch {
	case e.Dial != nil:
		c.later(c.patience(e.Dial.After), c.open)
	case c.conn == nil && e.Keep == nil: // of a stream that is gone
	case e.Send != nil:
		stream := c.conn
		c.n.out(func() { c.n.h.net.up(stream, e.Send) })
	}
	return nil
}

// later does something after a time, if this life lasts.
func (c *child) later(after int64, do func()) {
	life := c.n.life
	c.n.h.at(c.n.h.now+after, func() {
		if c.n.up && c.n.life == life {
			do()
		}
	})
}

func (c *child) open() {
	c.conn = c.n.h.net.dial(c.n, c.n.parent)
	c.core.Opened(c.n.micros())
	c.step()
	c.n.after()
}

var (
	_ = fault.Is
	_ = fmt.Sprint
	_ = math.MaxInt64
)
