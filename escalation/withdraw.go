package escalation

import (
	"context"
	"fmt"

	"google.golang.org/protobuf/proto"

	"duban.internal/escalation/alert"
	"duban.internal/escalation/alertview"
	"duban.internal/node/journal"
	"duban.internal/node/planted"
	"duban.internal/node/store"
	dubanv1 "duban.internal/proto/duban/v1"
)

// most levels of a round that are looked at.
const mostLevels = 16

// withdrawAbove takes back every level above one that turned out to have been handled in time, or withdrawn, or, of level
// 0, whose limit was ended in time, as far as this node opened it: it would not have, had it known. below is the row of
// that level in the journal id; nil for level 0. why is asked for the evidence where there is something to withdraw.
func (b *batch) withdrawAbove(ctx context.Context, id journal.ID, below store.Row, alertID string, round, level uint32, why func() (*dubanv1.LevelWithdrawn, error)) error {
	// Mostly this node has written nothing of the alert, which is soonest known.
	if version, err := b.state.Version(ctx, alert.Stream(alertID)); err != nil || version == 0 {
		return err
	}
	if planted.On("runner.withdraws-nothing") {
		return nil
	}
	rows, err := b.state.Scan(ctx, b.own, alertview.Level, []any{alertID, int64(round), int64(level) + 1}, mostLevels)
	if err != nil {
		return fmt.Errorf("alert %s: %w", alertID, err)
	}
	if len(rows) == 0 || alertview.AlertOf(rows[0]) != alertID {
		return nil
	}
	first, err := alertview.Opening(rows[0])
	if err != nil {
		return err
	}
	caseJournal, err := journal.IDFrom(first.GetJournal())
	if err != nil {
		return err
	}
	h, ok, err := b.speaksFor(ctx, id, caseJournal)
	if err != nil || !ok {
		return err
	}
	if below != nil {
		// What a journal says of a level that its office doesn't receive is nothing.
		o, err := alertview.Opening(below)
		if err != nil || h.code != o.GetReceiver() {
			return err
		}
	}
	a, err := b.load(ctx, alertID, caseJournal)
	if err != nil || a == nil {
		return err
	}
	for i := range a.Levels {
		l := &a.Levels[i]
		if l.Round() != round || l.Step() <= level {
			continue
		}
		if l.Reopening != nil {
			return nil // its office has looked at that already: the ladder goes on from here
		}
		if l.Journal != b.own || l.Withdrawal != nil || l.HandledInTime() {
			continue
		}
		w, err := why()
		if err != nil {
			return err
		}
		if err := b.withdraw(ctx, l, w); err != nil {
			return err
		}
	}
	return nil
}

// withdraw takes back a level that this node opened.
func (b *batch) withdraw(ctx context.Context, l *alert.Level, why *dubanv1.LevelWithdrawn) error {
	w := proto.CloneOf(why)
	w.AlertId, w.Round, w.Level = l.Opening.GetAlertId(), l.Round(), l.Step()
	stream := alert.Stream(w.GetAlertId())
	return b.carefully(func() error {
		version, err := b.version(ctx, stream, 0)
		if err != nil {
			return err
		}
		b.expect(stream, version)
		b.change(Due{Owner: b.own, At: orNever(l.DueAt()), Alert: w.GetAlertId(), Round: int64(w.GetRound()), Level: int64(w.GetLevel()), Kind: kindLevel}.drop())
		return b.entry(stream, dubanv1.EntryKind_ENTRY_KIND_LEVEL_WITHDRAWN, 0, w)
	})
}

// evidence says how sure it is that an entry of a journal from below was recorded in time: before due, as it says itself.
func (b *batch) evidence(ctx context.Context, id journal.ID, e *journal.Entry, due int64) (*dubanv1.LevelWithdrawn, error) {
	w := &dubanv1.LevelWithdrawn{Basis: dubanv1.Basis_BASIS_CLAIMED, Journal: id[:], Number: e.Number, RecordedUs: e.RecordedAt}
	if b.Core.witnessed == nil {
		return w, nil
	}
	accepted, size, ok, err := b.Core.witnessed(ctx, id, e.Number)
	if err != nil {
		return nil, fmt.Errorf("witness of entry %d of journal %s: %w", e.Number, id, err)
	}
	if ok {
		w.CheckpointSize, w.WitnessedUs = size, accepted
		if due == 0 || accepted <= due+b.grace {
			w.Basis = dubanv1.Basis_BASIS_WITNESSED
		}
	}
	return w, nil
}

// reopen opens again a level of this node that was withdrawn, because the one below it was opened again and ran out.
func (b *batch) reopen(ctx context.Context, l *alert.Level, o *dubanv1.LevelOpened, at int64) error {
	r := &dubanv1.LevelReopened{
		AlertId: o.GetAlertId(), Round: l.Round(), Level: l.Step(), ReopenedBy: b.actor,
		Reason:  fmt.Sprintf("level %d was opened again and not handled", l.Step()-1),
		StartUs: o.GetStartUs(), DueUs: o.GetDueUs(), OpenEndedYear: o.GetOpenEndedYear(),
	}
	stream := alert.Stream(o.GetAlertId())
	return b.carefully(func() error {
		version, err := b.version(ctx, stream, 0)
		if err != nil {
			return err
		}
		b.expect(stream, version)
		return b.entry(stream, dubanv1.EntryKind_ENTRY_KIND_LEVEL_REOPENED, at, r)
	})
}
