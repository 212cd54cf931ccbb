package embedded

import (
	"context"

	"duban.internal/node/journal"
	"duban.internal/node/store"
)

// Scan is store.Store.
func (s *Store) Scan(ctx context.Context, id journal.ID, t *store.Table, from []any, most int) (rows []store.Row, err error) {
	err = s.View(ctx, func(q store.Queryer) error {
		info, ok := s.Journal(id)
		if !ok {
			return nil
		}
		rows, err = store.ScanRows(ctx, q, info.Ordinal, t, from, most)
		return err
	})
	return rows, err
}
