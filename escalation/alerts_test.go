package escalation_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"google.golang.org/grpc"

	"duban.internal/escalation/alertview"
	"duban.internal/node/clock"
	"duban.internal/node/fault"
	"duban.internal/node/identity"
	"duban.internal/node/store"
	dubanv1 "duban.internal/proto/duban/v1"
)

// busyWorld has alerts of all three nodes at every level.
func busyWorld(t *testing.T) *world {
	w := newWorld(t, "2026-03-02 09:00")
	for day, at := range []string{"2026-03-03 09:00", "2026-03-04 09:00", "2026-03-06 10:00", "2026-03-12 11:00", "2026-03-17 11:00"} {
		w.until(at)
		for _, n := range w.nodes {
			id := fmt.Sprintf("C-%s-%d", n.code, day)
			n.opens(id)
			n.records(id, "investigation", "2026-02-24 10:00", "", "o1")
		}
		w.settle()
		if day == 1 {
			if err := w.by[city].handleOldest(); err != nil {
				t.Fatal(err)
			}
		}
	}
	return w
}

func (n *node) handleOldest() error {
	n.t.Helper()
	n.caller = n.agency()
	defer func() { n.caller = n.office() }()
	page, err := n.alerts.ListAlerts(context.Background(), &dubanv1.ListAlertsRequest{Jurisdiction: n.code, OpenOnly: true})
	if err != nil {
		return err
	}
	for _, a := range page.Alerts {
		if a.Agency == "a-"+n.code {
			_, err := n.alerts.HandleAlert(context.Background(), &dubanv1.HandleAlertRequest{
				RequestId: "r-1", AlertId: a.AlertId, Action: "explained", Explanation: "so", HandledBy: "p",
			})
			n.settle()
			return err
		}
	}
	return fmt.Errorf("nothing is open")
}

// top is the level of an alert that is listed: the highest of the last round.
func top(a *dubanv1.Alert) *dubanv1.AlertLevel { return a.Levels[len(a.Levels)-1] }

func TestList(t *testing.T) {
	w := busyWorld(t)
	c := w.by[city]
	ctx := context.Background()
	whole, err := c.alerts.ListAlerts(ctx, &dubanv1.ListAlertsRequest{})
	if err != nil || len(whole.Alerts) != 30 || whole.NextPageToken != "" {
		t.Fatalf("%d alerts, %v", len(whole.GetAlerts()), err)
	}
	for i, a := range whole.Alerts[1:] {
		if p := whole.Alerts[i]; top(p).DueUs > top(a).DueUs {
			t.Errorf("%v is listed before %v", p, a)
		}
	}
	for name, req := range map[string]*dubanv1.ListAlertsRequest{
		"all": {}, "open": {OpenOnly: true}, "level 1": {Level: 1}, "level 2": {Level: 2}, "level 3": {Level: 3},
		"district": {Jurisdiction: district}, "street": {Jurisdiction: street, OpenOnly: true},
	} {
		var want, got []string
		for _, a := range whole.Alerts {
			open := top(a).State == dubanv1.LevelState_LEVEL_STATE_OPEN || top(a).State == dubanv1.LevelState_LEVEL_STATE_OVERDUE
			if (req.OpenOnly || req.Level != 0) && !open || req.Level != 0 && top(a).Level != req.Level ||
				req.Jurisdiction != "" && !strings.HasPrefix(a.Jurisdiction, req.Jurisdiction) {
				continue
			}
			want = append(want, a.AlertId)
		}
		if len(want) == 0 {
			t.Errorf("%s: nothing to list", name)
		}
		req.PageSize = 4
		for pages := 0; ; pages++ {
			page, err := c.alerts.ListAlerts(ctx, req)
			if err != nil || pages > 20 {
				t.Fatalf("%s: page %d: %v", name, pages, err)
			}
			for _, a := range page.Alerts {
				got = append(got, a.AlertId)
			}
			if req.PageToken = page.NextPageToken; req.PageToken == "" {
				break
			}
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: got\n%v, want\n%v", name, got, want)
		}
	}

	// The figures count what the list shows.
	want := map[[2]int32]uint64{}
	for _, a := range whole.Alerts {
		for _, l := range a.Levels {
			want[[2]int32{int32(l.Level), int32(l.State)}]++
		}
	}
	err = c.store.View(ctx, func(q store.Queryer) error {
		figures, err := alertview.Figures(ctx, q, alertview.PlaceOf(c.store.Journals()), clock.Micros(w.clock.Now()))
		for _, f := range figures {
			k := [2]int32{int32(f.Level), int32(f.State)}
			if want[k] != f.Count {
				t.Errorf("level %d %v: %d, want %d", f.Level, f.State, f.Count, want[k])
			}
			delete(want, k)
		}
		return err
	})
	if err != nil || len(want) != 0 {
		t.Errorf("not counted: %v, %v", want, err)
	}
}

