package escalation

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"duban.internal/node/clock"
	"duban.internal/node/fault"
	"duban.internal/node/journal"
	"duban.internal/node/planted"
	"duban.internal/node/store"
)

// Sizes of what is done at once. They bound memory and how long one journal keeps the others waiting.
const (
	followBytes = 1 << 20
	firstPage   = 16   // deadlines in the first Append of a firing, for mostly few are due
	firePage    = 1024 // in the last
	fireAhead   = 4    // Appends under way while the next is decided
	carefully   = 16   // times that a firing is decided anew before it is left to the next step
)

// retryPause is how long the runner waits after a failure, as people feel it.
const retryPause = time.Second

// Runner drives a Core over a store.
type Runner struct {
	cfg     Config
	store   store.Store
	core    *Core
	log     *slog.Logger
	metrics *metrics
	places  map[journal.ID]*place
}

// place is where the runner stands with a journal.
type place struct {
	cursor  uint64
	careful bool            // the last run conflicted
	next    int64           // no row of Deadline ends sooner
	derived int64           // no row of Derived ends sooner
	about   map[string]bool // what stands as an alert about its node
}

// New makes a Runner; Run starts it. Kind of errors: fault.Invalid.
func New(c Config) (*Runner, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	core := NewCore(c.Store, c)
	return &Runner{cfg: c, store: c.Store, core: core, log: core.log, metrics: newMetrics(c.Metrics), places: make(map[journal.ID]*place)}, nil
}

// Run works while this replica leads, waits for the lease while it doesn't, and returns when ctx ends or the store is
// closed. It reports failures to the log and goes on.
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
			r.log.Warn("escalation waits", slog.Any("error", err))
		}
		if clock.Pause(ctx, r.cfg.Clock, retryPause) != nil {
			return nil
		}
	}
}

func (r *Runner) lead(ctx context.Context) error {
	clear(r.places)
	for {
		watch := r.store.Watch()
		busy, wake, err := r.Step(ctx)
		switch {
		case ctx.Err() != nil, fault.Is(err, fault.NotLeader):
			return err
		case err != nil:
			r.log.Error("escalation", slog.Any("error", err))
			clear(r.places)
			if clock.Pause(ctx, r.cfg.Clock, retryPause) != nil {
				return nil
			}
			continue
		case busy:
			continue
		}
		var timer clock.Timer
		if wake != never {
			timer = r.cfg.Clock.Timer(clock.Time(wake).Sub(r.cfg.Clock.Now()))
		}
		select {
		case <-watch:
		case <-timer.C:
		case <-ctx.Done():
		}
		if timer.Stop != nil {
			timer.Stop()
		}
	}
}

// Step does what there is to do: one run of entries of each journal, and whatever is due. busy says that there is more;
// wake is when the next deadline ends, math.MaxInt64 for never.
func (r *Runner) Step(ctx context.Context) (busy bool, wake int64, err error) {
	wake = never
	for _, info := range r.store.Journals() {
		p, err := r.place(ctx, info)
		if err != nil {
			return false, never, err
		}
		if p.cursor < info.Folded {
			if err := r.follow(ctx, info.ID, p, info.Folded); err != nil {
				return false, never, err
			}
			busy = busy || p.cursor < info.Folded
		}
		now := clock.Micros(r.cfg.Clock.Now())
		if planted.On("runner.early") {
			now += 3_600_000_000
		}
		if min(p.next, p.derived) <= now {
			fired, err := r.due(ctx, info, p, now)
			if err != nil {
				return false, never, err
			}
			busy = busy || fired
		}
		at := p.next
		if !info.Own {
			if at, err = r.look(ctx, info, p, now); err != nil {
				return false, never, err
			}
		}
		if at > now {
			wake = min(wake, at) // what is due and may not fire yet waits for a commit
		}
	}
	return busy, wake, nil
}

