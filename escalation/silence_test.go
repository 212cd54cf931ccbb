package escalation_test

import (
	"context"
	"testing"

	"duban.internal/node/fault"
	dubanv1 "duban.internal/proto/duban/v1"
)

const level1 = "late_collection 1.1 legal_unit@120116013 "

// late has cases of the street with level 1 open from March 4 09:30 until March 10.
func late(t *testing.T, cases ...string) (w *world, s, d, c *node) {
	t.Helper()
	return lateOn(t, openMem, cases...)
}

func lateOn(t *testing.T, open opener, cases ...string) (w *world, s, d, c *node) {
	t.Helper()
	w = newWorld(t, "2026-03-04 09:30", open)
	s, d, c = w.by[street], w.by[district], w.by[city]
	for _, id := range cases {
		s.opens(id)
		s.records(id, "investigation", "2026-03-02 10:00", "", "o1", "o2")
	}
	w.settle()
	return w, s, d, c
}

// lone lets a node go on without its parent.
func (n *node) lone() {
	n.parent = nil
}

// The street is cut off and works on alone. Its district waits for the grace, opens level 2 on its silence, and takes it
// back when the street returns with a handling in time; what nobody had seen meanwhile is only claimed.
func TestSilence(t *testing.T) {
	t.Run("memory", func(t *testing.T) { silenceOf(t, openMem) })
	t.Run("embedded", func(t *testing.T) { silenceOf(t, openEmbedded) })
}

func silenceOf(t *testing.T, open opener) {
	w, s, d, c := lateOn(t, open, "C-1", "C-2")
	w.until("2026-03-09 16:00")
	s.lone()
	if err := s.handles("C-2", s.agency()); err != nil {
		t.Fatal(err)
	}
	w.until("2026-03-10 01:59:59")
	want(t, d, "C-1", level1+"OPEN 03-04 09:30 03-10 00:00")
	want(t, d, "C-2", level1+"OPEN 03-04 09:30 03-10 00:00")
	w.until("2026-03-10 02:00")
	level2 := "late_collection 1.2 legal_office@120116 "
	for _, id := range []string{"C-1", "C-2"} {
		want(t, c, id, level1+"PASSED 03-04 09:30 03-10 00:00", level2+"OPEN 03-10 02:00 03-14 00:00")
		if l := d.only(id).Levels[1]; !l.OnSilence || l.NotOpenedBelow || l.Below != street {
			t.Errorf("opened as %v", l)
		}
	}
	w.until("2026-03-12 10:00")
	s.parent = d
	w.settle()
	want(t, d, "C-1", level1+"PASSED 03-04 09:30 03-10 00:00", level2+"OPEN 03-10 02:00 03-14 00:00")
	for _, n := range []*node{d, c} {
		want(t, n, "C-2", level1+"HANDLED 03-04 09:30 03-10 00:00", level2+"WITHDRAWN 03-10 02:00 03-14 00:00")
		if a := n.only("C-2"); !a.Closed || a.Levels[1].Withdrawn != dubanv1.Basis_BASIS_CLAIMED || a.Levels[1].WithdrawnUs != w.at("2026-03-12 10:00").UnixMicro() {
			t.Errorf("%s shows %v", n.code, a)
		}
	}
	w.until("2026-03-14 00:00")
	want(t, c, "C-2", level1+"HANDLED 03-04 09:30 03-10 00:00", level2+"WITHDRAWN 03-10 02:00 03-14 00:00")
	want(t, c, "C-1", level1+"PASSED 03-04 09:30 03-10 00:00", level2+"PASSED 03-10 02:00 03-14 00:00",
		"late_collection 1.3 legal_office@120000 OPEN 03-14 00:00 03-21 00:00")
	if l := c.only("C-1").Levels[2]; l.OnSilence || l.NotOpenedBelow || l.Below != "" {
		t.Errorf("level 3 opened as %v: the district was there", l)
	}
}

