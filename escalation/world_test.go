package escalation_test

import (
	"context"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"duban.internal/configs"
	"duban.internal/escalation"
	"duban.internal/escalation/alertservice"
	"duban.internal/escalation/alertview"
	"duban.internal/node/clock"
	"duban.internal/node/identity"
	"duban.internal/node/journal"
	"duban.internal/node/jurisdiction"
	"duban.internal/node/profile"
	"duban.internal/node/registry"
	"duban.internal/node/store"
	"duban.internal/node/workday"
	dubanv1 "duban.internal/proto/duban/v1"
)

const (
	city     = "120000"
	district = "120116"
	street   = "120116013"
)

// world is a street, its district and its city (天津), by the shipped profile and calendar, on one manual clock.
type world struct {
	t     *testing.T
	open  opener
	clock *clock.Manual
	zone  *time.Location
	nodes []*node // the street first: a settled world sends upward in this order
	by    map[string]*node

	mu    sync.Mutex
	cases map[string]*dubanv1.CaseOpened
}

// opener opens a node's store.
type opener func(t testing.TB, c clock.Clock, folds []store.Fold, tables []*store.Table) store.Store

type node struct {
	*world
	code     string
	store    store.Store
	registry *registry.Registry
	cfg      escalation.Config
	runner   *escalation.Runner
	alerts   *alertservice.Service
	parent   *node
	off      bool // takes and sends nothing
	mu       sync.Mutex
	peers    map[journal.ID]escalation.Peer
	accepted map[journal.ID][]acceptance // by this node and those above
	caller   identity.Identity
}

// acceptance is a checkpoint that was accepted.
type acceptance struct {
	at   int64
	size uint64
}

// grace of the world's runners, and how long a child may be silent.
const (
	grace   = 2 * time.Hour
	silence = 12 * time.Hour
)

func newWorld(t *testing.T, now string, open ...opener) *world {
	t.Helper()
	w := &world{t: t, open: openMem, by: map[string]*node{}, cases: map[string]*dubanv1.CaseOpened{}}
	cal, err := workday.Parse(shipped(t, "calendars/cn-holidays.csv"))
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range open {
		w.open = o
	}
	w.zone = cal.Location()
	w.clock = clock.NewManual(w.at(now))
	tree, err := jurisdiction.Load(strings.NewReader(string(shipped(t, "divisions/divisions.csv"))))
	if err != nil {
		t.Fatal(err)
	}
	p, err := profile.Load(configs.FS, "profiles/tianjin")
	if err != nil {
		t.Fatal(err)
	}
	for _, code := range []string{street, district, city} {
		w.add(tree, p, cal, code)
	}
	w.by[street].parent, w.by[district].parent = w.by[district], w.by[city]
	w.settle()
	return w
}

