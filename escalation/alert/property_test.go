package alert_test

import (
	"testing"

	"pgregory.net/rapid"

	"duban.internal/escalation/alert"
	"duban.internal/node/identity"
	"duban.internal/node/journal"
	dubanv1 "duban.internal/proto/duban/v1"
)

type key struct{ round, level uint32 }

// Whatever offices do and however time goes, as long as nodes open only what LevelAt says is due: a level exists once and
// never before the one below was due unhandled; handled in time stays closed until it is disputed; an alert ends at its
// ladder's last level.
func TestWhateverHappens(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		home := rapid.SampledFrom([]string{street, district, city}).Draw(t, "home")
		var empty []string
		for _, who := range []string{"a1", district, city} {
			if rapid.IntRange(0, 3).Draw(t, "vacant") == 0 {
				empty = append(empty, who)
			}
		}
		nodes := []string{street, district, city}
		a := &alert.Alert{ID: ran(home).AlertId}
		var now, number int64
		exists := map[key]bool{}
		open := func(openings []*dubanv1.LevelOpened) {
			for _, o := range openings {
				k := key{o.Round, o.Level}
				if exists[k] {
					t.Fatalf("%v opened twice", k)
				}
				exists[k] = true
				if o.StartUs > now {
					t.Fatalf("%v opened at %d, before %d", k, now, o.StartUs)
				}
				if o.Level > 1 {
					below := find(a, o.Round, o.Level-1)
					if below == nil || below.Opening.DueUs != o.StartUs || below.HandledAt != 0 && !below.Late {
						t.Fatalf("%v opened over %+v", k, below)
					}
				}
				number++
				a.Opened(journal.ID{1}, uint64(number), now, o)
			}
		}
		open(site(home, empty...).Next(ran(home), now))
		closedAt := key{}
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			switch rapid.SampledFrom([]string{"wait", "wait", "handle", "dispute", "step"}).Draw(t, "what") {
			case "wait":
				now += rapid.Int64Range(0, 3*day).Draw(t, "for")
			case "handle":
				l := &a.Levels[rapid.IntRange(0, len(a.Levels)-1).Draw(t, "which")]
				by := as(identity.Office, l.Opening.Receiver, l.Opening.Role)
				if l.Opening.Role == "legal_unit" {
					by = as(identity.Agency, "a1")
				}
				before := l.HandledAt
				h, err := a.DecideHandling(alert.Handling{Round: l.Round(), Level: l.Step(), Action: "mend", Explanation: "x", HandledBy: "p"}, by,
					alert.Desk{Code: l.Opening.Receiver, Profile: book}, now)
				if (err != nil) != (before != 0) {
					t.Fatalf("handled at %d, then: %v", before, err)
				}
				if err == nil && !a.Handled(now+1, h) {
					t.Fatal("decided, and not to be folded")
				}
			case "dispute":
				for _, node := range nodes {
					var next *dubanv1.LevelOpened
					if o := site(node, empty...).Next(a.Top().Opening, now); len(o) > 0 {
						next = o[0]
					}
					by := as(identity.Office, node, "legal_office")
					d, err := a.DecideDispute("untrue", "p", by, alert.Desk{Code: node, Profile: book}, next)
					if err != nil {
						continue
					}
					if !a.Closed() || a.Top().Opening.Last {
						t.Fatal("disputed what is not closed")
					}
					a.Disputed(d)
					start := ran(home)
					start.Round = d.Round + 1
					open(site(home, empty...).Next(start, now))
					break
				}
			case "step":
				level, start, due := a.LevelAt(now)
				if !due {
					break
				}
				opened := 0
				for _, node := range nodes {
					o := site(node, empty...).Next(a.Top().Opening, start)
					if len(o) > 0 && o[0].Level == level {
						opened++
						open(o)
						break
					}
				}
				if opened == 0 {
					t.Fatalf("level %d is due and nobody opens it", level)
				}
			}
			now++
			top := a.Top()
			if closedAt.round != 0 && top.Round() == closedAt.round && top.Step() != closedAt.level {
				t.Fatalf("%v was closed and level %d opened", closedAt, top.Step())
			}
			if a.Closed() {
				closedAt = key{top.Round(), top.Step()}
				if _, _, due := a.LevelAt(1 << 60); due || a.Open() != nil {
					t.Fatal("closed, and something is due")
				}
			}
			if int(top.Step()) > len(ladders[tiers[home]]) || top.Opening.Last != (int(top.Step()) == len(ladders[tiers[home]])) {
				t.Fatalf("level %d of a %s", top.Step(), tiers[home])
			}
			for i := range a.Levels {
				if s := a.State(&a.Levels[i], now); s == dubanv1.LevelState_LEVEL_STATE_OPEN && i != len(a.Levels)-1 {
					t.Fatalf("level below the top is open")
				}
			}
		}
	})
}

func find(a *alert.Alert, round, level uint32) *alert.Level {
	for i := range a.Levels {
		if a.Levels[i].Round() == round && a.Levels[i].Step() == level {
			return &a.Levels[i]
		}
	}
	return nil
}
