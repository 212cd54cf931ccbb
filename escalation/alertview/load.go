package alertview

import (
	"context"
	"fmt"
	"strings"

	"google.golang.org/protobuf/proto"

	"duban.internal/escalation/alert"
	"duban.internal/node/journal"
	"duban.internal/node/store"
	dubanv1 "duban.internal/proto/duban/v1"
)

// Load gives alerts with every level that this node knows, in the order of ids; unknown ones are left out.
func Load(ctx context.Context, q store.Queryer, p Place, ids ...string) ([]*alert.Alert, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	marks, args := make([]string, len(ids)), []any{p.Own}
	for i, id := range ids {
		marks[i] = fmt.Sprintf("$%d", i+2)
		args = append(args, id)
	}
	in := `(` + strings.Join(marks, ", ") + `)`
	byID := make(map[string]*alert.Alert, len(ids))
	const columns = `alert_id, number, opened_us, opening, handled_us, handling, withdrawn_us, withdrawal, reopened_us, reopening, origin, round, level`
	rows, err := q.QueryContext(ctx, `SELECT journal, `+columns+` FROM level WHERE alert_id IN `+in+
		` UNION ALL SELECT journal, `+columns+` FROM level_above WHERE journal = $1 AND alert_id IN `+in+
		` ORDER BY alert_id, round, level, journal`, args...)
	if err != nil {
		return nil, fmt.Errorf("load alerts: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var (
			ordinal, round, level int64
			id                    string
			l                     stored
		)
		if err := rows.Scan(&ordinal, &id, &l.number, &l.openedAt, &l.opening, &l.handledAt, &l.handling,
			&l.withdrawnAt, &l.withdrawal, &l.reopenedAt, &l.reopening, &l.origin, &round, &level); err != nil {
			return nil, fmt.Errorf("load alerts: %w", err)
		}
		a := byID[id]
		if a == nil {
			a = &alert.Alert{ID: id}
			byID[id] = a
		}
		if err := l.into(a, p.Name(ordinal), ""); err != nil {
			return nil, fmt.Errorf("load alert %s: %w", id, err)
		}
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("load alerts: %w", err)
	}
	if err := disputes(ctx, q, in, args, byID); err != nil {
		return nil, err
	}
	var out []*alert.Alert
	for _, id := range ids {
		if a := byID[id]; a != nil {
			out = append(out, a)
		}
	}
	return out, nil
}

func disputes(ctx context.Context, q store.Queryer, in string, args []any, byID map[string]*alert.Alert) error {
	rows, err := q.QueryContext(ctx, `SELECT alert_id, dispute FROM dispute WHERE alert_id IN `+in+
		` UNION ALL SELECT alert_id, dispute FROM dispute_above WHERE journal = $1 AND alert_id IN `+in, args...)
	if err != nil {
		return fmt.Errorf("load disputes: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var id string
		var b []byte
		if err := rows.Scan(&id, &b); err != nil {
			return fmt.Errorf("load disputes: %w", err)
		}
		d := new(dubanv1.LevelDisputed)
		if err := proto.Unmarshal(b, d); err != nil {
			return fmt.Errorf("load disputes of alert %s: %w", id, err)
		}
		if a := byID[id]; a != nil {
			a.Disputed(d)
		}
	}
	return rows.Err()
}

// stored is what a row of Level or LevelAbove says of a level beyond its key.
type stored struct {
	number                                           uint64
	openedAt, handledAt, withdrawnAt, reopenedAt     int64
	opening, handling, withdrawal, reopening, origin []byte
}

// into adds the level to an alert. j is the row's journal; of is the jurisdiction that must receive it, "" for any.
func (s stored) into(a *alert.Alert, j journal.ID, of string) error {
	o := new(dubanv1.LevelOpened)
	if err := proto.Unmarshal(s.opening, o); err != nil {
		return err
	}
	if of != "" && o.GetReceiver() != of {
		return nil
	}
	if s.origin != nil {
		var err error
		if j, err = journal.IDFrom(s.origin); err != nil {
			return err
		}
	}
	if a.Level(o.GetRound(), o.GetLevel()) != nil {
		return nil // it exists once, whoever else may say so
	}
	a.Opened(j, s.number, s.openedAt, o)
	if s.withdrawnAt != 0 {
		w := new(dubanv1.LevelWithdrawn)
		if err := proto.Unmarshal(s.withdrawal, w); err != nil {
			return err
		}
		a.Withdrawn(s.withdrawnAt, w)
	}
	if s.reopenedAt != 0 {
		r := new(dubanv1.LevelReopened)
		if err := proto.Unmarshal(s.reopening, r); err != nil {
			return err
		}
		a.Reopened(s.reopenedAt, r)
	}
	if s.handledAt != 0 {
		h := new(dubanv1.LevelHandled)
		if err := proto.Unmarshal(s.handling, h); err != nil {
			return err
		}
		a.Handled(s.handledAt, h)
	}
	return nil
}

// Reader reads rows by key; a store.Store is one.
type Reader interface {
	Scan(ctx context.Context, id journal.ID, t *store.Table, from []any, most int) ([]store.Row, error)
}

// Writer is a journal that may have opened levels of an alert, and the jurisdiction that it stands for.
type Writer struct {
	Journal journal.ID
	Code    string
}

// rowsOf bounds the rows of one alert in one journal that are read: rounds and levels beyond are left out.
const rowsOf = 256

// Read gives an alert as some journals tell it, without SQL and without disputes; nil where none of them opens a level of
// it. What a journal says of a level that its own office doesn't receive is left out.
func Read(ctx context.Context, r Reader, id string, writers ...Writer) (*alert.Alert, error) {
	a := &alert.Alert{ID: id}
	for _, w := range writers {
		rows, err := r.Scan(ctx, w.Journal, Level, []any{id}, rowsOf)
		if err != nil {
			return nil, fmt.Errorf("alert %s: %w", id, err)
		}
		for _, row := range rows {
			if row[levelAlert] != id {
				break
			}
			s := stored{
				number: uint64(row[levelNumber].(int64)), openedAt: row[levelOpenedAt].(int64), handledAt: row[levelHandledAt].(int64),
				withdrawnAt: row[levelWithdrawnAt].(int64), reopenedAt: row[levelReopenedAt].(int64), opening: blob(row[levelOpening]),
				handling: blob(row[levelHandling]), withdrawal: blob(row[levelWithdrawal]), reopening: blob(row[levelReopening]),
			}
			if err := s.into(a, w.Journal, w.Code); err != nil {
				return nil, fmt.Errorf("alert %s: %w", id, err)
			}
		}
	}
	if len(a.Levels) == 0 {
		return nil, nil
	}
	return a, nil
}

func blob(v any) []byte {
	b, _ := v.([]byte)
	return b
}
