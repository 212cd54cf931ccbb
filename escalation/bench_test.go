package escalation_test

import (
	"context"
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"duban.internal/configs"
	"duban.internal/escalation"
	"duban.internal/escalation/alert"
	"duban.internal/escalation/alertview"
	"duban.internal/node/clock"
	"duban.internal/node/journal"
	"duban.internal/node/jurisdiction"
	"duban.internal/node/profile"
	"duban.internal/node/registry"
	"duban.internal/node/store"
	"duban.internal/node/workday"
	dubanv1 "duban.internal/proto/duban/v1"
)

// BenchmarkFire opens level 1 of limits that ran out at a street's node, and follows what it wrote, while others wait.
func BenchmarkFire(b *testing.B) {
	for _, waiting := range []int{10_000, 1_000_000} {
		b.Run(fmt.Sprintf("waiting=%s", map[int]string{10_000: "10k", 1_000_000: "1M"}[waiting]), func(b *testing.B) {
			n := newBench(b)
			begin := n.clock.Now()
			n.plant(b, "w", waiting, begin.Add(1000*time.Hour))
			n.settle(b)
			n.plant(b, "d", b.N, begin.Add(time.Hour))
			n.settle(b)
			b.ResetTimer()
			n.clock.Set(begin.Add(2 * time.Hour))
			n.settle(b)
			b.StopTimer()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "firings/s")
			info, _ := n.store.Journal(n.store.Own())
			if got := int(info.Size - n.before); got != b.N {
				b.Fatalf("%d levels opened, want %d", got, b.N)
			}
		})
	}
}

type bench struct {
	clock  *clock.Manual
	store  store.Store
	cfg    escalation.Config
	runner *escalation.Runner
	before uint64
}

func newBench(b *testing.B) *bench {
	b.Helper()
	must := func(err error) {
		b.Helper()
		if err != nil {
			b.Fatal(err)
		}
	}
	read := func(name string) []byte {
		content, err := fs.ReadFile(configs.FS, name)
		must(err)
		return content
	}
	cal, err := workday.Parse(read("calendars/cn-holidays.csv"))
	must(err)
	tree, err := jurisdiction.Load(strings.NewReader(string(read("divisions/divisions.csv"))))
	must(err)
	p, err := profile.Load(configs.FS, "profiles/tianjin")
	must(err)
	n := &bench{clock: clock.NewManual(time.Date(2026, 3, 2, 1, 0, 0, 0, time.UTC))}
	n.store = openEmbedded(b, n.clock, []store.Fold{registry.Fold(), alertview.Fold()}, escalation.Tables())
	r := registry.New(n.store)
	d, _ := tree.Get(street)
	must(registry.Bootstrap(context.Background(), n.store, registry.Start{Division: d, Profile: p, Calendar: cal}))
	payload, err := proto.Marshal(&dubanv1.AgencyRegistered{Agency: &dubanv1.Agency{Id: "a1", Jurisdiction: street}})
	must(err)
	_, errs := n.store.Append(context.Background(), store.Command{Entries: []store.Proposal{
		{Stream: "agency/a1", Kind: uint32(dubanv1.EntryKind_ENTRY_KIND_AGENCY_REGISTERED), Actor: "agency:a1", Payload: payload}}})
	must(errs[0])
	n.cfg = escalation.Config{
		Store: n.store, Registry: r, Cases: noCases{}, Tree: tree, Code: street, Clock: n.clock,
		Peer: func(journal.ID) escalation.Peer { return escalation.Peer{} },
	}
	info, _ := n.store.Journal(n.store.Own())
	n.before = info.Size
	return n
}

type noCases struct{}

func (noCases) Opening(context.Context, journal.ID, string) (*dubanv1.CaseOpened, error) {
	return nil, nil
}

// plant puts limits of cases that run out one after another, a millisecond apart, from a time on.
func (n *bench) plant(b *testing.B, name string, count int, from time.Time) {
	b.Helper()
	own := n.store.Own()
	var commands []store.Command
	for i := 0; i < count; {
		var cmd store.Command
		for ; i < count && len(cmd.Changes) < 512; i++ {
			o := &dubanv1.LevelOpened{
				Round: 1, Point: "decision_late", Article: "P60", Grade: "red", Journal: own[:], CaseId: fmt.Sprintf("%s-%07d", name, i), Agency: "a1",
				Trigger: uint64(i), Receiver: street, Tier: "street", StartUs: 1, DueUs: clock.Micros(from.Add(time.Duration(i) * time.Millisecond)), Limit: "90d",
				Text: "no decision within 90 natural days of filing; the last moment was 2026-05-31 (超期未决定)",
			}
			o.AlertId = alert.ID(own, o.CaseId, o.Point, o.Trigger)
			opening, err := proto.Marshal(o)
			if err != nil {
				b.Fatal(err)
			}
			cmd.Changes = append(cmd.Changes, store.Change{Table: escalation.Deadline, Owner: own,
				Row: store.Row{o.DueUs, o.AlertId, int64(1), int64(0), int64(0), int64(0), opening}})
		}
		if commands = append(commands, cmd); len(commands) == 8 || i == count {
			_, errs := n.store.Append(context.Background(), commands...)
			for _, err := range errs {
				if err != nil {
					b.Fatal(err)
				}
			}
			commands = nil
		}
	}
	// A runner that begins anew finds them.
	var err error
	if n.runner, err = escalation.New(n.cfg); err != nil {
		b.Fatal(err)
	}
}

func (n *bench) settle(b *testing.B) {
	b.Helper()
	for busy := true; busy; {
		var err error
		if busy, _, err = n.runner.Step(context.Background()); err != nil {
			b.Fatal(err)
		}
	}
}
