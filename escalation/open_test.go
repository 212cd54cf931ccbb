package escalation_test

import (
	"testing"
	"time"

	"duban.internal/node/clock"
	"duban.internal/node/journal"
	"duban.internal/node/store"
	"duban.internal/node/store/embedded"
	dubanv1 "duban.internal/proto/duban/v1"
)

// patient is a test's clock for an engine that waits for real things, such as its own election.
type patient struct{ clock.Clock }

func (patient) Patience(d time.Duration) clock.Timer { return clock.System().Patience(d) }

// openEmbedded is the engine that nodes run on, in a folder of its own.
func openEmbedded(t testing.TB, c clock.Clock, folds []store.Fold, tables []*store.Table) store.Store {
	t.Helper()
	cfg := embedded.Config{Dir: t.TempDir(), Journal: journal.NewID(), Tables: tables, Clock: patient{c}}
	for kind := range dubanv1.EntryKind_name {
		cfg.Known = append(cfg.Known, uint32(kind)) // cases have no fold here
	}
	for i := range folds {
		cfg.Folds = append(cfg.Folds, &folds[i])
	}
	s, err := embedded.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}
