// Package uplink is the child's end of the sync: it sends this node's journal, and those from below, to the parent
// (federation has the protocol).
//
// What it promises: it goes on where the parent stands, whatever broke; it sends entries as the bytes that were hashed, and
// journals from below with the checkpoints that it was given; what the parent acknowledges it checks and keeps. An idle node
// tells its time and size at every interval. What it doesn't do: it decides nothing from what the parent says, beyond what
// to send next.
//
// Core is the state machine; Uplink is the thin driver that gives it a store, a stream and a clock.
package uplink

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"golang.org/x/mod/sumdb/tlog"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"duban.internal/federation"
	"duban.internal/federation/topology"
	"duban.internal/node/clock"
	"duban.internal/node/fault"
	"duban.internal/node/journal"
	"duban.internal/node/jurisdiction"
	"duban.internal/node/store"
	dubanv1 "duban.internal/proto/duban/v1"
)

// Store is what the uplink needs of a store.
type Store interface {
	Own() journal.ID
	Append(ctx context.Context, commands ...store.Command) ([]store.Result, []error)
	Stamp(ctx context.Context) (size uint64, at int64, err error)
	Read(ctx context.Context, id journal.ID, from uint64, max int) ([]journal.Entry, error)
	Hashes(id journal.ID) (tlog.HashReader, error)
	Journals() []store.Info
	Journal(id journal.ID) (store.Info, bool)
	Get(ctx context.Context, id journal.ID, t *store.Table, key ...any) (store.Row, bool, error)
	View(ctx context.Context, fn func(q store.Queryer) error) error
	Watch() <-chan struct{}
	Lease(ctx context.Context) (context.Context, error)
}

// Config is what an Uplink is made of.
type Config struct {
	Code   jurisdiction.Code // whose node this is; not the city
	Tree   *topology.Tree
	Key    *journal.Key // of the own journal: signs checkpoints
	Store  Store
	Clock  clock.Clock
	Log    *slog.Logger
	Parent string      // address of the parent; the topology's where empty
	TLS    *tls.Config // with the own certificate; identity.Pair.Client makes one
	// Version of the program, for the parent's log.
	Version string
	// DialOptions go before the uplink's own: interceptors that map errors, say.
	DialOptions []grpc.DialOption

	Interval time.Duration // between heartbeats, in the node's time: 30 s where 0
	Silence  time.Duration // how long an answer is waited for, in patience: 60 s where 0
	Batch    int           // bytes of one batch, about: 1 MiB where 0
	Window   int           // bytes sent and not acknowledged: 16 MiB where 0
}

// inFlight bounds the messages that wait for their acknowledgement.
const inFlight = 64

// Status says how the uplink stands. Times are microseconds.
type Status struct {
	Connected    bool
	Skew         int64 // the parent's clock less the own one, at the last exchange
	Heard        int64 // when the parent spoke last; 0 where it never did
	Acknowledged map[journal.ID]uint64
	Refused      map[journal.ID]string // journals that the parent takes no more of, or that can't be read here, and why
	Kinds        []uint32              // entry kinds that the parent knows: others are not to be written yet
	Problem      string                // what went wrong last; empty while all goes well
}

// Uplink drives a Core. Run may be called once.
type Uplink struct {
	cfg     Config
	parent  topology.Node
	portion CoreConfig
	core    *Core // of this lease
	conn    *grpc.ClientConn
	stream  *stream // nil while there is none
	keep    map[journal.ID]*Keep

	mu     sync.Mutex
	status Status
}

