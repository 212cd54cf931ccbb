package letters

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"duban.internal/node/clock"
	"duban.internal/node/fault"
	"duban.internal/node/store"
)

const (
	followBytes = 1 << 20     // read at once
	lazily      = 10_000      // entries that concern nobody may pass before the cursor is moved for them alone
	retryPause  = time.Second // after a failure
)

// LeaderStore adds what drives a Runner.
type LeaderStore interface {
	Store
	Watch() <-chan struct{}
	Lease(ctx context.Context) (context.Context, error)
}

// Runner drives an Addresser over a store.
type Runner struct {
	core    *Addresser
	store   LeaderStore
	clock   clock.Clock
	log     *slog.Logger
	numbers *prometheus.CounterVec

	known     bool
	committed uint64 // where the cursor is
	read      uint64 // where it could be
}

// NewRunner makes one; cfg.Store is replaced by s. Kind of errors: fault.Invalid.
func NewRunner(cfg Config, s LeaderStore, c clock.Clock) (*Runner, error) {
	cfg.Store = s
	core, err := NewAddresser(cfg)
	if err != nil {
		return nil, err
	}
	return &Runner{core: core, store: s, clock: c, log: core.cfg.Log,
		numbers: counter(cfg.Metrics, "addressed_total", "Letters written for jurisdictions below.")}, nil
}

// Run works while this replica leads, waits for the lease while it doesn't, and returns when ctx ends. It reports failures
// to the log and goes on.
func (r *Runner) Run(ctx context.Context) error {
	for {
		lead, err := r.store.Lease(ctx)
		if err == nil {
			err = r.lead(lead)
		}
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			r.log.Warn("addressing waits", slog.Any("error", err))
		}
		if clock.Pause(ctx, r.clock, retryPause) != nil {
			return nil
		}
	}
}

func (r *Runner) lead(ctx context.Context) error {
	r.known = false
	for {
		watch := r.store.Watch()
		busy, err := r.Step(ctx)
		switch {
		case ctx.Err() != nil, fault.Is(err, fault.NotLeader):
			return err
		case err != nil:
			r.log.Error("addressing", slog.Any("error", err))
			if clock.Pause(ctx, r.clock, retryPause) != nil {
				return nil
			}
			continue
		case busy:
			continue
		}
		select {
		case <-watch:
		case <-ctx.Done():
			return nil
		}
	}
}

// Step addresses one run of entries. busy says that there is more.
func (r *Runner) Step(ctx context.Context) (busy bool, err error) {
	defer func() { r.known = r.known && err == nil }()
	own := r.store.Own()
	if !r.known {
		if r.committed, err = r.store.Cursor(ctx, Follower, own); err != nil {
			return false, fmt.Errorf("cursor: %w", err)
		}
		r.read, r.known = r.committed, true
	}
	// Numbers are read from folded rows: where folding stopped, nothing is numbered.
	info, ok := r.store.Journal(own)
	if !ok || info.Stopped != "" || r.read >= info.Folded {
		return false, nil
	}
	entries, err := r.store.Read(ctx, own, r.read, followBytes)
	if err != nil {
		return false, fmt.Errorf("read from %d: %w", r.read, err)
	}
	if n := info.Folded - r.read; uint64(len(entries)) > n {
		entries = entries[:n]
	}
	command, err := r.core.Follow(ctx, entries)
	if err != nil {
		return false, err
	}
	to := r.read + uint64(len(entries))
	if len(command.Entries)+len(command.Changes) > 0 || to-r.committed >= lazily {
		command.Cursors = []store.Advance{{Follower: Follower, Journal: own, From: r.committed, To: to}}
		for i := range command.Entries {
			command.Entries[i].Seal()
		}
		if _, errs := r.store.Append(ctx, command); errs[0] != nil {
			return false, fmt.Errorf("addressing up to entry %d: %w", to, errs[0])
		}
		r.numbers.WithLabelValues().Add(float64(len(command.Entries)))
		r.committed = to
	}
	r.read = to
	return to < info.Folded, nil
}
