package federation_test

import (
	"context"
	"testing"
	"time"

	"duban.internal/federation"
	"duban.internal/federation/federationtest"
	"duban.internal/federation/uplink"
	"duban.internal/node/jurisdiction"
)

// The city's countersignatures come down through the district; when they stay away, the street dials the city itself, and
// goes back when they come again. The city has everything once, the district learns when it was shown to the city.
func TestAroundADeadMiddle(t *testing.T) {
	tree := newTree(t)
	top, middle, low := newStore(t, tree, city), newStore(t, tree, district), newStore(t, tree, street)
	id := tree.ID(street)
	record(t, low, 50)
	up := tree.Start(t, city, top, federationtest.Options{})
	mid := tree.Start(t, district, middle, federationtest.Options{Parent: up.Address})
	line := federationtest.NewLine(t, mid.Address)
	leaf := tree.Start(t, street, low, federationtest.Options{Parent: line.Address, Around: time.Second,
		Ancestors: map[jurisdiction.Code]string{city: up.Address}})
	above := func() uplink.Above { return leaf.Uplink.Status().Above[0] }
	federationtest.Until(t, "the city's word comes down", func() bool { return above().Witnessed > 0 })
	row, ok, err := low.Get(context.Background(), id, federation.Ancestor, string(city))
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	if _, err := tree.Keys[city].Public().Witnessed(row[4].([]byte)); err != nil {
		t.Error(err)
	}
	if _, err := tree.Keys[street].Public().Open(row[4].([]byte)); err != nil {
		t.Error(err)
	}
	if above().Dialed {
		t.Error("dialed although its word comes down")
	}

	line.Set(true, false, false, 0)
	record(t, low, 30)
	federationtest.Until(t, "the street reaches the city", func() bool { return above().Connected && size(top, id) == 80 })
	record(t, low, 30)
	federationtest.Until(t, "and goes on", func() bool { return size(top, id) == 110 })
	if size(middle, id) != 50 {
		t.Errorf("the district has %d", size(middle, id))
	}
	shown, _, ok, err := up.Downlink.Witnessed(context.Background(), id, 79)
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	rows := func() (n int) {
		found, err := low.Scan(context.Background(), id, federation.Witness, nil, 100)
		if err != nil {
			t.Fatal(err)
		}
		return len(found)
	}
	if rows() == 0 {
		t.Error("the street keeps nothing to show the district")
	}

	line.Set(false, false, false, 0)
	federationtest.Until(t, "the district has all", func() bool { return size(middle, id) == 110 })
	federationtest.Until(t, "the street goes back", func() bool { return !above().Dialed })
	record(t, low, 30)
	federationtest.Until(t, "the city has what goes by the district", func() bool { return size(top, id) == 140 })
	same(t, low, top, id)
	same(t, low, middle, id)
	// The district knows when the city saw entry 79: long before it did itself.
	at, _, ok, err := mid.Downlink.Witnessed(context.Background(), id, 79)
	if err != nil || !ok || at > shown+2*federation.WitnessEvery || at < shown-2*federation.WitnessEvery {
		t.Errorf("the city saw it at %d, the district says %d, %v, %v", shown, at, ok, err)
	}
	own, err := middle.Scan(context.Background(), id, federation.Witness, []any{string(district), int64(80)}, 1)
	if err != nil || len(own) != 1 || own[0][3].(int64) < at {
		t.Errorf("the district itself saw it %v, %v", own, err)
	}
	federationtest.Until(t, "what was shown is dropped", func() bool { return rows() == 0 })
	if len(evidence(t, top))+len(evidence(t, middle)) != 0 {
		t.Error("an honest street was refused")
	}
}
