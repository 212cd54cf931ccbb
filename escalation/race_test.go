package escalation_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"duban.internal/node/clock"
	"duban.internal/node/fault"
	dubanv1 "duban.internal/proto/duban/v1"
)

// Legal units handle while the clock passes the due time and the runner fires: whatever the order, a level recorded as
// handled before its due time is not passed, any other one is, and nothing exists twice or early.
func TestHandledWhileFiring(t *testing.T) {
	const alerts = 120
	w := newWorld(t, "2026-03-04 09:30", openEmbedded)
	c := w.by[city]
	for i := range alerts {
		c.opens(fmt.Sprintf("C-%d", i))
		c.records(fmt.Sprintf("C-%d", i), "investigation", "2026-03-02 10:00", "", "o1", "o2")
	}
	w.settle()
	page, err := c.alerts.ListAlerts(context.Background(), &dubanv1.ListAlertsRequest{PageSize: 1000})
	if err != nil || len(page.Alerts) != alerts {
		t.Fatal(len(page.GetAlerts()), err)
	}
	due := w.at("2026-03-10 00:00")
	w.clock.Set(due.Add(-alerts * time.Millisecond))
	w.settle()

	ctx, stop := context.WithCancel(t.Context())
	var runs, handles sync.WaitGroup
	runs.Go(func() {
		if err := c.runner.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	c.caller = c.agency()
	for worker := range 4 {
		rnd := rand.New(rand.NewPCG(uint64(worker), 1))
		handles.Go(func() {
			for i := worker; i < alerts; i += 4 {
				if rnd.IntN(4) == 0 {
					continue
				}
				_, err := c.alerts.HandleAlert(ctx, &dubanv1.HandleAlertRequest{
					AlertId: page.Alerts[i].AlertId, Level: 1, Action: "explained", Explanation: "so", HandledBy: "p",
				})
				if err != nil && !fault.Is(err, fault.Unavailable) {
					t.Error(err)
				}
				w.clock.Advance(2 * time.Millisecond)
			}
		})
	}
	handles.Wait()
	w.clock.Set(due.Add(time.Hour))
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); {
		watch := c.store.Watch()
		if passedOrHandled(t, c) == alerts {
			break
		}
		select {
		case <-watch:
		case <-time.After(time.Second):
		}
	}
	stop()
	runs.Wait()
	c.levels() // nothing twice or early
	counts := map[string]int{}
	page, err = c.alerts.ListAlerts(context.Background(), &dubanv1.ListAlertsRequest{PageSize: 1000})
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range page.Alerts {
		one := a.Levels[0]
		inTime := one.HandledUs != 0 && one.HandledUs < clock.Micros(due)
		if inTime != (len(a.Levels) == 1) {
			t.Errorf("handled %d before due %d: %v; %d levels", one.HandledUs, one.DueUs, inTime, len(a.Levels))
		}
		counts[fmt.Sprint(one.State, one.Late)]++
	}
	if len(counts) < 3 {
		t.Errorf("the race was none: %v", counts)
	}
}

// passedOrHandled counts alerts that were handled in time or have a level 2.
func passedOrHandled(t *testing.T, n *node) (count int) {
	t.Helper()
	page, err := n.alerts.ListAlerts(context.Background(), &dubanv1.ListAlertsRequest{PageSize: 1000})
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range page.Alerts {
		if len(a.Levels) > 1 || a.Levels[0].State == dubanv1.LevelState_LEVEL_STATE_HANDLED {
			count++
		}
	}
	return count
}
