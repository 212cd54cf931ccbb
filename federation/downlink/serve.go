package downlink

import (
	"context"
	"errors"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/protobuf/proto"

	"duban.internal/federation"
	"duban.internal/node/clock"
	"duban.internal/node/fault"
	"duban.internal/node/identity"
	"duban.internal/node/journal"
	"duban.internal/node/jurisdiction"
	dubanv1 "duban.internal/proto/duban/v1"
)

// Sync serves one child. A second stream of the same child ends the first: the child has given that one up.
func (d *Downlink) Sync(stream grpc.BidiStreamingServer[dubanv1.SyncRequest, dubanv1.SyncResponse]) error {
	caller, err := callerOf(stream.Context())
	if err != nil {
		return err
	}
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	hello := first.GetHello()
	if hello == nil {
		return fault.New(fault.Invalid, "the first message of a sync has to be a hello")
	}
	lanes, err := d.admit(caller, hello)
	if err != nil {
		d.cfg.Log.Warn("sync refused", "caller", caller.String(), "code", hello.GetCode(), "error", err)
		return err
	}
	ctx, cancel := context.WithCancelCause(stream.Context())
	defer cancel(nil)
	s := &session{d: d, caller: caller, code: jurisdiction.Code(hello.GetCode()), lanes: lanes, ctx: ctx, cancel: cancel,
		queue: make(chan item, queued), done: make(chan struct{})}
	if err := s.takeOver(); err != nil {
		return err
	}
	welcome, err := s.open(hello)
	if err == nil {
		err = stream.Send(welcome)
	}
	if err != nil {
		close(s.done)
		return err
	}
	go s.receive(stream)
	err = s.commit(stream)
	if cause := context.Cause(ctx); err == nil || errors.Is(err, context.Canceled) && cause != nil {
		err = cause
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	d.cfg.Log.Info("sync ended", "child", string(s.code), "error", err)
	return err
}

func callerOf(ctx context.Context) (identity.Identity, error) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return identity.Identity{}, fault.New(fault.Unauthenticated, "no certificate was shown")
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok {
		return identity.Identity{}, fault.New(fault.Unauthenticated, "no certificate was shown")
	}
	return identity.FromState(info.State)
}

// lane is one journal of a session.
type lane struct {
	key  *journal.PublicKey
	code jurisdiction.Code // whose journal
	copy *Copy
}

// admit checks who speaks, for whom, and about which journals.
func (d *Downlink) admit(caller identity.Identity, hello *dubanv1.SyncHello) (map[journal.ID]*lane, error) {
	var bad fault.List
	code := jurisdiction.Code(hello.GetCode())
	if caller.Kind != identity.Node || caller.Code != code {
		bad.Add("code", "the certificate is of %s, which can't speak for %q", caller.Actor(), hello.GetCode())
	}
	if n, ok := d.cfg.Tree.Node(code); !ok || n.Parent != d.cfg.Code {
		bad.Add("code", "%q is no child of %s", hello.GetCode(), d.cfg.Code)
	}
	if err := bad.Err(fault.Denied, "sync"); err != nil {
		return nil, err
	}
	lanes := map[journal.ID]*lane{}
	if len(hello.GetJournals()) > len(d.cfg.Tree.All()) {
		return nil, fault.Refuse(fault.Invalid, "sync", fault.Field{Field: "journals", Description: "more journals than the tree has"})
	}
	for i, b := range hello.GetJournals() {
		id, err := journal.IDFrom(b)
		if err != nil {
			return nil, fault.New(fault.Invalid, "journals[%d]: %w", i, err)
		}
		n, ok := d.cfg.Tree.Journal(id)
		if !ok || !d.cfg.Tree.Within(n.Code, code) {
			bad.Add("journals", "%s is not known as a journal of %s or below", id, code)
			continue
		}
		lanes[id] = &lane{key: n.Key, code: n.Code}
	}
	return lanes, bad.Err(fault.Denied, "sync")
}

// session is one stream of one child: a receiver that verifies, and a committer that stores and answers.
type session struct {
	d      *Downlink
	caller identity.Identity
	code   jurisdiction.Code
	lanes  map[journal.ID]*lane
	ctx    context.Context
	cancel context.CancelCauseFunc
	queue  chan item
	done   chan struct{} // closed when both are done with the lanes
}

// queued bounds the messages between receiver and committer; their bytes are bounded by the budget.
const queued = 64

// item is what the receiver hands to the committer: one of these.
type item struct {
	taken   *Taken
	refusal *Refusal
	flush   chan struct{} // closed when all before it is stored
	bytes   int64         // of the budget
}

// takeOver ends the child's session before this one and waits for it, so that each journal has one owner.
func (s *session) takeOver() error {
	for {
		s.d.mu.Lock()
		before := s.d.sessions[s.code]
		if before == nil || isClosed(before.done) {
			s.d.sessions[s.code] = s
			s.d.mu.Unlock()
			return nil
		}
		s.d.mu.Unlock()
		before.cancel(fault.New(fault.Unavailable, "another stream of %s took over", s.code))
		select {
		case <-before.done:
		case <-s.ctx.Done():
			return s.ctx.Err()
		}
	}
}

