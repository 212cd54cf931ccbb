package escalation

import (
	"context"
	"fmt"
	"log/slog"

	"google.golang.org/protobuf/proto"

	"duban.internal/escalation/alert"
	"duban.internal/node/journal"
	"duban.internal/node/planted"
	"duban.internal/node/store"
	dubanv1 "duban.internal/proto/duban/v1"
)

// Fire turns deadlines of one journal that are due at now into commands, and gives the deadline that each is for, in their
// order; none for what has to wait for another journal. firm is the time of that journal's checkpoint, whatever is due
// later firing on its silence; it is not asked for of the own one. Whatever could have ended them in time, as far as it
// came, must have been followed before. A command that conflicts is to be decided again, carefully.
func (c *Core) Fire(ctx context.Context, rows []Due, now, firm int64, careful bool) (commands []store.Command, decided []Due, err error) {
	if len(rows) == 0 {
		return nil, nil, nil
	}
	b := c.batch(careful)
	if _, err := b.judgesLevels(ctx, c.own, nil); err != nil {
		return nil, nil, err
	}
	commands, decided = make([]store.Command, 0, len(rows)), make([]Due, 0, len(rows))
	for _, d := range rows {
		if now < d.At {
			return nil, nil, fmt.Errorf("deadline of alert %s at %d was asked to fire at %d", d.Alert, d.At, now)
		}
		waits, err := b.fire(ctx, d, now, firm)
		if err != nil {
			return nil, nil, fmt.Errorf("alert %s round %d level %d: %w", d.Alert, d.Round, d.Level, err)
		}
		if waits {
			continue
		}
		b.change(d.drop())
		commands, decided = append(commands, b.take()), append(decided, d)
	}
	return commands, decided, nil
}

func (b *batch) fire(ctx context.Context, d Due, now, firm int64) (waits bool, err error) {
	prev := new(dubanv1.LevelOpened)
	if err := proto.Unmarshal(d.Opening, prev); err != nil {
		b.log.Error("deadline left out: it can't be read", slog.String("alert", d.Alert), slog.Any("error", err))
		return false, nil
	}
	switch {
	case d.Kind == kindCard:
		return false, b.card(ctx, d, prev, now)
	case d.Owner == b.own:
		openings, err := b.next(ctx, d, prev)
		if err != nil {
			return false, err
		}
		return false, b.open(ctx, openings, d.Version, now)
	case d.Kind == kindDerived:
		return b.fireUnseen(ctx, d, prev, now)
	}
	h, _, err := b.homeOf(ctx, d.Owner)
	if err != nil {
		return false, err
	}
	return false, b.fireSeen(ctx, d, prev, now, func(o *dubanv1.LevelOpened) {
		if d.At > firm {
			o.OnSilence, o.Below = true, h.code
		}
	})
}

// next are the openings of the level after prev, and of those after it while nobody can handle them.
func (b *batch) next(ctx context.Context, d Due, prev *dubanv1.LevelOpened) ([]*dubanv1.LevelOpened, error) {
	caseJournal, err := journal.IDFrom(prev.GetJournal())
	if err != nil {
		return nil, err
	}
	if planted.On("runner.counts-from-later") {
		d.At += 60_000_000
	}
	var failed error
	// T27: the limit of the next level counts from the due time of the one before, however late this is noticed.
	openings := b.site(ctx, *b.levels, caseJournal, prev.GetPoint(), &failed).Next(prev, d.At)
	if failed != nil {
		return nil, failed
	}
	if len(openings) == 0 {
		b.log.Warn("no level follows by the present profile", slog.String("alert", d.Alert), slog.Int64("level", d.Level))
	}
	return openings, nil
}

// fireSeen opens the level after one that another journal was to handle, unless word came meanwhile that nothing is to be
// opened. mark notes in the first opening why it could be opened.
func (b *batch) fireSeen(ctx context.Context, d Due, prev *dubanv1.LevelOpened, now int64, mark func(*dubanv1.LevelOpened)) error {
	caseJournal, err := journal.IDFrom(prev.GetJournal())
	if err != nil {
		return err
	}
	a, err := b.load(ctx, d.Alert, caseJournal)
	if err != nil {
		return err
	}
	if a != nil && !a.Unhandled(uint32(d.Round), uint32(d.Level)) {
		return nil
	}
	openings, err := b.next(ctx, d, prev)
	if err != nil || len(openings) == 0 {
		return err
	}
	mark(openings[0])
	if a != nil {
		if l := a.Level(openings[0].GetRound(), openings[0].GetLevel()); l != nil {
			if l.Withdrawn() && l.Journal == b.own {
				return b.reopen(ctx, l, openings[0], now)
			}
			return nil
		}
	}
	return b.carefully(func() error { return b.open(ctx, openings, 0, now) })
}

// fireUnseen opens the level after one that should have been opened below and never was seen here. It waits while a
// journal that it may be in can't be read.
func (b *batch) fireUnseen(ctx context.Context, d Due, below *dubanv1.LevelOpened, now int64) (waits bool, err error) {
	journals, err := b.journalsOf(ctx, below.GetReceiver())
	if err != nil {
		return false, err
	}
	silent := true
	for _, info := range journals {
		if info.Stopped != "" || info.Folded < info.Size {
			return true, nil
		}
		silent = silent && b.peer(info.ID).Checkpoint < d.At
	}
	caseJournal, err := journal.IDFrom(below.GetJournal())
	if err != nil {
		return false, err
	}
	a, err := b.load(ctx, d.Alert, caseJournal)
	if err != nil {
		return false, err
	}
	if a != nil {
		for i := range a.Levels {
			if l := &a.Levels[i]; l.Round() == uint32(d.Round) && l.Step() >= uint32(d.Level) {
				return false, nil // it was opened after all, and has a deadline of its own
			}
		}
	}
	return false, b.fireSeen(ctx, d, below, now, func(o *dubanv1.LevelOpened) {
		o.NotOpenedBelow, o.OnSilence, o.Below = true, silent, below.GetReceiver()
	})
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
