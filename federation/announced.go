package federation

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"duban.internal/node/fault"
	"duban.internal/node/journal"
	"duban.internal/node/store"
)

// Announcement is the row of Announced for these kinds.
func Announcement(kinds []uint32, heard int64) store.Row {
	text := make([]string, len(kinds))
	for i, k := range kinds {
		text[i] = strconv.FormatUint(uint64(k), 10)
	}
	return store.Row{strings.Join(text, " "), heard}
}

// ReadAnnounced reads which kinds the parent and everything above it know; nil where no parent ever said.
func ReadAnnounced(ctx context.Context, s interface {
	Own() journal.ID
	Get(ctx context.Context, id journal.ID, t *store.Table, key ...any) (store.Row, bool, error)
}) ([]uint32, error) {
	row, ok, err := s.Get(ctx, s.Own(), Announced)
	if err != nil || !ok {
		return nil, err
	}
	text, _ := row[0].(string)
	kinds := []uint32{}
	for _, word := range strings.Fields(text) {
		k, err := strconv.ParseUint(word, 10, 32)
		if err != nil {
			return nil, fault.New(fault.Corrupt, "table %s: %w", Announced.Name, err)
		}
		kinds = append(kinds, uint32(k))
	}
	if len(kinds) == 0 && text != "" {
		return nil, fmt.Errorf("table %s: no kinds in %q", Announced.Name, text)
	}
	return kinds, nil
}