// New checks cfg. The connection is made by Run.
func New(cfg Config) (*Uplink, error) {
	if cfg.Interval == 0 {
		cfg.Interval = 30 * time.Second
	}
	if cfg.Silence == 0 {
		cfg.Silence = time.Minute
	}
	if cfg.Batch == 0 {
		cfg.Batch = 1 << 20
	}
	if cfg.Window == 0 {
		cfg.Window = 16 << 20
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if err := federation.CheckKey(cfg.Tree, cfg.Code, cfg.Key); err != nil {
		return nil, err
	}
	self, _ := cfg.Tree.Node(cfg.Code)
	parent, ok := cfg.Tree.Node(self.Parent)
	if !ok {
		return nil, fault.New(fault.Invalid, "topology: %s has no parent to send to", cfg.Code)
	}
	if cfg.Parent == "" {
		cfg.Parent = parent.Address
	}
	if cfg.Parent == "" {
		return nil, fault.New(fault.Invalid, "topology: no address of %s", parent.Code)
	}
	if limit := federation.MaxMessage - journal.MaxPayload - journal.MaxHeader - journal.MaxCheckpoint; cfg.Batch > limit {
		return nil, fault.New(fault.Invalid, "uplink: batches of %d bytes, at most %d are allowed", cfg.Batch, limit)
	}
	if cfg.Store.Own() != self.Journal {
		return nil, fault.New(fault.Invalid, "the store's journal is %s, the topology's %s", cfg.Store.Own(), self.Journal)
	}
	journals := []journal.ID{self.Journal}
	for _, n := range cfg.Tree.All() {
		if n.Code != cfg.Code && cfg.Tree.Within(n.Code, cfg.Code) {
			journals = append(journals, n.Journal)
		}
	}
	portion := CoreConfig{
		Code: cfg.Code, Journals: journals, Parent: parent.Key, Version: cfg.Version,
		Interval: cfg.Interval.Microseconds(), Batch: cfg.Batch, Window: cfg.Window, InFlight: inFlight, Jitter: rand.Float64,
	}
	options := append(append([]grpc.DialOption(nil), cfg.DialOptions...),
		grpc.WithTransportCredentials(credentials.NewTLS(cfg.TLS)),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(federation.MaxMessage), grpc.MaxCallSendMsgSize(federation.MaxMessage)),
		grpc.WithInitialWindowSize(4<<20), grpc.WithInitialConnWindowSize(8<<20))
	conn, err := grpc.NewClient(cfg.Parent, options...)
	if err != nil {
		return nil, fault.New(fault.Invalid, "parent %s: %w", cfg.Parent, err)
	}
	return &Uplink{cfg: cfg, parent: parent, portion: portion, conn: conn, keep: map[journal.ID]*Keep{}}, nil
}

// Status says how the uplink stands.
func (u *Uplink) Status() Status {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.status
}

// stream is one open stream with its reader.
type stream struct {
	grpc.BidiStreamingClient[dubanv1.SyncRequest, dubanv1.SyncResponse]
	cancel   context.CancelFunc
	received chan *dubanv1.SyncResponse // room for all that may be in flight
	failed   chan error
}

// Run sends, while this replica leads, until ctx ends, whose error it returns, or until the store fails.
func (u *Uplink) Run(ctx context.Context) error {
	for {
		lease, err := u.cfg.Store.Lease(ctx)
		if err == nil {
			u.core = NewCore(u.portion)
			err = u.run(lease)
			u.closeStream()
			if ctx.Err() == nil && (lease.Err() != nil || fault.Is(err, fault.NotLeader)) {
				continue // another replica leads
			}
		}
		return errors.Join(err, u.conn.Close())
	}
}

func (u *Uplink) run(ctx context.Context) error {
	never := make(chan time.Time)
	var dial, tick, silence clock.Timer
	var tickAt int64
	stop := func(t *clock.Timer) {
		if t.Stop != nil {
			t.Stop()
		}
		*t = clock.Timer{C: never}
	}
	for _, t := range []*clock.Timer{&dial, &tick, &silence} {
		stop(t)
		defer func() { stop(t) }()
	}
	for {
		watch := u.cfg.Store.Watch()
		for _, info := range u.cfg.Store.Journals() {
			u.core.Grown(info.ID, info.Size)
		}
		for effects := u.core.Effects(); len(effects) > 0; effects = u.core.Effects() {
			for _, e := range effects {
				if e.Dial != nil {
					stop(&dial)
					dial = u.cfg.Clock.Patience(e.Dial.After)
					continue
				}
				if err := u.do(ctx, e); err != nil {
					return err
				}
			}
		}
		if err := u.keepAll(ctx); err != nil {
			return err
		}
		u.report()
		if at, ok := u.core.NextTick(); ok && (at != tickAt || tick.C == never) {
			stop(&tick)
			tick, tickAt = u.cfg.Clock.Timer(time.Duration(max(at-u.now(), 0))*time.Microsecond), at
		}
		switch waiting := u.stream != nil && u.core.Waiting(); {
		case !waiting:
			stop(&silence)
		case silence.C == never:
			silence = u.cfg.Clock.Patience(u.cfg.Silence)
		}
		var received chan *dubanv1.SyncResponse
		var failed chan error
		if u.stream != nil {
			received, failed = u.stream.received, u.stream.failed
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-watch:
		case <-dial.C:
			stop(&dial)
			u.open(ctx)
		case <-tick.C:
			stop(&tick)
			u.core.Ticked(u.now())
		case <-silence.C:
			u.close(fmt.Sprintf("the parent did not answer for %v", u.cfg.Silence))
		case m := <-received:
			stop(&silence)
			u.core.Received(m, u.now())
			for more := true; more; { // what else is there shares one commit of acknowledgements
				select {
				case m := <-received:
					u.core.Received(m, u.now())
				default:
					more = false
				}
			}
		case err := <-failed:
			u.close(err.Error())
		}
	}
}

