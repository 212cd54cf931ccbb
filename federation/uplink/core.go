package uplink

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"time"

	"duban.internal/federation"
	"duban.internal/federation/topology"
	"duban.internal/node/journal"
	"duban.internal/node/jurisdiction"
	"duban.internal/node/planted"
	dubanv1 "duban.internal/proto/duban/v1"
)

// Core is the child's end as a state machine: what happens goes in by its methods, what is to be done comes out of Effects.
// It asks no clock, no disk and no network; times are microseconds that the caller gives.
type Core struct {
	cfg   CoreConfig
	state state
	lanes map[journal.ID]*lane
	order []journal.ID
	turn  int // whose turn it is to load

	loading  bool
	bytes    int // sent and not acknowledged
	messages int // likewise

	nextBeat int64
	attempts int
	skew     int64
	measured int64 // when skew was
	asked    int64 // when the hello was sent
	heard    int64
	window   int // bytes that may be sent and not acknowledged, on this stream
	letters  []*dubanv1.LetterPosition
	counted  uint64 // letters on this stream
	problem  string // last one
	out      []Effect
}

// CoreConfig says whom a Core speaks for and in what portions.
type CoreConfig struct {
	Code     jurisdiction.Code
	Journals []journal.ID       // the own one first, then all that may come from below
	Parent   *journal.PublicKey // by which countersignatures of the other end are checked
	// Above are the nodes above this one, the other end too: their countersignatures come down the stream.
	Above []topology.Node
	// Keys are those of Journals: what comes down as countersigned was signed by them.
	Keys    map[journal.ID]*journal.PublicKey
	Version string

	Interval int64 // microseconds between heartbeats
	Batch    int   // bytes of entries in one batch, about
	Window   int   // bytes sent and not acknowledged, or less if the parent says so
	InFlight int   // messages sent and not acknowledged

	// Jitter gives numbers in [0, 1) that spread retries.
	Jitter func() float64
	Retry  time.Duration // the longest pause between them: 30 s where 0
}

type state uint8

const (
	off   state = iota // waiting for Dial to be done
	hello              // stream open, hello sent
	open               // welcome received
)

// lane is one journal.
type lane struct {
	have    uint64 // entries here
	sent    uint64 // sent, or known to the parent
	acked   uint64
	refused string // by the parent
	broken  string // what is stored here can't be read
	beat    bool   // a heartbeat is due once everything is sent
	told    int64  // time stated by the last checkpoint sent
	flights []flight
}

func (l *lane) stopped() bool { return l.refused != "" || l.broken != "" }

// flight is a message that waits for its acknowledgement.
type flight struct {
	size  uint64 // of its checkpoint
	bytes int
	note  []byte
	sent  int64 // when; 0 where it is not known
}

// Effect is something to be done. One field is set.
type Effect struct {
	Dial     *Dial
	Send     *dubanv1.SyncRequest
	Load     *Load
	Beat     *Beat
	Keep     *Keep
	Announce *Announce
	Take     *dubanv1.SyncLetter // for federation.Above; answered by Took. In order.
	Serve    *dubanv1.SyncFetch  // for federation.Files, or to be given up
	Hangup   string              // reason; the stream is to be ended, and Closed called
}

// Dial asks for a new stream after a pause of patience.
type Dial struct{ After time.Duration }

// Load asks for entries of a journal and a checkpoint of exactly their end; answered by Loaded.
type Load struct {
	Journal journal.ID
	From    uint64
	Bytes   int // about
}

// Beat asks for a fresh checkpoint of a journal; answered by Stamped.
type Beat struct{ Journal journal.ID }

// Keep asks to store what the other end acknowledged and countersigned, or what it brought of a node above it.
type Keep struct {
	Journal journal.ID
	By      jurisdiction.Code // the node above whose word came down; empty where the other end speaks for itself
	Size    uint64
	Time    int64 // stated by the checkpoint
	Note    []byte
}

// Announce tells which entry kinds the other end and everything above it know.
type Announce struct{ Kinds []uint32 }

// NewCore makes a Core that wants to dial at once.
func NewCore(cfg CoreConfig) *Core {
	c := &Core{cfg: cfg, lanes: map[journal.ID]*lane{}}
	for _, id := range cfg.Journals {
		if c.lanes[id] == nil {
			c.lanes[id], c.order = &lane{}, append(c.order, id)
		}
	}
	c.out = append(c.out, Effect{Dial: &Dial{}})
	return c
}

