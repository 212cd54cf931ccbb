package alertview

import (
	"fmt"
	"math"

	"google.golang.org/protobuf/proto"

	"duban.internal/node/store"
	dubanv1 "duban.internal/proto/duban/v1"
)

// Never stands in due_us for a limit that is open-ended: it sorts after every time.
const Never = math.MaxInt64

// levelShape are the columns of Level and LevelAbove.
var levelShape = []store.Column{
	{Name: "alert_id", Type: store.Text}, {Name: "round", Type: store.Int}, {Name: "level", Type: store.Int},
	{Name: "settled", Type: store.Int},
	{Name: "due_us", Type: store.Int}, // Never where open-ended; of the reopening, where it was reopened
	{Name: "last", Type: store.Int},
	{Name: "number", Type: store.Int}, // of the opening
	{Name: "opened_us", Type: store.Int},
	{Name: "opening", Type: store.Blob}, // LevelOpened, as written
	{Name: "case_journal", Type: store.Blob}, {Name: "case_id", Type: store.Text},
	{Name: "vacant", Type: store.Int},
	{Name: "handled_us", Type: store.Int}, // 0 where it was not
	{Name: "late", Type: store.Int},
	{Name: "handling", Type: store.Blob, Null: true},   // LevelHandled, as written
	{Name: "withdrawn", Type: store.Int},               // its basis; 0 where it was not, or was reopened
	{Name: "withdrawn_us", Type: store.Int},            // 0 where it was not
	{Name: "withdrawal", Type: store.Blob, Null: true}, // LevelWithdrawn, as written
	{Name: "reopened_us", Type: store.Int},             // 0 where it was not
	{Name: "reopening", Type: store.Blob, Null: true},  // LevelReopened, as written
	{Name: "origin", Type: store.Blob, Null: true},     // of LevelAbove: the journal that opened it
}

// Level has a row for every level that its journal opened. Times are microseconds; flags are 0 or 1.
//
// settled is 1 once, as far as its own journal tells, nothing is to be done about the level: handled in time, withdrawn,
// vacant and passed, or followed by the next level. Where another journal opened the next level the row stays at 0, and
// queries ask.
var Level = &store.Table{
	Name:    "level",
	Columns: levelShape,
	Key:     3,
	Indexes: []store.Index{
		{Name: "level_by_alert", Columns: []string{"alert_id", "round", "level"}},
		{Name: "level_by_due", Columns: []string{"settled", "due_us", "alert_id"}},
		{Name: "level_claimed", Columns: []string{"due_us", "alert_id"}, Where: "withdrawn = 2"},
	},
}

// LevelAbove has a row for every level that a journal above opened, as letters to its own journal told. Only what came to
// this node's own journal was verified here, so queries ask for no other's rows.
var LevelAbove = &store.Table{
	Name:    "level_above",
	Columns: levelShape,
	Key:     3,
	Indexes: []store.Index{
		{Name: "level_above_by_alert", Columns: []string{"alert_id", "round", "level"}},
		{Name: "level_above_by_due", Columns: []string{"settled", "due_us", "alert_id"}},
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
	levelWithdrawn
	levelWithdrawnAt
	levelWithdrawal
	levelReopenedAt
	levelReopening
	levelOrigin
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

// DisputeAbove is to Dispute what LevelAbove is to Level.
var DisputeAbove = &store.Table{
	Name:    "dispute_above",
	Columns: Dispute.Columns,
	Key:     3,
	Indexes: []store.Index{{Name: "dispute_above_by_alert", Columns: []string{"alert_id"}}},
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

// Author has one row: the jurisdiction that its journal stands for.
var Author = &store.Table{
	Name:    "alert_author",
	Columns: []store.Column{{Name: "one", Type: store.Int}, {Name: "code", Type: store.Text}},
	Key:     1,
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

// Withdrawn says whether a row of Level is of a level that was withdrawn and not reopened.
func Withdrawn(row store.Row) bool { return row[levelWithdrawn] != int64(0) }

// AlertOf is the alert of a row of Level.
func AlertOf(row store.Row) string { return row[levelAlert].(string) }

// Opening is how the level of a row of Level was opened.
func Opening(row store.Row) (*dubanv1.LevelOpened, error) {
	o := new(dubanv1.LevelOpened)
	if err := proto.Unmarshal(row[levelOpening].([]byte), o); err != nil {
		return nil, fmt.Errorf("alert %s: %w", AlertOf(row), err)
	}
	return o, nil
}
