// Package alertview folds what journals say about alerts into tables, and answers the questions of screens from them.
//
// A journal's rows say only what that journal says: level 1 of a street's alert is a row of the street's journal, level 2
// one of the district's. The queries join them by alert id over every journal that this node holds, so the answer is what
// this node knows. What depends on the present, such as an overdue last level, takes the time as a parameter.
//
// What journals above wrote about this node's alerts comes in letters, which the own journal keeps: it has tables of its
// own, and of those only the own journal's rows count, for only they were verified here. A level that its journal's office
// doesn't receive, or whose alert id isn't the derived one, is left out by the fold, in sight. It does not know the tree:
// a journal that opens a level at its own jurisdiction for a case of its neighbour is shown; nothing follows from it.
//
// Read is for what is stepped without SQL: it reads by key, and as far as levels go alone.
package alertview

import (
	"fmt"
	"sync/atomic"

	"google.golang.org/protobuf/proto"

	"duban.internal/escalation/alert"
	"duban.internal/node/journal"
	"duban.internal/node/planted"
	"duban.internal/node/store"
	dubanv1 "duban.internal/proto/duban/v1"
)

// Fold is the fold of these tables.
func Fold() store.Fold {
	return store.Fold{
		Name:    "alertview",
		Version: 2,
		Tables:  []*store.Table{Level, LevelAbove, Dispute, DisputeAbove, Card, Author},
		Kinds: []uint32{
			uint32(dubanv1.EntryKind_ENTRY_KIND_CARD_SHOWN), uint32(dubanv1.EntryKind_ENTRY_KIND_LEVEL_OPENED),
			uint32(dubanv1.EntryKind_ENTRY_KIND_LEVEL_HANDLED), uint32(dubanv1.EntryKind_ENTRY_KIND_LEVEL_DISPUTED),
			uint32(dubanv1.EntryKind_ENTRY_KIND_LEVEL_WITHDRAWN), uint32(dubanv1.EntryKind_ENTRY_KIND_LEVEL_REOPENED),
			uint32(dubanv1.EntryKind_ENTRY_KIND_RECEIVED_FROM_ABOVE), uint32(dubanv1.EntryKind_ENTRY_KIND_JURISDICTION_NAMED),
		},
		Apply: apply,
	}
}

func apply(tx store.Tx, e *journal.Entry) error {
	if e.Erased {
		return nil // what was folded before stays; a rebuild goes without
	}
	switch dubanv1.EntryKind(e.Kind) {
	case dubanv1.EntryKind_ENTRY_KIND_JURISDICTION_NAMED:
		var m dubanv1.JurisdictionNamed
		if err := proto.Unmarshal(e.Payload, &m); err != nil {
			return err
		}
		tx.Put(Author, store.Row{int64(0), m.GetCode()})
		return nil
	case dubanv1.EntryKind_ENTRY_KIND_CARD_SHOWN:
		var m dubanv1.CardShown
		if err := proto.Unmarshal(e.Payload, &m); err != nil {
			return err
		}
		tx.Put(Card, store.Row{m.GetAlertId(), m.GetDueUs(), e.RecordedAt, e.Payload})
		return nil
	case dubanv1.EntryKind_ENTRY_KIND_RECEIVED_FROM_ABOVE:
		said, err := FromAbove(e)
		if err != nil {
			return err
		}
		for i := range said {
			// What doesn't fit, such as the handling of a level that was addressed to another, is left out.
			_ = above.apply(tx, &said[i])
		}
		return nil
	}
	return own.apply(tx, e)
}

// tables are those that a journal's entries are folded into.
type tables struct {
	level, dispute *store.Table
	origin         bool // the rows are another journal's
}

var (
	own   = tables{Level, Dispute, false}
	above = tables{LevelAbove, DisputeAbove, true}
)

