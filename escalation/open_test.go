package escalation_test

import (
	"strings"
	"testing"

	"duban.internal/node/clock"
	"duban.internal/node/store"
	"duban.internal/node/workday"
	dubanv1 "duban.internal/proto/duban/v1"
)

func openStore(t testing.TB, c clock.Clock, folds []store.Fold, tables []*store.Table) store.Store {
	return openMem(t, c, folds, tables)
}

func (n *node) adoptsYear2027() {
	n.t.Helper()
	content := string(shipped(n.t, "calendars/cn-holidays.csv"))
	content = strings.Replace(content, "# years: 2004-2026", "# years: 2004-2026\n# plain: 2027", 1)
	cal, err := workday.Parse([]byte(content))
	if err != nil {
		n.t.Fatal(err)
	}
	hash := cal.Hash()
	n.register("node", dubanv1.EntryKind_ENTRY_KIND_CALENDAR_ADOPTED, &dubanv1.CalendarAdopted{Name: cal.Name(), Hash: hash[:], Content: cal.Bytes()})
}
