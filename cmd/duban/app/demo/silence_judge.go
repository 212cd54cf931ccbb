package demo

import (
	"context"
	"fmt"

	"duban.internal/node/clock"
	"duban.internal/node/jurisdiction"
	dubanv1 "duban.internal/proto/duban/v1"
)

// How the stories of silence should have ended.

func (d *demo) judgeCut(ctx context.Context, s story) (Outcome, error) {
	o, alert, err := d.judged(ctx, s)
	if err != nil || alert == nil {
		return o, err
	}
	one, two := level(alert, 1), level(alert, 2)
	if one == nil || one.HandledUs == 0 || one.HandledUs >= one.DueUs {
		o.problem("level 1 was not handled in time")
	}
	if two == nil {
		o.problem("level 2 was never opened")
		return o, nil
	}
	o.opened(d, two, d.district, d.cut)
	if !two.OnSilence {
		o.problem("level 2 was not opened on silence")
	}
	if two.State != dubanv1.LevelState_LEVEL_STATE_WITHDRAWN || two.Withdrawn != dubanv1.Basis_BASIS_CLAIMED {
		o.problem("level 2 is %s (%s), it should be withdrawn as claimed: nobody above had witnessed the handling", stateName(two.State), two.Withdrawn)
	}
	claimed, err := d.claimed(ctx, d.district)
	if err != nil {
		return o, err
	}
	if !claimed[alert.AlertId] {
		o.problem("the district does not list it among what was only claimed")
	}
	street, err := d.links.agency(d.cut)
	if err != nil {
		return o, err
	}
	below, err := shown(ctx, street, alert.AlertId)
	if err != nil {
		return o, err
	}
	if below.GetState() != dubanv1.LevelState_LEVEL_STATE_WITHDRAWN {
		o.problem("the street was not told what became of its alert")
	}
	return o, nil
}

// claimed are the alerts that a legal office lists as withdrawn on somebody's word alone.
func (d *demo) claimed(ctx context.Context, code jurisdiction.Code) (map[string]bool, error) {
	legal, err := d.links.office(code)
	if err != nil {
		return nil, err
	}
	answer, err := legal.alerts.ListAlerts(ctx, &dubanv1.ListAlertsRequest{ClaimedOnly: true})
	if err != nil {
		return nil, err
	}
	ids := map[string]bool{}
	for _, a := range answer.Alerts {
		ids[a.AlertId] = true
	}
	return ids, nil
}

func (d *demo) judgeDead(ctx context.Context, s story) (Outcome, error) {
	o, alert, err := d.judged(ctx, s)
	if err != nil || alert == nil {
		return o, err
	}
	one, two, three := level(alert, 1), level(alert, 2), level(alert, 3)
	if one == nil || three == nil {
		o.problem("level 1 and level 3 should have been opened")
		return o, nil
	}
	o.opened(d, three, city, d.dead)
	switch {
	case !three.OnSilence && !three.NotOpenedBelow:
		o.problem("level 3 does not say that the district was silent, or opened nothing")
	case three.StartUs <= one.DueUs:
		o.problem("level 3 does not count from the end of level 2")
	case two != nil && two.OpenedUs < three.OpenedUs:
		o.problem("level 2 was opened first: the district was not off")
	}
	op, err := d.links.operator(d.orphan)
	if err != nil {
		return o, err
	}
	status, err := op.node.GetStatus(ctx, &dubanv1.GetStatusRequest{})
	if err != nil {
		return o, err
	}
	if !status.ParentConnected || direct(status) {
		o.problem("%s did not go back to its district", d.say.place(d.orphan))
	}
	if d.copies(ctx, d.orphan, d.dead, city) != 1 {
		o.problem("district, city and street do not hold the same journal of the street")
	}
	return o, nil
}

// copies counts how many different journals of a node it and others hold; 0 where one can't be asked.
func (d *demo) copies(ctx context.Context, of jurisdiction.Code, others ...jurisdiction.Code) int {
	roots := map[string]bool{}
	for _, code := range append(others, of) {
		op, err := d.links.operator(code)
		if err != nil {
			return 0
		}
		status, err := op.node.GetStatus(ctx, &dubanv1.GetStatusRequest{})
		if err != nil {
			return 0
		}
		for _, j := range status.Journals {
			if j.Code == string(of) {
				roots[fmt.Sprintf("%d %x", j.Size, j.Root)] = true
			}
		}
	}
	return len(roots)
}

func (d *demo) judgeGone(ctx context.Context, s story) (Outcome, error) {
	return d.judgeUnopened(ctx, s, d.district, d.gone)
}

func (d *demo) judgeMute(ctx context.Context, s story) (Outcome, error) {
	parent, _ := d.fleet.Tree().Node(d.mute)
	return d.judgeUnopened(ctx, s, parent.Parent, d.mute)
}

// judgeUnopened: the receiver opened level 2 of what the street should have opened and did not, and names the street.
func (d *demo) judgeUnopened(ctx context.Context, s story, receiver, street jurisdiction.Code) (Outcome, error) {
	o, alert, err := d.judged(ctx, s)
	if err != nil || alert == nil {
		return o, err
	}
	two := level(alert, 2)
	if two == nil {
		o.problem("level 2 was never opened")
		return o, nil
	}
	o.opened(d, two, receiver, street)
	if !two.NotOpenedBelow {
		o.problem("level 2 does not say that level 1 was not opened")
	}
	if one := level(alert, 1); one != nil && one.OpenedUs < two.OpenedUs {
		o.problem("the street opened level 1 itself")
	}
	return o, nil
}

// opened checks that a level went where it should, names the node below, and opened once the grace had passed and soon then.
func (o *Outcome) opened(d *demo, l *dubanv1.AlertLevel, receiver, below jurisdiction.Code) {
	node, _ := d.fleet.Tree().Node(receiver)
	after := clock.Time(l.OpenedUs).Sub(clock.Time(l.StartUs))
	switch {
	case l.Receiver != string(receiver) || string(l.Journal) != string(node.Journal[:]):
		o.problem("level %d went to %s and stands in journal %x, it should be that of %s", l.Level, l.Receiver, l.Journal, receiver)
	case l.Below != string(below):
		o.problem("level %d names %q, it should name %s", l.Level, l.Below, below)
	case after < grace:
		o.problem("level %d opened %v after the level below ran out, before the grace of %v had passed", l.Level, after, grace)
	case after > grace+lateness:
		o.problem("level %d opened only %v after the level below ran out; the grace is %v", l.Level, after, grace)
	}
}