// Effects takes what is to be done, in this order.
func (c *Core) Effects() []Effect {
	out := c.out
	c.out = nil
	return out
}

// Grown says how many entries of a journal are here. Journals that were not named at the start are ignored.
func (c *Core) Grown(id journal.ID, size uint64) {
	if l := c.lanes[id]; l != nil && size != l.have {
		l.have = size
		c.pump()
	}
}

// At tells where this node stands with letters from above, for the next hello.
func (c *Core) At(letters []*dubanv1.LetterPosition) { c.letters = letters }

// Opened says that the stream that Dial asked for is there.
func (c *Core) Opened(now int64) {
	c.state, c.asked, c.counted = hello, now, 0
	h := &dubanv1.SyncHello{Code: string(c.cfg.Code), NowUs: now, Version: c.cfg.Version, Kinds: federation.Kinds(), Letters: c.letters}
	for _, id := range c.order {
		h.Journals = append(h.Journals, id[:])
	}
	c.send(&dubanv1.SyncRequest{Message: &dubanv1.SyncRequest_Hello{Hello: h}})
}

// Closed says that the stream ended, or could not be opened, and why.
func (c *Core) Closed(reason string) {
	c.state, c.loading, c.bytes, c.messages, c.problem = off, false, 0, 0, reason
	for _, l := range c.lanes {
		l.flights, l.told = nil, 0
		l.sent = l.acked
	}
	pause := firstPause << min(c.attempts, 10)
	pause = min(pause, cmp.Or(c.cfg.Retry, longestPause))
	c.attempts++
	if planted.On("uplink.gives-up") && c.attempts > 3 {
		return
	}
	c.out = append(c.out, Effect{Dial: &Dial{After: pause/2 + time.Duration(c.cfg.Jitter()*float64(pause/2))}})
}

// Pauses before dialing again double from the first to the longest; half of each is chance.
const (
	firstPause   = 200 * time.Millisecond
	longestPause = 30 * time.Second
)

// Received takes a message of the parent.
func (c *Core) Received(m *dubanv1.SyncResponse, now int64) {
	c.heard = now
	switch {
	case c.state == hello && m.GetWelcome() != nil:
		c.welcome(m.GetWelcome(), now)
	case c.state == open && m.GetAck() != nil:
		c.ack(m.GetAck(), now)
	case c.state == open && m.GetRefusal() != nil:
		c.refusal(m.GetRefusal())
	case c.state == open && m.GetLetter() != nil:
		c.letter(m.GetLetter())
	case c.state == open && m.GetWitness() != nil:
		c.witness(m.GetWitness())
	case c.state == open && m.GetFetch() != nil:
		c.out = append(c.out, Effect{Serve: m.GetFetch()})
	case c.state == open && m.GetWelcome() == nil: // a later version's
	default:
		c.hangup("the parent sent a message that has no place here")
	}
	c.pump()
}

func (c *Core) welcome(w *dubanv1.SyncWelcome, now int64) {
	positions := map[journal.ID]*dubanv1.SyncPosition{}
	for _, p := range w.GetPositions() {
		if id, err := journal.IDFrom(p.GetJournal()); err == nil {
			positions[id] = p
		}
	}
	for _, id := range c.order {
		p, l := positions[id], c.lanes[id]
		if p == nil {
			c.hangup(fmt.Sprintf("the parent left out journal %s", id))
			return
		}
		l.sent, l.acked, l.refused, l.beat = p.GetSize(), p.GetSize(), "", false
		if planted.On("uplink.skips") && l.sent < l.have {
			l.sent++
		}
		if planted.On("uplink.own-only") && id != c.order[0] {
			l.refused = "planted"
		}
		if p.GetRefused() {
			l.refused = "refused by the parent before"
		}
	}
	c.state, c.problem = open, ""
	c.measure(c.asked, w.GetNowUs(), now)
	c.window = c.cfg.Window
	if told := w.GetWindow(); told > 0 && told < uint64(c.window) {
		c.window = int(told)
	}
	c.out = append(c.out, Effect{Announce: &Announce{Kinds: w.GetKinds()}})
	if own := c.lanes[c.order[0]]; own.acked > own.have {
		c.problem = fmt.Sprintf("the parent has %d entries of this node's journal, and here are only %d: was it restored from an old copy?",
			own.acked, own.have)
	}
	c.nextBeat = now
	c.beats(now)
}

