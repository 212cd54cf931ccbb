package escalation

import (
	"context"
	"fmt"
	"log/slog"

	"google.golang.org/protobuf/proto"

	"duban.internal/escalation/alert"
	"duban.internal/node/clock"
	"duban.internal/node/fault"
	"duban.internal/node/journal"
	"duban.internal/node/store"
	"duban.internal/node/workday"
	dubanv1 "duban.internal/proto/duban/v1"
)

// adopted counts what still runs anew by a calendar that a journal adopted: limits of cases, and levels whose limit was
// open-ended. Limits that fired stay, and so does a level's due time once its opening states one.
func (b *batch) adopted(ctx context.Context, id journal.ID, e *journal.Entry) ([]store.Command, error) {
	_, cal, err := b.registry.Judged(ctx, id, e.Number+1)
	if err != nil {
		if !fault.Is(err, fault.Precondition) && (id == b.own || !fault.Is(err, fault.Unsupported)) {
			return nil, fmt.Errorf("calendar of journal %s: %w", id, err)
		}
		b.log.Warn("nothing is counted anew", slog.String("journal", id.String()), slog.Any("error", err))
	}
	var commands []store.Command
	spill := func() {
		if len(b.cmd.Changes) >= maxChanges {
			commands = append(commands, b.take())
		}
	}
	if err == nil {
		if err := b.recountLimits(ctx, id, e, cal, spill); err != nil {
			return nil, err
		}
		for _, t := range []*store.Table{Deadline, Derived} {
			if err := b.recountLevels(ctx, id, t, cal, spill); err != nil {
				return nil, err
			}
		}
	}
	b.cmd.Cursors = []store.Advance{{Follower: Follower, Journal: id, From: e.Number, To: e.Number + 1}}
	return append(commands, b.take()), nil
}

func (b *batch) recountLimits(ctx context.Context, id journal.ID, e *journal.Entry, cal *workday.Calendar, spill func()) error {
	var from []any
	own := id == b.own
	for {
		rows, err := b.state.Scan(ctx, id, limitsOf(own), from, maxChanges)
		if err != nil {
			return fmt.Errorf("running limits: %w", err)
		}
		for i, row := range rows {
			r := limitOf(own, row)
			if i == 0 && len(from) > 0 && r.caseID == from[0] && r.point == from[1] {
				continue // done with the page before
			}
			if own {
				err = b.recountLimit(ctx, cal, r)
			} else if r.due > e.RecordedAt { // else it fired by its own node's clock
				err = b.recountWatched(ctx, id, e, cal, r)
			}
			if err != nil {
				return err
			}
			spill()
		}
		if len(rows) < maxChanges {
			return nil
		}
		last := rows[len(rows)-1]
		from = []any{last[0], last[1]}
	}
}

func (b *batch) recountLimit(ctx context.Context, cal *workday.Calendar, r running) error {
	d := cal.Due(clock.Time(r.start), parseLimit(r.limitText))
	at, year := due(d)
	now := r
	now.due, now.warn = orNever(at), 0
	// An open-ended limit had no card yet; any other without one showed it, or never had any.
	if warn := parseLimit(r.warnText); at != 0 && !warn.IsZero() && (r.warn != 0 || r.due == never) {
		now.warn = cal.WarnBefore(d.At, warn).UnixMicro()
	}
	if now == r {
		return nil
	}
	was := Due{Owner: b.own, At: r.due, Alert: alert.ID(b.own, r.caseID, r.point, r.trigger), Round: 1, Kind: kindLevel}
	row, waits, err := b.state.Get(ctx, b.own, Deadline, was.key()...)
	if err != nil || !waits { // it fired, and stays
		return err
	}
	o := new(dubanv1.LevelOpened)
	if err := proto.Unmarshal(row[6].([]byte), o); err != nil {
		return err
	}
	b.change(was.drop())
	card := was
	card.At, card.Kind = r.warn, kindCard
	if r.warn != 0 {
		_, waits, err = b.state.Get(ctx, b.own, Deadline, card.key()...)
		if err != nil {
			return err
		}
		b.change(card.drop())
	}
	if !waits { // the card was shown, and isn't shown again
		now.warn = 0
	}
	o.DueUs, o.OpenEndedYear = at, year
	b.keep(b.own, now)
	return b.plantLimit(now, o)
}

