package escalation_test

import (
	"context"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"duban.internal/escalation"
	"duban.internal/node/journal"
	"duban.internal/node/store"
	dubanv1 "duban.internal/proto/duban/v1"
)

// mute is a store whose runner raises no alerts: what it opens is lost, and the rest goes on.
type mute struct{ store.Store }

func (m mute) Append(ctx context.Context, commands ...store.Command) ([]store.Result, []error) {
	kept := make([]store.Command, len(commands))
	for i, c := range commands {
		kept[i] = c
		kept[i].Expect, kept[i].Entries = nil, nil
	}
	return m.Store.Append(ctx, kept...)
}

func (n *node) silenced() {
	n.t.Helper()
	cfg := n.cfg
	cfg.Store = mute{n.store}
	var err error
	if n.runner, err = escalation.New(cfg); err != nil {
		n.t.Fatal(err)
	}
}

// A street patched to raise no alerts is named by its district, after the grace; and so is a district by the city.
func TestNotOpenedByTheChild(t *testing.T) {
	w := newWorld(t, "2026-01-05 09:00")
	s, d, c := w.by[street], w.by[district], w.by[city]
	s.silenced()
	for _, id := range []string{"C-1", "C-2"} {
		s.opens(id)
		s.records(id, "filing", "2026-01-05 08:30", "filed")
	}
	w.until("2026-03-04 09:30")
	s.opens("C-3")
	s.records("C-3", "investigation", "2026-03-02 10:00", "", "o1", "o2") // judged on arrival
	w.until("2026-03-10 01:59:59")
	want(t, d, "C-3")
	w.until("2026-03-10 02:00")
	want(t, c, "C-3", "late_collection 1.2 legal_office@120116 OPEN 03-10 02:00 03-14 00:00")
	if l := top(d.only("C-3")); !l.NotOpenedBelow || l.OnSilence || l.Below != street {
		t.Errorf("opened as %v", l)
	}
	w.until("2026-04-03 10:00")
	s.records("C-2", "decision", "2026-04-03 09:00", "withdraw") // in time
	// The 90 days end with April 5; level 1 would have had three working days from the 6th, a day off.
	w.until("2026-04-10 01:59:59")
	want(t, d, "C-1")
	w.until("2026-04-20 00:00")
	want(t, d, "C-2")
	want(t, c, "C-1", "decision_late 1.2 legal_office@120116 PASSED 04-20 00:00 04-16 00:00",
		"decision_late 1.3 legal_office@120000 OPEN 04-20 00:00 04-24 00:00")
	if a := d.only("C-1"); a.Point != "decision_late" || a.Agency != "a-"+street || a.Jurisdiction != street || a.Text == "" || a.Levels[0].Below != street {
		t.Errorf("got %v", a)
	}
	if l := top(c.only("C-1")); l.NotOpenedBelow || l.OnSilence {
		t.Errorf("the district did its part: %v", l)
	}

	// The district's own agencies are watched by the city.
	d.silenced()
	d.opens("D-1")
	d.records("D-1", "investigation", "2026-04-15 10:00", "", "o1", "o2")
	w.until("2026-04-30 01:59")
	want(t, c, "D-1")
	w.until("2026-04-30 02:00")
	want(t, c, "D-1", "late_collection 1.3 legal_office@120000 OPEN 04-30 02:00 05-12 00:00")
	if l := top(c.only("D-1")); !l.NotOpenedBelow || l.OnSilence || l.Below != district {
		t.Errorf("opened as %v", l)
	}
	c.levels()
}

