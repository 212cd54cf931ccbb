// Package alertview folds what journals say about alerts into tables, and answers the questions of screens from them.
//
// A journal's rows say only what that journal says: level 1 of a street's alert is a row of the street's journal, level 2
// one of the district's. The queries join them by alert id over every journal that this node holds, so the answer is what
// this node knows. What depends on the present, such as an overdue last level, takes the time as a parameter.
package alertview

import (
	"fmt"
	"math"

	"google.golang.org/protobuf/proto"

	"duban.internal/escalation/alert"
	"duban.internal/node/journal"
	"duban.internal/node/store"
	dubanv1 "duban.internal/proto/duban/v1"
)

// Never stands in due_us for a limit that is open-ended: it sorts after every time.
const Never = math.MaxInt64

// Level has a row for every level that its journal opened. Times are microseconds; flags are 0 or 1.
//
// settled is 1 once, as far as its own journal tells, nothing is to be done about the level: handled in time, vacant and
// passed, or followed by the next level. Where another journal opened the next level the row stays at 0, and queries ask.
var Level = &store.Table{
	Name: "level",
	Columns: []store.Column{
		{Name: "alert_id", Type: store.Text}, {Name: "round", Type: store.Int}, {Name: "level", Type: store.Int},
		{Name: "settled", Type: store.Int},
		{Name: "due_us", Type: store.Int}, // Never where open-ended
		{Name: "last", Type: store.Int},
		{Name: "number", Type: store.Int}, // of the opening
		{Name: "opened_us", Type: store.Int},
		{Name: "opening", Type: store.Blob}, // LevelOpened, as written
		{Name: "case_journal", Type: store.Blob}, {Name: "case_id", Type: store.Text},
		{Name: "vacant", Type: store.Int},
		{Name: "handled_us", Type: store.Int}, // 0 where it was not
		{Name: "late", Type: store.Int},
		{Name: "handling", Type: store.Blob, Null: true}, // LevelHandled, as written
	},
	Key: 3,
	Indexes: []store.Index{
		{Name: "level_by_alert", Columns: []string{"alert_id", "round", "level"}},
		{Name: "level_by_due", Columns: []string{"settled", "due_us", "alert_id"}},
	},
}

// Columns of Level.
const (
	levelAlert = iota
	levelRound
	levelLevel
	levelSettled
	levelDue
	levelLast
	levelNumber
	levelOpenedAt
	levelOpening
	levelCaseJournal
	levelCaseID
	levelVacant
	levelHandledAt
	levelLate
	levelHandling
	levelColumns
)

// Dispute has a row for every handling that its journal's office disputed.
var Dispute = &store.Table{
	Name: "dispute",
	Columns: []store.Column{
		{Name: "alert_id", Type: store.Text}, {Name: "round", Type: store.Int}, {Name: "level", Type: store.Int},
		{Name: "disputed_us", Type: store.Int}, {Name: "dispute", Type: store.Blob}, // LevelDisputed, as written
	},
	Key:     3,
	Indexes: []store.Index{{Name: "dispute_by_alert", Columns: []string{"alert_id"}}},
}

// Card has a row for every yellow card (黄牌) shown.
var Card = &store.Table{
	Name: "card",
	Columns: []store.Column{
		{Name: "alert_id", Type: store.Text},
		{Name: "due_us", Type: store.Int}, {Name: "shown_us", Type: store.Int},
		{Name: "card", Type: store.Blob}, // CardShown, as written
	},
	Key:     1,
	Indexes: []store.Index{{Name: "card_by_due", Columns: []string{"due_us", "alert_id"}}},
}

// Fold is the fold of these tables.
func Fold() store.Fold {
	return store.Fold{
		Name:    "alertview",
		Version: 1,
		Tables:  []*store.Table{Level, Dispute, Card},
		Kinds: []uint32{
			uint32(dubanv1.EntryKind_ENTRY_KIND_CARD_SHOWN), uint32(dubanv1.EntryKind_ENTRY_KIND_LEVEL_OPENED),
			uint32(dubanv1.EntryKind_ENTRY_KIND_LEVEL_HANDLED), uint32(dubanv1.EntryKind_ENTRY_KIND_LEVEL_DISPUTED),
		},
		Apply: apply,
	}
}

