package escalation

import (
	"math"

	"duban.internal/node/journal"
	"duban.internal/node/store"
)

// Follower is the name of the runner's cursors.
const Follower = "escalation"

// never is the due time of an open-ended limit in the runner's tables.
const never = math.MaxInt64

// Deadline has a row for everything that waits for its time. Its journal is the one whose silence or handling decides:
// the own one for limits of cases, the one that opened level n for level n. The key begins with the due time, so that
// what is due lies together, and taking it out touches what was just read.
var Deadline = &store.Table{
	Name: "deadline",
	Columns: []store.Column{
		{Name: "due_us", Type: store.Int}, {Name: "alert_id", Type: store.Text}, {Name: "round", Type: store.Int},
		{Name: "level", Type: store.Int}, // that runs out; 0 for the limit of a point
		{Name: "kind", Type: store.Int},
		{Name: "version", Type: store.Int},  // of the alert's stream, at which the next level didn't exist; a stale one costs a look
		{Name: "opening", Type: store.Blob}, // LevelOpened of the level that runs out; of level 0, what level 1 copies
	},
	Key: 5,
}

// Derived has a row for every level of which this node receives the next one, or a later one, and that it did not see
// opened when it could derive it: by a child's rules, by the ladder, after a dispute. Its journal is the one that it was
// derived from. What was opened after all is found when the row is due, grace included, and nothing happens then.
var Derived = &store.Table{Name: "derived_deadline", Columns: Deadline.Columns, Key: Deadline.Key}

// RunningLimit has a row for every limit of a case of the own journal that began and was not ended by an event. One
// whose due time has come fired.
var RunningLimit = &store.Table{
	Name: "running_limit",
	Columns: []store.Column{
		{Name: "case_id", Type: store.Text}, {Name: "point", Type: store.Text},
		{Name: "started_by", Type: store.Int}, // number of the entry
		{Name: "start_us", Type: store.Int},
		{Name: "due_us", Type: store.Int},  // never where open-ended
		{Name: "warn_us", Type: store.Int}, // 0 for no card
		{Name: "limit_text", Type: store.Text},
		{Name: "warn_text", Type: store.Text}, // "" for none
	},
	Key: 2,
}

// WatchedLimit is RunningLimit for a journal from below whose rules are run here as well.
var WatchedLimit = &store.Table{
	Name: "watched_limit",
	Columns: []store.Column{
		{Name: "case_id", Type: store.Text}, {Name: "point", Type: store.Text},
		{Name: "started_by", Type: store.Int}, {Name: "start_us", Type: store.Int},
		{Name: "due_us", Type: store.Int}, // of the limit itself; never where open-ended
		{Name: "limit_text", Type: store.Text},
		{Name: "derived_us", Type: store.Int}, {Name: "derived_level", Type: store.Int}, // key of its row of Derived
	},
	Key: 2,
}

// NodeAlert has a row for every child that an alert about its node stands for. Its journal is the child's.
var NodeAlert = &store.Table{
	Name: "node_alert",
	Columns: []store.Column{
		{Name: "what", Type: store.Text}, // as the profile's points about nodes say
		{Name: "alert_id", Type: store.Text}, {Name: "round", Type: store.Int},
	},
	Key: 1,
}

// Tables are the runner's own tables, for the engine's Config.
func Tables() []*store.Table {
	return []*store.Table{Deadline, Derived, RunningLimit, WatchedLimit, NodeAlert}
}

// Kinds of deadlines.
const (
	kindLevel   = 0 // at due_us the next level opens
	kindCard    = 1 // at due_us a yellow card shows
	kindDerived = 2 // of Derived: like kindLevel, of a level that this node did not see opened
)

// Due is a row of Deadline.
type Due struct {
	Owner   journal.ID
	At      int64
	Alert   string
	Round   int64
	Level   int64
	Kind    int64
	Version uint64
	Opening []byte
}

func (d Due) table() *store.Table {
	if d.Kind == kindDerived {
		return Derived
	}
	return Deadline
}

func (d Due) put() store.Change {
	return store.Change{Table: d.table(), Owner: d.Owner, Row: store.Row{d.At, d.Alert, d.Round, d.Level, d.Kind, int64(d.Version), d.Opening}}
}

func (d Due) drop() store.Change {
	return store.Change{Table: d.table(), Owner: d.Owner, Row: store.Row(d.key()), Delete: true}
}

func (d Due) key() []any { return []any{d.At, d.Alert, d.Round, d.Level, d.Kind} }

func dueOf(owner journal.ID, row store.Row) Due {
	d := Due{Owner: owner, At: row[0].(int64), Alert: row[1].(string), Round: row[2].(int64), Level: row[3].(int64), Kind: row[4].(int64), Version: uint64(row[5].(int64))}
	d.Opening, _ = row[6].([]byte)
	return d
}

// running is a row of RunningLimit, or of WatchedLimit.
type running struct {
	caseID, point         string
	trigger               uint64
	start, due, warn      int64
	limitText, warnText   string
	derived, derivedLevel int64
}

func (r running) row() store.Row {
	return store.Row{r.caseID, r.point, int64(r.trigger), r.start, r.due, r.warn, r.limitText, r.warnText}
}

func (r running) watchedRow() store.Row {
	return store.Row{r.caseID, r.point, int64(r.trigger), r.start, r.due, r.limitText, r.derived, r.derivedLevel}
}

func runningOf(row store.Row) running {
	return running{
		caseID: row[0].(string), point: row[1].(string), trigger: uint64(row[2].(int64)),
		start: row[3].(int64), due: row[4].(int64), warn: row[5].(int64), limitText: row[6].(string), warnText: row[7].(string),
	}
}

func watchedOf(row store.Row) running {
	return running{
		caseID: row[0].(string), point: row[1].(string), trigger: uint64(row[2].(int64)),
		start: row[3].(int64), due: row[4].(int64), limitText: row[5].(string), derived: row[6].(int64), derivedLevel: row[7].(int64),
	}
}