func (t tables) apply(tx store.Tx, e *journal.Entry) (err error) {
	switch dubanv1.EntryKind(e.Kind) {
	case dubanv1.EntryKind_ENTRY_KIND_LEVEL_OPENED:
		var m dubanv1.LevelOpened
		if err = proto.Unmarshal(e.Payload, &m); err == nil {
			err = t.opened(tx, e, &m)
		}
	case dubanv1.EntryKind_ENTRY_KIND_LEVEL_HANDLED:
		var m dubanv1.LevelHandled
		if err = proto.Unmarshal(e.Payload, &m); err == nil {
			err = t.handled(tx, e, &m)
		}
	case dubanv1.EntryKind_ENTRY_KIND_LEVEL_DISPUTED:
		var m dubanv1.LevelDisputed
		if err = proto.Unmarshal(e.Payload, &m); err == nil {
			tx.Put(t.dispute, store.Row{m.GetAlertId(), int64(m.GetRound()), int64(m.GetLevel()), e.RecordedAt, e.Payload})
		}
	case dubanv1.EntryKind_ENTRY_KIND_LEVEL_WITHDRAWN:
		var m dubanv1.LevelWithdrawn
		if err = proto.Unmarshal(e.Payload, &m); err == nil {
			err = t.withdrawn(tx, e, &m)
		}
	case dubanv1.EntryKind_ENTRY_KIND_LEVEL_REOPENED:
		var m dubanv1.LevelReopened
		if err = proto.Unmarshal(e.Payload, &m); err == nil {
			err = t.reopened(tx, e, &m)
		}
	}
	return err
}

// FromAbove gives the entries of a journal above that a RECEIVED_FROM_ABOVE entry keeps, without those erased. Their proofs
// were checked before they were kept, by the node whose journal this is; nobody else may rely on them.
func FromAbove(e *journal.Entry) ([]journal.Entry, error) {
	var m dubanv1.ReceivedFromAbove
	if err := proto.Unmarshal(e.Payload, &m); err != nil {
		return nil, err
	}
	var out []journal.Entry
	for _, p := range m.GetLetter().GetEntries() {
		h, err := journal.DecodeHeader(p.GetHeader())
		if err != nil {
			return nil, err
		}
		if !p.GetErased() {
			out = append(out, journal.Entry{Header: h, Raw: p.GetHeader(), Salt: p.GetSalt(), Payload: p.GetPayload()})
		}
	}
	return out, nil
}

// opened puts a level. A level is written only by the node whose office receives it, level 1 of a case only by the case's
// own, and under no id but the one that is derived: else it is left out, in sight. That it exists once is the matter of who opens it (its stream's version); to look here as well
// would cost a third of the fold. A journal from below that opens one twice shows it as opened last.
func (t tables) opened(tx store.Tx, e *journal.Entry, m *dubanv1.LevelOpened) error {
	of, err := journal.IDFrom(m.GetJournal())
	switch author, known := tx.Get(Author, int64(0)); {
	case err != nil:
		return err
	case m.GetAlertId() != alert.ID(of, m.GetCaseId(), m.GetPoint(), m.GetTrigger()):
		return fmt.Errorf("alert %.64s: its id is not that of its case, point and starting entry", m.GetAlertId())
	case m.GetLevel() == 1 && m.GetCaseId() != "" && of != e.Journal:
		return fmt.Errorf("alert %s: level 1 of a case is opened in the case's journal", m.GetAlertId())
	case !t.origin && known && author[1] != m.GetReceiver():
		return fmt.Errorf("alert %s: level %d is received by %.20s, and only its node opens it", m.GetAlertId(), m.GetLevel(), m.GetReceiver())
	}
	if planted.On("fold.drops-rounds") && m.GetRound() > 1 {
		return nil
	}
	key := []any{m.GetAlertId(), int64(m.GetRound()), int64(m.GetLevel())}
	var origin any
	if t.origin {
		origin = e.Journal[:]
	}
	tx.Put(t.level, store.Row{
		key[0], key[1], key[2], flag(alert.PassedAtOnce(m)), orNever(m.GetDueUs()), flag(m.GetLast()), int64(e.Number), e.RecordedAt, e.Payload,
		m.GetJournal(), m.GetCaseId(), flag(m.GetVacant()), int64(0), int64(0), nil, int64(0), int64(0), nil, int64(0), nil, origin,
	})
	if m.GetLevel() > 1 {
		below, there := tx.Get(t.level, key[0], key[1], int64(m.GetLevel()-1))
		if there && below[levelSettled] == int64(0) {
			below = append(store.Row(nil), below...)
			below[levelSettled] = int64(1)
			tx.Put(t.level, below)
		}
	}
	return nil
}

