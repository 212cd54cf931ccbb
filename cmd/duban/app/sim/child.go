package sim

import (
	"fmt"
	"slices"
	"time"

	"duban.internal/federation"
	"duban.internal/federation/letters"
	"duban.internal/federation/uplink"
	"duban.internal/node/fault"
	"duban.internal/node/journal"
	"duban.internal/node/jurisdiction"
	"duban.internal/node/store"
	dubanv1 "duban.internal/proto/duban/v1"
)

// child drives the end that dials the nodes above, as uplink.Uplink does.
type child struct {
	n       *node
	portion uplink.CoreConfig
	box     *letters.Box
	parent  *link
	past    []*link // to the nodes above the parent
	words   map[jurisdiction.Code]word
	kinds   []uint32
	heard   int64 // the last exchange with the parent, by the own clock
	skew    int64 // the parent's clock less the own one then
	begun   int64
}

// word is what is known of a node above the parent.
type word struct {
	time     int64 // stated by the last own checkpoint that it countersigned
	byParent int64 // of those that came down by the parent
}

// link drives one core: the stream to the parent, or one past it.
type link struct {
	c      *child
	to     *node
	past   bool
	source uplink.Source
	core   *uplink.Core // nil while the node is not to be dialed
	conn   *conn
	begun  int64 // since when it is dialed past the parent
	asked  int64 // since when the other end owes an answer; 0 where it does not
	tick   int64 // that is waited for
	keep   []*uplink.Keep
	kinds  *uplink.Announce
	size   uint64 // countersigned past the parent last
	since  int64
	life   int // of the core
}

// silence is how long an answer is waited for, in patience.
const silence = time.Minute

func newChild(n *node) (*child, error) {
	h := n.h
	c := &child{n: n, words: map[jurisdiction.Code]word{}, begun: n.micros()}
	c.portion = uplink.CoreConfig{
		Code: n.code, Version: "sim", Keys: map[journal.ID]*journal.PublicKey{},
		Interval: h.plan.beat.Microseconds(), Batch: 64 << 10, Window: 256 << 10, InFlight: 16, Jitter: h.rng.Float64,
	}
	for _, own := range []bool{true, false} { // the own journal first
		for _, m := range h.city.members {
			if own == (m.Code == n.code) && h.city.tree.Within(m.Code, n.code) {
				c.portion.Journals = append(c.portion.Journals, m.Journal)
				c.portion.Keys[m.Journal] = m.Key
			}
		}
	}
	for up := n.parent; up != nil; up = up.parent {
		m, _ := h.city.tree.Node(up.code)
		c.portion.Above = append(c.portion.Above, m)
	}
	var err error
	if c.box, err = letters.NewBox(n.post()); err != nil {
		return nil, err
	}
	if c.kinds, err = federation.ReadAnnounced(ctx, n.store); err != nil {
		return nil, err
	}
	c.parent = &link{c: c, to: n.parent, source: uplink.Source{Store: n.store, Key: n.key}}
	for up := n.parent.parent; up != nil; up = up.parent {
		c.parent.source.Ancestors = append(c.parent.source.Ancestors, up.code)
		c.past = append(c.past, &link{c: c, to: up, past: true, source: uplink.Source{Store: n.store, Key: n.key}})
	}
	rows, err := n.store.Scan(ctx, n.own, federation.Ancestor, nil, 64)
	if err != nil {
		return nil, err
	}
	for _, row := range rows {
		c.say(jurisdiction.Code(row[0].(string)), row[2].(int64), false)
		for _, l := range c.past {
			if string(l.to.code) == row[0] {
				l.size = uint64(row[1].(int64))
			}
		}
	}
	c.parent.start()
	for _, l := range c.past {
		c.watch(l)
	}
	return c, nil
}

func (c *child) say(code jurisdiction.Code, at int64, byParent bool) {
	w := c.words[code]
	w.time = max(w.time, at)
	if byParent {
		w.byParent = max(w.byParent, at)
	}
	c.words[code] = w
	for _, l := range c.past {
		if l.to.code == code && l.core != nil && w.byParent > l.begun {
			c.n.trace("comes back", l.to.name, 0, 0)
			l.stop()
			c.watch(l)
		}
	}
}

