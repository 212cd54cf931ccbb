// Package uplink is the child's end of the sync: it sends this node's journal, and those from below, to the parent
// (federation has the protocol).
//
// What it promises: it goes on where the parent stands, whatever broke; it sends entries as the bytes that were hashed, and
// journals from below with the checkpoints that it was given; what the parent acknowledges it checks and keeps. An idle node
// tells its time and size at every interval. Where the word of a node above the parent has not come down for too long, it
// dials that node itself, until it does again. What it doesn't do: it decides nothing from what the parent says, beyond what
// to send next; letters and attachments are for who is plugged in.
//
// Core is the state machine of one stream; Uplink is the thin driver that gives it a store, a stream and a clock.
package uplink

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"duban.internal/federation"
	"duban.internal/federation/topology"
	"duban.internal/node/clock"
	"duban.internal/node/fault"
	"duban.internal/node/journal"
	"duban.internal/node/jurisdiction"
	"duban.internal/node/store"
)

// Store is what the uplink needs of a store.
type Store interface {
	Reader
	Append(ctx context.Context, commands ...store.Command) ([]store.Result, []error)
	Journals() []store.Info
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
	TLS    *tls.Config // with the own certificate, for the parent; identity.Pair.Client makes one
	// Ancestors are the nodes above the parent that are dialed where their word doesn't come down.
	Ancestors []Ancestor
	// Version of the program, for the parent's log.
	Version string
	// DialOptions go before the uplink's own: interceptors that map errors, say.
	DialOptions []grpc.DialOption
	Letters     federation.Above // takes what comes down; nil where nothing is taken
	Files       federation.Files // gives attachments to who asks from above; nil where none are given

	Interval time.Duration // between heartbeats, in the node's time: 30 s where 0
	Around   time.Duration // how old, in the node's time, an ancestor's word may be before it is dialed: 15 min where 0
	Silence  time.Duration // how long an answer is waited for, in patience: 60 s where 0
	Retry    time.Duration // the longest pause, in patience, before dialing again: 30 s where 0
	Batch    int           // bytes of one batch, about: 1 MiB where 0
	Window   int           // bytes sent and not acknowledged: 16 MiB where 0, and no more than the parent says
}

// Ancestor is a node above the parent, and how it is dialed.
type Ancestor struct {
	Code    jurisdiction.Code
	Address string
	TLS     *tls.Config // with the own certificate, for this node
}

// inFlight bounds the messages that wait for their acknowledgement.
const inFlight = 64

// Status says how the uplink stands. Times are microseconds.
type Status struct {
	Connected    bool
	Skew         int64 // the parent's clock less the own one, as far as the last measured exchange makes it certain
	Measured     int64 // when that was; 0 where none was
	Heard        int64 // when the parent spoke last; 0 where it never did
	Acknowledged map[journal.ID]uint64
	Refused      map[journal.ID]string // journals that the parent takes no more of, or that can't be read here, and why
	// Kinds are the entry kinds that the parent and everything above it said they know, now or before the last start: others
	// are not to be written yet. nil where no parent ever said.
	Kinds   []uint32
	Problem string  // what went wrong last; empty while all goes well
	Above   []Above // the nodes above the parent, from below
}

// Above says how a node above the parent is heard.
type Above struct {
	Code jurisdiction.Code
	// Witnessed is the time, by this node's clock, that the last own checkpoint that it countersigned states.
	Witnessed int64
	Dialed    bool // its word stayed away, and it is dialed past the parent
	Connected bool
	Problem   string // of that stream
}

// Uplink drives a Core for each stream. Run may be called once.
type Uplink struct {
	cfg    Config
	parent *link
	around []*link

	mu     sync.Mutex
	status Status
	heard  map[jurisdiction.Code]word
}

// word is what is known of a node above the parent.
type word struct {
	time     int64 // stated by the last own checkpoint that it countersigned
	byParent int64 // of those that came down by the parent
}

// New checks cfg. Connections are made by Run.
func New(cfg Config) (*Uplink, error) {
	def := func(v *time.Duration, d time.Duration) {
		if *v == 0 {
			*v = d
		}
	}
	def(&cfg.Interval, 30*time.Second)
	def(&cfg.Around, 15*time.Minute)
	def(&cfg.Silence, time.Minute)
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
	u := &Uplink{cfg: cfg, heard: map[jurisdiction.Code]word{}}
	portion := CoreConfig{
		Code: cfg.Code, Parent: parent.Key, Version: cfg.Version, Keys: map[journal.ID]*journal.PublicKey{},
		Interval: cfg.Interval.Microseconds(), Batch: cfg.Batch, Window: cfg.Window, InFlight: inFlight, Jitter: rand.Float64,
		Retry: cfg.Retry,
	}
	portion.add(self)
	for _, n := range cfg.Tree.All() {
		if n.Code != cfg.Code && cfg.Tree.Within(n.Code, cfg.Code) {
			portion.add(n)
		}
	}
	var codes []jurisdiction.Code
	for n := parent; ok; n, ok = cfg.Tree.Node(n.Parent) {
		portion.Above = append(portion.Above, n)
		if n.Code != parent.Code {
			u.status.Above = append(u.status.Above, Above{Code: n.Code})
			codes = append(codes, n.Code)
		}
	}
	var err error
	if u.status.Kinds, err = federation.ReadAnnounced(context.Background(), cfg.Store); err != nil {
		return nil, err
	}
	if u.parent, err = u.link(parent, cfg.Parent, cfg.TLS, portion); err != nil {
		return nil, err
	}
	u.parent.source.Ancestors = codes
	for _, a := range cfg.Ancestors {
		i := slices.IndexFunc(portion.Above, func(n topology.Node) bool { return n.Code == a.Code })
		if i < 1 {
			return nil, fault.New(fault.Invalid, "ancestors: %.20q is not above the parent %s", string(a.Code), parent.Code)
		}
		past := portion
		past.Parent = portion.Above[i].Key
		l, err := u.link(portion.Above[i], a.Address, a.TLS, past)
		if err != nil {
			return nil, err
		}
		l.around = a.Code
		u.around = append(u.around, l)
	}
	return u, nil
}

