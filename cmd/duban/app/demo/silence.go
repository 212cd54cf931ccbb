package demo

import (
	"context"
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
	if _, ok, err = d.await(ctx, "demo-e", deadline, func(a *dubanv1.Alert) bool { return level(a, 2).WithdrawnUs != 0 }); err != nil || !ok {
		return err
	}
	return d.told(ctx, agency, alert.AlertId, deadline)
}

// told waits until a street's own node shows what became of level 2 of its alert.
func (d *demo) told(ctx context.Context, street *link, id string, deadline time.Time) error {
	for d.clock.Now().Before(deadline) {
		if two, err := shown(ctx, street, id); err != nil || two.GetWithdrawnUs() != 0 {
			return err
		}
		if err := clock.Pause(ctx, d.clock, pollEvery); err != nil {
			return err
		}
	}
	return nil
}

// shown is level 2 of an alert as a node shows it; nil where it knows of none.
func shown(ctx context.Context, node *link, id string) (*dubanv1.AlertLevel, error) {
	answer, err := node.alerts.GetAlert(ctx, &dubanv1.GetAlertRequest{AlertId: id})
	if err != nil {
		return nil, err
	}
	return level(answer.Alert, 2), nil
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

// home waits until a street sends to its parent again, and no longer around it; the verdict says where it does not.
func (d *demo) home(ctx context.Context, street jurisdiction.Code, deadline time.Time) error {
	_, err := d.shows(ctx, street, deadline, func(status *dubanv1.GetStatusResponse) bool {
		return status.ParentConnected && !direct(status) && sent(status)
	})
	return err
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