func (c *Core) ack(a *dubanv1.SyncAck, now int64) {
	id, err := journal.IDFrom(a.GetJournal())
	l := c.lanes[id]
	if err != nil || l == nil {
		c.hangup("an acknowledgement of a journal that was not sent")
		return
	}
	// The parent acknowledges the last of several; what lies before it is acknowledged too.
	i := slices.IndexFunc(l.flights, func(f flight) bool {
		return f.size == a.GetSize() && bytes.HasPrefix(a.GetCountersigned(), f.note)
	})
	if i < 0 && a.GetSize() <= l.acked {
		return // said again, or by way of a later one
	}
	if i < 0 {
		c.hangup(fmt.Sprintf("an acknowledgement of journal %s at %d, which was not sent", id, a.GetSize()))
		return
	}
	if _, err := c.cfg.Parent.Witnessed(a.GetCountersigned()); err != nil {
		c.hangup(fmt.Sprintf("the parent acknowledged without its signature: %v", err))
		return
	}
	point, err := journal.ParseCheckpoint(a.GetCountersigned())
	if err != nil {
		c.hangup(err.Error())
		return
	}
	for _, f := range l.flights[:i+1] {
		c.bytes -= f.bytes
		c.messages--
	}
	c.measure(l.flights[i].sent, a.GetNowUs(), now)
	l.flights = append(l.flights[:0], l.flights[i+1:]...)
	l.acked = max(l.acked, a.GetSize())
	c.attempts = 0
	c.out = append(c.out, Effect{Keep: &Keep{Journal: id, Size: point.Size, Time: point.Time, Note: a.GetCountersigned()}})
}

// witness takes what a node above countersigned. What does not hold is left aside: there is nothing to be had from it.
func (c *Core) witness(w *dubanv1.SyncWitness) {
	id, err := journal.IDFrom(w.GetJournal())
	key := c.cfg.Keys[id]
	if err != nil || c.lanes[id] == nil || key == nil {
		return
	}
	point, err := key.Open(w.GetCountersigned())
	if err != nil {
		c.problem = fmt.Sprintf("a countersignature from above is under what nobody signed: %v", err)
		return
	}
	for _, n := range c.cfg.Above {
		if _, err := n.Key.Witnessed(w.GetCountersigned()); err == nil && n.Key != c.cfg.Parent {
			c.out = append(c.out, Effect{Keep: &Keep{Journal: id, By: n.Code, Size: point.Size, Time: point.Time, Note: w.GetCountersigned()}})
		}
	}
}

// letter hands on a letter that came in its place. Whether what it says has a gap is for who takes it.
func (c *Core) letter(m *dubanv1.SyncLetter) {
	switch n := m.GetSequence(); {
	case n != 0 && n <= c.counted: // again
	case n > c.counted+1:
		c.hangup("a letter was lost on its way")
	default:
		c.counted = max(c.counted, n)
		c.out = append(c.out, Effect{Take: m})
	}
}

// Took answers Take.
func (c *Core) Took(a *dubanv1.SyncLetterAck) {
	if c.state != open {
		return
	}
	if a.GetRefused() != "" {
		c.problem = "a letter from above was refused: " + a.GetRefused()
	}
	c.send(&dubanv1.SyncRequest{Message: &dubanv1.SyncRequest_LetterAck{LetterAck: a}})
}

func (c *Core) refusal(r *dubanv1.SyncRefusal) {
	id, err := journal.IDFrom(r.GetJournal())
	l := c.lanes[id]
	if err != nil || l == nil {
		c.hangup("a refusal of a journal that was not sent")
		return
	}
	l.refused = r.GetReason()
	c.problem = fmt.Sprintf("the parent refused journal %s: %s", id, r.GetReason())
	for _, f := range l.flights {
		c.bytes -= f.bytes
		c.messages--
	}
	l.flights = nil
}

// Loaded answers Load. No entries mean that nothing can be sent of this journal before it grows.
func (c *Core) Loaded(id journal.ID, from uint64, entries []journal.Entry, note []byte) {
	c.loading = false
	l := c.lanes[id]
	if c.state != open || l == nil || l.sent != from || l.stopped() {
		c.pump()
		return
	}
	if len(entries) == 0 {
		l.have = from // until Grown says otherwise
		c.pump()
		return
	}
	if planted.On("uplink.cuts-short") && len(entries) > 1 {
		entries = entries[:len(entries)-1]
	}
	l.sent = from + uint64(len(entries))
	size := federation.Bytes(entries)
	c.fly(l, flight{size: l.sent, bytes: size, note: note})
	c.send(&dubanv1.SyncRequest{Message: &dubanv1.SyncRequest_Batch{Batch: &dubanv1.SyncBatch{
		Journal: id[:], From: from, Entries: federation.ToWire(entries), Checkpoint: note}}})
	c.pump()
}

