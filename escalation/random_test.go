package escalation_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"duban.internal/escalation"
	"duban.internal/escalation/alertview"
	"duban.internal/node/clock"
	"duban.internal/node/store"
	dubanv1 "duban.internal/proto/duban/v1"
)

// Whatever is cut, for however long, and whatever people do meanwhile: once all lines stand and the time has gone by, every
// alert is where its handlings put it. A level above one that was handled in time does not stand; a level that ran out
// unhandled is followed by the next; nothing exists twice or early; nothing due is left lying.
func TestWhateverIsCut(t *testing.T) {
	seeds := 12
	if testing.Short() {
		seeds = 4
	}
	var withdrawn, unseen, silent int
	for seed := range uint64(seeds) {
		w, n := chaos(t, seed)
		withdrawn, unseen, silent = withdrawn+n[0], unseen+n[1], silent+n[2]
		if t.Failed() {
			t.Fatalf("seed %d at %s", seed, w.clock.Now().In(w.zone).Format(time.DateTime))
		}
	}
	if !testing.Short() && (withdrawn < 5 || unseen < 5 || silent < 5) {
		t.Errorf("too little happened: %d withdrawn, %d not opened below, %d on silence", withdrawn, unseen, silent)
	}
}

func chaos(t *testing.T, seed uint64) (w *world, counts [3]int) {
	rnd := rand.New(rand.NewPCG(seed, 7))
	w = newWorld(t, "2026-03-02 09:00")
	s, d, c := w.by[street], w.by[district], w.by[city]
	if seed%3 == 1 {
		s.silenced()
	}
	if seed%2 == 0 {
		d.watches()
		c.watches()
	}
	cases := 0
	at := func() string { return w.clock.Now().In(w.zone).Format("2006-01-02 15:04") }
	for range 40 {
		n := w.nodes[rnd.IntN(3)]
		switch rnd.IntN(10) {
		case 0, 1:
			id := fmt.Sprintf("C-%d", cases)
			cases++
			n.opens(id)
			n.records(id, "investigation", "2026-02-24 10:00", "", "o1", "o2")
			if rnd.IntN(2) == 0 {
				n.records(id, "decision", at(), "penalty")
			}
		case 2:
			if cases > 0 {
				id := fmt.Sprintf("C-%d", rnd.IntN(cases))
				if w.cases[n.store.Own().String()+id] != nil {
					n.records(id, "service", at(), "")
				}
			}
		case 3:
			s.parent = []*node{nil, d, c}[rnd.IntN(3)]
		case 4:
			d.parent = []*node{nil, c}[rnd.IntN(2)]
		case 5:
			d.off = !d.off
		case 6, 7:
			n.meddle(rnd)
		}
		w.clock.Advance(time.Duration(rnd.IntN(30)) * time.Hour)
		w.settle()
		n.agrees()
	}
	s.parent, d.parent, d.off = d, c, false
	for range 60 {
		w.clock.Advance(24 * time.Hour)
		w.settle()
	}
	for _, n := range w.nodes {
		n.levels()
		n.nothingLies()
		n.agrees()
	}
	page, err := c.alerts.ListAlerts(context.Background(), &dubanv1.ListAlertsRequest{PageSize: 1000})
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range page.Alerts {
		check(t, a, clock.Micros(w.clock.Now()))
		for _, l := range a.Levels {
			for i, is := range []bool{l.WithdrawnUs != 0, l.NotOpenedBelow, l.OnSilence} {
				if is {
					counts[i]++
				}
			}
		}
	}
	return w, counts
}

// meddle has somebody at a node handle, dispute or reopen something.
func (n *node) meddle(rnd *rand.Rand) {
	n.t.Helper()
	ctx := context.Background()
	n.caller = n.office()
	page, err := n.alerts.ListAlerts(ctx, &dubanv1.ListAlertsRequest{})
	if err != nil {
		n.t.Fatal(err)
	}
	if len(page.Alerts) == 0 {
		return
	}
	a := page.Alerts[rnd.IntN(len(page.Alerts))]
	what := rnd.IntN(8)
	if what < 3 {
		n.caller = n.agency()
	}
	defer func() { n.caller = n.office() }()
	// Refused is as good.
	switch {
	case what < 6:
		n.alerts.HandleAlert(ctx, &dubanv1.HandleAlertRequest{AlertId: a.AlertId, Action: "explained", Explanation: "so", HandledBy: "p"}) //nolint:errcheck // may be refused
	case what == 6:
		n.alerts.DisputeAlert(ctx, &dubanv1.DisputeAlertRequest{AlertId: a.AlertId, Reason: "untrue", DisputedBy: "p"}) //nolint:errcheck // may be refused
	default:
		n.alerts.ReopenAlert(ctx, &dubanv1.ReopenAlertRequest{AlertId: a.AlertId, Reason: "unseen", ReopenedBy: "p"}) //nolint:errcheck // may be refused
	}
}