func isClosed(c chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// open reads where the journals stand and writes the answer to the hello.
func (s *session) open(hello *dubanv1.SyncHello) (*dubanv1.SyncResponse, error) {
	w := &dubanv1.SyncWelcome{Kinds: federation.Kinds()}
	for _, b := range hello.GetJournals() {
		id := journal.ID(b) // admit has checked its length
		l := s.lanes[id]
		state, err := s.d.stored(s.ctx, l.key)
		if err != nil {
			return nil, err
		}
		if l.copy, err = NewCopy(state); err != nil {
			return nil, err
		}
		s.d.update(id, func(st *Status) {
			st.Refused, st.Size, st.Checkpoint = state.Refused, l.copy.Size(), l.copy.last.Time
		})
		w.Positions = append(w.Positions, &dubanv1.SyncPosition{Journal: b, Size: l.copy.Size(), Refused: state.Refused != ""})
	}
	w.NowUs = s.heard(journal.ID{}, hello.GetNowUs())
	s.d.cfg.Log.Info("sync begun", "child", string(s.code), "journals", len(s.lanes), "version", hello.GetVersion())
	return &dubanv1.SyncResponse{Message: &dubanv1.SyncResponse_Welcome{Welcome: w}}, nil
}

// heard notes that a message about a journal came (none: the hello), and what the child's clock showed then.
func (s *session) heard(id journal.ID, childNow int64) (now int64) {
	now = clock.Micros(s.d.cfg.Clock.Now())
	if l, ok := s.lanes[id]; ok {
		s.d.update(id, func(st *Status) {
			st.Heard = now
			if l.code == s.code && childNow != 0 {
				st.Skew = childNow - now
			}
		})
		return now
	}
	for other, l := range s.lanes {
		if l.code == s.code {
			s.heard(other, childNow)
		}
	}
	return now
}

// receive verifies what comes until the stream ends.
func (s *session) receive(stream grpc.BidiStreamingServer[dubanv1.SyncRequest, dubanv1.SyncResponse]) {
	defer close(s.queue)
	for {
		m, err := stream.Recv()
		if err == nil {
			err = s.take(m)
		}
		if err != nil {
			s.cancel(err)
			return
		}
	}
}

func (s *session) take(m *dubanv1.SyncRequest) error {
	bytes := proto.Size(m)
	if bytes > s.d.cfg.MaxBatch {
		return fault.New(fault.Exhausted, "a message of %d bytes, at most %d are allowed", bytes, s.d.cfg.MaxBatch)
	}
	var raw []byte
	switch {
	case m.GetBatch() != nil:
		raw = m.GetBatch().GetJournal()
		if n := len(m.GetBatch().GetEntries()); n > maxEntries {
			return fault.New(fault.Exhausted, "a batch of %d entries, at most %d are allowed", n, maxEntries)
		}
	case m.GetHeartbeat() != nil:
		raw = m.GetHeartbeat().GetJournal()
	default:
		return fault.New(fault.Invalid, "expected a batch or a heartbeat")
	}
	id, err := journal.IDFrom(raw)
	if err != nil {
		return fault.New(fault.Invalid, "%w", err)
	}
	l, ok := s.lanes[id]
	if !ok {
		return fault.New(fault.Denied, "journal %s was not named in the hello", id)
	}
	s.heard(id, m.GetHeartbeat().GetNowUs())
	if l.copy.Refused() != "" {
		return nil // said already; what was on its way is dropped
	}
	if err := s.d.budget.Acquire(s.ctx, int64(bytes)); err != nil {
		return err
	}
	taken, err := s.verify(l.copy, m)
	it := item{taken: taken, bytes: int64(bytes)}
	if err != nil && !errors.As(err, &it.refusal) {
		s.d.budget.Release(int64(bytes))
		return err
	}
	return s.put(it)
}

// put hands over to the committer.
func (s *session) put(it item) error {
	select {
	case s.queue <- it:
		return nil
	case <-s.ctx.Done():
		s.d.budget.Release(it.bytes)
		return s.ctx.Err()
	}
}

func (s *session) verify(c *Copy, m *dubanv1.SyncRequest) (*Taken, error) {
	if b := m.GetBatch(); b != nil {
		return c.Batch(b)
	}
	t, older, err := c.Heartbeat(m.GetHeartbeat().GetCheckpoint())
	if err != nil || !older {
		return t, err
	}
	// What it is compared with has to be stored first.
	it := item{flush: make(chan struct{})}
	if err := s.put(it); err != nil {
		return nil, err
	}
	select {
	case <-it.flush:
	case <-s.ctx.Done():
		return nil, s.ctx.Err()
	}
	hashes, err := s.d.cfg.Store.Hashes(c.id)
	if err != nil {
		return nil, err
	}
	root, err := journal.Root(hashes, t.Checkpoint.Size)
	if err != nil {
		return nil, err
	}
	next, err := s.d.cfg.Store.Read(s.ctx, c.id, t.Checkpoint.Size, 1)
	if err != nil {
		return nil, err
	}
	if len(next) == 0 {
		return nil, fault.New(fault.Corrupt, "journal %s: entry %d is not there", c.id, t.Checkpoint.Size)
	}
	return t, c.Older(t, root, next[0].RecordedAt)
}