func shipped(t testing.TB, name string) []byte {
	t.Helper()
	b, err := fs.ReadFile(configs.FS, name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (w *world) add(tree *jurisdiction.Tree, p *profile.Profile, cal *workday.Calendar, code string) {
	w.t.Helper()
	n := &node{world: w, code: code, peers: map[journal.ID]escalation.Peer{}, accepted: map[journal.ID][]acceptance{}}
	n.store = w.open(w.t, w.clock, []store.Fold{registry.Fold(), alertview.Fold()}, escalation.Tables())
	n.registry = registry.New(n.store)
	d, _ := tree.Get(jurisdiction.Code(code))
	start := registry.Start{Division: d, Profile: p, Calendar: cal}
	if code != street {
		start.Offices = []*dubanv1.Office{{Role: "legal_office", Jurisdiction: code, Name: d.Name + "司法局"}}
	}
	if err := registry.Bootstrap(context.Background(), n.store, start); err != nil {
		w.t.Fatal(err)
	}
	cfg := escalation.Config{
		Store: n.store, Registry: n.registry, Cases: facts{w}, Tree: tree, Code: d.Code, Clock: w.clock,
		Peer: n.peer, Witnessed: n.witnessed, Grace: grace,
	}
	n.cfg = cfg
	var err error
	if n.runner, err = escalation.New(cfg); err != nil {
		w.t.Fatal(err)
	}
	n.alerts = alertservice.New(alertservice.Config{
		Store: n.store, Registry: n.registry, Tree: tree, Code: d.Code, Clock: w.clock,
		Caller: func(context.Context) (identity.Identity, bool) { return n.caller, true },
	})
	n.register("agency/a-"+code, dubanv1.EntryKind_ENTRY_KIND_AGENCY_REGISTERED, &dubanv1.AgencyRegistered{
		Agency: &dubanv1.Agency{Id: "a-" + code, Name: "综合执法队", Jurisdiction: code},
	})
	w.nodes = append(w.nodes, n)
	w.by[code] = n
}

// facts are what is fixed about the cases opened so far, by journal and case.
type facts struct{ *world }

func (f facts) Opening(_ context.Context, id journal.ID, caseID string) (*dubanv1.CaseOpened, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.cases[id.String()+caseID], nil
}

func (w *world) at(s string) time.Time {
	w.t.Helper()
	for _, layout := range []string{"2006-01-02 15:04:05", "2006-01-02 15:04", time.DateOnly} {
		if v, err := time.ParseInLocation(layout, s, w.zone); err == nil {
			return v
		}
	}
	w.t.Fatalf("time %q", s)
	return time.Time{}
}

// until moves the clock to a time and lets every node do what is due then.
func (w *world) until(s string) {
	w.t.Helper()
	w.clock.Set(w.at(s))
	w.settle()
}

// settle steps and syncs until nothing more happens.
func (w *world) settle() {
	w.t.Helper()
	for range 100 {
		before := w.sizes()
		for _, n := range w.nodes {
			if n.off {
				continue
			}
			for busy := true; busy; {
				var err error
				if busy, _, err = n.runner.Step(context.Background()); err != nil {
					w.t.Fatalf("%s: %v", n.code, err)
				}
			}
			n.send()
		}
		if before == w.sizes() {
			return
		}
	}
	w.t.Fatal("the world does not settle")
}

func (w *world) sizes() string {
	var b strings.Builder
	for _, n := range w.nodes {
		for _, i := range n.store.Journals() {
			fmt.Fprint(&b, i.Size, " ")
		}
		fmt.Fprint(&b, n.peers, "; ")
	}
	return b.String()
}

// send gives the parent what it lacks, and states the time of it, like a checkpoint.
func (n *node) send() {
	if n.parent != nil {
		n.sendTo(n.parent)
	}
}

func (n *node) sendTo(to *node) {
	n.t.Helper()
	if to.off {
		return
	}
	ctx := context.Background()
	for _, info := range n.store.Journals() {
		at := n.peer(info.ID).Checkpoint
		if info.Own {
			var err error
			if _, at, err = n.store.Stamp(ctx); err != nil {
				n.t.Fatal(err)
			}
		}
		there, _ := to.store.Journal(info.ID)
		for there.Size < info.Size {
			entries, err := n.store.Read(ctx, info.ID, there.Size, 1<<20)
			if err != nil {
				n.t.Fatal(err)
			}
			if errs := to.store.AppendReplica(ctx, store.Replica{Journal: info.ID, From: there.Size, Entries: entries}); errs[0] != nil {
				n.t.Fatal(errs[0])
			}
			there, _ = to.store.Journal(info.ID)
		}
		if to.peer(info.ID).Checkpoint >= at {
			continue
		}
		now := clock.Micros(n.clock.Now())
		to.mu.Lock()
		to.peers[info.ID] = escalation.Peer{Checkpoint: at, Size: info.Size, Heard: now}
		to.accepted[info.ID] = append(to.accepted[info.ID], acceptance{now, info.Size})
		to.mu.Unlock()
		n.mu.Lock()
		n.accepted[info.ID] = append(n.accepted[info.ID], acceptance{now, info.Size}) // the countersignature comes back
		n.mu.Unlock()
		// A checkpoint is a commit, if only of a row.
		row := store.Change{Table: escalation.RunningLimit, Owner: to.store.Own(), Row: store.Row{"", ""}, Delete: true}
		if _, errs := to.store.Append(ctx, store.Command{Changes: []store.Change{row}}); errs[0] != nil {
			n.t.Fatal(errs[0])
		}
	}
	// Countersignatures that others gave go with it.
	n.mu.Lock()
	own := slices.Clone(n.accepted[n.store.Own()])
	n.mu.Unlock()
	to.mu.Lock()
	to.accepted[n.store.Own()] = own
	to.mu.Unlock()
}

func (n *node) peer(id journal.ID) escalation.Peer {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.peers[id]
}

func (n *node) witnessed(_ context.Context, id journal.ID, number uint64) (at int64, size uint64, ok bool, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, a := range n.accepted[id] {
		if a.size > number && (!ok || a.at < at) {
			at, size, ok = a.at, a.size, true
		}
	}
	return at, size, ok, nil
}

func (n *node) register(stream string, kind dubanv1.EntryKind, m proto.Message) {
	n.t.Helper()
	payload, err := proto.Marshal(m)
	if err != nil {
		n.t.Fatal(err)
	}
	p := store.Proposal{Stream: stream, Kind: uint32(kind), Actor: "agency:a-" + n.code, Payload: payload}
	p.Seal()
	if _, errs := n.store.Append(context.Background(), store.Command{Entries: []store.Proposal{p}}); errs[0] != nil {
		n.t.Fatal(errs[0])
	}
}

// opens opens a case of the node's own agency.
func (n *node) opens(id string, change ...func(*dubanv1.CaseOpened)) {
	n.t.Helper()
	c := &dubanv1.CaseOpened{CaseId: id, Agency: "a-" + n.code, Procedure: "penalty_general"}
	for _, f := range change {
		f(c)
	}
	n.world.mu.Lock()
	n.cases[n.store.Own().String()+id] = c
	n.world.mu.Unlock()
	n.register("case/"+id, dubanv1.EntryKind_ENTRY_KIND_CASE_OPENED, c)
}

// records records a stage that was completed at a time.
func (n *node) records(id, stage, completed, result string, officers ...string) {
	n.t.Helper()
	n.register("case/"+id, dubanv1.EntryKind_ENTRY_KIND_STAGE_RECORDED, &dubanv1.StageRecorded{
		CaseId: id, Stage: stage, CompletedUs: clock.Micros(n.at(completed)), Officers: officers, Opinion: &dubanv1.Opinion{Result: result, Reason: "x"},
	})
}

// shows gives every level that a node knows of a case's alerts: "late_collection 1.2 legal_office@120116 OPEN opened due".
func (n *node) shows(caseID string) []string {
	n.t.Helper()
	resp, err := n.alerts.ListAlerts(context.Background(), &dubanv1.ListAlertsRequest{})
	if err != nil {
		n.t.Fatal(err)
	}
	var out []string
	for _, a := range resp.Alerts {
		if a.CaseId != caseID {
			continue
		}
		for _, l := range a.Levels {
			out = append(out, fmt.Sprintf("%s %d.%d %s@%s %s %s %s", a.Point, l.Round, l.Level, l.Role, l.Receiver,
				strings.TrimPrefix(l.State.String(), "LEVEL_STATE_"), n.local(l.OpenedUs), n.local(l.DueUs)))
		}
	}
	return out
}

func (n *node) local(us int64) string {
	if us == 0 {
		return "open"
	}
	return clock.Time(us).In(n.zone).Format("01-02 15:04")
}

// only gives the one alert of a case.
func (n *node) only(caseID string) *dubanv1.Alert {
	n.t.Helper()
	resp, err := n.alerts.ListAlerts(context.Background(), &dubanv1.ListAlertsRequest{})
	if err != nil {
		n.t.Fatal(err)
	}
	var found *dubanv1.Alert
	for _, a := range resp.Alerts {
		if a.CaseId == caseID {
			if found != nil {
				n.t.Fatalf("case %s has several alerts", caseID)
			}
			found = a
		}
	}
	if found == nil {
		n.t.Fatalf("%s knows no alert of case %s", n.code, caseID)
	}
	return found
}

func (n *node) agency() identity.Identity {
	return identity.Identity{City: city, Kind: identity.Agency, ID: "a-" + n.code}
}

func (n *node) office() identity.Identity {
	return identity.Identity{City: city, Kind: identity.Office, Role: "legal_office", Code: jurisdiction.Code(n.code)}
}

func (n *node) handles(caseID string, by identity.Identity) error {
	n.caller = n.office() // sees every alert; who acts may not
	id := n.only(caseID).AlertId
	n.caller = by
	defer func() { n.caller = n.office() }()
	_, err := n.alerts.HandleAlert(context.Background(), &dubanv1.HandleAlertRequest{
		AlertId: id, Action: "ordered_to_mend", Explanation: "collected", HandledBy: "p-1",
	})
	n.settle()
	return err
}

func (n *node) disputes(caseID string, by identity.Identity) error {
	n.caller = n.office() // sees every alert; who acts may not
	id := n.only(caseID).AlertId
	n.caller = by
	defer func() { n.caller = n.office() }()
	_, err := n.alerts.DisputeAlert(context.Background(), &dubanv1.DisputeAlertRequest{
		AlertId: id, Reason: "it was not collected", DisputedBy: "p-2",
	})
	n.settle()
	return err
}

func (n *node) adoptsYear2027() {
	n.t.Helper()
	content := string(shipped(n.t, "calendars/cn-holidays.csv"))
	content = strings.Replace(content, "# years: 2004-2026", "# years: 2004-2026\n# plain: 2027", 1)
	cal, err := workday.Parse([]byte(content))
	if err != nil {
		n.t.Fatal(err)
	}
	hash := cal.Hash()
	n.register("node", dubanv1.EntryKind_ENTRY_KIND_CALENDAR_ADOPTED, &dubanv1.CalendarAdopted{Name: cal.Name(), Hash: hash[:], Content: cal.Bytes()})
}
