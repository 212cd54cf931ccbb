package alert_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"duban.internal/escalation/alert"
	"duban.internal/node/fault"
	"duban.internal/node/identity"
	"duban.internal/node/journal"
	"duban.internal/node/jurisdiction"
	"duban.internal/node/profile"
	dubanv1 "duban.internal/proto/duban/v1"
)

const (
	city     = "120000"
	district = "120116"
	street   = "120116013"
	day      = int64(24 * time.Hour / time.Microsecond)
)

var book = &profile.Profile{
	Roles:   []profile.Role{{Name: "legal_unit", Of: "agency"}, {Name: "legal_office", Of: "jurisdiction"}},
	Actions: []profile.Action{{Name: "mend"}, {Name: "explain"}},
}

type step struct {
	role, at string
	days     int64
}

var ladders = map[string][]step{
	"street":   {{"legal_unit", "street", 3}, {"legal_office", "district", 2}, {"legal_office", "city", 5}},
	"district": {{"legal_unit", "district", 3}, {"legal_office", "district", 2}, {"legal_office", "city", 5}},
	"city":     {{"legal_unit", "city", 3}, {"legal_office", "city", 2}},
}

var tiers = map[string]string{street: "street", district: "district", city: "city"}

// site is a node of the tree; vacant lists what stands empty there: agencies, or its code for its office.
func site(code string, vacant ...string) alert.Site {
	return alert.Site{
		Code: code,
		Rung: func(tier string, level uint32, start int64) (alert.Rung, bool) {
			l := ladders[tier]
			if level < 1 || int(level) > len(l) {
				return alert.Rung{}, false
			}
			s := l[level-1]
			return alert.Rung{
				Role: s.role, At: s.at, OfAgency: s.role == "legal_unit", Limit: "days",
				Last: int(level) == len(l), DueAt: start + s.days*day,
			}, true
		},
		Receiver: func(code, tier string) string {
			for _, c := range []string{street, district, city} {
				if len(c) <= len(code) && tiers[c] == tier && (c == code || tier == "city" || tier == "district" && code == street) {
					return c
				}
			}
			return ""
		},
		Vacant: func(r alert.Rung, agency string) bool {
			who := code
			if r.OfAgency {
				who = agency
			}
			for _, v := range vacant {
				if v == who {
					return true
				}
			}
			return false
		},
		Profile: []byte("profile"), Calendar: []byte("calendar"),
	}
}

func ran(code string) *dubanv1.LevelOpened {
	return &dubanv1.LevelOpened{
		AlertId: alert.ID(journal.ID{1}, "C-1", "late", 7), Round: 1, Point: "late", Journal: make([]byte, 16), CaseId: "C-1",
		Agency: "a1", Trigger: 7, Receiver: code, Tier: tiers[code],
	}
}

func TestID(t *testing.T) {
	// The same on every node and in every version: this value was computed by sha256sum over the documented bytes.
	if got, want := alert.ID(journal.ID{}, "C-1", "late", 5*4096+7), "005bddf8a1c6f8326587aec8327c2ce9"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	seen := map[string]bool{}
	for _, id := range []string{
		alert.ID(journal.ID{}, "C-1", "late", 7), alert.ID(journal.ID{1}, "C-1", "late", 7), alert.ID(journal.ID{}, "C-11", "late", 7),
		alert.ID(journal.ID{}, "C-1", "later", 7), alert.ID(journal.ID{}, "C-1", "late", 8),
	} {
		if seen[id] || len(id) != alert.IDLength {
			t.Errorf("id %s", id)
		}
		seen[id] = true
	}
	if id, ok := alert.FromStream(alert.Stream("ab")); id != "ab" || !ok {
		t.Error("stream")
	}
}

