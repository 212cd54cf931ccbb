package demo

import (
	"context"
	"fmt"
	"time"

	"duban.internal/node/clock"
	"duban.internal/node/jurisdiction"
	dubanv1 "duban.internal/proto/duban/v1"
)

// The stories of nodes that can't, or won't, say what became of an alert.

// playCut: a street is cut off from everybody above it while its alert is open. Its agency handles it in time; above nobody
// can know, and the district opens level 2 on silence. When the line is back, that is withdrawn.
func (d *demo) playCut(ctx context.Context, cause bool, deadline time.Time) error {
	if err := d.openPenalty(ctx, d.cut, "demo-e", d.clock.Now().Add(-fortnight)); err != nil {
		return err
	}
	alert, ok, err := d.await(ctx, "demo-e", deadline, func(a *dubanv1.Alert) bool { return level(a, 1) != nil })
	if err != nil || !ok {
		return err
	}
	if cause {
		if err := d.fleet.Cut(d.cut); err != nil {
			return err
		}
		d.say.at(d.clock.Now(), "e", "%s is cut off", d.say.place(d.cut))
	}
	agency, err := d.links.agency(d.cut)
	if err != nil {
		return err
	}
	if _, err := agency.alerts.HandleAlert(ctx, &dubanv1.HandleAlertRequest{
		AlertId: alert.AlertId, Action: "explained", Explanation: "系统故障期间补录,已说明情况(演示)", HandledBy: "演示机关法制人员",
	}); err != nil {
		return err
	}
	d.say.at(d.clock.Now(), "e", "%s handles level 1 in time", d.say.place(d.cut))
	if !cause {
		return d.until(ctx, clock.Time(level(alert, 1).DueUs).Add(grace+24*time.Hour)) // long enough for a level 2 that must not come
	}
	if _, ok, err = d.await(ctx, "demo-e", deadline, func(a *dubanv1.Alert) bool { return level(a, 2) != nil }); err != nil || !ok {
		return err
	}
	if err := d.fleet.Mend(d.cut); err != nil {
		return err
	}
	d.say.at(d.clock.Now(), "e", "%s is back", d.say.place(d.cut))
	_, _, err = d.await(ctx, "demo-e", deadline, func(a *dubanv1.Alert) bool { return level(a, 2).WithdrawnUs != 0 })
	return err
}

// playDead: a district is off when its street's case breaks a limit. The street reaches the city by itself; nobody opens
// level 2, and level 3 opens all the same, when level 2 would have run out. Then the district comes back.
func (d *demo) playDead(ctx context.Context, cause bool, deadline time.Time) error {
	if cause {
		if err := d.fleet.Stop(d.dead); err != nil {
			return err
		}
		d.say.at(d.clock.Now(), "f", "%s is off", d.say.place(d.dead))
	}
	if err := d.openPenalty(ctx, d.orphan, "demo-f", d.clock.Now().Add(-fortnight)); err != nil {
		return err
	}
	alert, ok, err := d.await(ctx, "demo-f", deadline, func(a *dubanv1.Alert) bool { return level(a, 3) != nil })
	if err != nil || !ok {
		return err
	}
	if err := d.handle(ctx, city, alert, "supervision_order", "区节点停运,由市直接督办(演示)"); err != nil {
		return err
	}
	if !cause {
		return nil
	}
	if err := d.fleet.Restart(ctx, d.dead); err != nil {
		return err
	}
	d.say.at(d.clock.Now(), "f", "%s is back", d.say.place(d.dead))
	return d.home(ctx, d.orphan, deadline)
}

// home waits until a street sends to its parent again, and no longer around it.
func (d *demo) home(ctx context.Context, street jurisdiction.Code, deadline time.Time) error {
	op, err := d.links.operator(street)
	if err != nil {
		return err
	}
	for d.clock.Now().Before(deadline) {
		status, err := op.node.GetStatus(ctx, &dubanv1.GetStatusRequest{})
		if err != nil {
			return err
		}
		if status.ParentConnected && !direct(status) && status.Journals[0].Acknowledged == status.Journals[0].Size {
			return nil
		}
		if err := clock.Pause(ctx, d.clock, pollEvery); err != nil {
			return err
		}
	}
	return nil
}

func direct(s *dubanv1.GetStatusResponse) bool {
	for _, a := range s.Ancestors {
		if a.Direct {
			return true
		}
	}
	return false
}

// playGone: a filing is withdrawn without a reason, and the street goes off before the limit for an explanation ends. The
// district knows all it needs: it opens level 2 when level 1, which nobody opened, would have run out.
func (d *demo) playGone(ctx context.Context, cause bool, deadline time.Time) error {
	now := d.clock.Now()
	if err := d.openPenalty(ctx, d.gone, "demo-g", now); err != nil {
		return err
	}
	agency, err := d.links.agency(d.gone)
	if err != nil {
		return err
	}
	if err := photograph(ctx, agency, "demo-g"); err != nil {
		return err
	}
	for _, stage := range []*dubanv1.StageRecorded{investigated(d.gone, "demo-g", now, 2), withdrawn(d.gone, "demo-g", now)} {
		if _, err := agency.cases.RecordStage(ctx, &dubanv1.RecordStageRequest{Stage: stage}); err != nil {
			return err
		}
	}
	if err := d.acknowledged(ctx, d.gone, deadline); err != nil {
		return err
	}
	if cause {
		if err := d.fleet.Stop(d.gone); err != nil {
			return err
		}
		d.say.at(d.clock.Now(), "g", "%s is off", d.say.place(d.gone))
	}
	_, _, err = d.await(ctx, "demo-g", deadline, func(a *dubanv1.Alert) bool { return level(a, 2) != nil })
	return err
}

// playMute: a street whose program was patched to raise no alerts collects a stage too late.
func (d *demo) playMute(ctx context.Context, _ bool, deadline time.Time) error { // its cause is how the node was started
	if err := d.openPenalty(ctx, d.mute, "demo-i", d.clock.Now().Add(-fortnight)); err != nil {
		return err
	}
	_, _, err := d.await(ctx, "demo-i", deadline, func(a *dubanv1.Alert) bool { return level(a, 2) != nil })
	return err
}

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