// What a node opened itself, however late it gets here, leaves nothing to derive: nothing is opened twice or wrongly named.
func TestDerivedGivesWay(t *testing.T) {
	w := newWorld(t, "2026-01-05 09:00")
	s, d := w.by[street], w.by[district]
	s.opens("C-1")
	s.records("C-1", "filing", "2026-01-05 08:30", "filed")
	w.until("2026-04-20 00:00")
	a := w.by[city].only("C-1")
	if len(a.Levels) != 3 || a.Levels[1].NotOpenedBelow || a.Levels[2].NotOpenedBelow || a.Levels[1].OnSilence {
		t.Errorf("got %v", a)
	}
	for _, n := range w.nodes {
		rows, err := n.store.Scan(context.Background(), s.store.Own(), escalation.Derived, nil, 10)
		if err != nil || len(rows) != 0 {
			t.Errorf("%s still waits for %d levels (%v)", n.code, len(rows), err)
		}
	}
	d.levels()
}

// Given a street that goes off before a limit ends: the district opens level 2 at the derived due time plus the grace. What
// the street brings when it returns decides whether that stands.
func TestOffBeforeTheLimit(t *testing.T) {
	t.Run("memory", func(t *testing.T) { offBeforeTheLimit(t, openMem) })
	t.Run("embedded", func(t *testing.T) { offBeforeTheLimit(t, openEmbedded) })
}

func offBeforeTheLimit(t *testing.T, open opener) {
	w := newWorld(t, "2026-01-05 09:00", open)
	s, d, c := w.by[street], w.by[district], w.by[city]
	for _, id := range []string{"C-idle", "C-decided", "C-handled", "C-late"} {
		s.opens(id)
		s.records(id, "filing", "2026-01-05 08:30", "filed")
	}
	w.until("2026-04-01 10:00")
	s.lone()
	w.until("2026-04-03 10:00")
	s.records("C-decided", "decision", "2026-04-03 09:00", "withdraw")
	w.until("2026-04-07 10:00")
	s.records("C-late", "decision", "2026-04-07 09:00", "withdraw")
	if err := s.handles("C-handled", s.agency()); err != nil {
		t.Fatal(err)
	}
	w.until("2026-04-10 01:59")
	if n := len(d.levels()); n != 0 {
		t.Errorf("%d levels, early", n)
	}
	w.until("2026-04-10 02:00")
	if n := len(d.levels()); n != 4 {
		t.Errorf("%d levels of the district, want 4", n)
	}
	if l := top(d.only("C-idle")); l.Level != 2 || l.StartUs != w.at("2026-04-10").UnixMicro() || !l.NotOpenedBelow || !l.OnSilence || l.Below != street {
		t.Errorf("opened as %v", l)
	}
	w.until("2026-04-16 00:00") // the city's turn, by what the district opened
	if n := len(c.levels()); n != 4 {
		t.Errorf("%d levels of the city, want 4", n)
	}
	w.until("2026-04-16 10:00")
	s.parent = d
	w.settle()
	for _, n := range []*node{d, c} {
		for id, stands := range map[string]bool{"C-idle": true, "C-late": true, "C-decided": false, "C-handled": false} {
			a := n.only(id)
			for _, l := range a.Levels {
				if l.Level > 1 && ((l.State == dubanv1.LevelState_LEVEL_STATE_WITHDRAWN) == stands || !stands && l.Withdrawn != dubanv1.Basis_BASIS_CLAIMED) {
					t.Errorf("%s %s at %s: %v", id, l.State, n.code, l)
				}
			}
			if (a.Levels[0].Level == 1) != (id != "C-decided") || a.Closed == stands {
				t.Errorf("%s at %s: %v", id, n.code, a)
			}
		}
	}
}

// A calendar that the child adopts counts what is derived from its limits anew, like its own.
func TestDerivedIsCountedAnew(t *testing.T) {
	w := newWorld(t, "2026-12-28 09:30")
	s, d := w.by[street], w.by[district]
	s.silenced()
	s.opens("C-1")
	s.records("C-1", "decision", "2026-12-28 09:00", "penalty")
	w.until("2027-01-05 00:00")
	want(t, d, "C-1")
	s.adoptsYear2027()
	d.adoptsYear2027()
	// Seven working days end with January 6; three more, from the 7th, with the 12th.
	w.until("2027-01-13 01:59")
	want(t, d, "C-1")
	w.until("2027-01-13 02:00")
	want(t, d, "C-1", "service_late 1.2 legal_office@120116 OPEN 01-13 02:00 01-19 00:00")
}