func (c *CoreConfig) add(n topology.Node) {
	c.Journals = append(c.Journals, n.Journal)
	c.Keys[n.Journal] = n.Key
}

// Status says how the uplink stands.
func (u *Uplink) Status() Status {
	u.mu.Lock()
	defer u.mu.Unlock()
	s := u.status
	s.Above = slices.Clone(s.Above)
	return s
}

// Run sends, while this replica leads, until ctx ends, whose error it returns, or until the store fails.
func (u *Uplink) Run(ctx context.Context) (err error) {
	defer func() {
		for _, l := range append([]*link{u.parent}, u.around...) {
			err = errors.Join(err, l.conn.Close())
		}
	}()
	for {
		lease, err := u.cfg.Store.Lease(ctx)
		if err != nil {
			return err
		}
		if err := u.begin(lease); err != nil {
			return err
		}
		group, inside := errgroup.WithContext(lease)
		group.Go(func() error { return u.parent.run(inside) })
		for _, l := range u.around {
			group.Go(func() error { return u.watch(inside, l) })
		}
		err = group.Wait()
		if ctx.Err() == nil && (lease.Err() != nil || fault.Is(err, fault.NotLeader)) {
			continue // another replica leads
		}
		return err
	}
}

// begin reads what the nodes above said last. Who was not heard of since the start has all the time from then on.
func (u *Uplink) begin(ctx context.Context) error {
	rows, err := u.cfg.Store.Scan(ctx, u.cfg.Store.Own(), federation.Ancestor, nil, 64)
	if err != nil {
		return fmt.Errorf("reading what the nodes above said: %w", err)
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, row := range rows {
		code, _ := row[0].(string)
		u.say(jurisdiction.Code(code), row[2].(int64), false)
		for _, l := range u.around {
			if string(l.around) == code {
				l.last.size = uint64(row[1].(int64))
			}
		}
	}
	return nil
}

// say notes the word of a node above; the lock is held.
func (u *Uplink) say(code jurisdiction.Code, at int64, byParent bool) {
	w := u.heard[code]
	w.time = max(w.time, at)
	if byParent {
		w.byParent = max(w.byParent, at)
	}
	u.heard[code] = w
	for i := range u.status.Above {
		if u.status.Above[i].Code == code {
			u.status.Above[i].Witnessed = w.time
		}
	}
	for _, l := range u.around {
		if l.around == code {
			select {
			case l.moved <- struct{}{}:
			default:
			}
		}
	}
}

// watch dials a node above past the parent while its word stays away.
func (u *Uplink) watch(ctx context.Context, l *link) error {
	since := u.now()
	for {
		// Its word may be as old as Around.
		u.mu.Lock()
		last := max(u.heard[l.around].time, since)
		u.mu.Unlock()
		if left := last + u.cfg.Around.Microseconds() - u.now(); left > 0 {
			if err := clock.Sleep(ctx, u.cfg.Clock, time.Duration(left)*time.Microsecond); err != nil {
				return err
			}
			continue
		}
		begun := u.now()
		u.cfg.Log.Warn("the word of a node above stays away: it is dialed past the parent", "node", string(l.around), "last_us", last)
		u.dialed(l.around, true)
		if err := u.past(ctx, l, begun); err != nil {
			return err
		}
		u.cfg.Log.Info("the word of a node above comes down again", "node", string(l.around))
		u.dialed(l.around, false)
	}
}

// past runs a stream past the parent until the node's word on a checkpoint made since comes down by the parent.
func (u *Uplink) past(ctx context.Context, l *link, begun int64) error {
	inside, stop := context.WithCancel(ctx)
	defer stop()
	done := make(chan error, 1)
	go func() { done <- l.run(inside) }()
	for {
		u.mu.Lock()
		back := u.heard[l.around].byParent > begun
		u.mu.Unlock()
		if back {
			stop()
			if err := <-done; !errors.Is(err, context.Canceled) {
				return err
			}
			return ctx.Err()
		}
		select {
		case err := <-done:
			return err
		case <-l.moved:
		}
	}
}

func (u *Uplink) dialed(code jurisdiction.Code, yes bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for i := range u.status.Above {
		if a := &u.status.Above[i]; a.Code == code {
			a.Dialed, a.Connected, a.Problem = yes, false, ""
		}
	}
}

func (u *Uplink) now() int64 { return clock.Micros(u.cfg.Clock.Now()) }