// watch dials a node above past the parent once its word stays away.
func (c *child) watch(l *link) {
	last := max(c.words[l.to.code].time, c.begun)
	left := last + c.n.h.plan.around.Microseconds() - c.n.micros()
	c.later(max(left, 1), func() {
		if l.core != nil {
			return
		}
		if max(c.words[l.to.code].time, c.begun)+c.n.h.plan.around.Microseconds() > c.n.micros() {
			c.watch(l)
			return
		}
		c.n.trace("goes around", l.to.name, 0, 0)
		c.n.h.sight.around++
		l.begun = c.n.micros()
		l.start()
		l.step()
		c.n.after()
	})
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

// step does what the cores ask for.
func (c *child) step() {
	c.parent.step()
	for _, l := range c.past {
		l.step()
	}
}

func (c *child) of(from *conn) *link {
	for _, l := range append(c.past[:len(c.past):len(c.past)], c.parent) {
		if l.conn == from {
			return l
		}
	}
	return nil
}

func (c *child) received(from *conn, m *dubanv1.SyncResponse) {
	l := c.of(from)
	if l == nil {
		return
	}
	l.asked = 0
	if a := m.GetAck(); a != nil {
		if id, err := journal.IDFrom(a.GetJournal()); err == nil && uint64(l.to.disk.Durable(id)) < a.GetSize() {
			c.n.h.fail(l.to, "what is acknowledged is durable", "it acknowledged %d entries of journal %s, and %d are durable", a.GetSize(), id, l.to.disk.Durable(id))
		}
	}
	l.core.Received(m, c.n.micros())
	if l == c.parent {
		s := l.core.Status()
		c.heard, c.skew = s.Measured, s.Skew
		c.n.alarm() // the guard sees each exchange
	}
	l.step()
	c.n.after()
}

// closed tells that the other end, or the line, closed a stream.
func (c *child) closed(from *conn, reason string) {
	if l := c.of(from); l != nil {
		l.conn, l.asked = nil, 0
		l.core.Closed(reason)
		l.do()
		c.n.after()
	}
}

func (l *link) start() {
	portion := l.c.portion
	m, _ := l.c.n.h.city.tree.Node(l.to.code)
	portion.Parent = m.Key
	l.core, l.life = uplink.NewCore(portion), l.life+1
}

func (l *link) stop() {
	if l.conn != nil {
		l.c.n.h.net.close(l.conn, true)
	}
	l.core, l.conn, l.asked, l.tick, l.keep = nil, nil, 0, 0, nil
}

// later does something after a time, if this core lasts.
func (l *link) later(after int64, do func()) {
	life := l.life
	l.c.later(after, func() {
		if l.core != nil && l.life == life {
			do()
		}
	})
}

// patience is virtual time for what people feel as d.
func (l *link) patience(d time.Duration) int64 {
	return int64(d.Seconds() * float64(l.c.n.h.plan.patience.Microseconds()))
}

func (l *link) step() {
	if l.core == nil {
		return
	}
	for _, info := range l.c.n.store.Journals() {
		l.core.Grown(info.ID, info.Size)
	}
	l.do()
	l.arm()
	l.await()
}

// arm has the core ticked when it wants to be: a timer counts what passes, whatever the clock is set to meanwhile.
func (l *link) arm() {
	if l.core == nil {
		return
	}
	at, ok := l.core.NextTick()
	if !ok || at == l.tick {
		return
	}
	l.tick = at
	l.later(max(at-l.c.n.micros(), 1), func() {
		if l.tick != at {
			return
		}
		l.tick = 0
		l.core.Ticked(l.c.n.micros())
		l.step()
		l.c.n.after()
	})
}

// await gives up on an end that does not answer.
func (l *link) await() {
	switch {
	case l.core == nil:
		return
	case l.conn == nil || !l.core.Waiting():
		l.asked = 0
		return
	case l.asked != 0:
		return
	}
	since, stream := l.c.n.h.now, l.conn
	l.asked = since
	l.later(l.patience(silence), func() {
		if l.conn == stream && l.asked == since {
			l.close("no answer")
			l.c.n.after()
		}
	})
}

// close ends the stream from here.
func (l *link) close(reason string) {
	if l.conn != nil {
		l.c.n.h.net.close(l.conn, true)
		l.conn, l.asked = nil, 0
	}
	l.c.n.trace("closes", reason, 0, 0)
	l.core.Closed(reason)
	l.do()
}

func (l *link) do() {
	for l.core != nil {
		effects := l.core.Effects()
		if len(effects) == 0 {
			break
		}
		for _, e := range effects {
			if err := l.one(e); err != nil {
				l.c.n.h.fail(l.c.n, "the uplink goes on", "%v", err)
				return
			}
		}
	}
	if err := l.keepAll(); err != nil {
		l.c.n.h.fail(l.c.n, "the uplink goes on", "%v", err)
	}
}

func (l *link) one(e uplink.Effect) error {
	n := l.c.n
	switch {
	case e.Keep != nil:
		l.keep = slices.DeleteFunc(l.keep, func(k *uplink.Keep) bool { return k.Journal == e.Keep.Journal && k.By == e.Keep.By })
		l.keep = append(l.keep, e.Keep)
	case e.Announce != nil:
		if !l.past {
			l.kinds = e.Announce
		}
	case e.Dial != nil:
		l.later(l.patience(e.Dial.After), l.open)
	case l.conn == nil: // of a stream that is gone
	case e.Send != nil:
		stream := l.conn
		n.out(func() { n.h.net.up(stream, e.Send) })
	case e.Load != nil:
		entries, note, err := l.source.Load(ctx, e.Load)
		if err != nil {
			return err
		}
		l.core.Loaded(e.Load.Journal, e.Load.From, entries, note)
	case e.Beat != nil:
		point, note, ok, err := l.source.Stamp(ctx, e.Beat.Journal)
		if err != nil {
			return err
		}
		if ok {
			l.core.Stamped(e.Beat.Journal, point, note, n.micros())
		}
	case e.Take != nil:
		a, err := l.c.box.Take(ctx, e.Take)
		switch {
		case err != nil && n.disbelieved(): // the driver ends the stream
			l.close(err.Error())
		case err != nil:
			return fmt.Errorf("taking a letter: %w", err)
		default:
			if a.GetRefused() != "" { // not held against anybody, or there is an entry with the evidence, which is no good
				n.trace("takes no letter", a.GetRefused(), 0, 0)
			}
			l.core.Took(a)
			n.above.grow()
		}
	case e.Hangup != "":
		l.close(e.Hangup)
	}
	return nil
}

func (l *link) open() {
	at, err := l.c.box.Positions(ctx)
	if err != nil {
		l.c.n.h.fail(l.c.n, "the uplink goes on", "%v", err)
		return
	}
	l.core.At(at)
	l.conn = l.c.n.h.net.dial(l.c.n, l.to)
	l.core.Opened(l.c.n.micros())
	l.step()
	l.c.n.after()
}

// keepAll stores the last word of each journal in one commit.
func (l *link) keepAll() error {
	n, now := l.c.n, l.c.n.micros()
	var changes []store.Change
	said := map[jurisdiction.Code]int64{}
	var order []jurisdiction.Code
	if a := l.kinds; a != nil {
		l.kinds = nil
		if !slices.Equal(a.Kinds, l.c.kinds) {
			l.c.kinds = slices.Clone(a.Kinds)
			changes = append(changes, store.Change{Table: federation.Announced, Owner: n.own, Row: federation.Announcement(a.Kinds, now)})
			n.above.core.Announced(a.Kinds)
		}
	}
	around := jurisdiction.Code("")
	if l.past {
		around = l.to.code
	}
	for _, k := range l.keep {
		changes = append(changes, k.Row(around, now))
		if k.Journal != n.own {
			continue
		}
		if k.By == "" && !l.past {
			shown, err := l.shown(k.Size)
			if err != nil {
				return err
			}
			changes = append(changes, shown...)
			continue
		}
		by := k.By
		if by == "" {
			by = around
			changes = append(changes, l.witnessed(k)...)
		}
		said[by], order = k.Time, append(order, by)
	}
	l.keep = l.keep[:0]
	if len(changes) == 0 {
		return nil
	}
	if _, errs := n.store.Append(ctx, store.Command{Changes: changes}); errs[0] != nil {
		return fault.New(fault.Internal, "keeping what the nodes above said: %w", errs[0])
	}
	for _, by := range order {
		l.c.say(by, said[by], !l.past)
	}
	return nil
}

// shown drops what was kept to be shown to the parent, up to a size that it has acknowledged (as uplink's driver does).
func (l *link) shown(size uint64) (changes []store.Change, err error) {
	for _, code := range l.source.Ancestors {
		rows, err := l.c.n.store.Scan(ctx, l.c.n.own, federation.Witness, []any{string(code)}, 64)
		if err != nil {
			return nil, err
		}
		for _, row := range rows {
			if row[0] == string(code) && uint64(row[1].(int64)) <= size {
				changes = append(changes, store.Change{Table: federation.Witness, Owner: l.c.n.own, Delete: true, Row: row[:2:2]})
			}
		}
	}
	return changes, nil
}

// witnessed keeps a checkpoint that was countersigned past the parent (as uplink's driver does).
func (l *link) witnessed(k *uplink.Keep) (changes []store.Change) {
	if k.Size <= l.size {
		return nil
	}
	own, by := l.c.n.own, string(l.to.code)
	if l.size > 0 && k.Time-l.since < federation.WitnessEvery {
		changes = append(changes, store.Change{Table: federation.Witness, Owner: own, Delete: true, Row: store.Row{by, int64(l.size)}})
	} else {
		l.since = k.Time
	}
	l.size = k.Size
	return append(changes, store.Change{Table: federation.Witness, Owner: own, Row: store.Row{by, int64(k.Size), k.Time, k.Time, k.Note}})
}

// restless says what the parent has not acknowledged.
func (c *child) restless() string {
	s := c.parent.core.Status()
	for _, info := range c.n.store.Journals() {
		if why := s.Refused[info.ID]; why != "" {
			return fmt.Sprintf("journal %s is refused: %s", info.ID, why)
		}
		if s.Acknowledged[info.ID] != info.Size {
			return fmt.Sprintf("the parent acknowledged %d of %d entries of journal %s", s.Acknowledged[info.ID], info.Size, info.ID)
		}
	}
	for _, l := range c.past {
		if l.core != nil {
			return fmt.Sprintf("it still dials %s past its parent", l.to.name)
		}
	}
	return ""
}
