package escalation

import (
	"context"
	"fmt"
	"strings"

	"duban.internal/escalation/alert"
	"duban.internal/escalation/alertview"
	"duban.internal/node/clock"
	"duban.internal/node/journal"
	"duban.internal/node/jurisdiction"
	"duban.internal/node/store"
	dubanv1 "duban.internal/proto/duban/v1"
)

// What happens to nodes, as a profile's points about nodes call it.
const (
	silent  = "silent"  // nothing is heard of a child (沉默)
	stopped = "stopped" // the fold of a child's journal stopped
	refused = "refused" // a child's journal contradicts what it signed before, or what its clock can have seen
)

// child says whether this node is the parent of a journal's node; false while it is not known which that is.
func (c *Core) child(ctx context.Context, id journal.ID) (home, bool, error) {
	h, known, err := c.homeOf(ctx, id)
	if err != nil || !known || id == c.own {
		return h, false, err
	}
	parent, ok := c.tree.Parent(jurisdiction.Code(h.code))
	return h, ok && string(parent.Code) == c.home.code, nil
}

// Heard is when this node last heard of a child, by whichever journal stands for it, 0 for never; false for the journal of
// any other node.
func (c *Core) Heard(ctx context.Context, id journal.ID) (heard int64, child bool, err error) {
	h, child, err := c.child(ctx, id)
	if err != nil || !child {
		return 0, false, err
	}
	journals, err := c.journalsOf(ctx, h.code)
	for _, info := range journals {
		heard = max(heard, c.peer(info.ID).Heard)
	}
	return heard, true, err
}

// Happens opens the alert about a child's node: what is silent or stopped, since when it has been. Nothing where the
// journal's node is no child of this one, or the profile doesn't watch for it. The alert's id is derived from the journal,
// the point and the size that is held; where it happens again at the same size, that is another round.
func (c *Core) Happens(ctx context.Context, id journal.ID, what string, since, now int64) ([]store.Command, error) {
	b := c.batch(true)
	info, ok := b.state.Journal(id)
	if !ok {
		return nil, nil
	}
	if err := b.happens(ctx, id, what, info.Size, true, since, now); err != nil || len(b.cmd.Changes) == 0 {
		return nil, err
	}
	return []store.Command{b.take()}, nil
}

// happens opens the alert with an id by its trigger. Where that was open before and is settled, it opens another round of
// it, or nothing.
func (b *batch) happens(ctx context.Context, id journal.ID, what string, trigger uint64, again bool, since, now int64) error {
	h, child, err := b.child(ctx, id)
	if err != nil || !child {
		return err
	}
	j, err := b.judgesLevels(ctx, b.own, nil)
	if err != nil {
		return err
	}
	pt := j.profile.NodePoint(what)
	if pt == nil {
		return nil
	}
	o := &dubanv1.LevelOpened{
		AlertId: alert.ID(id, "", pt.Name, trigger), Round: 1, Point: pt.Name, Article: pt.Article, Grade: pt.Grade, Journal: id[:],
		Trigger: trigger, Receiver: h.code, Tier: h.tier,
		Text: strings.NewReplacer("{node}", b.name(h.code), "{since}", clock.Time(since).In(j.calendar.Location()).Format("2006-01-02 15:04")).Replace(pt.Text),
	}
	earlier, err := alertview.Read(ctx, b.state, o.GetAlertId(), alertview.Writer{Journal: b.own, Code: b.home.code})
	if err != nil {
		return err
	}
	note := func(round uint32) {
		b.change(store.Change{Table: NodeAlert, Owner: id, Row: store.Row{what, o.GetAlertId(), int64(round)}})
	}
	if earlier != nil {
		top := earlier.Top()
		switch {
		case !top.Settled():
			note(top.Round()) // it is open, and was forgotten here
			return nil
		case !again:
			return nil
		}
		o.Round = top.Round() + 1
	}
	var failed error
	openings := b.site(ctx, j, id, pt.Name, &failed).Next(o, now)
	if failed != nil || len(openings) == 0 {
		return failed
	}
	note(o.GetRound())
	return b.carefully(func() error { return b.open(ctx, openings, 0, now) })
}

func (b *batch) name(code string) string {
	if d, ok := b.tree.Get(jurisdiction.Code(code)); ok && d.Name != "" {
		return d.Name + " (" + code + ")"
	}
	return code
}

// Over withdraws the alert about a child's node, its cause having ended: this node witnessed that.
func (c *Core) Over(ctx context.Context, id journal.ID, what string) ([]store.Command, error) {
	b := c.batch(true)
	peer := b.peer(id)
	if err := b.over(ctx, id, what, &dubanv1.LevelWithdrawn{
		Basis: dubanv1.Basis_BASIS_WITNESSED, Journal: id[:], Number: max(peer.Size, 1) - 1, RecordedUs: peer.Checkpoint,
		CheckpointSize: peer.Size, WitnessedUs: peer.Heard,
	}); err != nil || len(b.cmd.Changes) == 0 {
		return nil, err
	}
	return []store.Command{b.take()}, nil
}

func (b *batch) over(ctx context.Context, id journal.ID, what string, why *dubanv1.LevelWithdrawn) error {
	row, there, err := b.state.Get(ctx, id, NodeAlert, what)
	if err != nil || !there {
		return err
	}
	a, err := alertview.Read(ctx, b.state, row[1].(string), alertview.Writer{Journal: b.own, Code: b.home.code})
	if err != nil {
		return fmt.Errorf("alert about journal %s: %w", id, err)
	}
	if a != nil {
		for i := range a.Levels {
			if l := &a.Levels[i]; int64(l.Round()) == row[2].(int64) && l.Withdrawal == nil && !l.HandledInTime() {
				if err := b.withdraw(ctx, l, why); err != nil {
					return err
				}
			}
		}
	}
	b.change(store.Change{Table: NodeAlert, Owner: id, Row: store.Row{what}, Delete: true})
	return nil
}

// peerRefused opens the alert about a child whose journal this node refused, once for each refusal on record.
func (b *batch) peerRefused(ctx context.Context, e *journal.Entry, m *dubanv1.PeerRefused) error {
	id, err := journal.IDFrom(m.GetJournal())
	if err != nil {
		b.unreadable(b.own, e, err)
		return nil
	}
	return b.happens(ctx, id, refused, e.Number, false, e.RecordedAt, e.RecordedAt)
}

// readmitted withdraws it: people settled the matter.
func (b *batch) readmitted(ctx context.Context, e *journal.Entry, m *dubanv1.JournalReadmitted) error {
	id, err := journal.IDFrom(m.GetJournal())
	if err != nil {
		b.unreadable(b.own, e, err)
		return nil
	}
	return b.over(ctx, id, refused, &dubanv1.LevelWithdrawn{
		Basis: dubanv1.Basis_BASIS_WITNESSED, Journal: b.own[:], Number: e.Number, RecordedUs: e.RecordedAt, WitnessedUs: e.RecordedAt,
	})
}