func TestGetByPrefix(t *testing.T) {
	w := busyWorld(t)
	c := w.by[city]
	whole, err := c.alerts.ListAlerts(context.Background(), &dubanv1.ListAlertsRequest{PageSize: 1})
	if err != nil {
		t.Fatal(err)
	}
	id := whole.Alerts[0].AlertId
	for _, row := range []struct {
		id   string
		kind fault.Kind
	}{{id, 0}, {id[:8], 0}, {strings.ToUpper(id[:8]), 0}, {id[:5], fault.Invalid}, {"xyzxyz", fault.Invalid}, {id + "0", fault.Invalid}, {"", fault.Invalid}, {"000000000", fault.NotFound}} {
		got, err := c.alerts.GetAlert(context.Background(), &dubanv1.GetAlertRequest{AlertId: row.id})
		if err == nil && got.Alert.AlertId != id || err != nil && (fault.Of(err) != row.kind || fault.Fields(err)[0].Field != "alert_id") {
			t.Errorf("%q: %v, %v", row.id, got, err)
		}
		if err == nil && row.kind != 0 {
			t.Errorf("%q was taken", row.id)
		}
	}
}

func TestRefusalsChangeNothing(t *testing.T) {
	w := busyWorld(t)
	c := w.by[city]
	ctx := context.Background()
	whole, err := c.alerts.ListAlerts(ctx, &dubanv1.ListAlertsRequest{Level: 1, OpenOnly: true, Jurisdiction: street})
	if err != nil {
		t.Fatal(err)
	}
	id, before := whole.Alerts[0].AlertId, w.sizes()
	fields := func(err error) string {
		var names []string
		for _, f := range fault.Fields(err) {
			names = append(names, f.Field)
		}
		return strings.Join(names, " ")
	}
	_, err = c.alerts.HandleAlert(ctx, &dubanv1.HandleAlertRequest{AlertId: id, Action: "shrug"})
	if fault.Of(err) != fault.Invalid || fields(err) != "explanation handled_by action" || !strings.Contains(err.Error(), "ordered_to_mend") {
		t.Errorf("empty: %v", err)
	}
	c.caller = c.agency()
	_, err = c.alerts.HandleAlert(ctx, &dubanv1.HandleAlertRequest{AlertId: id, Action: "explained", Explanation: "x", HandledBy: "y"})
	if !fault.Is(err, fault.Denied) || !strings.Contains(err.Error(), "agency:a-"+street) {
		t.Errorf("another's: %v", err)
	}
	_, err = c.alerts.HandleAlert(ctx, &dubanv1.HandleAlertRequest{AlertId: id, RequestId: strings.Repeat("x", 65)})
	if fields(err) != "request_id" {
		t.Errorf("request id: %v", err)
	}
	_, err = c.alerts.DisputeAlert(ctx, &dubanv1.DisputeAlertRequest{AlertId: id})
	if fields(err) != "reason disputed_by" {
		t.Errorf("dispute: %v", err)
	}
	_, err = c.alerts.ListAlerts(ctx, &dubanv1.ListAlertsRequest{PageSize: 1001, Jurisdiction: "999999"})
	if fields(err) != "page_size jurisdiction" {
		t.Errorf("list: %v", err)
	}
	for _, token := range []string{"x", "!!", "MTIz"} {
		if _, err = c.alerts.ListAlerts(ctx, &dubanv1.ListAlertsRequest{PageToken: token}); fields(err) != "page_token" {
			t.Errorf("token: %v", err)
		}
	}
	c.caller = identity.Identity{}
	if _, err = c.alerts.HandleAlert(ctx, &dubanv1.HandleAlertRequest{AlertId: id, Action: "explained", Explanation: "x", HandledBy: "y"}); !fault.Is(err, fault.Denied) {
		t.Errorf("nobody: %v", err)
	}
	if after := w.sizes(); after != before {
		t.Errorf("something was written: %s, before %s", after, before)
	}
}