func apply(tx store.Tx, e *journal.Entry) error {
	if e.Erased {
		return nil // what was folded before stays; a rebuild goes without
	}
	var err error
	switch dubanv1.EntryKind(e.Kind) {
	case dubanv1.EntryKind_ENTRY_KIND_LEVEL_OPENED:
		var m dubanv1.LevelOpened
		if err = proto.Unmarshal(e.Payload, &m); err == nil {
			err = opened(tx, e, &m)
		}
	case dubanv1.EntryKind_ENTRY_KIND_LEVEL_HANDLED:
		var m dubanv1.LevelHandled
		if err = proto.Unmarshal(e.Payload, &m); err == nil {
			err = handled(tx, e, &m)
		}
	case dubanv1.EntryKind_ENTRY_KIND_LEVEL_DISPUTED:
		var m dubanv1.LevelDisputed
		if err = proto.Unmarshal(e.Payload, &m); err == nil {
			tx.Put(Dispute, store.Row{m.GetAlertId(), int64(m.GetRound()), int64(m.GetLevel()), e.RecordedAt, e.Payload})
		}
	case dubanv1.EntryKind_ENTRY_KIND_CARD_SHOWN:
		var m dubanv1.CardShown
		if err = proto.Unmarshal(e.Payload, &m); err == nil {
			tx.Put(Card, store.Row{m.GetAlertId(), m.GetDueUs(), e.RecordedAt, e.Payload})
		}
	}
	return err
}

// opened puts a level. That it exists once is the matter of who opens it (its stream's version); to look here as well
// would cost a third of the fold. A journal from below that opens one twice shows it as opened last.
func opened(tx store.Tx, e *journal.Entry, m *dubanv1.LevelOpened) error {
	key := []any{m.GetAlertId(), int64(m.GetRound()), int64(m.GetLevel())}
	due := m.GetDueUs()
	if due == 0 {
		due = Never
	}
	tx.Put(Level, store.Row{
		key[0], key[1], key[2], flag(alert.PassedAtOnce(m)), due, flag(m.GetLast()), int64(e.Number), e.RecordedAt, e.Payload,
		m.GetJournal(), m.GetCaseId(), flag(m.GetVacant()), int64(0), int64(0), nil,
	})
	if m.GetLevel() > 1 {
		below, there := tx.Get(Level, key[0], key[1], int64(m.GetLevel()-1))
		if there && below[levelSettled] == int64(0) {
			below = append(store.Row(nil), below...)
			below[levelSettled] = int64(1)
			tx.Put(Level, below)
		}
	}
	return nil
}

func handled(tx store.Tx, e *journal.Entry, m *dubanv1.LevelHandled) error {
	row, there := tx.Get(Level, m.GetAlertId(), int64(m.GetRound()), int64(m.GetLevel()))
	if !there {
		return fmt.Errorf("alert %s round %d level %d is handled and was never opened in this journal", m.GetAlertId(), m.GetRound(), m.GetLevel())
	}
	if row[levelHandledAt] != int64(0) {
		return fmt.Errorf("alert %s round %d level %d is handled a second time", m.GetAlertId(), m.GetRound(), m.GetLevel())
	}
	row = append(store.Row(nil), row...)
	due := row[levelDue].(int64)
	if due == Never {
		due = 0
	}
	late := alert.HandledLate(m.GetLate(), row[levelLast] == int64(1), due, e.RecordedAt)
	row[levelHandledAt], row[levelLate], row[levelHandling] = e.RecordedAt, flag(late), e.Payload
	if !late {
		row[levelSettled] = int64(1)
	}
	tx.Put(Level, row)
	return nil
}

func flag(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

// DueAt is the due time in a row of Level; 0 where open-ended.
func DueAt(row store.Row) int64 {
	if due := row[levelDue].(int64); due != Never {
		return due
	}
	return 0
}

// Last says whether a row of Level is of the last level.
func Last(row store.Row) bool { return row[levelLast] == int64(1) }