func TestNext(t *testing.T) {
	type opening struct {
		level    uint32
		role     string
		receiver string
		start    int64
		due      int64
		vacant   bool
		last     bool
	}
	at := func(code string, level uint32) *dubanv1.LevelOpened {
		o := ran(street)
		o.Level, o.Receiver = level, code
		return o
	}
	for _, c := range []struct {
		name string
		site alert.Site
		prev *dubanv1.LevelOpened
		want []opening
	}{
		{"street's level 1 goes to the agency's legal unit", site(street), ran(street),
			[]opening{{1, "legal_unit", street, 100, 100 + 3*day, false, false}}},
		{"street doesn't open level 2", site(street), at(street, 1), nil},
		{"district opens level 2 of a street", site(district), at(street, 1),
			[]opening{{2, "legal_office", district, 100, 100 + 2*day, false, false}}},
		{"city doesn't", site(city), at(street, 1), nil},
		{"district doesn't open level 3", site(district), at(district, 2), nil},
		{"city does, and it is the last", site(city), at(district, 2),
			[]opening{{3, "legal_office", city, 100, 100 + 5*day, false, true}}},
		{"nothing after the last", site(city), at(city, 3), nil},
		{"street without a legal unit passes level 1 at once", site(street, "a1"), ran(street),
			[]opening{{1, "legal_unit", street, 100, 100, true, false}}},
		{"district agency without a legal unit opens level 2 with it", site(district, "a1"), ran(district),
			[]opening{{1, "legal_unit", district, 100, 100, true, false}, {2, "legal_office", district, 100, 100 + 2*day, false, false}}},
		{"both vacant at the district: the city is next", site(district, "a1", district), ran(district),
			[]opening{{1, "legal_unit", district, 100, 100, true, false}, {2, "legal_office", district, 100, 100, true, false}}},
		{"city agency ends at level 2", site(city, "a1"), ran(city),
			[]opening{{1, "legal_unit", city, 100, 100, true, false}, {2, "legal_office", city, 100, 100 + 2*day, false, true}}},
		{"the last level is never passed, even vacant", site(city, city), at(district, 2),
			[]opening{{3, "legal_office", city, 100, 100 + 5*day, true, true}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := proto.CloneOf(c.prev)
			var got []opening
			for _, o := range c.site.Next(c.prev, 100) {
				got = append(got, opening{o.Level, o.Role, o.Receiver, o.StartUs, o.DueUs, o.Vacant, o.Last})
				if o.AlertId != c.prev.AlertId || o.Round != 1 || string(o.ProfileHash) != "profile" || string(o.CalendarHash) != "calendar" {
					t.Errorf("opening %v", o)
				}
			}
			if diff := cmp.Diff(c.want, got, cmp.AllowUnexported(opening{})); diff != "" {
				t.Error(diff)
			}
			if c.site.Receives(c.prev) != (len(c.want) > 0) {
				t.Error("Receives says otherwise")
			}
			if diff := cmp.Diff(before, c.prev, protocmp.Transform()); diff != "" {
				t.Error("prev was changed", diff)
			}
		})
	}
}

// A street straight under a city (中山市) with a ladder that names a district: the city passes that level and takes the next.
func TestNextWithoutADistrict(t *testing.T) {
	s := site(city)
	s.Receiver = func(code, tier string) string {
		return map[string]string{"street": street, "city": city}[tier]
	}
	prev := ran(street)
	prev.Level = 1
	got := s.Next(prev, 100)
	if len(got) != 2 || got[0].Level != 2 || !got[0].Vacant || got[0].DueUs != 100 || got[1].Level != 3 || got[1].DueUs != 100+5*day {
		t.Errorf("got %v", got)
	}
}

// opened is an alert at a street with level 1 open from 0 on.
func opened(t *testing.T, levels ...uint32) *alert.Alert {
	t.Helper()
	a := &alert.Alert{ID: ran(street).AlertId}
	prev, start := ran(street), int64(0)
	for _, n := range levels {
		node := map[uint32]string{1: street, 2: district, 3: city}[n]
		o := site(node).Next(prev, start)[0]
		a.Opened(journal.ID{byte(n)}, 1, start, o)
		prev, start = o, o.DueUs
	}
	return a
}

func as(kind identity.Kind, who string, role ...string) identity.Identity {
	i := identity.Identity{City: city, Kind: kind}
	switch kind {
	case identity.Agency:
		i.ID = who
	default:
		i.Code = jurisdiction.Code(who)
	}
	if len(role) > 0 {
		i.Role = role[0]
	}
	return i
}