// nothingLies says that no deadline is left that should have fired.
func (n *node) nothingLies() {
	n.t.Helper()
	until := clock.Micros(n.clock.Now().Add(-grace))
	for _, info := range n.store.Journals() {
		for _, table := range []*store.Table{escalation.Deadline, escalation.Derived} {
			rows, err := n.store.Scan(context.Background(), info.ID, table, nil, 1)
			if err != nil {
				n.t.Fatal(err)
			}
			if len(rows) > 0 && rows[0][0].(int64) <= until {
				n.t.Errorf("%s: %s of alert %v, level %v, is left since %s", n.code, table.Name, rows[0][1], rows[0][3], n.local(rows[0][0].(int64)))
			}
		}
	}
}

// agrees says that figures and the list of what is open count what the alerts show.
func (n *node) agrees() {
	n.t.Helper()
	ctx := context.Background()
	n.caller = n.office()
	want, open := map[[2]int32]uint64{}, map[string]bool{}
	page, err := n.alerts.ListAlerts(ctx, &dubanv1.ListAlertsRequest{PageSize: 1000})
	if err != nil {
		n.t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, a := range page.Alerts {
		if seen[a.AlertId] {
			n.t.Errorf("%s lists alert %s twice", n.code, a.AlertId)
		}
		seen[a.AlertId] = true
		for _, l := range a.Levels {
			want[[2]int32{int32(l.Level), int32(l.State)}]++
			if l.State == dubanv1.LevelState_LEVEL_STATE_OPEN || l.State == dubanv1.LevelState_LEVEL_STATE_OVERDUE {
				open[a.AlertId] = true
			}
		}
	}
	page, err = n.alerts.ListAlerts(ctx, &dubanv1.ListAlertsRequest{PageSize: 1000, OpenOnly: true})
	if err != nil {
		n.t.Fatal(err)
	}
	for _, a := range page.Alerts {
		if !open[a.AlertId] {
			n.t.Errorf("%s lists as open: %v", n.code, a)
		}
		delete(open, a.AlertId)
	}
	if len(open) != 0 {
		n.t.Errorf("%s does not list as open: %v", n.code, open)
	}
	err = n.store.View(ctx, func(q store.Queryer) error {
		figures, err := alertview.Figures(ctx, q, alertview.PlaceOf(n.store.Journals()), clock.Micros(n.clock.Now()))
		for _, f := range figures {
			k := [2]int32{int32(f.Level), int32(f.State)}
			if want[k] != f.Count {
				n.t.Errorf("%s: level %d %v: %d, want %d", n.code, f.Level, f.State, f.Count, want[k])
			}
			delete(want, k)
		}
		return err
	})
	if err != nil || len(want) != 0 {
		n.t.Errorf("%s: not counted: %v, %v", n.code, want, err)
	}
}

// check says whether the levels of an alert, all of them known, fit their handlings.
func check(t *testing.T, a *dubanv1.Alert, now int64) {
	t.Helper()
	if a.CaseId == "" {
		return // about a node
	}
	for i, l := range a.Levels {
		inTime := l.HandledUs != 0 && !l.Late
		stands := l.WithdrawnUs == 0 || l.ReopenedUs != 0
		last := l.Receiver == city
		followed := false
		for _, above := range a.Levels[i+1:] {
			if above.Round != l.Round {
				continue
			}
			followed = true
			if inTime && above.HandledUs == 0 && above.ReopenedUs == 0 && above.State != dubanv1.LevelState_LEVEL_STATE_WITHDRAWN && !between(a.Levels[i+1:], l.Round) {
				t.Errorf("level %d stands above level %d, which was handled in time: %v", above.Level, l.Level, a)
			}
		}
		if !inTime && stands && !last && l.DueUs != 0 && l.DueUs+grace.Microseconds() < now && !followed {
			t.Errorf("level %d ran out and nothing follows: %v", l.Level, a)
		}
		if l.WithdrawnUs != 0 && l.Withdrawn == dubanv1.Basis_BASIS_UNSPECIFIED {
			t.Errorf("withdrawn on no basis: %v", a)
		}
	}
}

// between says whether some level of a round was reopened: what stands above it does so rightly.
func between(levels []*dubanv1.AlertLevel, round uint32) bool {
	for _, l := range levels {
		if l.Round == round && l.ReopenedUs != 0 {
			return true
		}
	}
	return false
}
