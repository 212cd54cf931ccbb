package alert_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"duban.internal/escalation/alert"
	"duban.internal/node/fault"
	"duban.internal/node/identity"
	dubanv1 "duban.internal/proto/duban/v1"
)

// What a node derives of levels that it did not see opened.
func TestDerive(t *testing.T) {
	type derived struct {
		level    uint32
		receiver string
		start    int64
		due      int64
	}
	at := func(code string, level uint32) *dubanv1.LevelOpened {
		o := ran(street)
		o.Level, o.Receiver, o.OnSilence, o.Below = level, code, true, street
		return o
	}
	for _, c := range []struct {
		name  string
		site  alert.Site
		prev  *dubanv1.LevelOpened
		start int64
		want  *derived
	}{
		{"a district waits for level 1 of its street's limits", site(district), ran(street), 100, &derived{1, street, 100, 100 + 3*day}},
		{"a city waits for level 2, by a limit alone", site(city), ran(street), 100, &derived{2, district, 100 + 3*day, 100 + 5*day}},
		{"and by level 1", site(city), at(street, 1), 100, &derived{2, district, 100, 100 + 2*day}},
		{"a city waits for its districts' level 2", site(city), ran(district), 100, &derived{2, district, 100 + 3*day, 100 + 5*day}},
		{"an agency without a legal unit has no time", site(district, "a1"), ran(street), 100, &derived{1, street, 100, 100}},
		{"whether an office elsewhere is vacant isn't known", site(city, district), at(street, 1), 100, &derived{2, district, 100, 100 + 2*day}},
		{"the level itself is waited for", site(city), at(district, 2), 100, &derived{2, district, 0, 0}},
		{"an open-ended limit isn't counted on", site(city), ran(street), 0, &derived{0, street, 0, 0}},
		{"nothing follows the last", site(city), at(city, 3), 100, nil},
		{"a street waits for nothing above", site(street), at(street, 1), 100, nil},
		{"another district neither", site("120101"), ran(street), 100, nil},
		{"nor while open-ended", site("120101"), ran(street), 0, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			o, ok := c.site.Derive(c.prev, c.start)
			if ok != (c.want != nil) {
				t.Fatalf("%v %v", o, ok)
			}
			if !ok {
				return
			}
			if diff := cmp.Diff(*c.want, derived{o.Level, o.Receiver, o.StartUs, o.DueUs}, cmp.AllowUnexported(derived{})); diff != "" {
				t.Error(diff)
			}
			if o.AlertId != c.prev.AlertId || o.OnSilence || o.Below != "" {
				t.Errorf("got %v", o)
			}
		})
	}
}

// The first office above a case's own jurisdiction watches it.
func TestWatches(t *testing.T) {
	for home, want := range map[string]string{street: district, district: city, city: ""} {
		for _, code := range []string{street, district, city} {
			if got := site(code).Watches(ran(home)); got != (code == want) {
				t.Errorf("%s watches %s: %v", code, home, got)
			}
		}
	}
}

func withdrawn(a *alert.Alert, level uint32, basis dubanv1.Basis) *alert.Alert {
	a.Withdrawn(9*day, &dubanv1.LevelWithdrawn{Round: 1, Level: level, Basis: basis})
	return a
}

func reopened(a *alert.Alert, level uint32, due int64) *alert.Alert {
	a.Reopened(10*day, &dubanv1.LevelReopened{Round: 1, Level: level, StartUs: 10 * day, DueUs: due, Reason: "so"})
	return a
}

func handledIn(a *alert.Alert, level uint32, at int64) *alert.Alert {
	a.Handled(at, &dubanv1.LevelHandled{Round: 1, Level: level, HandledBy: "p"})
	return a
}

// without1 is an alert whose level 1 was never opened.
func without1(a *alert.Alert) *alert.Alert {
	a.Levels = a.Levels[1:]
	return a
}

const (
	claimed   = dubanv1.Basis_BASIS_CLAIMED
	witnessed = dubanv1.Basis_BASIS_WITNESSED
)

