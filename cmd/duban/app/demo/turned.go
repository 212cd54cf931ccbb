package demo

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"google.golang.org/protobuf/proto"

	"duban.internal/cmd/duban/app"
	"duban.internal/node/clock"
	"duban.internal/node/journal"
	dubanv1 "duban.internal/proto/duban/v1"
)

// turnedBack is by how much the clock of a street is turned back: to long before its alert was opened.
const turnedBack = 30 * 24 * time.Hour

// playTurned: a street has let an alert run out, and turns its clock back to have handled it in time. What a patched node
// would send is refused by its district; a node that is not patched does not even record it.
func (d *demo) playTurned(ctx context.Context, cause bool, deadline time.Time) error {
	if err := d.openPenalty(ctx, d.turned, "demo-h", d.clock.Now().Add(-fortnight)); err != nil {
		return err
	}
	alert, ok, err := d.await(ctx, "demo-h", deadline, func(a *dubanv1.Alert) bool { return level(a, 2) != nil })
	if err != nil || !ok || !cause {
		return err
	}
	if err := d.fleet.Stop(d.turned); err != nil {
		return err
	}
	d.say.at(d.clock.Now(), "h", "%s turns its clock back by %d days", d.say.place(d.turned), int(turnedBack.Hours()/24))
	if err := d.backdate(ctx, alert); err != nil {
		return err
	}
	d.fleet.Reconfigure(d.turned, func(c *app.Config) { c.Clock.Base = c.Clock.Base.Add(-turnedBack) })
	if err := d.fleet.Restart(ctx, d.turned); err != nil {
		return err
	}
	agency, err := d.links.agency(d.turned)
	if err != nil {
		return err
	}
	_, err = agency.alerts.HandleAlert(ctx, &dubanv1.HandleAlertRequest{
		AlertId: alert.AlertId, Action: "explained", Explanation: "时限内已处理(演示)", HandledBy: "演示机关法制人员",
	})
	if err != nil { // that it was recorded all the same, the verdict will find out
		d.say.at(d.clock.Now(), "h", "%s records nothing: %v", d.say.place(d.turned), err)
	}
	return nil
}

// backdate presents the street's journal with one entry more: a handling from an hour before level 1 ran out.
func (d *demo) backdate(ctx context.Context, alert *dubanv1.Alert) error {
	copied := filepath.Join(d.dir, "copy-turned-back")
	if err := os.CopyFS(copied, os.DirFS(d.fleet.DataDir(d.turned))); err != nil {
		return err
	}
	entries, err := app.ReadJournal(ctx, copied)
	if err != nil {
		return err
	}
	handled, found := journal.Entry{}, false
	for _, e := range entries {
		if e.Kind == uint32(dubanv1.EntryKind_ENTRY_KIND_LEVEL_OPENED) {
			handled, found = e, true
		}
	}
	if !found {
		return fmt.Errorf("the journal of %s opens no level", d.turned)
	}
	payload, err := proto.Marshal(&dubanv1.LevelHandled{
		AlertId: alert.AlertId, Round: 1, Level: 1, Action: "explained", Explanation: "时限内已处理(演示)", HandledBy: "演示机关法制人员",
	})
	if err != nil {
		return err
	}
	handled.Kind = uint32(dubanv1.EntryKind_ENTRY_KIND_LEVEL_HANDLED)
	handled.RecordedAt = level(alert, 1).DueUs - time.Hour.Microseconds()
	handled.OccurredAt = handled.RecordedAt
	forged := append(entries, reseal(handled, uint64(len(entries)), payload))
	return d.present(ctx, "h", d.turned, forged, clock.Micros(d.clock.Now()))
}

// judgeTurned: the district refuses the journal and says why, the street's own node records nothing and says why, and the
// alert stands as it did.
func (d *demo) judgeTurned(ctx context.Context, s story) (Outcome, error) {
	o, alert, err := d.judged(ctx, s)
	if err != nil || alert == nil {
		return o, err
	}
	refused, err := d.refusal(ctx, d.turned)
	if err != nil {
		return o, err
	}
	op, err := d.links.operator(d.turned)
	if err != nil {
		return o, err
	}
	status, err := op.node.GetStatus(ctx, &dubanv1.GetStatusRequest{})
	if err != nil {
		return o, err
	}
	if refused == "" {
		o.problem("the district refuses nothing of %s", d.say.place(d.turned))
	}
	if status.ClockStopped == "" {
		o.problem("%s believes its clock", d.say.place(d.turned))
	}
	one, two := level(alert, 1), level(alert, 2)
	if one == nil || one.HandledUs != 0 || two == nil || two.WithdrawnUs != 0 {
		o.problem("the alert does not stand as it did before the clock was turned")
	}
	o.Found += fmt.Sprintf("; refused: %s; the street: %s", refused, status.ClockStopped)
	return o, nil
}
