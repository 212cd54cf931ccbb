package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"duban.internal/escalation"
	"duban.internal/federation"
	"duban.internal/federation/downlink"
	"duban.internal/federation/fetch"
	"duban.internal/federation/letters"
	"duban.internal/federation/topology"
	"duban.internal/federation/uplink"
	"duban.internal/node/attachment"
	"duban.internal/node/caseview"
	"duban.internal/node/clock"
	"duban.internal/node/fault"
	"duban.internal/node/identity"
	"duban.internal/node/journal"
	"duban.internal/node/jurisdiction"
	"duban.internal/node/profile"
	"duban.internal/node/registry"
	"duban.internal/node/rpc"
	"duban.internal/node/store"
	"duban.internal/node/workday"
	dubanv1 "duban.internal/proto/duban/v1"
)

// Node is one node (节点). New puts it together, Run lets it work, Close takes it apart; each is called once.
type Node struct {
	cfg      Config
	clock    clock.Clock
	log      *slog.Logger
	metrics  *prometheus.Registry
	division jurisdiction.Division

	divisions *jurisdiction.Tree
	tree      *topology.Tree
	self      topology.Node
	pair      *identity.Pair
	key       *journal.Key
	profile   *profile.Profile
	calendar  *workday.Calendar

	store    store.Store // the recorder
	recorder *recorder
	registry *registry.Registry
	cases    *caseview.View
	runner   *escalation.Runner
	downlink *downlink.Downlink // nil for a street: nothing lies below it
	letters  *letters.Runner    // writes what goes down; nil where nothing lies below
	uplink   *uplink.Uplink     // nil for a city: nothing lies above it
	box      *letters.Box       // takes what comes down; nil where nothing lies above
	files    *attachment.Files
	fetcher  *fetch.Fetcher  // brings attachments from below; nil where nothing lies below
	evidence *fetch.Evidence // copies the evidence of escalated alerts; likewise

	settled bool // the journal has been brought up to the configuration

	listener net.Listener
	server   *rpc.Server
	pages    *pages

	ending context.Context // ends when the node is being stopped: streams that children and watchers keep open end then
	end    context.CancelFunc
	close  sync.Once
	undo   []func() error // what Close does, last first
}

// New reads what the configuration names, opens the data folder, brings the journal up to the configuration (name,
// profile, calendar, keys) and listens; from then on Addr is known and callers wait for Run. Kinds of errors:
// fault.Invalid for what the configuration says, fault.Corrupt where the data folder is not what the node wrote.
func New(ctx context.Context, c Config) (*Node, error) {
	c = c.WithDefaults()
	if err := errors.Join(c.Validate(), c.Patch.allowed(c)); err != nil {
		return nil, err
	}
	n := &Node{cfg: c, clock: c.clock(), metrics: newMetrics()}
	n.ending, n.end = context.WithCancel(context.WithoutCancel(ctx))
	n.defers(func() error { n.end(); return nil })
	n.log = c.logger().With(slog.String("node", c.Code))
	for _, part := range []func(context.Context) error{n.read, n.openStore, n.bootstrap, n.federate, n.escalate, n.listen} {
		if err := part(ctx); err != nil {
			return nil, errors.Join(err, n.Close())
		}
	}
	return n, nil
}

// Code is the node's jurisdiction.
func (n *Node) Code() string { return n.cfg.Code }

// Name is the jurisdiction's name.
func (n *Node) Name() string { return n.division.Name }

// Addr is the address that the node's services really listen on.
func (n *Node) Addr() string { return n.listener.Addr().String() }

// MetricsAddr is the address of the pages for machines; empty where there are none.
func (n *Node) MetricsAddr() string {
	if n.pages == nil {
		return ""
	}
	return n.pages.listener.Addr().String()
}

// logger is the log that the configuration asks for, on standard error.
func (c Config) logger() *slog.Logger {
	if c.Logger != nil {
		return c.Logger
	}
	options := &slog.HandlerOptions{Level: levels[c.Log.Level]}
	if c.Log.Format == "json" {
		return slog.New(slog.NewJSONHandler(os.Stderr, options))
	}
	return slog.New(slog.NewTextHandler(os.Stderr, options))
}

// read loads keys, tree, divisions, profile and calendar.
func (n *Node) read(context.Context) (err error) {
	c := n.cfg
	if n.pair, err = topology.NodeFiles(c.Identity).Load(); err != nil {
		return fmt.Errorf("identity: %w", err)
	}
	if n.key, err = topology.JournalKey(c.Identity); err != nil {
		return fmt.Errorf("identity: %w", err)
	}
	if n.tree, err = topology.Load(c.Topology); err != nil {
		return err
	}
	code := jurisdiction.Code(c.Code)
	want := identity.Identity{City: n.tree.City(), Kind: identity.Node, Code: code}
	if n.pair.Own != want {
		return refused("identity", "%s holds the certificate of %s: expected that of %s", c.Identity, n.pair.Own, want)
	}
	if err := federation.CheckKey(n.tree, code, n.key); err != nil {
		return err
	}
	n.self, _ = n.tree.Node(code) // CheckKey has found it
	if n.divisions, err = LoadDivisions(c.Divisions); err != nil {
		return err
	}
	division, ok := n.divisions.Get(code)
	if !ok {
		return refused("code", "%s stands in none of the divisions %v", code, c.Divisions)
	}
	n.division = division
	if (c.Parent == "") != (n.self.Parent == "") && c.Parent != "" {
		return refused("parent", "%s: %s is the root of the tree and has no parent", c.Parent, code)
	}
	if n.profile, err = loadProfile(c.Profile); err != nil {
		return err
	}
	if n.calendar, err = loadCalendar(c, n.clock.Now()); err != nil {
		return err
	}
	if year, _ := n.calendar.Missing(n.clock.Now()); year != 0 && !c.History {
		n.log.Warn("calendar: a year is not published; limits that need it are open-ended", slog.Int("year", year))
	}
	return nil
}