// The same with a city that saw the street meanwhile: its witness, within the grace, makes the handling certain.
func TestWitnessed(t *testing.T) {
	for _, row := range []struct {
		seen  string // by the city
		basis dubanv1.Basis
	}{{"2026-03-10 01:30", dubanv1.Basis_BASIS_WITNESSED}, {"2026-03-10 02:30", dubanv1.Basis_BASIS_CLAIMED}} {
		w, s, d, c := late(t, "C-1")
		w.until("2026-03-09 16:00")
		s.lone()
		if err := s.handles("C-1", s.agency()); err != nil {
			t.Fatal(err)
		}
		w.until(row.seen)
		s.sendTo(c)
		w.until("2026-03-12 10:00")
		if a := d.only("C-1"); len(a.Levels) != 2 || a.Levels[1].State != dubanv1.LevelState_LEVEL_STATE_OPEN {
			t.Errorf("before it is back: %v", a)
		}
		s.parent = d
		w.settle()
		if l := d.only("C-1").Levels[1]; l.State != dubanv1.LevelState_LEVEL_STATE_WITHDRAWN || l.Withdrawn != row.basis {
			t.Errorf("seen at %s: %v", row.seen, l)
		}
	}
}

// Its own office may not believe what was only claimed: it opens the level again, and the ladder goes on from there.
func TestReopened(t *testing.T) {
	w, s, d, c := late(t, "C-1", "C-2")
	w.until("2026-03-09 16:00")
	s.lone()
	for _, id := range []string{"C-1", "C-2"} {
		if err := s.handles(id, s.agency()); err != nil {
			t.Fatal(err)
		}
	}
	w.until("2026-03-14 02:00") // level 3 is open as well: the district was there and didn't handle
	if a := c.only("C-1"); len(a.Levels) != 3 {
		t.Fatalf("before it is back: %v", a)
	}
	s.parent = d
	w.settle()
	claimed := func(n *node) (ids []string) {
		page, err := n.alerts.ListAlerts(context.Background(), &dubanv1.ListAlertsRequest{ClaimedOnly: true})
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range page.Alerts {
			ids = append(ids, a.CaseId)
		}
		return ids
	}
	if got := claimed(d); len(got) != 2 {
		t.Errorf("claimed: %v", got)
	}
	if a := c.only("C-1"); !a.Closed || a.Levels[1].Withdrawn != dubanv1.Basis_BASIS_CLAIMED || a.Levels[2].Withdrawn != dubanv1.Basis_BASIS_CLAIMED {
		t.Errorf("withdrawn: %v", a)
	}
	w.until("2026-03-16 10:00") // a Monday
	d.caller = d.office()
	reopen := func(n *node, reason string) error {
		req := &dubanv1.ReopenAlertRequest{AlertId: n.only("C-1").AlertId, Reason: reason, ReopenedBy: "p-3"}
		_, err := n.alerts.ReopenAlert(context.Background(), req)
		w.settle()
		return err
	}
	if err := reopen(d, ""); !fault.Is(err, fault.Invalid) || fault.Fields(err)[0].Field != "reason" {
		t.Errorf("without a reason: %v", err)
	}
	for range 2 {
		if err := reopen(d, "nobody saw that"); err != nil {
			t.Fatal(err)
		}
	}
	if err := reopen(d, "once more"); !fault.Is(err, fault.Precondition) {
		t.Errorf("a second time: %v", err)
	}
	if got := claimed(d); len(got) != 1 || got[0] != "C-2" {
		t.Errorf("claimed: %v", got)
	}
	a := d.only("C-1")
	if l := a.Levels[1]; a.Closed || l.State != dubanv1.LevelState_LEVEL_STATE_OPEN || l.DueUs != w.at("2026-03-20").UnixMicro() || l.ReopenReason != "nobody saw that" {
		t.Errorf("reopened: %v", a)
	}
	for _, n := range []*node{d, c} {
		n.agrees()
	}
	w.until("2026-03-19 23:59")
	if a := c.only("C-1"); a.Levels[2].State != dubanv1.LevelState_LEVEL_STATE_WITHDRAWN {
		t.Errorf("before its due time: %v", a)
	}
	w.until("2026-03-20 00:00")
	a = c.only("C-1")
	if l := a.Levels[2]; l.State != dubanv1.LevelState_LEVEL_STATE_OPEN || l.StartUs != w.at("2026-03-20").UnixMicro() || a.Levels[1].State != dubanv1.LevelState_LEVEL_STATE_PASSED {
		t.Errorf("level 3 again: %v", a)
	}
	if err := c.handles("C-1", c.office()); err != nil || !c.only("C-1").Closed {
		t.Errorf("handled at last: %v, %v", err, c.only("C-1"))
	}
	if a := c.only("C-2"); !a.Closed {
		t.Errorf("the other one stays withdrawn: %v", a)
	}
}

