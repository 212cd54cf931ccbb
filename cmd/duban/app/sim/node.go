package sim

import (
	"context"
	"fmt"
	"time"

	"duban.internal/escalation"
	"duban.internal/escalation/alertview"
	"duban.internal/federation"
	"duban.internal/federation/letters"
	"duban.internal/node/caseview"
	"duban.internal/node/clock"
	"duban.internal/node/fault"
	"duban.internal/node/intake"
	"duban.internal/node/journal"
	"duban.internal/node/jurisdiction"
	"duban.internal/node/registry"
	"duban.internal/node/store"
	"duban.internal/node/store/memory"
)

// folds and tables are those of a node (see app).
var folds = func() []*store.Fold {
	registered, cases, alerts, peers := registry.Fold(), caseview.Fold(), alertview.Fold(), federation.Fold()
	letter := letters.Fold()
	return []*store.Fold{&registered, &cases, &alerts, &peers, &letter}
}()

func tables() []*store.Table {
	return append(append(federation.Tables(), escalation.Tables()...), letters.Tables()...)
}

// post is what letters are made of and kept by.
func (n *node) post() letters.Config {
	return letters.Config{
		Code: n.code, Tree: n.h.city.tree, Store: n.store, Key: n.key,
		Case: func(ctx context.Context, id string) (journal.ID, bool, error) {
			a, err := alertview.Read(ctx, n.store, id, n.writers()...)
			if err != nil || a == nil {
				return journal.ID{}, false, err
			}
			j, err := journal.IDFrom(a.Top().Opening.GetJournal())
			return j, err == nil, err
		},
	}
}

// node is one node: its disk, which outlives it, and what runs while it is up.
type node struct {
	h      *history
	name   string // in the trace
	code   jurisdiction.Code
	tier   jurisdiction.Tier
	own    journal.ID
	key    *journal.Key
	parent *node // nil for the city
	below  []*node
	disk   *memory.Disk
	skew   int64 // its clock less the true time, microseconds

	life     int   // how often it started
	troubled int64 // when something last went wrong with it or its lines, true time
	up       bool
	since    int64 // by its clock

	store    *engine
	registry *registry.Registry
	cases    *caseview.View
	intake   *intake.Intake
	runner   *escalation.Runner
	child    *child  // nil for the city
	above    *parent // the end that children dial
	guard    guard

	held    []func() // what may not be told before the disk is synced
	syncing bool
	stepAt  int64 // when the next step is to be; 0 for none
	wakeAt  int64 // when the runner wants to be stepped, by its clock
	eyes    eyes
}

// Now is clock.Clock.
func (n *node) Now() time.Time { return clock.Time(n.h.now + n.skew) }

// Timer is clock.Clock; nothing that is stepped waits.
func (n *node) Timer(time.Duration) clock.Timer { panic("sim: a stepped core asked for a timer") }

// Patience is clock.Clock.
func (n *node) Patience(time.Duration) clock.Timer { panic("sim: a stepped core asked for a timer") }

func (n *node) micros() int64 { return n.h.now + n.skew }

// engine is the store as a node's parts see it: whatever they write is looked at, and may become durable at once.
type engine struct {
	*memory.Store
	n *node
}

// wrote is told of every commit; it may become durable at once.
func (n *node) wrote() {
	if n.h.plan.midSync > 0 && n.h.rng.Float64() < n.h.plan.midSync {
		n.synced()
	}
	n.poke(0)
}

// start begins a life on the disk as it is.
func (n *node) start() {
	n.life, n.up, n.since, n.wakeAt, n.stepAt = n.life+1, true, n.micros(), 0, 0
	n.trace("up", "", int64(n.life), 0)
	n.troubled = n.h.now
	n.store = &engine{n: n, Store: memory.Open(memory.Config{Disk: n.disk, Folds: folds, Tables: tables(), Known: known, Clock: n, Salt: n.h.salt})}
	n.guardClock()
	n.registry = registry.NewSharing(n.store, n.h.city.compiled)
	n.cases = caseview.New(n.store, n.registry, n.h.city.divisions)
	var err error
	if n.intake, err = intake.New(intake.Config{Store: n.store, Registry: n.registry, Cases: n.cases, Files: files{}, Tree: n.h.city.divisions, Clock: n}); err != nil {
		n.h.fail(n, "start", "%v", err)
		return
	}
	if n.above, err = newParent(n); err != nil {
		n.h.fail(n, "start", "%v", err)
		return
	}
	if n.runner, err = escalation.New(n.runnerConfig()); err != nil {
		n.h.fail(n, "start", "%v", err)
		return
	}
	if n.parent != nil {
		if n.child, err = newChild(n); err != nil {
			n.h.fail(n, "start", "%v", err)
			return
		}
	}
	n.restarted()
	n.poke(0)
}

