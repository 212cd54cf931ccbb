package escalation_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"

	"google.golang.org/protobuf/proto"

	"duban.internal/escalation"
	"duban.internal/node/fault"
	"duban.internal/node/store"
	dubanv1 "duban.internal/proto/duban/v1"
)

// shaky loses the runner's commands, or only the answers to them.
type shaky struct {
	store.Store
	rand *rand.Rand
}

func (s *shaky) Append(ctx context.Context, commands ...store.Command) ([]store.Result, []error) {
	lost := func() ([]store.Result, []error) {
		errs := make([]error, len(commands))
		for i := range errs {
			errs[i] = fault.New(fault.Unavailable, "lost")
		}
		return make([]store.Result, len(commands)), errs
	}
	switch s.rand.IntN(6) {
	case 0:
		return lost()
	case 1:
		s.Store.Append(ctx, commands...)
		return lost()
	case 2: // a part of it
		s.Store.Append(ctx, commands[:s.rand.IntN(len(commands)+1)]...)
		return lost()
	}
	return s.Store.Append(ctx, commands...)
}

// levels gives every opening in a node's own journal, and when it was recorded.
func (n *node) levels() map[string]int64 {
	n.t.Helper()
	out := map[string]int64{}
	entries, err := n.store.Read(context.Background(), n.store.Own(), 0, 64<<20)
	if err != nil {
		n.t.Fatal(err)
	}
	for _, e := range entries {
		var o dubanv1.LevelOpened
		if e.Kind != uint32(dubanv1.EntryKind_ENTRY_KIND_LEVEL_OPENED) || proto.Unmarshal(e.Payload, &o) != nil {
			continue
		}
		id := o.CaseId
		if id == "" { // about a node
			id = o.AlertId
		}
		key := fmt.Sprintf("%s %s %d.%d", id, o.Point, o.Round, o.Level)
		if _, twice := out[key]; twice {
			n.t.Errorf("%s: %s exists twice", n.code, key)
		}
		if e.RecordedAt < o.StartUs {
			n.t.Errorf("%s: %s is early: %d before %d", n.code, key, e.RecordedAt, o.StartUs)
		}
		out[key] = e.RecordedAt
	}
	return out
}

// Whatever is lost, and however often a runner begins anew, even with its deadlines and cursors thrown away: the same
// levels exist as without, each once, none early.
func TestCrashes(t *testing.T) {
	run := func(seed uint64) (all [3]map[string]int64) {
		w := newWorld(t, "2026-01-05 09:00")
		rnd := rand.New(rand.NewPCG(seed, 0))
		step := func() {
			if seed == 0 {
				w.settle()
				return
			}
			for range 40 {
				n := w.nodes[rnd.IntN(len(w.nodes))]
				if rnd.IntN(4) == 0 {
					cfg := n.cfg
					cfg.Store = &shaky{n.store, rnd}
					n.runner, _ = escalation.New(cfg)
				}
				n.runner.Step(context.Background()) //nolint:errcheck // it is lost on purpose
				if rnd.IntN(2) == 0 {
					n.send()
				}
			}
			for _, n := range w.nodes {
				n.runner, _ = escalation.New(n.cfg)
			}
			w.settle()
		}
		for i := range 12 {
			n := w.nodes[i%3]
			id := fmt.Sprintf("C-%d", i)
			n.opens(id)
			n.records(id, "filing", "2026-01-05 08:30", "filed")
			if i%2 == 0 {
				n.records(id, "investigation", "2026-01-02 08:30", "", "o1")
			}
		}
		step()
		w.clock.Set(w.at("2026-01-07 09:00"))
		for i := 0; i < 12; i += 4 {
			n := w.nodes[i%3]
			n.records(fmt.Sprintf("C-%d", i), "decision", "2026-01-07 08:30", "penalty")
		}
		step()
		for _, at := range []string{"2026-01-10", "2026-01-20", "2026-02-10", "2026-03-27", "2026-04-06", "2026-04-10", "2026-06-01"} {
			w.clock.Set(w.at(at))
			step()
		}
		for i, n := range w.nodes {
			if seed != 0 {
				n.store.(*memStore).forget(escalation.Follower, escalation.Tables()...)
				n.runner, _ = escalation.New(n.cfg)
			}
			defer func() { all[i] = n.levels() }()
		}
		w.settle()
		return all
	}
	want := run(0)
	if len(want[0]) < 8 || len(want[1]) < 8 || len(want[2]) < 8 {
		t.Fatalf("too little happens: %v", want)
	}
	for seed := range uint64(4) {
		got := run(seed + 1)
		for i := range got {
			for key, at := range want[i] {
				if got[i][key] != at {
					t.Errorf("seed %d: %s at %d, want %d", seed+1, key, got[i][key], at)
				}
			}
			if len(got[i]) != len(want[i]) {
				t.Errorf("seed %d: %d levels, want %d", seed+1, len(got[i]), len(want[i]))
			}
		}
	}
}

// The driver waits for commits and for its clock, and stops when told.
func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "2026-03-02 08:00")
		ctx, stop := context.WithCancel(context.Background())
		var running sync.WaitGroup
		for _, n := range w.nodes {
			running.Go(func() {
				if err := n.runner.Run(ctx); err != nil {
					t.Error(err)
				}
			})
		}
		s, d, c := w.by[street], w.by[district], w.by[city]
		at := func(now string) {
			w.clock.Set(w.at(now))
			for range 4 {
				synctest.Wait()
				s.send()
				d.send()
			}
			synctest.Wait()
		}
		at("2026-03-04 09:30")
		s.opens("C-1")
		s.records("C-1", "investigation", "2026-03-02 10:00", "", "o1", "o2")
		at("2026-03-04 09:30")
		at("2026-03-10 00:00")
		if got := len(d.levels()); got != 1 {
			t.Errorf("the district opened %d levels, want 1", got)
		}
		at("2026-03-14 00:00")
		if got := len(c.levels()); got != 1 {
			t.Errorf("the city opened %d levels, want 1", got)
		}
		stop()
		running.Wait()
		for _, n := range w.nodes {
			n.store.Close()
		}
	})
}
