package store

import (
	"context"
	"fmt"
	"strings"
)

// ScanRows is Scan for engines whose tables are in SQL; ordinal is the journal's.
func ScanRows(ctx context.Context, q Queryer, ordinal int64, t *Table, from []any, most int) ([]Row, error) {
	if len(from) > t.Key {
		return nil, fmt.Errorf("table %s: %d key columns, at most %d", t.Name, len(from), t.Key)
	}
	names := make([]string, len(t.Columns))
	for i, c := range t.Columns {
		names[i] = c.Name
	}
	args := []any{ordinal, most}
	where := "journal = $1"
	if len(from) > 0 {
		marks := make([]string, len(from))
		for i, v := range from {
			args = append(args, v)
			marks[i] = fmt.Sprintf("$%d", len(args))
		}
		where += fmt.Sprintf(" AND (%s) >= (%s)", strings.Join(names[:len(from)], ", "), strings.Join(marks, ", "))
	}
	order := ""
	if t.Key > 0 {
		order = " ORDER BY " + strings.Join(names[:t.Key], ", ")
	}
	rows, err := q.QueryContext(ctx, "SELECT "+strings.Join(names, ", ")+" FROM "+t.Name+" WHERE "+where+order+" LIMIT $2", args...)
	if err != nil {
		return nil, fmt.Errorf("scan of %s: %w", t.Name, err)
	}
	defer rows.Close()
	var out []Row
	for rows.Next() {
		row := make(Row, len(t.Columns))
		into := make([]any, len(row))
		for i := range row {
			into[i] = &row[i]
		}
		if err := rows.Scan(into...); err != nil {
			return nil, fmt.Errorf("scan of %s: %w", t.Name, err)
		}
		out = append(out, row)
	}
	return out, rows.Err()
}
