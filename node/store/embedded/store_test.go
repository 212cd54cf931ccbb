package embedded_test

import (
	"testing"

	"duban.internal/node/store"
	"duban.internal/node/store/embedded"
	"duban.internal/node/store/storetest"
)

func TestContract(t *testing.T) {
	storetest.Run(t, func(t *testing.T, o storetest.Options) store.Store {
		t.Helper()
		s, err := embedded.Open(t.Context(), embedded.Config{
			Dir: o.Dir, Journal: o.Journal, Folds: o.Folds, Tables: o.Tables, Known: o.Known, Clock: o.Clock, KeyTTL: o.KeyTTL,
		})
		if err != nil {
			t.Fatal(err)
		}
		return s
	})
}
