package escalation

import (
	"context"
	"fmt"
	"log/slog"

	"google.golang.org/protobuf/proto"

	"duban.internal/escalation/alert"
	"duban.internal/escalation/alertview"
	"duban.internal/node/journal"
	"duban.internal/node/jurisdiction"
	"duban.internal/node/planted"
	dubanv1 "duban.internal/proto/duban/v1"
)

// opened keeps the deadline of a level whose next level this node's office receives; where it receives a later one only,
// the deadline of the level below that, for the case that it is never seen opened.
func (b *batch) opened(ctx context.Context, id journal.ID, e *journal.Entry, o *dubanv1.LevelOpened) error {
	if o.GetLast() || id == b.own && alert.PassedAtOnce(o) {
		return nil // a vacant level and the one after it were opened together
	}
	caseJournal, err := journal.IDFrom(o.GetJournal())
	if err != nil {
		b.unreadable(id, e, err)
		return nil
	}
	if id != b.own {
		h, ok, err := b.speaksFor(ctx, id, caseJournal)
		if err != nil {
			return err
		}
		if !ok || h.code != o.GetReceiver() || o.GetAlertId() != alert.ID(caseJournal, o.GetCaseId(), o.GetPoint(), o.GetTrigger()) {
			b.log.Error("level left out: it is not its journal's to open", slog.Uint64("number", e.Number), slog.String("journal", id.String()))
			return nil
		}
	}
	j, err := b.judgesLevels(ctx, id, e)
	if err != nil {
		return err
	}
	var failed error
	site := b.site(ctx, j, caseJournal, o.GetPoint(), &failed)
	if site.Receives(o) {
		return b.plant(ctx, id, o, e.Payload)
	}
	if id == b.own {
		return failed
	}
	if below, ok := site.Derive(o, o.GetDueUs()); ok {
		if err := b.derive(caseJournal, below); err != nil {
			return err
		}
	}
	return failed
}

// speaksFor says whether a journal may have a say about a case: it is the case's own, or of a jurisdiction that the case's
// lies in. What is not known yet of the case's journal speaks for nothing and against nothing.
func (b *batch) speaksFor(ctx context.Context, id, caseJournal journal.ID) (home, bool, error) {
	h, known, err := b.homeOf(ctx, id)
	if err != nil || !known || id == caseJournal {
		return h, known, err
	}
	of, known, err := b.homeOf(ctx, caseJournal)
	return h, err == nil && (!known || b.tree.Within(jurisdiction.Code(of.code), jurisdiction.Code(h.code))), err
}

// plant keeps the deadline of a level, unless the next one is open.
func (b *batch) plant(ctx context.Context, id journal.ID, o *dubanv1.LevelOpened, opening []byte) error {
	d := Due{
		Owner: id, At: orNever(o.GetDueUs()), Alert: o.GetAlertId(), Round: int64(o.GetRound()), Level: int64(o.GetLevel()),
		Kind: kindLevel, Opening: opening,
	}
	if id == b.own {
		// At the version that is kept the next level must not exist, for that version is all that opening it will look at.
		var err error
		if d.Version, err = b.state.Version(ctx, alert.Stream(d.Alert)); err != nil {
			return fmt.Errorf("version of alert %s: %w", d.Alert, err)
		}
	}
	row, there, err := b.state.Get(ctx, b.own, alertview.Level, d.Alert, d.Round, d.Level+1)
	if err != nil || there && !alertview.Withdrawn(row) {
		return err
	}
	b.change(d.put())
	return nil
}

// derive keeps the deadline of a level that was not seen opened, of a case of a journal.
func (b *batch) derive(caseJournal journal.ID, below *dubanv1.LevelOpened) error {
	d, err := derived(caseJournal, below)
	if err == nil {
		b.change(d.put())
	}
	return err
}

func derived(caseJournal journal.ID, below *dubanv1.LevelOpened) (Due, error) {
	opening, err := proto.Marshal(below)
	return Due{
		Owner: caseJournal, At: orNever(below.GetDueUs()), Alert: below.GetAlertId(), Round: int64(below.GetRound()), Level: int64(below.GetLevel()),
		Kind: kindDerived, Opening: opening,
	}, err
}

