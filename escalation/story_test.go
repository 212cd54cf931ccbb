package escalation_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"duban.internal/node/fault"
	dubanv1 "duban.internal/proto/duban/v1"
)

func want(t *testing.T, n *node, caseID string, lines ...string) {
	t.Helper()
	if diff := cmp.Diff(lines, n.shows(caseID)); diff != "" {
		t.Errorf("%s at %s (-want +got):\n%s", n.code, n.clock.Now().In(n.zone).Format(time.DateTime), diff)
	}
}

// T16, T27: given a stage of a street's case that was collected two working days after it, and nobody who handles it.
func TestStreetDistrictCity(t *testing.T) {
	t.Run("memory", func(t *testing.T) { streetDistrictCity(t, openMem) })
	t.Run("embedded", func(t *testing.T) { streetDistrictCity(t, openEmbedded) })
}

func streetDistrictCity(t *testing.T, open opener) {
	w := newWorld(t, "2026-03-02 08:00", open) // a Monday
	s, d, c := w.by[street], w.by[district], w.by[city]
	s.opens("C-1")
	w.until("2026-03-04 09:30")
	s.records("C-1", "investigation", "2026-03-02 10:00", "", "o1", "o2")
	w.settle()

	// Level 1 opens at once; its three working days end with Monday the 9th. What opens at midnight counts from that day,
	// which as the day of the event does not count itself.
	level1 := "late_collection 1.1 legal_unit@120116013 "
	want(t, s, "C-1", level1+"OPEN 03-04 09:30 03-10 00:00")
	want(t, c, "C-1", level1+"OPEN 03-04 09:30 03-10 00:00")

	w.until("2026-03-09 23:59:59")
	want(t, d, "C-1", level1+"OPEN 03-04 09:30 03-10 00:00")
	w.until("2026-03-10 00:00")
	level2 := "late_collection 1.2 legal_office@120116 "
	want(t, d, "C-1", level1+"PASSED 03-04 09:30 03-10 00:00", level2+"OPEN 03-10 00:00 03-14 00:00")
	want(t, c, "C-1", level1+"PASSED 03-04 09:30 03-10 00:00", level2+"OPEN 03-10 00:00 03-14 00:00")

	w.until("2026-03-14 00:00")
	level3 := "late_collection 1.3 legal_office@120000 "
	want(t, c, "C-1", level1+"PASSED 03-04 09:30 03-10 00:00", level2+"PASSED 03-10 00:00 03-14 00:00", level3+"OPEN 03-14 00:00 03-21 00:00")

	// The city's is the last: it is overdue, and nothing follows.
	w.until("2026-04-30 12:00")
	want(t, c, "C-1", level1+"PASSED 03-04 09:30 03-10 00:00", level2+"PASSED 03-10 00:00 03-14 00:00", level3+"OVERDUE 03-14 00:00 03-21 00:00")
	if err := c.handles("C-1", c.office()); err != nil {
		t.Fatal(err)
	}
	if a := c.only("C-1"); !a.Closed || a.Levels[2].State != dubanv1.LevelState_LEVEL_STATE_HANDLED || a.Levels[2].Late {
		t.Errorf("handled at last: %v", a)
	}
}

// T27: handled by the agency's legal unit in time, nothing more happens anywhere.
func TestHandledInTime(t *testing.T) {
	w := newWorld(t, "2026-03-04 09:30")
	s, d, c := w.by[street], w.by[district], w.by[city]
	s.opens("C-1")
	s.records("C-1", "investigation", "2026-03-02 10:00", "", "o1", "o2")
	w.settle()
	w.until("2026-03-09 23:59:58")
	if err := s.handles("C-1", d.office()); !fault.Is(err, fault.Denied) {
		t.Errorf("the district's office may not handle level 1: %v", err)
	}
	if err := s.handles("C-1", s.agency()); err != nil {
		t.Fatal(err)
	}
	if err := s.handles("C-1", s.agency()); err != nil {
		t.Errorf("the same said twice: %v", err)
	}
	w.until("2026-06-01 12:00")
	for _, n := range []*node{s, d, c} {
		want(t, n, "C-1", "late_collection 1.1 legal_unit@120116013 HANDLED 03-04 09:30 03-10 00:00")
		if !n.only("C-1").Closed {
			t.Error("not closed")
		}
	}
}

// Handling after the next level opened is kept as late and closes nothing.
func TestHandledLate(t *testing.T) {
	w := newWorld(t, "2026-03-04 09:30")
	s, d := w.by[street], w.by[district]
	s.opens("C-1")
	s.records("C-1", "investigation", "2026-03-02 10:00", "", "o1", "o2")
	w.settle()
	w.until("2026-03-10 09:00")
	if err := s.handles("C-1", s.agency()); err != nil {
		t.Fatal(err)
	}
	a := d.only("C-1")
	if len(a.Levels) != 2 || !a.Levels[0].Late || a.Closed || a.Levels[1].State != dubanv1.LevelState_LEVEL_STATE_OPEN {
		t.Errorf("got %v", a)
	}
	if err := d.handles("C-1", d.office()); err != nil {
		t.Fatal(err)
	}
	w.until("2026-06-01 12:00")
	if a := w.by[city].only("C-1"); !a.Closed || len(a.Levels) != 2 {
		t.Errorf("got %v", a)
	}
}