// How alerts stand whose levels were withdrawn and reopened.
func TestWithdrawn(t *testing.T) {
	state := func(s dubanv1.LevelState) string { return s.String()[len("LEVEL_STATE_"):] }
	for _, c := range []struct {
		name   string
		alert  *alert.Alert
		states string
		closed bool
		due    uint32 // level that is due to be opened, long after
		free   bool   // a level after the top may open as far as handlings go
	}{
		{"open", opened(t, 1, 2), "PASSED OPEN", false, 3, true},
		{"level 2 withdrawn", withdrawn(handledIn(opened(t, 1, 2), 1, day), 2, claimed), "HANDLED WITHDRAWN", true, 0, false},
		{"with level 3", withdrawn(withdrawn(handledIn(opened(t, 1, 2, 3), 1, day), 2, claimed), 3, claimed), "HANDLED WITHDRAWN WITHDRAWN", true, 0, false},
		{"a limit that had ended in time", withdrawn(without1(opened(t, 1, 2)), 2, witnessed), "WITHDRAWN", true, 0, false},
		{"reopened", reopened(withdrawn(handledIn(opened(t, 1, 2), 1, day), 2, claimed), 2, 12*day), "HANDLED OPEN", false, 3, true},
		{"reopened and handled by its new due time", handledIn(reopened(withdrawn(handledIn(opened(t, 1, 2), 1, day), 2, claimed), 2, 12*day), 2, 12*day-1),
			"HANDLED HANDLED", true, 0, false},
		{"reopened and handled too late", handledIn(reopened(withdrawn(handledIn(opened(t, 1, 2), 1, day), 2, claimed), 2, 12*day), 2, 12*day),
			"HANDLED OPEN", false, 3, true},
		{"the level above it was withdrawn too", reopened(withdrawn(withdrawn(handledIn(opened(t, 1, 2, 3), 1, day), 2, claimed), 3, claimed), 2, 12*day),
			"HANDLED OPEN WITHDRAWN", false, 3, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := ""
			for i := range c.alert.Levels {
				if i > 0 {
					got += " "
				}
				got += state(c.alert.State(&c.alert.Levels[i], 11*day))
			}
			if got != c.states || c.alert.Closed() != c.closed || (c.alert.Open() == nil) != c.closed {
				t.Errorf("%s, closed %v, open %v", got, c.alert.Closed(), c.alert.Open())
			}
			level, _, due := c.alert.LevelAt(100 * day)
			if due != (c.due != 0) || level != c.due {
				t.Errorf("level %d is due: %v", level, due)
			}
			last := c.alert.Levels[len(c.alert.Levels)-1]
			if got := c.alert.Unhandled(1, last.Step()); got != c.free {
				t.Errorf("unhandled: %v", got)
			}
		})
	}
	a := withdrawn(handledIn(opened(t, 1, 2), 1, day), 2, witnessed)
	a.Withdrawn(11*day, &dubanv1.LevelWithdrawn{Round: 1, Level: 2, Basis: claimed})
	if l := a.Level(1, 2); l.WithdrawnAt != 9*day || l.Withdrawal.Basis != witnessed {
		t.Error("withdrawn twice")
	}
	a.Reopened(10*day, &dubanv1.LevelReopened{Round: 1, Level: 1})
	if a.Level(1, 1).Reopening != nil {
		t.Error("reopened what was never withdrawn")
	}
	if a.Unhandled(1, 1) || !a.Unhandled(2, 1) {
		t.Error("another round is another matter")
	}
	_, err := a.DecideHandling(alert.Handling{Level: 2, Action: "mend", Explanation: "x", HandledBy: "p"}, as(identity.Office, district, "legal_office"),
		alert.Desk{Code: district, Profile: book}, 9*day)
	if !fault.Is(err, fault.Precondition) {
		t.Errorf("handled what was withdrawn: %v", err)
	}
}

func TestReopen(t *testing.T) {
	office := as(identity.Office, district, "legal_office")
	limit := func(*dubanv1.LevelOpened) (alert.Rung, bool) { return alert.Rung{DueAt: 20 * day}, true }
	make2 := func(basis dubanv1.Basis) *alert.Alert {
		return withdrawn(handledIn(opened(t, 1, 2), 1, day), 2, basis)
	}
	for _, c := range []struct {
		name   string
		alert  *alert.Alert
		node   string
		by     identity.Identity
		reason string
		kind   fault.Kind
	}{
		{"claimed", make2(claimed), district, office, "nobody saw it", 0},
		{"with level 3 of the city", withdrawn(withdrawn(opened(t, 1, 2, 3), 2, claimed), 3, claimed), district, office, "nobody saw it", 0},
		{"witnessed", make2(witnessed), district, office, "nobody saw it", fault.Precondition},
		{"not withdrawn", opened(t, 1, 2), district, office, "nobody saw it", fault.Precondition},
		{"a second time", reopened(make2(claimed), 2, 12*day), district, office, "nobody saw it", fault.Precondition},
		{"handled late before", withdrawn(handledIn(opened(t, 1, 2), 2, 50*day), 2, claimed), district, office, "nobody saw it", fault.Precondition},
		{"the agency", make2(claimed), district, as(identity.Agency, "a1"), "nobody saw it", fault.Denied},
		{"at the city", make2(claimed), city, as(identity.Office, city, "legal_office"), "nobody saw it", fault.Denied},
		{"no reason", make2(claimed), district, office, " ", fault.Invalid},
		{"unknown", &alert.Alert{}, district, office, "nobody saw it", fault.Precondition},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := c.alert.DecideReopen(c.reason, "p9", c.by, alert.Desk{Code: c.node, Profile: book}, limit, 15*day)
			if c.kind != 0 {
				if !fault.Is(err, c.kind) {
					t.Errorf("%v, %v", got, err)
				}
				return
			}
			if err != nil || got.Level != 2 || got.Round != 1 || got.StartUs != 15*day || got.DueUs != 20*day || got.ReopenedBy != "p9" {
				t.Fatalf("%v, %v", got, err)
			}
			c.alert.Reopened(15*day, got)
			if l := c.alert.Open(); l == nil || l.Step() != 2 || l.DueAt() != 20*day {
				t.Errorf("then %v", l)
			}
		})
	}
	a := make2(claimed)
	next := site(district).Next(a.Level(1, 1).Opening, day)
	if _, err := a.DecideDispute("untrue", "p", office, alert.Desk{Code: district, Profile: book}, next[0]); err != nil {
		t.Errorf("the handling that was claimed can be disputed as well: %v", err)
	}
}