// handled drops the deadline of a level that was handled in time: recorded before it was due, by its journal's clock. What
// was opened above it for want of word is withdrawn.
func (b *batch) handled(ctx context.Context, id journal.ID, e *journal.Entry, h *dubanv1.LevelHandled) error {
	row, there, err := b.state.Get(ctx, id, alertview.Level, h.GetAlertId(), int64(h.GetRound()), int64(h.GetLevel()))
	if err != nil || !there {
		return err
	}
	if planted.On("runner.ignores-handlings") {
		return nil
	}
	due, last := alertview.DueAt(row), alertview.Last(row)
	if alert.HandledLate(h.GetLate(), last, due, e.RecordedAt) {
		return nil
	}
	b.change(Due{Owner: id, At: orNever(due), Alert: h.GetAlertId(), Round: int64(h.GetRound()), Level: int64(h.GetLevel()), Kind: kindLevel}.drop())
	if id == b.own {
		return nil
	}
	return b.withdrawAbove(ctx, id, row, h.GetAlertId(), h.GetRound(), h.GetLevel(), func() (*dubanv1.LevelWithdrawn, error) {
		return b.evidence(ctx, id, e, due)
	})
}

// withdrawn drops the deadline of a level that its node took back, and takes back what was opened above it here.
func (b *batch) withdrawn(ctx context.Context, id journal.ID, w *dubanv1.LevelWithdrawn) error {
	row, there, err := b.state.Get(ctx, id, alertview.Level, w.GetAlertId(), int64(w.GetRound()), int64(w.GetLevel()))
	if err != nil || !there || id == b.own {
		return err
	}
	opening, err := alertview.Opening(row)
	if err != nil {
		return err
	}
	b.change(Due{
		Owner: id, At: orNever(opening.GetDueUs()), Alert: w.GetAlertId(), Round: int64(w.GetRound()), Level: int64(w.GetLevel()), Kind: kindLevel,
	}.drop())
	return b.withdrawAbove(ctx, id, row, w.GetAlertId(), w.GetRound(), w.GetLevel(), func() (*dubanv1.LevelWithdrawn, error) { return w, nil })
}

// reopened keeps the deadline of a level that is open again.
func (b *batch) reopened(ctx context.Context, id journal.ID, e *journal.Entry, r *dubanv1.LevelReopened) error {
	row, there, err := b.state.Get(ctx, id, alertview.Level, r.GetAlertId(), int64(r.GetRound()), int64(r.GetLevel()))
	if err != nil || !there {
		return err
	}
	o, err := alertview.Opening(row)
	if err != nil || o.GetLast() {
		return err
	}
	caseJournal, err := journal.IDFrom(o.GetJournal())
	if err != nil {
		return err
	}
	j, err := b.judgesLevels(ctx, id, e)
	if err != nil {
		return err
	}
	o.StartUs, o.DueUs, o.OpenEndedYear = r.GetStartUs(), r.GetDueUs(), r.GetOpenEndedYear()
	var failed error
	if !b.site(ctx, j, caseJournal, o.GetPoint(), &failed).Receives(o) {
		return failed
	}
	opening, err := proto.Marshal(o)
	if err != nil {
		return err
	}
	return b.plant(ctx, id, o, opening)
}

// disputed starts the next round.
func (b *batch) disputed(ctx context.Context, id journal.ID, e *journal.Entry, d *dubanv1.LevelDisputed) error {
	a, caseJournal, err := b.find(ctx, d.GetAlertId())
	if err != nil {
		return err
	}
	if a == nil {
		b.log.Error("dispute of an unknown alert", slog.Uint64("number", e.Number), slog.String("alert", d.GetAlertId()))
		return nil
	}
	if _, ok, err := b.speaksFor(ctx, id, caseJournal); err != nil || !ok {
		return err
	}
	return b.newRound(ctx, a, caseJournal, e, d)
}

