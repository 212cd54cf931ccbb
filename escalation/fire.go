package escalation

import (
	"context"
	"fmt"
	"log/slog"

	"google.golang.org/protobuf/proto"

	"duban.internal/escalation/alert"
	"duban.internal/node/journal"
	"duban.internal/node/store"
	dubanv1 "duban.internal/proto/duban/v1"
)

// Fire turns deadlines that are due at now into commands, one for each, in their order. Whatever could have ended them in
// time must have been followed before. A command that conflicts is to be decided again, carefully.
func (c *Core) Fire(ctx context.Context, rows []Due, now int64, careful bool) ([]store.Command, error) {
	if len(rows) == 0 {
		return nil, nil
	}
	info, err := c.ownInfo()
	if err != nil {
		return nil, err
	}
	j, err := c.judged(ctx, c.own, info.Size)
	if err != nil {
		return nil, err
	}
	b := c.batch(careful)
	commands := make([]store.Command, 0, len(rows))
	for _, d := range rows {
		if now < d.At {
			return nil, fmt.Errorf("deadline of alert %s at %d was asked to fire at %d", d.Alert, d.At, now)
		}
		b.change(d.drop())
		if err := b.fire(ctx, j, d, now); err != nil {
			return nil, fmt.Errorf("alert %s round %d level %d: %w", d.Alert, d.Round, d.Level, err)
		}
		commands = append(commands, b.take())
	}
	return commands, nil
}

func (b *batch) fire(ctx context.Context, j judgement, d Due, now int64) error {
	prev := new(dubanv1.LevelOpened)
	if err := proto.Unmarshal(d.Opening, prev); err != nil {
		b.log.Error("deadline left out: it can't be read", slog.String("alert", d.Alert), slog.Any("error", err))
		return nil
	}
	switch d.Kind {
	case kindCard:
		return b.card(ctx, d, prev, now)
	case kindDerived:
		if open, err := b.openBelow(ctx, d); err != nil || !open {
			return err
		}
	}
	caseJournal, err := journal.IDFrom(prev.GetJournal())
	if err != nil {
		return err
	}
	var failed error
	// T27: the limit of the next level counts from the due time of the one before, however late this is noticed.
	openings := b.site(ctx, j, caseJournal, &failed).Next(prev, d.At)
	if failed != nil {
		return failed
	}
	if len(openings) == 0 {
		b.log.Warn("no level follows by the present profile", slog.String("alert", d.Alert), slog.Int64("level", d.Level))
	}
	return b.open(ctx, openings, d.Version, now)
}

// card shows a yellow card, unless the limit itself has run out.
func (b *batch) card(ctx context.Context, d Due, zero *dubanv1.LevelOpened, now int64) error {
	if zero.GetDueUs() <= now {
		return nil
	}
	stream := alert.Stream(d.Alert)
	version, err := b.version(ctx, stream, 0)
	if err != nil {
		return err
	}
	if version != 0 {
		return nil // it was shown
	}
	b.expect(stream, 0)
	level := d
	level.At, level.Kind, level.Version = zero.GetDueUs(), kindLevel, 1
	b.change(level.put()) // level 1 opens behind the card
	return b.entry(stream, dubanv1.EntryKind_ENTRY_KIND_CARD_SHOWN, now, &dubanv1.CardShown{
		AlertId: d.Alert, Point: zero.GetPoint(), Journal: zero.GetJournal(), CaseId: zero.GetCaseId(), DueUs: zero.GetDueUs(), Text: zero.GetText(),
	})
}

// openBelow says whether a derived deadline still stands: no level of its round was handled in time, and the level that
// it stands in for did not arrive, which brings a deadline of its own.
func (b *batch) openBelow(ctx context.Context, d Due) (bool, error) {
	a, err := b.load(ctx, d.Alert)
	if err != nil || a == nil {
		return false, err
	}
	for i := range a.Levels {
		l := &a.Levels[i]
		if l.Round() == uint32(d.Round) && (l.Step() >= uint32(d.Level) || l.HandledAt != 0 && !l.Late) {
			return false, nil
		}
	}
	b.careful = true // how far the stream got is not known
	return true, nil
}