// From a journal whose fold stopped nothing is concluded, not even from its silence; that it stopped is an alert.
func TestStopped(t *testing.T) {
	w, s, d, c := late(t, "C-1")
	d.watches()
	stop := &halted{Store: d.store, id: s.store.Own()}
	cfg := d.cfg
	cfg.Store = stop
	var err error
	if d.runner, err = escalation.New(cfg); err != nil {
		t.Fatal(err)
	}
	info, _ := d.store.Journal(s.store.Own())
	stop.at, stop.why = info.Folded, "kind 99 is not known"
	s.opens("C-2") // beyond what is known
	w.until("2026-03-10 03:00")
	want(t, d, "C-1", level1+"OPEN 03-04 09:30 03-10 00:00")
	about := d.about("journal_stopped")
	if about == nil || about.Jurisdiction != street || top(about).Role != "legal_office" || top(about).Receiver != district || !strings.Contains(about.Text, street) {
		t.Fatalf("the alert about it: %v", about)
	}
	stop.why = ""
	w.until("2026-03-10 04:00")
	want(t, d, "C-1", level1+"PASSED 03-04 09:30 03-10 00:00", "late_collection 1.2 legal_office@120116 OPEN 03-10 04:00 03-14 00:00")
	if about = d.about("journal_stopped"); !about.Closed || top(about).State != dubanv1.LevelState_LEVEL_STATE_WITHDRAWN {
		t.Errorf("and after it: %v", about)
	}
	if about = c.about("journal_stopped"); about == nil || !about.Closed {
		t.Errorf("at the city: %v", about)
	}
}

// halted is a store with a journal that is not folded further.
type halted struct {
	store.Store
	id  journal.ID
	why string
	at  uint64
}

func (h *halted) Journal(id journal.ID) (store.Info, bool) {
	info, ok := h.Store.Journal(id)
	if id == h.id && h.why != "" {
		info.Folded, info.Stopped = h.at, h.why
	}
	return info, ok
}

func (h *halted) Journals() []store.Info {
	all := h.Store.Journals()
	for i := range all {
		all[i], _ = h.Journal(all[i].ID)
	}
	return all
}

// watches has a node look out for silent children, too.
func (n *node) watches() {
	n.t.Helper()
	n.cfg.Silence = silence
	var err error
	if n.runner, err = escalation.New(n.cfg); err != nil {
		n.t.Fatal(err)
	}
}

// about is the last alert of a point that a node knows; nil for none.
func (n *node) about(point string) (found *dubanv1.Alert) {
	n.t.Helper()
	page, err := n.alerts.ListAlerts(context.Background(), &dubanv1.ListAlertsRequest{})
	if err != nil {
		n.t.Fatal(err)
	}
	for _, a := range page.Alerts {
		if a.Point == point && (found == nil || top(a).OpenedUs > top(found).OpenedUs) {
			found = a
		}
	}
	return found
}

