package downlink

import (
	"maps"
	"slices"

	"duban.internal/federation/topology"
	"duban.internal/node/fault"
	"duban.internal/node/identity"
	"duban.internal/node/journal"
	"duban.internal/node/jurisdiction"
	dubanv1 "duban.internal/proto/duban/v1"
)

// Core is the parent's end as a state machine, for all streams of one node: what happens goes in by its methods, what is to
// be done comes out of Effects. It asks no clock, no disk and no network; times are microseconds that the caller gives.
// Streams are named by numbers that the caller chooses and never uses again.
type Core struct {
	cfg       CoreConfig
	announced []uint32 // that everything above knows; nil where nobody said
	copies    map[journal.ID]*held
	sessions  map[uint64]*session
	of        map[jurisdiction.Code]uint64 // the open stream of each child
	turns     turns
	storing   int                 // commits on their way
	busy      map[journal.ID]bool // journals of which something is
	tickets   uint64
	bytes     int // of all sessions, not acknowledged
	status    map[journal.ID]Status
	out       []Effect
}

// CoreConfig says whose node it is and in what portions it takes.
type CoreConfig struct {
	Code    jurisdiction.Code
	Tree    *topology.Tree
	Key     *journal.Key // countersigns
	Version string
	Kinds   []uint32 // entry kinds that this version knows
	// MaxBatch bounds one message in bytes.
	MaxBatch int
	// Window bounds what a child has sent and not yet been acknowledged, in bytes; children are told. One message more
	// may be under way.
	Window int
	// Memory bounds it for all children together. Half of it is shared out evenly, so that who is within its share is
	// always read; the other half is for whoever comes first.
	Memory int
	// Together is how much is stored in one commit, in bytes.
	Together int
	// Flights is how many commits are on their way at the same time, of different journals: 1 where 0.
	Flights int
	// Letters says that there is something to send down: Next effects are asked for.
	Letters bool
	// LetterWindow bounds letters that a child has not yet acknowledged, in bytes.
	LetterWindow int
}

// session is one stream.
type session struct {
	id      uint64
	caller  identity.Identity
	code    jurisdiction.Code
	state   state
	hello   *dubanv1.SyncHello
	lanes   map[journal.ID]*lane
	order   []journal.ID
	early   []*Opened // came before the welcome went
	bytes   int       // not acknowledged
	recall  bool      // asked for
	told    map[string]int64
	letters letters
}

type state uint8

const (
	silent  state = iota // no hello yet
	loading              // Load asked for
	open                 // welcome sent
)

// lane is one journal of a session.
type lane struct {
	own     bool   // its writer speaks
	refused string // on this stream
}

// held is a journal of which something is verified: as long as a session names it or something of it waits.
type held struct {
	*Copy
	code       jurisdiction.Code
	stored     uint64 // durable
	lanes      int
	waiting    int // items
	readmitted uint64
	parked     []*Compare // until that size is durable
	runs       map[jurisdiction.Code]run
}

// run is a series of acceptances of which only the last is kept.
type run struct {
	size  uint64
	begun int64
}

// NewCore makes a Core; its sessions have to be told of by Connected.
func NewCore(cfg CoreConfig) *Core {
	c := &Core{cfg: cfg, copies: map[journal.ID]*held{}, sessions: map[uint64]*session{}, of: map[jurisdiction.Code]uint64{},
		busy: map[journal.ID]bool{}, status: map[journal.ID]Status{}}
	return c
}

// Tree is whose keys it believes: for Open.
func (c *Core) Tree() *topology.Tree { return c.cfg.Tree }

// Status says how a journal stands.
func (c *Core) Status(id journal.ID) Status { return c.status[id] }

// Effects takes what is to be done, in this order.
func (c *Core) Effects() []Effect {
	out := c.out
	c.out = nil
	return out
}

// Known tells how a journal stands before anybody spoke of it: for Status alone.
func (c *Core) Known(id journal.ID, s State) error {
	p, err := NewCopy(s)
	if err != nil {
		return err
	}
	c.status[id] = Status{Size: p.Size(), Checkpoint: p.last.Time, Covered: p.last.Size, Refused: p.refused}
	return nil
}

// Connected tells of a new stream and who speaks, by the certificate.
func (c *Core) Connected(id uint64, caller identity.Identity) {
	c.sessions[id] = &session{id: id, caller: caller, lanes: map[journal.ID]*lane{}, told: map[string]int64{}}
}

// Closed tells that a stream ended. What was verified of it is stored all the same.
func (c *Core) Closed(id uint64) { c.forget(id) }

func (c *Core) forget(id uint64) {
	s := c.sessions[id]
	if s == nil {
		return
	}
	delete(c.sessions, id)
	if c.of[s.code] == id {
		delete(c.of, s.code)
	}
	if s.state != open {
		return
	}
	for j := range s.lanes {
		if h := c.copies[j]; h != nil {
			h.lanes--
			c.release(j)
		}
	}
}

