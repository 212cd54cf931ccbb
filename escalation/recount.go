package escalation

import (
	"context"
	"fmt"

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
	if err != nil && !fault.Is(err, fault.Precondition) {
		return nil, fmt.Errorf("calendar of journal %s: %w", id, err)
	}
	var commands []store.Command
	spill := func() {
		if len(b.cmd.Changes) >= maxChanges {
			commands = append(commands, b.take())
		}
	}
	if cal != nil {
		if id == b.own {
			if err := b.recountLimits(ctx, cal, spill); err != nil {
				return nil, err
			}
		}
		if err := b.recountLevels(ctx, id, cal, spill); err != nil {
			return nil, err
		}
	}
	b.cmd.Cursors = []store.Advance{{Follower: Follower, Journal: id, From: e.Number, To: e.Number + 1}}
	return append(commands, b.take()), nil
}

func (b *batch) recountLimits(ctx context.Context, cal *workday.Calendar, spill func()) error {
	caseID, point := "", ""
	for {
		page, err := b.runningAfter(ctx, caseID, point)
		if err != nil {
			return err
		}
		for _, r := range page {
			if err := b.recountLimit(ctx, cal, r); err != nil {
				return err
			}
			spill()
		}
		if len(page) < maxChanges {
			return nil
		}
		last := page[len(page)-1]
		caseID, point = last.caseID, last.point
	}
}

func (b *batch) runningAfter(ctx context.Context, caseID, point string) (page []running, err error) {
	info, err := b.ownInfo()
	if err != nil {
		return nil, err
	}
	err = b.state.View(ctx, func(q store.Queryer) error {
		rows, err := q.QueryContext(ctx, `SELECT case_id, point, started_by, start_us, due_us, warn_us, limit_text, warn_text
			FROM running_limit WHERE journal = $1 AND (case_id, point) > ($2, $3) ORDER BY case_id, point LIMIT $4`,
			info.Ordinal, caseID, point, maxChanges)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var r running
			if err := rows.Scan(&r.caseID, &r.point, &r.trigger, &r.start, &r.due, &r.warn, &r.limitText, &r.warnText); err != nil {
				return err
			}
			page = append(page, r)
		}
		return rows.Err()
	})
	if err != nil {
		return nil, fmt.Errorf("running limits: %w", err)
	}
	return page, nil
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
	b.keep(now)
	return b.plantLimit(now, o)
}

func (b *batch) recountLevels(ctx context.Context, id journal.ID, cal *workday.Calendar, spill func()) error {
	var ordinal int64
	for _, info := range b.state.Journals() {
		if info.ID == id {
			ordinal = info.Ordinal
		}
	}
	after := Due{Owner: id, At: never, Level: -1}
	for {
		page, err := readDue(ctx, b.state, ordinal, id, after, never, maxChanges)
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
			d.At = at
			b.change(d.put())
			spill()
		}
		if len(page) < maxChanges {
			return nil
		}
		after = page[len(page)-1]
	}
}

// readDue reads deadlines of a journal that end at until or sooner, in order, behind after.
func readDue(ctx context.Context, s State, ordinal int64, owner journal.ID, after Due, until int64, most int) (page []Due, err error) {
	err = s.View(ctx, func(q store.Queryer) error {
		rows, err := q.QueryContext(ctx, `SELECT due_us, alert_id, round, level, kind, version, opening FROM deadline
			WHERE journal = $1 AND due_us <= $2 AND (due_us, alert_id, round, level, kind) > ($3, $4, $5, $6, $7)
			ORDER BY due_us, alert_id, round, level, kind LIMIT $8`,
			ordinal, until, after.At, after.Alert, after.Round, after.Level, after.Kind, most)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			d := Due{Owner: owner}
			if err := rows.Scan(&d.At, &d.Alert, &d.Round, &d.Level, &d.Kind, &d.Version, &d.Opening); err != nil {
				return err
			}
			page = append(page, d)
		}
		return rows.Err()
	})
	if err != nil {
		return nil, fmt.Errorf("deadlines: %w", err)
	}
	return page, nil
}