// A silent child is an alert of its own, with its own ladder; it is withdrawn when the child speaks, and when it falls
// silent again it is another.
func TestSilentChild(t *testing.T) {
	w := newWorld(t, "2026-03-04 09:30")
	s, d, c := w.by[street], w.by[district], w.by[city]
	d.watches()
	c.watches()
	w.until("2026-03-04 09:31")
	s.lone()
	w.until("2026-03-04 21:30:59")
	if a := d.about("node_silent"); a != nil {
		t.Errorf("early: %v", a)
	}
	w.until("2026-03-04 21:31")
	a := d.about("node_silent")
	if a == nil || a.Jurisdiction != street || a.CaseId != "" || top(a).Level != 1 || top(a).Receiver != district || top(a).DueUs != w.at("2026-03-06").UnixMicro() ||
		!strings.Contains(a.Text, "2026-03-04 09:31") || c.about("node_silent") == nil {
		t.Fatalf("silent: %v", a)
	}
	// A district that begins anew knows of it still, and a forgetful one finds it.
	d.watches()
	w.until("2026-03-05 09:00")
	if d.runner != nil {
		d.store.(*memStore).forget("none", escalation.NodeAlert)
		d.watches()
	}
	w.until("2026-03-06 00:00")
	if a = c.about("node_silent"); len(a.Levels) != 2 || top(a).Receiver != city {
		t.Errorf("nobody looked after it: %v", a)
	}
	w.until("2026-03-06 09:00")
	s.parent = d
	w.settle()
	for _, n := range []*node{d, c} {
		if a = n.about("node_silent"); !a.Closed || top(a).State != dubanv1.LevelState_LEVEL_STATE_WITHDRAWN {
			t.Errorf("it speaks: %v", a)
		}
	}
	before := a.AlertId
	s.lone() // at the same size
	w.until("2026-03-06 21:00")
	w.until("2026-03-07 09:00")
	if a = d.about("node_silent"); a.Closed || a.AlertId != before || top(a).Round != 2 {
		t.Errorf("silent again: %v", a)
	}
	if err := d.handlesAbout("node_silent"); err != nil || !d.about("node_silent").Closed {
		t.Errorf("handled: %v, %v", err, d.about("node_silent"))
	}
	w.until("2026-03-09 09:00")
	if a = d.about("node_silent"); top(a).Round != 2 {
		t.Errorf("it was looked after: %v", a)
	}
}

// A child whose journal was refused is an alert as well, once for each refusal, until people readmit it.
func TestRefusedChild(t *testing.T) {
	w := newWorld(t, "2026-03-04 09:30")
	s, d, c := w.by[street], w.by[district], w.by[city]
	refuse := func(journal []byte) {
		d.register("peer", dubanv1.EntryKind_ENTRY_KIND_PEER_REFUSED, &dubanv1.PeerRefused{Journal: journal, Code: street, Reason: "a fork"})
		w.settle()
	}
	refuse(idOf(c)) // a letter from above: nothing for an office
	refuse([]byte{1})
	if a := d.about("journal_refused"); a != nil {
		t.Fatalf("about whom? %v", a)
	}
	refuse(idOf(s))
	a := d.about("journal_refused")
	if a == nil || a.Jurisdiction != street || top(a).Receiver != district || c.about("journal_refused") == nil {
		t.Fatalf("got %v", a)
	}
	w.until("2026-03-06 10:00")
	d.register("peer", dubanv1.EntryKind_ENTRY_KIND_JOURNAL_READMITTED, &dubanv1.JournalReadmitted{Journal: idOf(s), Code: street, Reason: "settled", DecidedBy: "p"})
	w.settle()
	for _, n := range []*node{d, c} {
		if a := n.about("journal_refused"); !a.Closed || top(a).State != dubanv1.LevelState_LEVEL_STATE_WITHDRAWN || top(a).Level != 2 && n == c {
			t.Errorf("settled: %v", a)
		}
	}
	w.until("2026-03-06 11:00")
	refuse(idOf(s))
	if b := d.about("journal_refused"); b.AlertId == a.AlertId || b.Closed {
		t.Errorf("again: %v", b)
	}
	// Followed anew, all of it is there already.
	before := w.sizes()
	for _, n := range w.nodes {
		n.store.(*memStore).forget(escalation.Follower, escalation.Tables()...)
		n.runner, _ = escalation.New(n.cfg)
	}
	w.settle()
	if after := w.sizes(); after != before {
		t.Errorf("followed anew, %s became %s", before, after)
	}
}

