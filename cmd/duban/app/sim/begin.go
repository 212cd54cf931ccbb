package sim

import (
	"context"
	"time"

	"google.golang.org/protobuf/proto"

	"duban.internal/escalation"
	"duban.internal/federation"
	"duban.internal/federation/downlink"
	"duban.internal/node/clock"
	"duban.internal/node/fault"
	"duban.internal/node/journal"
	"duban.internal/node/registry"
	"duban.internal/node/store"
	dubanv1 "duban.internal/proto/duban/v1"
)

// adopt puts a node on record: who it is, what it judges by, its office, and at the root the keys of all journals.
func (n *node) adopt(ctx context.Context) error {
	d, _ := n.h.city.divisions.Get(n.code)
	start := registry.Start{Division: d, Profile: n.h.city.profile, Calendar: n.h.city.calendar}
	if n.tier != "street" {
		start.Offices = []*dubanv1.Office{{Role: office, Jurisdiction: string(n.code), Name: "office of " + string(n.code)}}
	}
	if n.parent == nil {
		for _, m := range n.h.city.members {
			start.Keys = append(start.Keys, &dubanv1.JournalKeyRecorded{Journal: m.Journal[:], Code: string(m.Code), VerifierKey: m.Key.String()})
		}
	}
	return registry.Bootstrap(ctx, n.store, start)
}

func (n *node) runnerConfig() escalation.Config {
	p := &n.h.plan
	return escalation.Config{
		Store: n.store, Registry: n.registry, Cases: n.cases, Tree: n.h.city.divisions, Code: n.code, Clock: n,
		Rules: n.h.city.sets, Peer: n.above.peer, Grace: p.grace, Silence: p.silence,
		Witnessed: func(ctx context.Context, id journal.ID, number uint64) (int64, uint64, bool, error) {
			return downlink.ReadWitnessed(ctx, n.store, n.h.city.tree, id, number)
		},
	}
}

// guard is the clock's, as a node's recorder has it (see app).
type guard struct {
	*clock.Guard
	latest int64 // stamped, or countersigned by the parent
}

// stray is how far a clock may be off.
const stray = time.Minute

func (n *node) guardClock() {
	accepted, _ := registry.New(n.store).AcceptedClock(ctx)
	n.guard = guard{Guard: clock.NewGuard(stray, accepted)}
	if row, ok, _ := n.store.Get(ctx, n.own, federation.Acknowledged); ok {
		n.guard.latest = row[1].(int64)
	}
}

// reading is what is known of the time here.
func (n *node) reading() clock.Reading {
	own, _ := n.store.Journal(n.own)
	r := clock.Reading{Now: n.micros(), Steady: n.h.now, Record: max(n.guard.latest, own.RecordedAt)}
	if n.child != nil {
		r.Heard, r.Parent = n.child.heard, n.child.skew
	}
	return r
}

// alarm says why the clock is not believed; nil where it is.
func (n *node) alarm() *clock.Alarm { return n.guard.Look(n.reading) }

// accept has people put the clock on record as it is: at the city nobody above can say that it is right again.
func (n *node) accept() {
	if !n.up || n.parent != nil || n.alarm() == nil {
		return
	}
	err := n.guard.Accept(n.reading, func(a *clock.Alarm) (int64, error) {
		payload, err := proto.Marshal(&dubanv1.ClockAccepted{ExpectedUs: a.Expected, ShownUs: a.Shown, Reason: "simulated", AcceptedBy: "p-3"})
		if err != nil {
			return 0, err
		}
		done, errs := n.store.Store.Append(ctx, store.Command{Entries: []store.Proposal{{Stream: registry.NodeStream,
			Kind: uint32(dubanv1.EntryKind_ENTRY_KIND_CLOCK_ACCEPTED), Actor: "operator", Payload: payload}}})
		return done[0].RecordedAt, errs[0]
	})
	if err != nil {
		n.h.fail(n, "a clock can be accepted", "%v", err)
		return
	}
	n.look()
	n.wrote()
	n.trace("clock accepted", "", 0, 0)
	n.after()
}

// disbelieved says whether the node records nothing.
func (n *node) disbelieved() bool { return n.up && n.alarm() != nil }

// Steady is clock.Clock.
func (n *node) Steady() time.Duration { return time.Duration(n.h.now) * time.Microsecond }

// Append is store.Store: no entry is let through while the clock is not believed.
func (e *engine) Append(ctx context.Context, commands ...store.Command) ([]store.Result, []error) {
	for i := range commands {
		if len(commands[i].Entries) == 0 {
			continue
		}
		if alarm := e.n.alarm(); alarm != nil {
			errs := make([]error, len(commands))
			for k := range errs {
				errs[k] = fault.New(fault.Precondition, "this node records nothing: %s", alarm.Reason)
			}
			return make([]store.Result, len(commands)), errs
		}
		break
	}
	results, errs := e.Store.Append(ctx, commands...)
	e.n.look()
	e.n.wrote()
	return results, errs
}

// AppendReplica is store.Store.
func (e *engine) AppendReplica(ctx context.Context, replicas ...store.Replica) []error {
	errs := e.Store.AppendReplica(ctx, replicas...)
	e.n.compare(replicas)
	e.n.wrote()
	return errs
}

// Stamp is store.Store: no time is stated that is not believed.
func (e *engine) Stamp(ctx context.Context) (size uint64, at int64, err error) {
	if e.n.alarm() != nil {
		own, _ := e.Journal(e.Own())
		return own.Size, max(own.RecordedAt, e.n.guard.latest), nil
	}
	size, at, err = e.Store.Stamp(ctx)
	if err == nil {
		e.n.guard.latest = max(e.n.guard.latest, at)
	}
	return size, at, err
}