func (r *Runner) place(ctx context.Context, info store.Info) (*place, error) {
	if p := r.places[info.ID]; p != nil {
		return p, nil
	}
	cursor, err := r.store.Cursor(ctx, Follower, info.ID)
	if err != nil {
		return nil, fmt.Errorf("cursor of journal %s: %w", info.ID, err)
	}
	p := &place{cursor: cursor, derived: never, about: make(map[string]bool)}
	if err := r.again(ctx, info, p); err != nil {
		return nil, err
	}
	if !info.Own {
		for _, what := range []string{silent, stopped} {
			_, there, err := r.store.Get(ctx, info.ID, NodeAlert, what)
			if err != nil {
				return nil, fmt.Errorf("alerts about journal %s: %w", info.ID, err)
			}
			p.about[what] = there
		}
	}
	r.places[info.ID] = p
	return p, nil
}

// again looks when the next deadlines of a journal end.
func (r *Runner) again(ctx context.Context, info store.Info, p *place) (err error) {
	if p.next, err = r.nextDue(ctx, info, Deadline); err == nil && !info.Own {
		p.derived, err = r.nextDue(ctx, info, Derived)
	}
	return err
}

func (r *Runner) nextDue(ctx context.Context, info store.Info, t *store.Table) (int64, error) {
	page, err := readDue(ctx, r.store, t, info.ID, Due{At: math.MinInt64}, never-1, 1)
	if err != nil || len(page) == 0 {
		return never, err
	}
	return page[0].At, nil
}

// follow takes one run of entries, none of number `until` or above.
func (r *Runner) follow(ctx context.Context, id journal.ID, p *place, until uint64) error {
	entries, err := r.store.Read(ctx, id, p.cursor, followBytes)
	if err != nil {
		return fmt.Errorf("read journal %s from %d: %w", id, p.cursor, err)
	}
	if n := until - p.cursor; uint64(len(entries)) > n {
		entries = entries[:n]
	}
	commands, err := r.core.Follow(ctx, id, entries, p.careful)
	if err != nil || len(commands) == 0 {
		return err
	}
	_, errs := r.append(ctx, commands)
	for i, err := range errs {
		switch {
		case fault.Is(err, fault.Conflict):
			r.metrics.conflicts.Inc()
			p.careful = true
			p.cursor, err = r.store.Cursor(ctx, Follower, id)
			return err
		case err != nil:
			return fmt.Errorf("follow journal %s: %w", id, err)
		}
		r.committed(commands[i])
		if len(commands[i].Cursors) > 0 {
			p.cursor = commands[i].Cursors[0].To
		}
	}
	p.careful = false
	return nil
}

// committed notes what a command put among the deadlines.
func (r *Runner) committed(c store.Command) {
	for _, change := range c.Changes {
		p := r.places[change.Owner]
		switch {
		case change.Delete || p == nil:
		case change.Table == Deadline:
			p.next = min(p.next, change.Row[0].(int64))
		case change.Table == Derived:
			p.derived = min(p.derived, change.Row[0].(int64))
		}
	}
	r.metrics.count(c)
}

func (r *Runner) append(ctx context.Context, commands []store.Command) ([]store.Result, []error) {
	for i := range commands {
		for k := range commands[i].Entries {
			commands[i].Entries[k].Seal()
		}
	}
	return r.store.Append(ctx, commands...)
}

// due fires what may fire of a journal whose next deadline has come by this node's clock.
func (r *Runner) due(ctx context.Context, info store.Info, p *place, now int64) (fired bool, err error) {
	if !info.Own {
		return r.dueBelow(ctx, info, p, now)
	}
	size, at, err := r.store.Stamp(ctx)
	if err != nil {
		return false, fmt.Errorf("stamp: %w", err)
	}
	if planted.On("runner.early") {
		at += 3_600_000_000
	}
	until := min(at, now)
	if ok, err := r.catchUp(ctx, info.ID, p, size); err != nil || !ok || p.next > until {
		return false, err
	}
	if fired, err = r.fire(ctx, Deadline, info, until, now, 0); err != nil {
		return false, err
	}
	p.next, err = r.nextDue(ctx, info, Deadline)
	return fired, err
}

