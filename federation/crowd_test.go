package federation_test

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"duban.internal/federation/federationtest"
	"duban.internal/node/clock"
)

// Sixty children and one flood live together: while the flood goes on, every other child's records are taken.
func TestCrowdAndFlood(t *testing.T) {
	const children = 60
	tree := federationtest.NewWideTree(t, clock.System().Now(), children)
	nodes := tree.All()
	parent := newStore(t, tree, nodes[0].Code)
	top := tree.Start(t, nodes[0].Code, parent, federationtest.Options{})
	stores := make([]*federationtest.Store, 0, children)
	for _, n := range nodes[1:] {
		s := federationtest.NewStore(n.Journal, clock.System())
		record(t, s, 1)
		stores = append(stores, s)
		tree.Start(t, n.Code, s, federationtest.Options{Parent: top.Address, Interval: 2 * time.Second})
	}
	federationtest.Until(t, "all have said something", func() bool {
		for _, n := range nodes[1:] {
			if top.Downlink.Status()[n.Journal].Heard == 0 {
				return false
			}
		}
		return true
	})
	var flood sync.WaitGroup
	var enough atomic.Bool
	flood.Go(func() {
		for ahead := uint64(0); !enough.Load(); ahead = size(stores[0], nodes[1].Journal) - size(parent, nodes[1].Journal) {
			if ahead < 20_000 { // always more than fits the window
				record(t, stores[0], 2000)
			}
		}
	})
	federationtest.Until(t, "the flood has begun", func() bool { return size(parent, nodes[1].Journal) > 1 })
	before := size(parent, nodes[1].Journal)
	for round := 0; round < 3 || round < 1000 && size(parent, nodes[1].Journal) <= before; round++ { // while the flood comes in
		for _, s := range stores[1:] {
			record(t, s, 1)
		}
		for i, n := range nodes[2:] {
			want := size(stores[1+i], n.Journal)
			federationtest.Until(t, "a quiet child's record", func() bool { return size(parent, n.Journal) == want })
		}
	}
	if after := size(parent, nodes[1].Journal); after <= before || after == size(stores[0], nodes[1].Journal) {
		t.Errorf("the flood stood still or was over: %d, then %d of %d", before, after, size(stores[0], nodes[1].Journal))
	}
	enough.Store(true)
	flood.Wait()
	federationtest.Until(t, "the flood", func() bool { return size(parent, nodes[1].Journal) == size(stores[0], nodes[1].Journal) })
	same(t, stores[0], parent, nodes[1].Journal)
}