func TestHandling(t *testing.T) {
	good := alert.Handling{Action: "mend", Explanation: "collected now", HandledBy: "p1"}
	with := func(f func(*alert.Handling)) alert.Handling { h := good; f(&h); return h }
	unit, office := as(identity.Agency, "a1"), as(identity.Office, district, "legal_office")
	handled := opened(t, 1)
	handled.Handled(day, &dubanv1.LevelHandled{Round: 1, Level: 1, HandledBy: "p0"})
	for _, c := range []struct {
		name   string
		alert  *alert.Alert
		node   string
		by     identity.Identity
		h      alert.Handling
		now    int64
		level  uint32
		late   bool
		kind   fault.Kind
		fields string
	}{
		{"in time", opened(t, 1), street, unit, good, 3*day - 1, 1, false, 0, ""},
		{"at its due time it is late", opened(t, 1), street, unit, good, 3 * day, 1, true, 0, ""},
		{"after the next level opened", opened(t, 1, 2), street, unit, with(func(h *alert.Handling) { h.Level = 1 }), day, 1, true, 0, ""},
		{"the caller's own level is meant", opened(t, 1, 2), street, unit, good, 4 * day, 1, true, 0, ""},
		{"level 2 by the district's office", opened(t, 1, 2), district, office, good, 4 * day, 2, false, 0, ""},
		{"the last level is never late", opened(t, 1, 2, 3), city, as(identity.Office, city, "legal_office"), good, 400 * day, 3, false, 0, ""},
		{"everything missing is said at once", opened(t, 1), street, unit, alert.Handling{Action: "forget"}, 0, 0, false, fault.Invalid, "explanation handled_by action"},
		{"another agency", opened(t, 1), street, as(identity.Agency, "a2"), good, 0, 0, false, fault.Denied, ""},
		{"the office may not handle level 1", opened(t, 1), street, office, good, 0, 0, false, fault.Denied, ""},
		{"not at another node", opened(t, 1), district, unit, good, 0, 0, false, fault.Denied, ""},
		{"another role", opened(t, 1, 2), district, as(identity.Office, district, "bureau"), good, 0, 0, false, fault.Denied, ""},
		{"another district", opened(t, 1, 2), district, as(identity.Office, "120101", "legal_office"), good, 0, 0, false, fault.Denied, ""},
		{"the node itself", opened(t, 1), street, as(identity.Node, street), good, 0, 0, false, fault.Denied, ""},
		{"twice", handled, street, unit, good, 2 * day, 0, false, fault.Precondition, "level"},
		{"not open", opened(t, 1), street, unit, with(func(h *alert.Handling) { h.Level = 2 }), 0, 0, false, fault.NotFound, "level"},
		{"unknown", &alert.Alert{}, street, unit, good, 0, 0, false, fault.NotFound, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := c.alert.DecideHandling(c.h, c.by, alert.Desk{Code: c.node, Profile: book}, c.now)
			if err != nil {
				var names []string
				for _, f := range fault.Fields(err) {
					names = append(names, f.Field)
				}
				if fault.Of(err) != c.kind || strings.Join(names, " ") != c.fields {
					t.Fatalf("%v %v: %v", fault.Of(err), names, err)
				}
				return
			}
			if c.kind != 0 || got.Level != c.level || got.Late != c.late || got.Explanation != c.h.Explanation {
				t.Fatalf("got %v", got)
			}
		})
	}
}

func TestDispute(t *testing.T) {
	office := as(identity.Office, district, "legal_office")
	desk := alert.Desk{Code: district, Profile: book}
	decide := func(a *alert.Alert, by identity.Identity, reason string) error {
		var next *dubanv1.LevelOpened
		if o := site(district).Next(a.Top().Opening, day); len(o) > 0 {
			next = o[0]
		}
		_, err := a.DecideDispute(reason, "p2", by, desk, next)
		return err
	}
	a := opened(t, 1)
	if err := decide(a, office, "untrue"); !fault.Is(err, fault.Precondition) {
		t.Errorf("not handled: %v", err)
	}
	a.Handled(day, &dubanv1.LevelHandled{Round: 1, Level: 1})
	if !a.Closed() || a.Open() != nil {
		t.Error("handled in time, and not closed")
	}
	if err := decide(a, office, ""); !fault.Is(err, fault.Invalid) || fault.Fields(err)[0].Field != "reason" {
		t.Errorf("without reason: %v", err)
	}
	if err := decide(a, as(identity.Agency, "a1"), "untrue"); !fault.Is(err, fault.Denied) {
		t.Errorf("by the agency: %v", err)
	}
	if err := decide(a, office, "untrue"); err != nil {
		t.Error(err)
	}
	a.Disputed(&dubanv1.LevelDisputed{Round: 1, Level: 1})
	if a.Closed() || a.State(a.Top(), 2*day) != dubanv1.LevelState_LEVEL_STATE_DISPUTED {
		t.Error("disputed, and still closed")
	}
	if err := decide(a, office, "untrue"); !fault.Is(err, fault.Precondition) {
		t.Errorf("twice: %v", err)
	}

	late := opened(t, 1)
	late.Handled(3*day, &dubanv1.LevelHandled{Round: 1, Level: 1})
	if err := decide(late, office, "untrue"); !fault.Is(err, fault.Precondition) {
		t.Errorf("late: %v", err)
	}
	last := opened(t, 1, 2, 3)
	last.Handled(day, &dubanv1.LevelHandled{Round: 1, Level: 3})
	if err := decide(last, office, "untrue"); !fault.Is(err, fault.Precondition) {
		t.Errorf("last: %v", err)
	}
	above := opened(t, 1, 2)
	above.Handled(day, &dubanv1.LevelHandled{Round: 1, Level: 2})
	if err := decide(above, office, "untrue"); !fault.Is(err, fault.Denied) {
		t.Errorf("the city's to dispute: %v", err)
	}
}