func (n *node) handlesAbout(point string) error {
	n.caller = n.office()
	_, err := n.alerts.HandleAlert(context.Background(), &dubanv1.HandleAlertRequest{
		AlertId: n.about(point).AlertId, Action: "explained", Explanation: "a power cut", HandledBy: "p-1",
	})
	n.settle()
	return err
}

// letter puts what one node wrote about an alert, from a number on, into the journal of another, as a letter that was verified.
func (n *node) letter(to *node, from uint64) {
	n.t.Helper()
	entries, err := n.store.Read(context.Background(), n.store.Own(), from, 1<<20)
	if err != nil {
		n.t.Fatal(err)
	}
	own := n.store.Own()
	l := &dubanv1.Letter{Journal: own[:], Addressee: to.code}
	for _, e := range entries {
		if strings.HasPrefix(e.Stream, "alert/") {
			l.Entries = append(l.Entries, &dubanv1.ProvenEntry{Header: e.Raw, Salt: e.Salt, Payload: e.Payload})
		}
	}
	if _, err := proto.Marshal(l); err != nil || len(l.Entries) == 0 {
		n.t.Fatalf("%d entries, %v", len(l.Entries), err)
	}
	to.register("letters", dubanv1.EntryKind_ENTRY_KIND_RECEIVED_FROM_ABOVE, &dubanv1.ReceivedFromAbove{Letter: l})
}

// What came of its alerts above is shown at the street; and it is nobody's word above.
func TestLetters(t *testing.T) {
	w, s, d, c := late(t, "C-1", "C-2")
	w.until("2026-03-10 09:00")
	want(t, s, "C-1", level1+"OPEN 03-04 09:30 03-10 00:00")
	d.letter(s, 0)
	w.settle()
	level2 := "late_collection 1.2 legal_office@120116 "
	shown := []string{level1 + "PASSED 03-04 09:30 03-10 00:00", level2 + "OPEN 03-10 09:00 03-14 00:00"}
	want(t, s, "C-1", shown...)
	want(t, d, "C-1", shown...)
	open := func(n *node) int {
		page, err := n.alerts.ListAlerts(context.Background(), &dubanv1.ListAlertsRequest{OpenOnly: true})
		if err != nil {
			t.Fatal(err)
		}
		return len(page.Alerts)
	}
	if open(s) != 2 || open(d) != 2 || open(c) != 2 {
		t.Errorf("%d, %d, %d are open", open(s), open(d), open(c))
	}
	info, _ := d.store.Journal(d.store.Own())
	if err := d.handles("C-1", d.office()); err != nil {
		t.Fatal(err)
	}
	d.letter(s, info.Size)
	w.settle()
	if a := s.only("C-1"); !a.Closed || a.Levels[1].Explanation != "collected" || a.Levels[1].Journal == nil || string(a.Levels[1].Journal) != string(idOf(d)) {
		t.Errorf("at the street: %v", a)
	}
	if open(s) != 1 || open(c) != 1 {
		t.Errorf("%d, %d are open", open(s), open(c))
	}
	// A street that keeps a made-up letter fools itself alone.
	forged := &dubanv1.LevelHandled{AlertId: d.only("C-2").AlertId, Round: 1, Level: 2, Action: "explained", Explanation: "so", HandledBy: "p"}
	payload, _ := proto.Marshal(forged)
	h := journal.Header{Journal: d.store.Own(), Number: 999, RecordedAt: w.at("2026-03-10 09:00").UnixMicro(), Kind: uint32(dubanv1.EntryKind_ENTRY_KIND_LEVEL_HANDLED), Algorithm: journal.SHA256}
	s.register("letters", dubanv1.EntryKind_ENTRY_KIND_RECEIVED_FROM_ABOVE, &dubanv1.ReceivedFromAbove{Letter: &dubanv1.Letter{
		Journal: idOf(d), Addressee: street, Entries: []*dubanv1.ProvenEntry{{Header: h.Append(nil), Payload: payload}},
	}})
	w.settle()
	if a := s.only("C-2"); !a.Closed {
		t.Errorf("at the street: %v", a)
	}
	if a := d.only("C-2"); a.Closed || c.only("C-2").Closed {
		t.Errorf("at the district: %v", a)
	}
	w.until("2026-03-14 00:00")
	if a := c.only("C-2"); len(a.Levels) != 3 {
		t.Errorf("at the city: %v", a)
	}
}