// release lets go of a journal that nobody speaks of any more.
func (c *Core) release(id journal.ID) {
	if h := c.copies[id]; h != nil && h.lanes == 0 && h.waiting == 0 {
		delete(c.copies, id)
	}
}

func (c *Core) hangup(s *session, err error) {
	c.out = append(c.out, Effect{Hangup: &Hangup{Session: s.id, Err: err}})
	c.forget(s.id)
}

// HangUp ends a child's stream; it comes again.
func (c *Core) HangUp(child jurisdiction.Code, err error) {
	if s := c.sessions[c.of[child]]; s != nil {
		c.hangup(s, err)
	}
}

func (c *Core) send(s *session, m *dubanv1.SyncResponse) {
	c.out = append(c.out, Effect{Send: &Send{Session: s.id, Message: m}})
}

// Open says which stream of a child is open.
func (c *Core) Open(child jurisdiction.Code) (id uint64, ok bool) {
	id, ok = c.of[child]
	return id, ok && c.sessions[id].state == open
}

// Room says whether another message of a session may be read: not while its hello is being answered, or while what it, or
// all together, sent and was not acknowledged is too much.
func (c *Core) Room(id uint64) bool {
	s := c.sessions[id]
	if s == nil {
		return true // reading it shows that it ended
	}
	share := c.cfg.Memory / 2 / max(1, len(c.sessions))
	return s.state != loading && s.bytes < c.cfg.Window && (s.bytes < share || c.bytes < c.cfg.Memory/2)
}

// Received takes a message of a stream.
func (c *Core) Received(id uint64, o *Opened, now int64) {
	s := c.sessions[id]
	if s == nil {
		return
	}
	switch s.state {
	case silent:
		if s.hello = o.message.GetHello(); s.hello == nil {
			c.hangup(s, fault.New(fault.Invalid, "the first message of a sync has to be a hello"))
			return
		}
		c.admit(s, now)
	case loading:
		if len(s.early) > 8 {
			c.hangup(s, fault.New(fault.Invalid, "messages before the welcome"))
			return
		}
		s.early = append(s.early, o)
	case open:
		if err := c.take(s, o, now); err != nil {
			c.hangup(s, err)
		}
	}
	c.pump()
}

// kinds are those that this node and everything above it knows.
func (c *Core) kinds() []uint32 {
	if c.announced == nil {
		return c.cfg.Kinds
	}
	var out []uint32
	for _, k := range c.cfg.Kinds {
		if slices.Contains(c.announced, k) {
			out = append(out, k)
		}
	}
	return out
}

// Announced tells which kinds everything above knows; nil where nobody said. Children that were told otherwise come again.
func (c *Core) Announced(kinds []uint32) {
	before := c.kinds()
	c.announced = kinds
	if slices.Equal(before, c.kinds()) {
		return
	}
	for _, id := range slices.Sorted(maps.Keys(c.sessions)) {
		if s := c.sessions[id]; s.state == open {
			c.hangup(s, fault.New(fault.Unavailable, "what may be written changed: come again"))
		}
	}
}

// Readmitted tells that a journal's refusal was lifted: who speaks of it comes again.
func (c *Core) Readmitted(id journal.ID) {
	c.update(id, func(st *Status) { st.Refused = "" })
	c.reset(id, fault.New(fault.Unavailable, "journal %s is taken again: come again", id))
}

// Refused lists the journals of which no more is taken.
func (c *Core) Refused() (out []journal.ID) {
	for id, s := range c.status {
		if s.Refused != "" {
			out = append(out, id)
		}
	}
	return out
}

// heard notes that the writer of a journal spoke, and what its clock showed.
func (c *Core) heard(id journal.ID, childNow, now int64) {
	if childNow != 0 {
		c.update(id, func(st *Status) { st.Skew = childNow - now })
	}
}

func (c *Core) update(id journal.ID, change func(*Status)) {
	s := c.status[id]
	change(&s)
	c.status[id] = s
}

// reset forgets what is verified of a journal and not stored; who speaks of it comes again.
func (c *Core) reset(id journal.ID, err error) {
	h := c.copies[id]
	if h == nil {
		return
	}
	for _, it := range c.turns.drop(id) {
		c.settle(it)
	}
	for _, sid := range slices.Sorted(maps.Keys(c.sessions)) {
		if s := c.sessions[sid]; s.state == open && s.lanes[id] != nil {
			c.hangup(s, err)
		}
	}
	delete(c.copies, id)
}

// settle gives back what an item took of the budgets.
func (c *Core) settle(it item) {
	c.bytes -= it.bytes
	if s := c.sessions[it.session]; s != nil {
		s.bytes -= it.bytes
	}
	it.held.waiting--
}