// recountWatched counts a limit of a journal from below anew, and what was derived from it.
func (b *batch) recountWatched(ctx context.Context, id journal.ID, e *journal.Entry, cal *workday.Calendar, r running) error {
	at, year := due(cal.Due(clock.Time(r.start), parseLimit(r.limitText)))
	if orNever(at) == r.due {
		return nil
	}
	was := Due{Owner: id, At: r.derived, Alert: alert.ID(id, r.caseID, r.point, r.trigger), Round: 1, Level: r.derivedLevel, Kind: kindDerived}
	row, waits, err := b.state.Get(ctx, id, Derived, was.key()...)
	if err != nil || !waits {
		return err
	}
	j, err := b.judged(ctx, id, e.Number+1)
	if err != nil {
		return err
	}
	h, _, err := b.homeOf(ctx, id)
	if err != nil {
		return err
	}
	o := new(dubanv1.LevelOpened)
	if err := proto.Unmarshal(row[6].([]byte), o); err != nil {
		return err
	}
	o.Level, o.Role, o.Receiver, o.Vacant, o.Last = 0, "", h.code, false, false
	o.StartUs, o.Limit, o.DueUs, o.OpenEndedYear = r.start, r.limitText, at, year
	b.change(was.drop())
	d, err := b.watch(ctx, j, id, o, at)
	if err != nil {
		return err
	}
	r.due, r.derived, r.derivedLevel = orNever(at), d.At, d.Level
	b.keep(id, r)
	return nil
}

// recountLevels counts levels anew whose limit was open-ended. What derives from a limit of a case goes with that.
func (b *batch) recountLevels(ctx context.Context, id journal.ID, t *store.Table, cal *workday.Calendar, spill func()) error {
	after := Due{At: never, Level: -1}
	for {
		page, err := readDue(ctx, b.state, t, id, after, never, maxChanges)
		if err != nil {
			return err
		}
		for _, d := range page {
			if d.Level == 0 {
				continue
			}
			o := new(dubanv1.LevelOpened)
			if err := proto.Unmarshal(d.Opening, o); err != nil {
				return err
			}
			at, _ := due(cal.Due(clock.Time(o.GetStartUs()), parseLimit(o.GetLimit())))
			if at == 0 {
				continue
			}
			b.change(d.drop())
			if t == Deadline {
				d.At = at
				b.change(d.put())
			} else if err := b.deriveOn(ctx, id, o, at); err != nil {
				return err
			}
			spill()
		}
		if len(page) < maxChanges {
			return nil
		}
		after = page[len(page)-1]
	}
}

// deriveOn goes on deriving from a level that was open-ended and is due at a time now.
func (b *batch) deriveOn(ctx context.Context, id journal.ID, o *dubanv1.LevelOpened, at int64) error {
	j, err := b.judgesLevels(ctx, id, nil)
	if err != nil {
		return err
	}
	o.DueUs, o.OpenEndedYear = at, 0
	var failed error
	if below, ok := b.site(ctx, j, id, o.GetPoint(), &failed).Derive(o, at); ok {
		if err := b.derive(id, below); err != nil {
			return err
		}
	}
	return failed
}

// readDue reads deadlines of a journal that end at until or sooner, in order, behind after; nil for from the first.
func readDue(ctx context.Context, s State, t *store.Table, owner journal.ID, after Due, until int64, most int) (page []Due, err error) {
	rows, err := s.Scan(ctx, owner, t, after.key(), most+1)
	if err != nil {
		return nil, fmt.Errorf("deadlines: %w", err)
	}
	for i, row := range rows {
		d := dueOf(owner, row)
		if d.At > until || len(page) == most {
			break
		}
		if i == 0 && d.At == after.At && d.Alert == after.Alert && d.Round == after.Round && d.Level == after.Level && d.Kind == after.Kind {
			continue
		}
		page = append(page, d)
	}
	return page, nil
}