// tap collects what a stream sends.
type tap struct {
	grpc.ServerStreamingServer[dubanv1.WatchAlertsResponse]
	ctx  context.Context //nolint:containedctx // a stream has one
	sent chan *dubanv1.Alert
}

func (s tap) Context() context.Context { return s.ctx }

func (s tap) Send(m *dubanv1.WatchAlertsResponse) error {
	s.sent <- m.GetAlert()
	return nil
}

func TestWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "2026-03-04 09:00")
		s, d := w.by[street], w.by[district]
		s.opens("C-1")
		s.records("C-1", "investigation", "2026-02-24 10:00", "", "o1", "o2")
		w.settle()
		ctx, stop := context.WithCancel(context.Background())
		stream := tap{ctx: ctx, sent: make(chan *dubanv1.Alert, 10)}
		ended := make(chan error, 1)
		go func() { ended <- d.alerts.WatchAlerts(&dubanv1.WatchAlertsRequest{Jurisdiction: street}, stream) }()
		next := func(what string, level uint32, state dubanv1.LevelState) {
			t.Helper()
			synctest.Wait()
			var last *dubanv1.Alert
			for len(stream.sent) > 0 {
				last = <-stream.sent
			}
			if last == nil || last.CaseId != "C-1" || top(last).Level != level || top(last).State != state {
				t.Errorf("%s: %v", what, last)
			}
		}
		next("open at first", 1, dubanv1.LevelState_LEVEL_STATE_OPEN)
		w.until("2026-03-10 09:00")
		next("level 2", 2, dubanv1.LevelState_LEVEL_STATE_OPEN)
		if err := d.handles("C-1", d.office()); err != nil {
			t.Fatal(err)
		}
		next("handled", 2, dubanv1.LevelState_LEVEL_STATE_HANDLED)
		d.opens("D-1")
		d.records("D-1", "investigation", "2026-02-24 10:00", "", "o1", "o2")
		w.settle()
		synctest.Wait()
		if len(stream.sent) != 0 {
			t.Errorf("not in the street: %v", <-stream.sent)
		}
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		for _, n := range w.nodes {
			n.store.Close()
		}
	})
}

// T22: an agency reads what concerns its own cases.
func TestAnAgencyReadsItsOwnAlertsOnly(t *testing.T) {
	w := busyWorld(t)
	c := w.by[city]
	ctx := context.Background()
	whole, err := c.alerts.ListAlerts(ctx, &dubanv1.ListAlertsRequest{PageSize: 1000})
	if err != nil || len(whole.Alerts) == 0 {
		t.Fatal(whole, err)
	}
	before := c.caller
	defer func() { c.caller = before }()
	agency := whole.Alerts[0].Agency
	own := 0
	for _, a := range whole.Alerts {
		if a.Agency == agency {
			own++
		}
	}
	for id, want := range map[string]int{agency: own, agency + "-other": 0} {
		c.caller = identity.Identity{City: before.City, Kind: identity.Agency, ID: id}
		page, err := c.alerts.ListAlerts(ctx, &dubanv1.ListAlertsRequest{PageSize: 1000})
		if err != nil || len(page.Alerts) != want {
			t.Errorf("%s reads %d alerts, want %d (%v)", id, len(page.GetAlerts()), want, err)
		}
		_, err = c.alerts.GetAlert(ctx, &dubanv1.GetAlertRequest{AlertId: whole.Alerts[0].AlertId})
		if want > 0 && err != nil || want == 0 && !fault.Is(err, fault.NotFound) {
			t.Errorf("%s asks for the alert: %v", id, err)
		}
	}
}