var known = federation.Kinds()

// files has every attachment: the simulator moves none.
type files struct{}

func (files) Has([]byte) (uint64, bool) { return 1, true }

// crash ends a life: what was not synced is gone, and so is what was to be told of it.
func (n *node) crash() {
	if !n.up {
		return
	}
	lost := n.disk.Dirty()
	n.troubled = n.h.now
	n.up, n.held, n.syncing = false, nil, false
	n.store.Crash()
	n.trace("crash", fmt.Sprint(lost), 0, 0)
	n.forget()
	n.h.net.dropped(n)
	n.child, n.above, n.runner, n.intake = nil, nil, nil, nil
}

// poke has the node step soon.
func (n *node) poke(after time.Duration) {
	at := n.h.now + after.Microseconds()
	if after == 0 {
		at += 1 + n.h.rng.Int64N(n.h.plan.latency.Microseconds()/4+1)
	}
	if !n.up || n.stepAt != 0 && n.stepAt <= at {
		return
	}
	n.stepAt = at
	life := n.life
	n.h.at(at, func() {
		if n.up && n.life == life && n.stepAt == at {
			n.stepAt = 0
			n.step()
		}
	})
}

// maxSteps is more than any backlog of a history takes.
const maxSteps = 1_000

// step lets the runner and the uplink do what there is to do.
func (n *node) step() {
	n.h.steps++
	for i := range maxSteps {
		if i == maxSteps-1 {
			n.h.fail(n, "the runner goes on", "%d steps, and still busy", maxSteps)
		}
		busy, wake, err := n.runner.Step(context.Background())
		if err != nil && n.disbelieved() {
			n.poke(time.Hour) // the driver logs and tries again
			break
		}
		if err != nil {
			n.h.fail(n, "the runner goes on", "%v", err)
			return
		}
		n.wakeAt = wake
		if !busy {
			break
		}
	}
	if n.child != nil {
		n.child.step()
	}
	n.above.step()
	n.after()
}

// after is to be called when the node has done something: it is stepped again, synced, and woken at its time.
func (n *node) after() {
	if !n.up {
		return
	}
	n.sync()
	if n.wakeAt != 0 && n.wakeAt < 1<<61 {
		n.wakeUp(n.wakeAt)
	}
}

// wakeUp steps the node when its clock shows a time.
func (n *node) wakeUp(at int64) {
	if at > n.micros() {
		n.poke(time.Duration(at-n.micros()) * time.Microsecond)
	}
}

// out does something that others see: once all that is written by now is durable.
func (n *node) out(do func()) {
	if n.disk.Dirty() {
		n.held = append(n.held, do)
		return
	}
	do()
}

// sync has the disk synced: at once or late, or the node crashes before.
func (n *node) sync() {
	if n.syncing || !n.disk.Dirty() && len(n.held) == 0 {
		return
	}
	p := &n.h.plan
	if n.h.rng.Float64() >= p.lateSync {
		n.synced()
		return
	}
	n.syncing = true
	life := n.life
	n.h.at(n.h.now+n.h.rng.Int64N(p.slowSync.Microseconds()), func() {
		if !n.up || n.life != life {
			return
		}
		n.syncing = false
		if n.h.mended || n.h.rng.Float64() >= p.crashAtSync {
			n.synced()
			return
		}
		n.crash()
		n.h.restart(n)
	})
}

func (n *node) synced() {
	n.disk.Sync()
	n.eyes.undo = n.eyes.undo[:0]
	held := n.held
	n.held = nil
	for _, do := range held {
		do()
	}
}

func (n *node) trace(what, text string, a, b int64) {
	n.h.trace.add(remark{n.h.now, n.name, what, text, a, b})
}

// refused says whether an answer is about the request, so that asking again is of no use.
func refused(err error) bool {
	switch fault.Of(err) {
	case fault.Invalid, fault.NotFound, fault.Exists, fault.Precondition, fault.Denied, fault.Exhausted:
		return true
	}
	return false
}