// bootstrap waits until this replica leads and brings the journal up to the configuration. Where the clock is not believed
// the node starts all the same, for its operator to see why, and the journal is brought up later.
func (n *Node) bootstrap(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	lead, err := n.store.Lease(ctx)
	if err != nil {
		return fmt.Errorf("store: %w", err)
	}
	if own, _ := n.store.Journal(n.store.Own()); own.Size > 0 && n.recorder.stopped() != nil {
		return nil
	}
	start := registry.Start{Division: n.division, Profile: n.profile, Calendar: n.calendar}
	if n.self.Parent == "" {
		// The root puts every journal's key on record, so that nobody in between can invent one.
		for _, m := range n.tree.All() {
			if m.Code != n.self.Code {
				start.Keys = append(start.Keys, &dubanv1.JournalKeyRecorded{Journal: m.Journal[:], Code: string(m.Code), VerifierKey: m.Key.String()})
			}
		}
	}
	if err := registry.Bootstrap(lead, n.store, start); err != nil {
		return err
	}
	n.settled = true
	return nil
}

// Run works until ctx ends, which is no error, or until a part fails: then the others are stopped and its error tells
// which it was.
func (n *Node) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	run := func(name string, part func(context.Context) error) {
		group.Go(func() error {
			if err := part(ctx); err != nil && !errors.Is(err, context.Canceled) {
				n.log.Error("part failed", slog.String("part", name), slog.Any("error", err))
				return fmt.Errorf("%s: %w", name, err)
			}
			if ctx.Err() == nil {
				return fmt.Errorf("%s ended by itself", name)
			}
			return nil
		})
	}
	run("clock", n.watchClock)
	if !n.cfg.Patch.Mute {
		run("escalation", n.runner.Run)
	}
	if n.downlink != nil {
		run("downlink", n.downlink.Run)
		run("letters", n.address)
		run("evidence", n.evidence.Run)
	}
	if n.uplink != nil {
		run("uplink", n.uplink.Run)
	}
	if n.pages != nil {
		run("metrics", n.pages.run)
	}
	run("server", n.serve)
	n.log.Info("up", slog.String("listen", n.Addr()), slog.String("metrics", n.MetricsAddr()), slog.String("version", Version()))
	err := group.Wait()
	n.log.Info("down")
	return err
}

// watchClock looks at the clock also while nothing is recorded, tells the log when it is no longer believed or is again,
// and then brings the journal up to the configuration where that had to wait.
func (n *Node) watchClock(ctx context.Context) error {
	stopped := false
	for {
		alarm := n.recorder.stopped()
		switch {
		case alarm != nil && !stopped:
			n.log.Error("nothing is recorded: the clock is not believed", slog.String("reason", alarm.Reason))
		case alarm == nil && stopped:
			n.log.Info("the clock is believed again")
		}
		stopped = alarm != nil
		if _, leads := n.store.Leader(); leads && !stopped && !n.settled {
			if err := n.bootstrap(ctx); err != nil && ctx.Err() == nil {
				n.log.Error("the journal could not be brought up to the configuration", slog.Any("error", err))
			}
		}
		if err := clock.Sleep(ctx, n.clock, n.cfg.Intervals.Checkpoint); err != nil {
			return err
		}
	}
}

// ready says why the node takes no work; nil where it does.
func (n *Node) ready(ctx context.Context) error {
	if address, self := n.store.Leader(); !self && address == "" {
		return fault.New(fault.Unavailable, "no replica leads")
	}
	if alarm := n.recorder.stopped(); alarm != nil {
		return disbelieved(alarm)
	}
	return n.store.View(ctx, func(q store.Queryer) error {
		var one int
		return q.QueryRowContext(ctx, "SELECT 1").Scan(&one)
	})
}

// Close takes the node apart. What was answered is durable already; what is under way is ended by Run's context.
func (n *Node) Close() error {
	var errs []error
	n.close.Do(func() {
		for i := len(n.undo) - 1; i >= 0; i-- {
			errs = append(errs, n.undo[i]())
		}
	})
	return errors.Join(errs...)
}

func (n *Node) defers(undo func() error) { n.undo = append(n.undo, undo) }

// grace is how long a call under way may take when the node is stopped.
const grace = 5 * time.Second