// Broken answers Load or Beat where what is stored of a journal can't be read: the others go on, until the next start.
func (c *Core) Broken(id journal.ID, reason string) {
	c.loading = false
	if l := c.lanes[id]; l != nil {
		l.broken = reason
		c.problem = fmt.Sprintf("journal %s can't be read: %s", id, reason)
	}
	c.pump()
}

// Stamped answers Beat, with the node's clock at that time.
func (c *Core) Stamped(id journal.ID, point journal.Checkpoint, note []byte, now int64) {
	l := c.lanes[id]
	if c.state != open || l == nil || l.stopped() {
		return
	}
	own := id == c.order[0]
	switch {
	case own && point.Size > l.have:
		l.have = point.Size // appended meanwhile: the batch goes first
		l.beat = true
		c.pump()
		return
	case point.Size != l.sent && (!own || l.acked <= point.Size), point.Time < l.told, point.Time == l.told && !own:
		// The parent can't compare it yet, or knows as much. The own one goes all the same where its time stands still, for
		// the node may not believe its clock: hearing the parent's is what puts that right.
		return
	}
	l.told = point.Time
	c.fly(l, flight{size: point.Size, note: note, sent: now})
	c.send(&dubanv1.SyncRequest{Message: &dubanv1.SyncRequest_Heartbeat{Heartbeat: &dubanv1.SyncHeartbeat{
		Journal: id[:], Checkpoint: note, NowUs: now}}})
}

// Ticked says what time it is; heartbeats go out when they are due, and where the clock was put back since. NextTick says
// when it is wanted.
func (c *Core) Ticked(now int64) {
	if planted.On("uplink.no-heartbeat") {
		c.nextBeat = now + c.cfg.Interval
	}
	if c.state == open && (now >= c.nextBeat || c.nextBeat-now > c.cfg.Interval) {
		c.beats(now)
		c.pump()
	}
}

// NextTick is when Ticked is wanted; ok is false while no stream is open.
func (c *Core) NextTick() (at int64, ok bool) { return c.nextBeat, c.state == open }

// Waiting says whether the parent owes an answer.
func (c *Core) Waiting() bool { return c.state == hello || c.messages > 0 }

func (c *Core) beats(now int64) {
	for _, l := range c.lanes {
		l.beat = true
	}
	c.nextBeat = now + c.cfg.Interval
}

// pump asks for the next thing to send: one load at a time, journals in turn.
func (c *Core) pump() {
	if c.state != open {
		return
	}
	for i, id := range c.order {
		l := c.lanes[id]
		// A parent that has more than we do of our own journal is told so: it keeps the evidence.
		if l.beat && !l.stopped() && (l.sent == l.have || i == 0 && l.sent > l.have) && l.have > 0 {
			l.beat = false
			c.out = append(c.out, Effect{Beat: &Beat{Journal: id}})
		}
	}
	if c.loading || c.bytes >= c.window || c.messages >= c.cfg.InFlight {
		return
	}
	for i := range c.order {
		at := (c.turn + i) % len(c.order)
		id := c.order[at]
		if l := c.lanes[id]; !l.stopped() && l.sent < l.have {
			c.turn, c.loading = at+1, true
			c.out = append(c.out, Effect{Load: &Load{Journal: id, From: l.sent, Bytes: min(c.cfg.Batch, max(c.window/2, 1))}})
			return
		}
	}
}

func (c *Core) fly(l *lane, f flight) {
	l.flights = append(l.flights, f)
	c.bytes += f.bytes
	c.messages++
}

func (c *Core) send(m *dubanv1.SyncRequest) { c.out = append(c.out, Effect{Send: m}) }

func (c *Core) hangup(reason string) {
	c.problem = reason
	c.out = append(c.out, Effect{Hangup: reason})
}

// Status says how the Core stands.
func (c *Core) Status() Status {
	s := Status{Connected: c.state == open, Skew: c.skew, Measured: c.measured, Heard: c.heard, Problem: c.problem,
		Acknowledged: make(map[journal.ID]uint64, len(c.order)), Refused: map[journal.ID]string{}}
	for id, l := range c.lanes {
		s.Acknowledged[id] = l.acked
		if l.stopped() {
			s.Refused[id] = cmp.Or(l.refused, l.broken)
		}
	}
	return s
}