// The district is dead, with or without having opened level 2; its street reaches the city another way. Level 3 opens at
// its time all the same.
func TestDeadMiddle(t *testing.T) {
	for off, open := range map[string]opener{"2026-03-09 16:00": openEmbedded, "2026-03-10 09:00": openMem} {
		w, s, d, c := lateOn(t, open, "C-1", "C-2")
		w.until(off)
		opened := len(d.levels()) > 0
		d.off = true
		s.parent = c
		w.until("2026-03-11 09:00")
		if opened { // level 1 is out of time by then: the street can't help it any more
			want(t, c, "C-1", level1+"PASSED 03-04 09:30 03-10 00:00", "late_collection 1.2 legal_office@120116 OPEN 03-10 09:00 03-14 00:00")
		} else {
			want(t, c, "C-1", level1+"OPEN 03-04 09:30 03-10 00:00")
		}
		w.until("2026-03-14 01:59:59")
		if n := len(c.levels()); n != 0 {
			t.Errorf("%d levels, early", n)
		}
		w.until("2026-03-14 02:00")
		for _, id := range []string{"C-1", "C-2"} {
			a := c.only(id)
			l := top(a)
			if l.Level != 3 || l.StartUs != w.at("2026-03-14").UnixMicro() || l.DueUs != w.at("2026-03-21").UnixMicro() || !l.OnSilence || l.Below != district || l.NotOpenedBelow == opened {
				t.Errorf("off at %s: %v", off, a)
			}
		}
		// The district is back: it opens its level, which is out of time as well, and changes nothing.
		d.off, s.parent = false, d
		w.until("2026-03-14 03:00")
		if a := c.only("C-1"); len(a.Levels) != 3 || top(a).State != dubanv1.LevelState_LEVEL_STATE_OPEN || a.Levels[1].State != dubanv1.LevelState_LEVEL_STATE_PASSED {
			t.Errorf("the district is back: %v", a)
		}
		if n := len(c.levels()); n != 2 {
			t.Errorf("%d levels of the city", n)
		}
	}
}

// Level 1 is handled in time while the district, which had opened nothing, is dead: level 3 does not open.
func TestDeadMiddleHandled(t *testing.T) {
	w, s, d, c := late(t, "C-1")
	d.off, s.parent = true, c
	w.until("2026-03-09 16:00")
	if err := s.handles("C-1", s.agency()); err != nil {
		t.Fatal(err)
	}
	w.until("2026-04-01 00:00")
	want(t, c, "C-1", level1+"HANDLED 03-04 09:30 03-10 00:00")
}

// A parent that was away itself gives its children the grace before it calls them silent.
func TestAFreshStartIsNoSilence(t *testing.T) {
	w, s, d, _ := late(t, "C-1")
	d.off = true
	w.until("2026-03-09 16:00")
	if err := s.handles("C-1", s.agency()); err != nil {
		t.Fatal(err)
	}
	s.off = true
	w.until("2026-03-20 10:00")
	d.off = false
	d.mu.Lock()
	for id, p := range d.peers {
		p.Since = w.at("2026-03-20 10:00").UnixMicro()
		d.peers[id] = p
	}
	d.mu.Unlock()
	w.until("2026-03-20 11:00")
	want(t, d, "C-1", level1+"OPEN 03-04 09:30 03-10 00:00")
	s.off = false
	w.settle()
	w.until("2026-03-20 13:00")
	want(t, d, "C-1", level1+"HANDLED 03-04 09:30 03-10 00:00")
}
