package federation_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"duban.internal/federation/federationtest"
	"duban.internal/node/clock"
)

// days is a clock that a test moves; patience is real.
type days struct{ *clock.Manual }

func (days) Patience(d time.Duration) clock.Timer { return clock.System().Patience(d) }

// Ninety days without a line, and what happened meanwhile goes up: everything, once, at a cost that grows with what there is
// to tell and not with the time.
func TestNinetyDaysOffline(t *testing.T) {
	cost := func(offline, perDay int) (bytes int64) {
		tree := newTree(t)
		now := days{clock.NewManual(time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC))}
		parent, child := federationtest.NewStore(tree.ID(district), now), federationtest.NewStore(tree.ID(street), now)
		id := tree.ID(street)
		record(t, parent, 1)
		record(t, child, 1)
		mid := tree.Start(t, district, parent, federationtest.Options{Clock: now})
		line := federationtest.NewLine(t, mid.Address)
		low := tree.Start(t, street, child, federationtest.Options{Clock: now, Parent: line.Address, Interval: 30 * time.Second})
		federationtest.Until(t, "the first is there", func() bool { return low.Uplink.Status().Acknowledged[id] == 1 })
		line.Set(true, false, false, 0)
		federationtest.Until(t, "the line is dead", func() bool { return !low.Uplink.Status().Connected })
		for range offline {
			now.Advance(24 * time.Hour)
			record(t, child, perDay)
		}
		if n := size(parent, id); n != 1 {
			t.Fatalf("%d entries went through a dead line", n)
		}
		before := line.Bytes()
		line.Set(false, false, false, 0)
		want := uint64(1 + offline*perDay)
		federationtest.Until(t, "all is acknowledged", func() bool { return low.Uplink.Status().Acknowledged[id] == want })
		bytes = line.Bytes() - before
		same(t, child, parent, id)
		if at := mid.Downlink.Peer(id); at.Size != want || at.Checkpoint < clock.Micros(now.Now())-time.Hour.Microseconds() {
			t.Errorf("%+v", at)
		}
		low.Stop()
		mid.Stop()
		return bytes
	}
	month, quarter, idle := cost(30, 100), cost(90, 100), cost(90, 1)
	t.Logf("bytes: 30 days of 100 entries %d, 90 days of 100 %d, 90 days of 1 %d", month, quarter, idle)
	if quarter > 4*month || quarter < 2*month || idle > month {
		t.Error("the cost does not follow the backlog")
	}
}

// Cuts, delays and one-way losses, over and over: nothing is lost, nothing is twice, nobody honest is refused.
func TestBadLine(t *testing.T) {
	tree := newTree(t)
	parent, child := newStore(t, tree, district), newStore(t, tree, street)
	id := tree.ID(street)
	mid := tree.Start(t, district, parent, federationtest.Options{})
	line := federationtest.NewLine(t, mid.Address)
	low := tree.Start(t, street, child, federationtest.Options{Parent: line.Address, Batch: 4 << 10, Silence: 200 * time.Millisecond})
	r := rand.New(rand.NewPCG(7, 7))
	total := 0
	for range 24 {
		n := 1 + r.IntN(200)
		record(t, child, n)
		total += n
		switch r.IntN(5) {
		case 0:
			line.Break()
		case 1:
			line.Set(true, false, false, 0)
		case 2:
			line.Set(false, true, false, 0)
		case 3:
			line.Set(false, false, true, 0)
		case 4:
			line.Set(false, false, false, 20*time.Millisecond)
		}
		if err := clock.Pause(t.Context(), clock.System(), time.Duration(r.IntN(80))*time.Millisecond); err != nil {
			t.Fatal(err)
		}
	}
	line.Set(false, false, false, 0)
	line.Break()
	federationtest.Until(t, "all is acknowledged", func() bool { return low.Uplink.Status().Acknowledged[id] == uint64(total) })
	same(t, child, parent, id)
	if found := evidence(t, parent); len(found) != 0 {
		t.Errorf("an honest street was refused: %v", found)
	}
}

// Messages that come twice and out of order change nothing.
func TestTwiceAndOutOfOrder(t *testing.T) {
	tree := newTree(t)
	parent, child := newStore(t, tree, district), newStore(t, tree, street)
	id := tree.ID(street)
	mid := tree.Start(t, district, parent, federationtest.Options{})
	relay := tree.NewRelay(t, street, mid.Address, 0.03)
	low := tree.Start(t, street, child, federationtest.Options{Parent: relay.Address, Batch: 2 << 10, Silence: 200 * time.Millisecond})
	for range 12 {
		record(t, child, 100)
		if err := clock.Pause(t.Context(), clock.System(), 20*time.Millisecond); err != nil {
			t.Fatal(err)
		}
	}
	federationtest.Until(t, "all is acknowledged", func() bool { return low.Uplink.Status().Acknowledged[id] == 1200 })
	same(t, child, parent, id)
	twice, late := relay.Done()
	t.Logf("%d messages went twice, %d late", twice, late)
	if found := evidence(t, parent); len(found) != 0 || twice < 5 || late < 5 {
		t.Errorf("%d twice, %d late, refused: %v", twice, late, found)
	}
}
