package app

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"google.golang.org/protobuf/proto"

	"duban.internal/federation"
	"duban.internal/federation/uplink"
	"duban.internal/node/clock"
	"duban.internal/node/fault"
	"duban.internal/node/registry"
	"duban.internal/node/store"
	dubanv1 "duban.internal/proto/duban/v1"
)

// recorder is the store that the parts of a node are given. It lets no entry through while the node's clock is not believed,
// and none of a kind that the parent has not announced. Copies from below, and what followers keep without recording
// anything, go through: a node with a wrong clock still takes what its children send.
type recorder struct {
	store.Store
	clock clock.Clock
	guard *clock.Guard
	root  bool // nothing lies above: every kind may be written

	mu     sync.Mutex
	above  func() uplink.Status // nil until there is an uplink
	latest int64                // the latest time that was stamped, or that the parent has countersigned
}

// newRecorder reads what people accepted of the clock, and the latest time that the parent has seen.
func newRecorder(ctx context.Context, n *Node, s store.Store) (*recorder, error) {
	accepted, err := n.registry.AcceptedClock(ctx)
	if err != nil {
		return nil, fmt.Errorf("accepted clock: %w", err)
	}
	r := &recorder{
		Store: s, clock: n.clock, root: n.self.Parent == "",
		guard: clock.NewGuard(n.cfg.Intervals.Skew, accepted),
	}
	row, ok, err := s.Get(ctx, s.Own(), federation.Acknowledged)
	if err != nil {
		return nil, fmt.Errorf("acknowledgement: %w", err)
	}
	if ok {
		r.latest, _ = row[1].(int64)
	}
	return r, nil
}

// listen tells the recorder how to ask for the parent's clock and for the kinds that it knows.
func (r *recorder) listen(above func() uplink.Status) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.above = above
}

func (r *recorder) parent() (s uplink.Status) {
	r.mu.Lock()
	above := r.above
	r.mu.Unlock()
	if above != nil {
		s = above()
	}
	return s
}

func (r *recorder) reading() clock.Reading {
	parent := r.parent()
	own, _ := r.Journal(r.Own())
	r.mu.Lock()
	record := max(r.latest, own.RecordedAt)
	r.mu.Unlock()
	return clock.Reading{
		Now: clock.Micros(r.clock.Now()), Steady: r.clock.Steady().Microseconds(), Record: record, Heard: parent.Measured, Parent: parent.Skew,
	}
}

// stopped says why the clock is not believed; nil where it is.
func (r *recorder) stopped() *clock.Alarm { return r.guard.Look(r.reading) }

// Append commits what may be recorded now. What may not fails with fault.Precondition, and says what has to be done.
func (r *recorder) Append(ctx context.Context, commands ...store.Command) ([]store.Result, []error) {
	refused := r.refuse(commands)
	if refused == nil {
		return r.Store.Append(ctx, commands...)
	}
	var pass []store.Command
	for i, c := range commands {
		if refused[i] == nil {
			pass = append(pass, c)
		}
	}
	results := make([]store.Result, len(commands))
	if len(pass) == 0 {
		return results, refused
	}
	done, errs := r.Store.Append(ctx, pass...)
	for i, k := 0, 0; i < len(commands); i++ {
		if refused[i] == nil {
			results[i], refused[i] = done[k], errs[k]
			k++
		}
	}
	return results, refused
}

// refuse gives an error for each command that may not be recorded; nil where all may. A replica that doesn't lead leaves
// that to the leader.
func (r *recorder) refuse(commands []store.Command) []error {
	if !slices.ContainsFunc(commands, func(c store.Command) bool { return len(c.Entries) > 0 }) {
		return nil
	}
	if _, leads := r.Leader(); !leads {
		return nil
	}
	alarm, unknown := r.stopped(), r.unknown()
	var out []error
	for i, c := range commands {
		var err error
		switch {
		case len(c.Entries) == 0:
			continue
		case alarm != nil:
			err = disbelieved(alarm)
		default:
			k := slices.IndexFunc(c.Entries, func(p store.Proposal) bool { return unknown(p.Kind) })
			if k < 0 {
				continue
			}
			err = unannounced(c.Entries[k].Kind)
		}
		if out == nil {
			out = make([]error, len(commands))
		}
		out[i] = err
	}
	return out
}

func disbelieved(a *clock.Alarm) error {
	return fault.Refuse(fault.Precondition, "this node records nothing: its clock is not believed", fault.Field{
		Field: "clock", Description: a.Reason + "; put it right, or where it is right put that on record: duban clock accept --reason ...",
	})
}