// dueBelow does so for a journal from below: what its checkpoint covers, and what is over by more than the grace.
func (r *Runner) dueBelow(ctx context.Context, info store.Info, p *place, now int64) (fired bool, err error) {
	// The witness first: what its checkpoint covers is in the store then.
	peer, grace := r.cfg.Peer(info.ID), r.cfg.Grace.Microseconds()
	if planted.On("runner.no-grace") {
		grace = 0
	}
	patience := int64(math.MinInt64)
	if peer.Since <= now-grace {
		patience = now - grace
	}
	until := max(min(peer.Checkpoint, now), patience)
	if p.next > until && p.derived > patience {
		return false, nil
	}
	after, ok := r.store.Journal(info.ID)
	if !ok {
		return false, nil
	}
	if ok, err := r.catchUp(ctx, info.ID, p, after.Size); err != nil || !ok {
		return false, err
	}
	if p.next <= until {
		if fired, err = r.fire(ctx, Deadline, info, until, now, peer.Checkpoint); err != nil {
			return false, err
		}
	}
	if p.derived <= patience {
		more, err := r.fire(ctx, Derived, info, patience, now, peer.Checkpoint)
		if err != nil {
			return false, err
		}
		fired = fired || more
	}
	return fired, r.again(ctx, info, p)
}

// catchUp follows a journal up to a size; false where its fold stopped below, so that nothing may be concluded from it.
func (r *Runner) catchUp(ctx context.Context, id journal.ID, p *place, size uint64) (bool, error) {
	for p.cursor < size {
		info, _ := r.store.Journal(id)
		if info.Stopped != "" || info.Folded < size {
			return false, nil
		}
		if err := r.follow(ctx, id, p, size); err != nil {
			return false, err
		}
	}
	return true, nil
}

// fire opens what is due until a time, page by page; while one is committed the next is decided. It says whether anything
// was decided.
func (r *Runner) fire(ctx context.Context, t *store.Table, info store.Info, until, now, firm int64) (fired bool, err error) {
	var (
		mu    sync.Mutex
		again []Due
	)
	group, gctx := errgroup.WithContext(ctx)
	group.SetLimit(fireAhead)
	after, size := Due{At: math.MinInt64}, firstPage
	for gctx.Err() == nil {
		page, err := readDue(gctx, r.store, t, info.ID, after, until, size)
		if err != nil {
			return false, errors.Join(err, group.Wait())
		}
		if len(page) == 0 {
			break
		}
		commands, decided, err := r.core.Fire(gctx, page, now, firm, false)
		if err != nil {
			return false, errors.Join(err, group.Wait())
		}
		fired = fired || len(commands) > 0
		group.Go(func() error {
			conflicts, err := r.commit(gctx, decided, commands, now)
			mu.Lock()
			again = append(again, conflicts...)
			mu.Unlock()
			return err
		})
		if len(page) < size {
			break
		}
		after, size = page[len(page)-1], min(8*size, firePage)
	}
	if err := group.Wait(); err != nil {
		return fired, err
	}
	for range carefully {
		if len(again) == 0 {
			return fired, nil
		}
		commands, decided, err := r.core.Fire(ctx, again, now, firm, true)
		if err != nil {
			return fired, err
		}
		if again, err = r.commit(ctx, decided, commands, now); err != nil {
			return fired, err
		}
	}
	return fired, nil
}

// commit appends one command for each deadline and gives back those that conflicted.
func (r *Runner) commit(ctx context.Context, page []Due, commands []store.Command, now int64) (conflicts []Due, err error) {
	if len(commands) == 0 {
		return nil, nil
	}
	_, errs := r.append(ctx, commands)
	for i, e := range errs {
		switch {
		case fault.Is(e, fault.Conflict):
			r.metrics.conflicts.Inc()
			conflicts = append(conflicts, page[i])
		case e != nil:
			err = errors.Join(err, fmt.Errorf("alert %s: %w", page[i].Alert, e))
		default:
			r.metrics.fired(now - page[i].At)
			r.metrics.count(commands[i])
		}
	}
	return conflicts, err
}
