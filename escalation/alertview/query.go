package alertview

import (
	"context"
	"encoding/base64"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"duban.internal/escalation/alert"
	"duban.internal/node/fault"
	"duban.internal/node/journal"
	"duban.internal/node/store"
	dubanv1 "duban.internal/proto/duban/v1"
)

// MinPrefix is how much of an alert id names it at least, in characters.
const MinPrefix = 6

// Query says which alerts are wanted.
type Query struct {
	// Cases are the journals whose cases are wanted; nil for all, and empty for none.
	Cases    []journal.ID
	OpenOnly bool   // only alerts with an open level
	Claimed  bool   // only alerts with a level that was withdrawn as claimed and not reopened; by that level's due time
	Level    uint32 // only alerts whose open level is this; 0 for any
	Size     int    // rows a page, at least 1
	Token    string // from the page before
}

// Place tells the journals of a store apart by the ordinals of their rows.
type Place struct {
	Own  int64 // ordinal of the own journal
	Name func(ordinal int64) journal.ID
}

// PlaceOf is the Place over what a store lists.
func PlaceOf(journals []store.Info) Place {
	names, p := make(map[int64]journal.ID, len(journals)), Place{}
	for _, info := range journals {
		names[info.Ordinal] = info.ID
		if info.Own {
			p.Own = info.Ordinal
		}
	}
	p.Name = func(ordinal int64) journal.ID { return names[ordinal] }
	return p
}

// higher says that another level of the alert, in whichever journal or told from above, goes before l as its top: one that
// stands before any that was withdrawn, then the higher one.
func (p Place) higher() string {
	beats := `h.alert_id = l.alert_id AND (CASE WHEN h.withdrawn = 0 THEN 1 ELSE 0 END, h.round, h.level) >
		(CASE WHEN l.withdrawn = 0 THEN 1 ELSE 0 END, l.round, l.level)`
	return fmt.Sprintf(`(EXISTS (SELECT 1 FROM level h WHERE %s) OR EXISTS (SELECT 1 FROM level_above h WHERE h.journal = %d AND %s))`, beats, p.Own, beats)
}

// List gives a page of alert ids, by the due time of their top level, soonest first, and the token of the next page.
//
// Listing what is open costs, besides the page, one look for each earlier due level whose next level was opened in
// another journal. Kinds: fault.Invalid for a token that this query didn't give.
func List(ctx context.Context, q store.Queryer, p Place, w Query) (ids []string, next string, err error) {
	due, after, err := parseToken(w.Token)
	if err != nil {
		return nil, "", err
	}
	if w.Cases != nil && len(w.Cases) == 0 {
		return nil, "", nil
	}
	var sources []source
	if w.Claimed {
		sources = append(sources, source{"level", `l.withdrawn = 2 AND NOT EXISTS (SELECT 1 FROM level h
			WHERE h.alert_id = l.alert_id AND h.withdrawn = 2 AND (h.round, h.level) > (l.round, l.level))`})
	} else {
		for settled := range 2 {
			if settled == 1 && (w.OpenOnly || w.Level != 0) {
				break
			}
			sources = append(sources, source{"level", fmt.Sprintf(`l.settled = %d AND NOT `, settled) + p.higher()},
				source{"level_above", fmt.Sprintf(`l.journal = %d AND l.settled = %d AND NOT `, p.Own, settled) + p.higher()})
		}
	}
	var found []place
	for _, from := range sources {
		more, err := list(ctx, q, w, from, due, after)
		if err != nil {
			return nil, "", err
		}
		found = append(found, more...)
	}
	slices.SortFunc(found, place.compare)
	if len(found) > w.Size {
		found = found[:w.Size]
		next = found[w.Size-1].token()
	}
	for _, p := range found {
		ids = append(ids, p.id)
	}
	return ids, next, nil
}

// source is a table with the condition that its rows are listed on.
type source struct{ table, where string }

func list(ctx context.Context, q store.Queryer, w Query, from source, due int64, after string) ([]place, error) {
	args := []any{due, after}
	where := from.where + ` AND (l.due_us, l.alert_id) > ($1, $2)`
	if w.Level != 0 {
		args = append(args, int64(w.Level))
		where += fmt.Sprintf(` AND l.level = $%d`, len(args))
	}
	if w.Cases != nil {
		var marks []string
		for _, id := range w.Cases {
			args = append(args, id[:])
			marks = append(marks, fmt.Sprintf(`$%d`, len(args)))
		}
		where += ` AND l.case_journal IN (` + strings.Join(marks, ", ") + `)`
	}
	args = append(args, w.Size+1)
	rows, err := q.QueryContext(ctx, `SELECT l.due_us, l.alert_id FROM `+from.table+` l WHERE `+where+
		fmt.Sprintf(` ORDER BY l.due_us, l.alert_id LIMIT $%d`, len(args)), args...)
	if err != nil {
		return nil, fmt.Errorf("list alerts: %w", err)
	}
	defer rows.Close()
	var found []place
	for rows.Next() {
		var p place
		if err := rows.Scan(&p.due, &p.id); err != nil {
			return nil, fmt.Errorf("list alerts: %w", err)
		}
		found = append(found, p)
	}
	return found, rows.Err()
}

// place is where an alert stands in the list.
type place struct {
	due int64
	id  string
}

