//go:build simwip

package sim

import (
	"context"
	"fmt"
	"time"

	"duban.internal/federation"
	"duban.internal/federation/uplink"
	"duban.internal/node/journal"
	"duban.internal/node/store"
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
	keep  map[journal.ID]*uplink.Keep
	heard int64 // the last exchange, by the own clock
	skew  int64 // the parent's clock less the own one then
}

// silence is how long an answer is waited for, in patience.
const silence = 60

func newChild(n *node) *child {
	h := n.h
	self, _ := h.city.tree.Node(n.code)
	up, _ := h.city.tree.Node(self.Parent)
	c := &child{n: n, keep: map[journal.ID]*uplink.Keep{}}
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
	status := c.core.Status()
	c.heard, c.skew = status.Heard, status.Skew
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
	if len(c.keep) == 0 {
		return
	}
	var changes []store.Change
	for _, m := range c.n.h.city.members {
		if k := c.keep[m.Journal]; k != nil {
			changes = append(changes, store.Change{Table: federation.Acknowledged, Owner: m.Journal, Row: store.Row{int64(k.Size), k.Time, k.Note}})
		}
	}
	clear(c.keep)
	if _, errs := c.n.store.Append(ctx, store.Command{Changes: changes}); errs[0] != nil {
		c.n.h.fail(c.n, "the uplink goes on", "%v", errs[0])
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
	case e.Load != nil:
		entries, note, err := c.load(ctx, e.Load)
		if err != nil {
			return err
		}
		c.core.Loaded(e.Load.Journal, e.Load.From, entries, note)
	case e.Beat != nil:
		return c.beat(ctx, e.Beat.Journal)
	case e.Keep != nil:
		c.keep[e.Keep.Journal] = e.Keep
	case e.Hangup != "":
		c.close(e.Hangup)
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

// restless says what the parent has not acknowledged.
func (c *child) restless() string {
	s := c.core.Status()
	for id, why := range s.Refused {
		return fmt.Sprintf("journal %s is refused: %s", id, why)
	}
	for _, info := range c.n.store.Journals() {
		if s.Acknowledged[info.ID] != info.Size {
			return fmt.Sprintf("the parent acknowledged %d of %d entries of journal %s", s.Acknowledged[info.ID], info.Size, info.ID)
		}
	}
	return ""
}

// load reads entries and their checkpoint.
func (c *child) load(ctx context.Context, l *uplink.Load) ([]journal.Entry, []byte, error) {
	st := c.n.store
	entries, err := st.Read(ctx, l.Journal, l.From, l.Bytes)
	if err != nil || len(entries) == 0 {
		return nil, nil, err
	}
	if l.Journal == c.n.own {
		note, err := c.sign(journal.Checkpoint{Journal: l.Journal, Size: l.From + uint64(len(entries)), Time: entries[len(entries)-1].RecordedAt})
		return entries, note, err
	}
	rows, err := st.Scan(ctx, l.Journal, federation.Checkpoint, []any{int64(l.From) + 1}, 1<<10)
	if err != nil || len(rows) == 0 {
		return nil, nil, err
	}
	best := rows[0]
	for _, r := range rows {
		if uint64(r[0].(int64)) <= l.From+uint64(len(entries)) {
			best = r
		}
	}
	all := c.n.disk.Entries(l.Journal)
	return all[l.From:best[0].(int64)], best[2].([]byte), nil
}

func (c *child) sign(point journal.Checkpoint) ([]byte, error) {
	hashes, err := c.n.store.Hashes(point.Journal)
	if err != nil {
		return nil, err
	}
	if point.Root, err = journal.Root(hashes, point.Size); err != nil {
		return nil, err
	}
	return c.n.key.Sign(point)
}

func (c *child) beat(ctx context.Context, id journal.ID) error {
	if id != c.n.own {
		row, ok, err := c.n.store.Get(ctx, id, federation.Head)
		if err != nil || !ok {
			return err
		}
		point, err := journal.ParseCheckpoint(row[2].([]byte))
		if err != nil {
			return err
		}
		c.core.Stamped(id, point, row[2].([]byte), c.n.micros())
		return nil
	}
	size, at, err := c.n.store.Stamp(ctx)
	if err != nil {
		return err
	}
	point := journal.Checkpoint{Journal: id, Size: size, Time: at}
	note, err := c.sign(point)
	if err != nil {
		return err
	}
	c.core.Stamped(id, point, note, c.n.micros())
	return nil
}