func idOf(n *node) []byte { id := n.store.Own(); return id[:] }

// A dispute that a letter brings opens level 1 of the new round at the agency's node, counted from the dispute.
func TestDisputeByLetter(t *testing.T) {
	w, s, d, c := late(t, "C-1")
	w.until("2026-03-05 10:00")
	if err := s.handles("C-1", s.agency()); err != nil {
		t.Fatal(err)
	}
	w.until("2026-03-06 11:00")
	if err := d.disputes("C-1", d.office()); err != nil {
		t.Fatal(err)
	}
	w.until("2026-03-09 09:00")
	for range 2 { // delivered twice
		d.letter(s, 0)
		w.settle()
	}
	disputed := level1 + "DISPUTED 03-04 09:30 03-10 00:00"
	for _, n := range []*node{s, d, c} {
		want(t, n, "C-1", disputed, "late_collection 2.1 legal_unit@120116013 OPEN 03-09 09:00 03-12 00:00")
	}
	w.until("2026-03-11 17:00")
	if err := s.handles("C-1", s.agency()); err != nil {
		t.Fatal(err)
	}
	w.until("2026-04-01 00:00")
	for _, n := range []*node{s, d, c} {
		want(t, n, "C-1", disputed, "late_collection 2.1 legal_unit@120116013 HANDLED 03-09 09:00 03-12 00:00")
	}
	s.levels()
}

// The city disputes what the district did at level 2: the letter reaches both nodes below. The round begins at the street
// alone; where the street brings nothing, the district goes on after the grace.
func TestDisputeByTheCity(t *testing.T) {
	for _, away := range []bool{false, true} {
		w, s, d, c := late(t, "C-1")
		w.until("2026-03-10 09:00")
		if err := d.handles("C-1", d.office()); err != nil {
			t.Fatal(err)
		}
		w.until("2026-03-11 09:00")
		if err := c.disputes("C-1", c.office()); err != nil {
			t.Fatal(err)
		}
		if away {
			s.off = true
		} else {
			c.letter(s, 0)
		}
		c.letter(d, 0)
		w.settle()
		before := []string{level1 + "PASSED 03-04 09:30 03-10 00:00", "late_collection 1.2 legal_office@120116 DISPUTED 03-10 09:00 03-14 00:00"}
		round2 := "late_collection 2.1 legal_unit@120116013 "
		if away {
			want(t, d, "C-1", before...)
		} else {
			want(t, d, "C-1", append(before, round2+"OPEN 03-11 09:00 03-17 00:00")...)
		}
		w.until("2026-03-17 00:00")
		if n := len(d.levels()); away && n != 1 {
			t.Errorf("%d levels, early", n)
		}
		w.until("2026-03-17 02:00")
		after := append(before, "late_collection 2.2 legal_office@120116 OPEN 03-17 02:00 03-21 00:00")
		if !away {
			after = append(before, round2+"PASSED 03-11 09:00 03-17 00:00", "late_collection 2.2 legal_office@120116 OPEN 03-17 00:00 03-21 00:00")
		}
		for _, n := range []*node{d, c} {
			want(t, n, "C-1", after...)
		}
		if l := top(d.only("C-1")); l.NotOpenedBelow != away || l.OnSilence != away {
			t.Errorf("away %v: opened as %v", away, l)
		}
	}
}