func (u *Uplink) now() int64 { return clock.Micros(u.cfg.Clock.Now()) }

// open begins a stream. Whether the parent is there shows when the first answer comes.
func (u *Uplink) open(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	u.conn.ResetConnectBackoff() // the core's pauses are enough
	client, err := dubanv1.NewSyncServiceClient(u.conn).Sync(ctx, grpc.UseCompressor(federation.Compression))
	if err != nil {
		cancel()
		u.close(err.Error())
		return
	}
	s := &stream{BidiStreamingClient: client, cancel: cancel,
		received: make(chan *dubanv1.SyncResponse, 2*inFlight), failed: make(chan error, 1)}
	go func() {
		for {
			m, err := s.Recv()
			if err != nil {
				s.failed <- err
				return
			}
			select {
			case s.received <- m:
			case <-ctx.Done():
				s.failed <- ctx.Err()
				return
			}
		}
	}()
	u.stream = s
	u.core.Opened(u.now())
}

func (u *Uplink) closeStream() {
	if u.stream != nil {
		u.stream.cancel()
		u.stream = nil
	}
}

func (u *Uplink) close(reason string) {
	u.closeStream()
	u.cfg.Log.Warn("sync with the parent ended", "parent", string(u.parent.Code), "reason", reason)
	u.core.Closed(reason)
}

// do carries out an effect. An error is the store's and ends the uplink; the stream's failures begin it anew.
func (u *Uplink) do(ctx context.Context, e Effect) error {
	switch {
	case u.stream == nil && e.Keep == nil: // of a stream that is gone
	case e.Send != nil:
		if err := u.stream.Send(e.Send); err != nil {
			// The reason comes with the reader's error.
			select {
			case err = <-u.stream.failed:
			case <-ctx.Done():
			}
			u.close(err.Error())
		}
	case e.Load != nil:
		entries, note, err := u.load(ctx, e.Load)
		if err != nil {
			return u.broken(e.Load.Journal, err)
		}
		u.core.Loaded(e.Load.Journal, e.Load.From, entries, note)
	case e.Beat != nil:
		if err := u.beat(ctx, e.Beat.Journal); err != nil {
			return u.broken(e.Beat.Journal, err)
		}
	case e.Keep != nil:
		u.keep[e.Keep.Journal] = e.Keep
	case e.Hangup != "":
		u.close(e.Hangup)
	}
	return nil
}

// broken goes on without a journal whose stored bytes are not what was hashed; other errors end the uplink.
func (u *Uplink) broken(id journal.ID, err error) error {
	if !fault.Is(err, fault.Corrupt) {
		return err
	}
	u.cfg.Log.Error("a journal can't be read", "journal", id.String(), "error", err)
	u.core.Broken(id, err.Error())
	return nil
}

// keepAll stores the last acknowledgement of each journal in one commit.
func (u *Uplink) keepAll(ctx context.Context) error {
	if len(u.keep) == 0 {
		return nil
	}
	var changes []store.Change
	for id, k := range u.keep {
		changes = append(changes, store.Change{Table: federation.Acknowledged, Owner: id,
			Row: store.Row{int64(k.Size), k.Time, k.Note}})
	}
	clear(u.keep)
	_, errs := u.cfg.Store.Append(ctx, store.Command{Changes: changes})
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("keeping acknowledgements: %w", err)
	}
	return nil
}

func (u *Uplink) report() {
	s := u.core.Status()
	u.mu.Lock()
	defer u.mu.Unlock()
	if s.Connected && !u.status.Connected {
		u.cfg.Log.Info("sync with the parent begun", "parent", string(u.parent.Code), "skew_us", s.Skew)
	}
	u.status = s
}