func unannounced(kind uint32) error {
	return fault.Refuse(fault.Precondition, "the node above does not know yet what would be recorded", fault.Field{
		Field:       "kind",
		Description: fmt.Sprintf("%s: expected a kind that the parent has announced; parents are upgraded first", dubanv1.EntryKind(kind)),
	})
}

// unknown says of a kind whether the parent, or a node above it, may not know it. Where the parent has never said what it
// knows, that is what every version knows.
func (r *recorder) unknown() func(kind uint32) bool {
	if r.root {
		return func(uint32) bool { return false }
	}
	announced := r.parent().Kinds
	if len(announced) == 0 {
		return func(kind uint32) bool { return !slices.Contains(firstKinds, dubanv1.EntryKind(kind)) }
	}
	return func(kind uint32) bool { return !slices.Contains(announced, kind) }
}

// firstKinds are those of the first version that was released: every node knows them. Nothing is ever added.
var firstKinds = []dubanv1.EntryKind{
	dubanv1.EntryKind_ENTRY_KIND_JURISDICTION_NAMED, dubanv1.EntryKind_ENTRY_KIND_PROFILE_ADOPTED,
	dubanv1.EntryKind_ENTRY_KIND_CALENDAR_ADOPTED, dubanv1.EntryKind_ENTRY_KIND_JOURNAL_KEY_RECORDED,
	dubanv1.EntryKind_ENTRY_KIND_PAYLOAD_ERASED, dubanv1.EntryKind_ENTRY_KIND_PEER_REFUSED,
	dubanv1.EntryKind_ENTRY_KIND_AGENCY_REGISTERED, dubanv1.EntryKind_ENTRY_KIND_OFFICER_REGISTERED,
	dubanv1.EntryKind_ENTRY_KIND_OFFICE_REGISTERED, dubanv1.EntryKind_ENTRY_KIND_CASE_OPENED,
	dubanv1.EntryKind_ENTRY_KIND_STAGE_RECORDED, dubanv1.EntryKind_ENTRY_KIND_EVIDENCE_ATTACHED,
	dubanv1.EntryKind_ENTRY_KIND_EXPLANATION_GIVEN, dubanv1.EntryKind_ENTRY_KIND_CORRECTION_REQUESTED,
	dubanv1.EntryKind_ENTRY_KIND_CORRECTION_DECIDED, dubanv1.EntryKind_ENTRY_KIND_CARD_SHOWN,
	dubanv1.EntryKind_ENTRY_KIND_LEVEL_OPENED, dubanv1.EntryKind_ENTRY_KIND_LEVEL_HANDLED,
	dubanv1.EntryKind_ENTRY_KIND_LEVEL_DISPUTED,
}

// Stamp gives a size and a time, as the store does. While the clock is not believed it gives no time but the latest that is
// on record, so that no checkpoint states what the clock shows.
func (r *recorder) Stamp(ctx context.Context) (size uint64, at int64, err error) {
	if alarm := r.stopped(); alarm != nil {
		own, _ := r.Journal(r.Own())
		r.mu.Lock()
		defer r.mu.Unlock()
		return own.Size, max(own.RecordedAt, r.latest), nil
	}
	size, at, err = r.Store.Stamp(ctx)
	if err == nil {
		r.mu.Lock()
		r.latest = max(r.latest, at)
		r.mu.Unlock()
	}
	return size, at, err
}

// accept puts the clock on record as it is. Kinds of errors: fault.Precondition where there is nothing to accept, and what
// the store gives.
func (r *recorder) accept(ctx context.Context, actor, reason, by string) (now int64, err error) {
	err = r.guard.Accept(r.reading, func(a *clock.Alarm) (int64, error) {
		kind := uint32(dubanv1.EntryKind_ENTRY_KIND_CLOCK_ACCEPTED)
		switch {
		case a == nil:
			return 0, fault.Refuse(fault.Precondition, "there is nothing to accept", fault.Field{Field: "clock", Description: "this node believes its clock"})
		case r.unknown()(kind):
			return 0, unannounced(kind)
		}
		now = a.Shown
		payload, err := proto.Marshal(&dubanv1.ClockAccepted{ExpectedUs: a.Expected, ShownUs: a.Shown, Reason: reason, AcceptedBy: by})
		if err != nil {
			return 0, err
		}
		entry := store.Proposal{Stream: registry.NodeStream, Kind: kind, Actor: actor, Payload: payload}
		done, errs := r.Store.Append(ctx, store.Command{Entries: []store.Proposal{entry}})
		if err := errors.Join(errs...); err != nil {
			return 0, fmt.Errorf("accept the clock: %w", err)
		}
		return done[0].RecordedAt, nil
	})
	return now, err
}