// T27: a city agency's alert ends at level 2, a district agency's at the city.
func TestCityAndDistrictAgencies(t *testing.T) {
	w := newWorld(t, "2026-03-04 09:30")
	d, c := w.by[district], w.by[city]
	for _, n := range []*node{d, c} {
		n.opens("C-" + n.code)
		n.records("C-"+n.code, "investigation", "2026-03-02 10:00", "", "o1", "o2")
	}
	w.settle()
	w.until("2026-05-29 12:00")
	want(t, c, "C-"+city, "late_collection 1.1 legal_unit@120000 PASSED 03-04 09:30 03-10 00:00",
		"late_collection 1.2 legal_office@120000 OVERDUE 05-29 12:00 03-18 00:00")
	want(t, c, "C-"+district, "late_collection 1.1 legal_unit@120116 PASSED 03-04 09:30 03-10 00:00",
		"late_collection 1.2 legal_office@120116 PASSED 05-29 12:00 03-14 00:00",
		"late_collection 1.3 legal_office@120000 OVERDUE 05-29 12:00 03-21 00:00")
}

// A vacant level is passed at once.
func TestVacant(t *testing.T) {
	w := newWorld(t, "2026-03-04 09:30")
	s, d := w.by[street], w.by[district]
	s.register("agency/a-"+street, dubanv1.EntryKind_ENTRY_KIND_AGENCY_REGISTERED, &dubanv1.AgencyRegistered{
		Agency: &dubanv1.Agency{Id: "a-" + street, Jurisdiction: street, LegalUnitVacant: true},
	})
	d.register("office/legal_office@"+district, dubanv1.EntryKind_ENTRY_KIND_OFFICE_REGISTERED, &dubanv1.OfficeRegistered{
		Office: &dubanv1.Office{Role: "legal_office", Jurisdiction: district, Vacant: true},
	})
	s.opens("C-1")
	s.records("C-1", "investigation", "2026-03-02 10:00", "", "o1", "o2")
	w.settle()
	want(t, w.by[city], "C-1", "late_collection 1.1 legal_unit@120116013 VACANT 03-04 09:30 03-04 09:30",
		"late_collection 1.2 legal_office@120116 VACANT 03-04 09:30 03-04 09:30",
		"late_collection 1.3 legal_office@120000 OPEN 03-04 09:30 03-12 00:00")
}

// P60 with a card before it (N-2(2)3): no decision within 90 days of filing.
func TestTimer(t *testing.T) {
	w := newWorld(t, "2026-01-05 09:00")
	s := w.by[street]
	for _, id := range []string{"C-1", "C-2"} {
		s.opens(id)
		s.records(id, "filing", "2026-01-05 08:30", "filed")
	}
	w.until("2026-03-26 23:59:59")
	if n := s.cards(); n != 0 {
		t.Errorf("%d cards, want none yet", n)
	}
	w.until("2026-03-27 00:00")
	if n := s.cards(); n != 2 {
		t.Errorf("%d cards ten days before the limit, want 2", n)
	}
	want(t, s, "C-1")
	w.until("2026-04-03 10:00")
	s.records("C-2", "decision", "2026-04-03 09:00", "withdraw")
	w.until("2026-04-05 23:59:59")
	want(t, s, "C-1")
	w.until("2026-04-06 00:00")
	// April 6 is off, Tomb-sweeping: the limit is a maximum on power and does not roll over; level 1 counts from its end.
	want(t, s, "C-1", "decision_late 1.1 legal_unit@120116013 OPEN 04-06 00:00 04-10 00:00")
	want(t, s, "C-2")
	w.until("2026-04-20 00:00")
	a := w.by[city].only("C-1")
	if len(a.Levels) != 3 || a.Article != "P60" {
		t.Errorf("at the city: %v", a)
	}
}

// An event that ends a limit after it ran out doesn't undo it, whenever the runner gets to see both.
func TestEndedTooLate(t *testing.T) {
	w := newWorld(t, "2026-01-05 09:00")
	s := w.by[street]
	s.opens("C-1")
	s.records("C-1", "filing", "2026-01-05 08:30", "filed")
	w.settle()
	w.clock.Set(w.at("2026-04-07 08:00")) // the node slept
	s.records("C-1", "decision", "2026-04-07 07:00", "withdraw")
	w.settle()
	want(t, s, "C-1", "decision_late 1.1 legal_unit@120116013 OPEN 04-07 08:00 04-10 00:00")
	if n := s.cards(); n != 0 {
		t.Errorf("%d cards for a limit that had passed", n)
	}
}