// get is a copy of a level's row, to be changed.
func (t tables) get(tx store.Tx, what, id string, round, level uint32) (store.Row, error) {
	row, there := tx.Get(t.level, id, int64(round), int64(level))
	if !there {
		return nil, fmt.Errorf("alert %s round %d level %d is %s and was never opened in this journal", id, round, level, what)
	}
	return append(store.Row(nil), row...), nil
}

func (t tables) handled(tx store.Tx, e *journal.Entry, m *dubanv1.LevelHandled) error {
	row, err := t.get(tx, "handled", m.GetAlertId(), m.GetRound(), m.GetLevel())
	if err != nil {
		return err
	}
	if row[levelHandledAt] != int64(0) {
		return fmt.Errorf("alert %s round %d level %d is handled a second time", m.GetAlertId(), m.GetRound(), m.GetLevel())
	}
	late := alert.HandledLate(m.GetLate(), Last(row), DueAt(row), e.RecordedAt) && !planted.On("fold.late-is-in-time")
	row[levelHandledAt], row[levelLate], row[levelHandling] = e.RecordedAt, flag(late), e.Payload
	if planted.On("fold.impure") {
		row[levelNumber] = impure.Add(1)
	}
	if !late {
		row[levelSettled] = int64(1)
	}
	tx.Put(t.level, row)
	return nil
}

func (t tables) withdrawn(tx store.Tx, e *journal.Entry, m *dubanv1.LevelWithdrawn) error {
	row, err := t.get(tx, "withdrawn", m.GetAlertId(), m.GetRound(), m.GetLevel())
	if err != nil {
		return err
	}
	if m.GetBasis() == dubanv1.Basis_BASIS_UNSPECIFIED {
		return fmt.Errorf("alert %s round %d level %d is withdrawn on no basis", m.GetAlertId(), m.GetRound(), m.GetLevel())
	}
	if row[levelWithdrawal] != nil {
		return fmt.Errorf("alert %s round %d level %d is withdrawn a second time", m.GetAlertId(), m.GetRound(), m.GetLevel())
	}
	row[levelWithdrawn], row[levelWithdrawnAt], row[levelWithdrawal] = int64(m.GetBasis()), e.RecordedAt, e.Payload
	row[levelSettled] = int64(1)
	tx.Put(t.level, row)
	return nil
}

// impure counts what a fold may not count: see node/planted.
var impure atomic.Int64

func (t tables) reopened(tx store.Tx, e *journal.Entry, m *dubanv1.LevelReopened) error {
	row, err := t.get(tx, "reopened", m.GetAlertId(), m.GetRound(), m.GetLevel())
	if err != nil {
		return err
	}
	if row[levelWithdrawal] == nil || row[levelReopening] != nil {
		return fmt.Errorf("alert %s round %d level %d is reopened and was not withdrawn, or is reopened a second time", m.GetAlertId(), m.GetRound(), m.GetLevel())
	}
	row[levelWithdrawn], row[levelReopenedAt], row[levelReopening] = int64(0), e.RecordedAt, e.Payload
	row[levelSettled], row[levelDue] = int64(0), orNever(m.GetDueUs())
	tx.Put(t.level, row)
	return nil
}

func orNever(due int64) int64 {
	if due == 0 {
		return Never
	}
	return due
}

func flag(b bool) int64 {
	if b {
		return 1
	}
	return 0
}