// newRound starts the round after a dispute: here, where the case is of this node; otherwise this node waits for the
// round's levels from below, and opens its own level when they bring nothing in time.
func (b *batch) newRound(ctx context.Context, a *alert.Alert, caseJournal journal.ID, e *journal.Entry, d *dubanv1.LevelDisputed) error {
	if l := a.Level(d.GetRound(), d.GetLevel()); l != nil && !l.HandledInTime() {
		b.log.Warn("a dispute of what was not handled", slog.String("alert", a.ID))
		return nil
	}
	if caseJournal == b.own || planted.On("runner.disputes-anywhere") {
		return b.nextRound(ctx, a, e, d)
	}
	j, err := b.judgesLevels(ctx, e.Journal, e)
	if err != nil {
		return err
	}
	h, _, err := b.homeOf(ctx, caseJournal)
	if err != nil {
		return err
	}
	var failed error
	site := b.site(ctx, j, caseJournal, a.Levels[0].Opening.GetPoint(), &failed)
	if below, ok := site.Derive(roundZero(a, d, h), e.RecordedAt); ok {
		if err := b.derive(caseJournal, below); err != nil {
			return err
		}
	}
	return failed
}

// roundZero is what level 1 of the round after a dispute copies.
func roundZero(a *alert.Alert, d *dubanv1.LevelDisputed, h home) *dubanv1.LevelOpened {
	o := proto.CloneOf(a.Levels[0].Opening)
	o.Round, o.Level, o.Role, o.Receiver, o.Vacant, o.Last = d.GetRound()+1, 0, "", h.code, false, false
	return o
}

// nextRound opens level 1 of the round after a dispute, of a case of the own journal. Its limit counts from the dispute.
func (b *batch) nextRound(ctx context.Context, a *alert.Alert, e *journal.Entry, d *dubanv1.LevelDisputed) error {
	j, err := b.judgesLevels(ctx, e.Journal, e)
	if err != nil {
		return err
	}
	var failed error
	site := b.site(ctx, j, b.own, a.Levels[0].Opening.GetPoint(), &failed)
	openings := site.Next(roundZero(a, d, b.home), e.RecordedAt)
	if failed != nil {
		return failed
	}
	return b.carefully(func() error { return b.open(ctx, openings, 0, 0) })
}

// fromAbove does what a letter asks for: a dispute by an office above starts a new round.
func (b *batch) fromAbove(ctx context.Context, e *journal.Entry) error {
	said, err := alertview.FromAbove(e)
	if err != nil {
		b.unreadable(b.own, e, err)
		return nil
	}
	for i := range said {
		s := &said[i]
		if s.Kind != uint32(dubanv1.EntryKind_ENTRY_KIND_LEVEL_DISPUTED) {
			continue
		}
		d := new(dubanv1.LevelDisputed)
		if err := proto.Unmarshal(s.Payload, d); err != nil {
			b.unreadable(s.Journal, s, err)
			continue
		}
		a, caseJournal, err := b.find(ctx, d.GetAlertId())
		if err != nil {
			return err
		}
		if a == nil {
			continue // it was opened above alone: nothing of it is here
		}
		if err := b.newRound(ctx, a, caseJournal, s, d); err != nil {
			return err
		}
	}
	return nil
}

// find gives an alert, and the journal of its case, whichever journal tells of it.
func (b *batch) find(ctx context.Context, id string) (*alert.Alert, journal.ID, error) {
	for _, info := range b.state.Journals() {
		rows, err := b.state.Scan(ctx, info.ID, alertview.Level, []any{id}, 1)
		if err != nil {
			return nil, journal.ID{}, fmt.Errorf("alert %s: %w", id, err)
		}
		if len(rows) == 0 || alertview.AlertOf(rows[0]) != id {
			continue
		}
		o, err := alertview.Opening(rows[0])
		if err != nil {
			return nil, journal.ID{}, err
		}
		caseJournal, err := journal.IDFrom(o.GetJournal())
		if err != nil {
			continue
		}
		a, err := b.load(ctx, id, caseJournal)
		if err != nil || a != nil {
			return a, caseJournal, err
		}
	}
	return nil, journal.ID{}, nil
}