func (p place) compare(o place) int {
	if p.due != o.due {
		if p.due < o.due {
			return -1
		}
		return 1
	}
	return strings.Compare(p.id, o.id)
}

func (p place) token() string {
	return base64.RawURLEncoding.EncodeToString([]byte(strconv.FormatInt(p.due, 10) + " " + p.id))
}

func parseToken(s string) (due int64, id string, err error) {
	if s == "" {
		return -1 << 63, "", nil
	}
	b, err := base64.RawURLEncoding.DecodeString(s)
	at, id, ok := strings.Cut(string(b), " ")
	if err == nil && ok {
		due, err = strconv.ParseInt(at, 10, 64)
	}
	if err != nil || !ok {
		return 0, "", fault.Refuse(fault.Invalid, "the list can't be continued there", fault.Field{
			Field: "page_token", Description: "not a token that a page of this list gave: leave it empty to begin anew"})
	}
	return due, id, nil
}

// Resolve finds the alert that an id, or a beginning of one, names. Kinds: fault.Invalid for less than MinPrefix
// characters, for others than hexadecimal digits, or where several alerts begin so; NotFound for none.
func Resolve(ctx context.Context, q store.Queryer, at Place, prefix string) (string, error) {
	refuse := func(k fault.Kind, format string, args ...any) error {
		return fault.Refuse(k, "no such alert", fault.Field{Field: "alert_id", Description: fmt.Sprintf(format, args...)})
	}
	p := strings.ToLower(prefix)
	if len(p) < MinPrefix || len(p) > alert.IDLength || strings.Trim(p, "0123456789abcdef") != "" {
		return "", refuse(fault.Invalid, "%.40q: want an alert id of %d hexadecimal digits, or at least its first %d", prefix, alert.IDLength, MinPrefix)
	}
	rows, err := q.QueryContext(ctx, `SELECT alert_id FROM (SELECT DISTINCT alert_id FROM level WHERE alert_id >= $1 AND alert_id < $2
		UNION SELECT DISTINCT alert_id FROM level_above WHERE journal = $3 AND alert_id >= $1 AND alert_id < $2) AS ids
		ORDER BY alert_id LIMIT 2`, p, p+"g", at.Own)
	if err != nil {
		return "", fmt.Errorf("find alert: %w", err)
	}
	defer rows.Close()
	var ids []string
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			return "", fmt.Errorf("find alert: %w", err)
		}
		ids = append(ids, id)
	}
	if err := rows.Err(); err != nil {
		return "", fmt.Errorf("find alert: %w", err)
	}
	switch len(ids) {
	case 0:
		return "", refuse(fault.NotFound, "%q: this node knows no alert by this id", prefix)
	case 1:
		return ids[0], nil
	}
	return "", refuse(fault.Invalid, "%q: several alerts begin so, such as %s and %s", prefix, ids[0], ids[1])
}

// Figures counts levels by number and state at a time, with those that were told from above. It reads every level once.
func Figures(ctx context.Context, q store.Queryer, p Place, now int64) ([]*dubanv1.AlertFigure, error) {
	state := func(table, where string) string {
		return `SELECT l.level AS level, CASE
		WHEN l.withdrawn > 0 THEN $1
		WHEN EXISTS (SELECT 1 FROM dispute d WHERE d.alert_id = l.alert_id AND d.round = l.round AND d.level = l.level) THEN $2
		WHEN EXISTS (SELECT 1 FROM dispute_above d WHERE d.journal = $9 AND d.alert_id = l.alert_id AND d.round = l.round AND d.level = l.level) THEN $2
		WHEN l.vacant = 1 AND l.last = 0 THEN $3
		WHEN l.handled_us > 0 AND l.late = 0 THEN $4
		WHEN ` + p.higher() + ` THEN $5
		WHEN l.last = 1 AND l.due_us <= $6 THEN $7
		ELSE $8 END AS state FROM ` + table + ` l` + where
	}
	rows, err := q.QueryContext(ctx, `SELECT level, state, COUNT(*) FROM (`+state("level", "")+` UNION ALL `+state("level_above", " WHERE l.journal = $9")+
		`) AS levels GROUP BY level, state ORDER BY level, state`,
		int64(dubanv1.LevelState_LEVEL_STATE_WITHDRAWN), int64(dubanv1.LevelState_LEVEL_STATE_DISPUTED), int64(dubanv1.LevelState_LEVEL_STATE_VACANT),
		int64(dubanv1.LevelState_LEVEL_STATE_HANDLED), int64(dubanv1.LevelState_LEVEL_STATE_PASSED), now,
		int64(dubanv1.LevelState_LEVEL_STATE_OVERDUE), int64(dubanv1.LevelState_LEVEL_STATE_OPEN), p.Own)
	if err != nil {
		return nil, fmt.Errorf("count alerts: %w", err)
	}
	defer rows.Close()
	var out []*dubanv1.AlertFigure
	for rows.Next() {
		var level uint32
		var state int32
		var count uint64
		if err := rows.Scan(&level, &state, &count); err != nil {
			return nil, fmt.Errorf("count alerts: %w", err)
		}
		out = append(out, &dubanv1.AlertFigure{Level: level, State: dubanv1.LevelState(state), Count: count})
	}
	return out, rows.Err()
}
