package downlink

import (
	"fmt"
	"maps"
	"slices"

	"golang.org/x/mod/sumdb/tlog"

	"duban.internal/federation"
	"duban.internal/federation/topology"
	"duban.internal/node/fault"
	"duban.internal/node/identity"
	"duban.internal/node/journal"
	"duban.internal/node/jurisdiction"
	"duban.internal/node/store"
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

// Effect is something to be done. One field is set. Those of one session are to be done in their order.
type Effect struct {
	Load    *Load
	Send    *Send
	Commit  *Commit
	Compare *Compare
	Recall  *Recall
	Next    *Next
	Chunk   *Chunk
	Hangup  *Hangup
}

// Load asks where journals stand in the store; answered by Loaded.
type Load struct {
	Session  uint64
	Journals []journal.ID
}

// Send is a message for a child.
type Send struct {
	Session uint64
	Message *dubanv1.SyncResponse
}

// Commit asks to make something durable: AppendReplica and Append, in either order or at once; answered by Stored. What is
// on its way at the same time is of other journals.
type Commit struct {
	Ticket   uint64
	Replicas []store.Replica
	Commands []store.Command

	items   []item
	replica []journal.ID   // whose each of Replicas is
	command [][]journal.ID // whose each of Commands is
}

// Compare asks what the stored tree of a journal shows at a size that is durable; answered by Compared.
type Compare struct {
	Session uint64
	Journal journal.ID
	Size    uint64

	taken *Taken
}

// Recall asks for what nodes above countersigned of the child's journals; answered by Recalled.
type Recall struct {
	Session  uint64
	Journals []journal.ID
}

// Countersigned is what a node above countersigned of a journal.
type Countersigned struct {
	Journal journal.ID
	By      jurisdiction.Code
	Time    int64 // stated by the checkpoint
	Note    []byte
}

// Next asks for letters for a child; answered by Nexted.
type Next struct {
	Session uint64
	Child   jurisdiction.Code
	At      []*dubanv1.LetterPosition
	Bytes   int // about
}

// Chunk hands on bytes of an attachment.
type Chunk struct {
	Session uint64
	Chunk   *dubanv1.SyncChunk
}

// Hangup asks to end a stream; Err is told to the child. Closed is not to be called for it.
type Hangup struct {
	Session uint64
	Err     error
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
	switch r, refused := err.(*Refusal); {
	case refused:
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
	err := h.Older(q.taken, root, next)
	if r, refused := err.(*Refusal); refused {
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

// String is for logs.
func (h *Hangup) String() string { return fmt.Sprintf("session %d: %v", h.Session, h.Err) }
