package sim

import (
	"context"
	"time"

	"google.golang.org/protobuf/proto"

	"duban.internal/escalation/alert"
	"duban.internal/escalation/alertview"
	"duban.internal/node/clock"
	"duban.internal/node/fault"
	"duban.internal/node/identity"
	"duban.internal/node/journal"
	"duban.internal/node/profile"
	"duban.internal/node/store"
	dubanv1 "duban.internal/proto/duban/v1"
)

var ctx = context.Background()

// receives lets the office of a level decide whether and when it handles it.
func (n *node) receives(o *dubanv1.LevelOpened) {
	h := n.h
	if h.mended || o.GetVacant() || h.rng.Float64() >= h.plan.attention {
		return
	}
	now := n.micros()
	at := now + between(h.rng, time.Second, 6*24*time.Hour).Microseconds()
	if due := o.GetDueUs(); due > now && h.rng.IntN(3) == 0 { // just in time, or just not
		at = due + between(h.rng, -2*time.Minute, 2*time.Minute).Microseconds()
	} else if due > now && h.rng.IntN(2) == 0 {
		at = now + h.rng.Int64N(due-now)
	}
	h.at(h.now+max(1, at-now), func() {
		n.decides("handles", func(a *alert.Alert, d alert.Desk, now int64) (dubanv1.EntryKind, proto.Message, identity.Identity, error) {
			by := officeOf(n.code)
			if r := d.Profile.Role(o.GetRole()); r != nil && r.Of == alert.OfAgency {
				by = identity.Identity{City: cityCode, Kind: identity.Agency, ID: o.GetAgency()}
			}
			m, err := a.DecideHandling(alert.Handling{Round: o.GetRound(), Level: o.GetLevel(), Action: d.Profile.Actions[0].Name,
				Explanation: "simulated", HandledBy: "p-1"}, by, d, now)
			return dubanv1.EntryKind_ENTRY_KIND_LEVEL_HANDLED, m, by, err
		}, o.GetAlertId())
	})
}

// handled lets the office above dispute a handling, once it knows of it.
func (n *node) handled(l *level) {
	h := n.h
	if h.mended || h.rng.IntN(5) > 0 || l.opening.GetRound() > 2 || l.opening.GetCaseId() == "" {
		return
	}
	var above *node
	for up := n; up != nil && above == nil; up = up.parent {
		if up.next(l.opening) != nil {
			above = up
		}
	}
	if above == nil {
		return
	}
	h.at(h.now+between(h.rng, time.Minute, 4*24*time.Hour).Microseconds(), func() {
		above.decides("disputes", func(a *alert.Alert, d alert.Desk, _ int64) (dubanv1.EntryKind, proto.Message, identity.Identity, error) {
			by := officeOf(above.code)
			m, err := a.DecideDispute("simulated", "p-2", by, d, above.next(a.Top().Opening))
			return dubanv1.EntryKind_ENTRY_KIND_LEVEL_DISPUTED, m, by, err
		}, l.opening.GetAlertId())
	})
}

// next is the level after o, where this node's office receives it; nil otherwise (as in alertservice).
func (n *node) next(o *dubanv1.LevelOpened) *dubanv1.LevelOpened {
	p := n.h.city.profile
	site := alert.Site{
		Code: string(n.code), Receiver: alert.In(n.h.city.divisions), Vacant: func(alert.Rung, string) bool { return false },
		Rung: func(tier string, level uint32, _ int64) (alert.Rung, bool) {
			l := p.Ladder(tier)
			if l == nil || int(level) > len(l.Levels) {
				return alert.Rung{}, false
			}
			at := l.Levels[level-1]
			return alert.Rung{Role: at.Role, At: at.At, Last: int(level) == len(l.Levels)}, true
		},
	}
	next := site.Next(o, 0)
	if len(next) == 0 {
		return nil
	}
	return next[len(next)-1]
}

// decides has an office of this node decide on an alert, as the alert service does.
func (n *node) decides(what string, decide func(*alert.Alert, alert.Desk, int64) (dubanv1.EntryKind, proto.Message, identity.Identity, error), id string) {
	if n.h.crowd.closed {
		return
	}
	n.h.asks(&ask{n: n, what: what, then: func(bool) {}, do: func(ctx context.Context, key string) (*dubanv1.Receipt, error) {
		version, err := n.store.Version(ctx, alert.Stream(id))
		if err != nil {
			return nil, err
		}
		a, err := alertview.Read(ctx, n.store, id, n.writers()...)
		if err != nil {
			return nil, err
		}
		if a == nil {
			return nil, fault.New(fault.NotFound, "alert %s", id)
		}
		kind, m, by, err := decide(a, alert.Desk{Code: string(n.code), Profile: n.profile()}, clock.Micros(n.Now()))
		if err != nil {
			return nil, err
		}
		payload, err := proto.Marshal(m)
		if err != nil {
			return nil, err
		}
		done, errs := n.store.Append(ctx, store.Command{
			Expect:  []store.Expect{{Stream: alert.Stream(id), Version: version}},
			Entries: []store.Proposal{{Stream: alert.Stream(id), Kind: uint32(kind), Actor: by.Actor(), Payload: payload}},
			Client:  by.Actor(), Key: key,
		})
		if errs[0] != nil {
			return nil, errs[0]
		}
		return &dubanv1.Receipt{Journal: n.own[:], Number: done[0].First, RecordedUs: done[0].RecordedAt, Duplicate: done[0].Duplicate}, nil
	}})
}

func (n *node) profile() *profile.Profile { return n.h.city.profile }

// writers are the journals that this node holds, by whose they are.
func (n *node) writers() []alertview.Writer {
	var out []alertview.Writer
	for _, m := range n.h.city.members {
		if m.Journal == n.own || n.holds(m.Journal) {
			out = append(out, alertview.Writer{Journal: m.Journal, Code: string(m.Code)})
		}
	}
	return out
}

func (n *node) holds(id journal.ID) bool {
	_, ok := n.store.Journal(id)
	return ok
}