// Imported history opens no live levels.
func TestImported(t *testing.T) {
	w := newWorld(t, "2026-03-04 09:30")
	s := w.by[street]
	s.opens("C-1", func(c *dubanv1.CaseOpened) { c.Imported = true })
	s.records("C-1", "filing", "2025-03-02 10:00", "filed")
	w.until("2026-12-01 12:00")
	want(t, s, "C-1")
}

// The office of the next level disputes a handling: a new round starts from its own time.
func TestDispute(t *testing.T) {
	w := newWorld(t, "2026-03-04 09:30")
	s, d, c := w.by[street], w.by[district], w.by[city]
	s.opens("C-1")
	s.records("C-1", "investigation", "2026-03-02 10:00", "", "o1", "o2")
	d.opens("D-1")
	d.records("D-1", "investigation", "2026-03-02 10:00", "", "o1", "o2")
	w.settle()
	w.until("2026-03-05 10:00")
	if err := s.handles("C-1", s.agency()); err != nil {
		t.Fatal(err)
	}
	if err := d.handles("D-1", d.agency()); err != nil {
		t.Fatal(err)
	}
	w.until("2026-03-06 11:00")
	if err := c.disputes("C-1", c.office()); !fault.Is(err, fault.Denied) {
		t.Errorf("the city's office doesn't receive level 2: %v", err)
	}
	for _, id := range []string{"C-1", "D-1"} {
		if err := d.disputes(id, d.office()); err != nil {
			t.Fatal(err)
		}
		if err := d.disputes(id, d.office()); id == "C-1" && err != nil {
			t.Errorf("the same said twice: %v", err)
		}
	}
	// The district's own agency has the new round's level 1 at once; its limit counts from the dispute.
	want(t, d, "D-1", "late_collection 1.1 legal_unit@120116 DISPUTED 03-04 09:30 03-10 00:00",
		"late_collection 2.1 legal_unit@120116 OPEN 03-06 11:00 03-12 00:00")
	// The street's agency learns of it by the feed downward; the district waits for its limit, and the grace, all the same.
	want(t, d, "C-1", "late_collection 1.1 legal_unit@120116013 DISPUTED 03-04 09:30 03-10 00:00")
	w.until("2026-03-12 02:00")
	want(t, d, "C-1", "late_collection 1.1 legal_unit@120116013 DISPUTED 03-04 09:30 03-10 00:00",
		"late_collection 2.2 legal_office@120116 OPEN 03-12 02:00 03-18 00:00")
	want(t, c, "D-1", "late_collection 1.1 legal_unit@120116 DISPUTED 03-04 09:30 03-10 00:00",
		"late_collection 2.1 legal_unit@120116 PASSED 03-06 11:00 03-12 00:00",
		"late_collection 2.2 legal_office@120116 OPEN 03-12 02:00 03-18 00:00")
}

// A limit that needs an unpublished year never fires, and is counted once the year is published.
func TestOpenEnded(t *testing.T) {
	w := newWorld(t, "2026-12-30 09:30")
	s, d := w.by[street], w.by[district]
	s.opens("C-1")
	s.records("C-1", "investigation", "2026-12-25 10:00", "", "o1", "o2")
	w.settle()
	want(t, s, "C-1", "late_collection 1.1 legal_unit@120116013 OPEN 12-30 09:30 open")
	w.until("2027-03-01 09:00")
	want(t, d, "C-1", "late_collection 1.1 legal_unit@120116013 OPEN 12-30 09:30 open")
	s.adoptsYear2027()
	d.adoptsYear2027()
	w.settle()
	if a := d.only("C-1"); len(a.Levels) != 2 || a.Levels[1].StartUs != w.at("2027-01-05").UnixMicro() {
		t.Errorf("got %v", a)
	}
}

// The same for a limit of a case: it waits as open-ended, and is counted with its card once the year is published.
func TestOpenEndedLimit(t *testing.T) {
	w := newWorld(t, "2026-12-28 09:30")
	s := w.by[street]
	s.opens("C-1")
	s.records("C-1", "decision", "2026-12-28 09:00", "penalty")
	w.until("2027-01-05 00:00")
	s.adoptsYear2027()
	w.settle()
	// Seven working days: December 29 to 31, January 1, 4, 5, 6; the card two before.
	if n := s.cards(); n != 1 {
		t.Errorf("%d cards, want 1", n)
	}
	w.until("2027-01-06 23:59:59")
	want(t, s, "C-1")
	w.until("2027-01-07 00:00")
	want(t, s, "C-1", "service_late 1.1 legal_unit@120116013 OPEN 01-07 00:00 01-13 00:00")
}

func (n *node) cards() int {
	n.t.Helper()
	cards := 0
	entries, err := n.store.Read(context.Background(), n.store.Own(), 0, 1<<20)
	if err != nil {
		n.t.Fatal(err)
	}
	for _, e := range entries {
		if e.Kind == uint32(dubanv1.EntryKind_ENTRY_KIND_CARD_SHOWN) {
			cards++
		}
	}
	return cards
}
