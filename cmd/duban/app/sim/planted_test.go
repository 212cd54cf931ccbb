//go:build planted

package sim

import (
	"os"
	"strings"
	"testing"

	"duban.internal/node/planted"
)

// bugs are planted in the cores of others, each by one line: planted.On("core.name").
var bugs = []string{
	"intake.wrong-number", "intake.no-key", "intake.any-agency", "intake.no-gate", "intake.case-twice",
	"fold.forgets-evidence", "fold.version-stays", "fold.late-is-in-time", "fold.drops-rounds", "fold.impure", "fold.number-skipped",
	"runner.early", "runner.no-grace", "runner.cursor-apart", "runner.counts-from-later", "runner.withdraws-nothing",
	"runner.ignores-handlings", "runner.disputes-anywhere",
	"uplink.checkpoint-ahead", "uplink.skips", "uplink.own-only", "uplink.cuts-short", "uplink.gives-up", "uplink.no-heartbeat",
	"downlink.acks-before-durable", "downlink.drops-last", "downlink.no-checkpoint", "downlink.late-is-rollback",
	"downlink.gap-is-forgery", "downlink.letters-stall",
}

// within is how many histories a bug may survive.
const within = 60

// TestPlanted switches one bug on after the other: the simulator has to find each by itself. DUBAN_BUGS names some.
func TestPlanted(t *testing.T) {
	planted.Set("")
	c, err := newCity(10)
	if err != nil {
		t.Fatal(err)
	}
	defer planted.Set("")
	clean := func(seed uint64) bool {
		planted.Set("")
		return c.tell(seed, weeks, nil).bad == nil
	}
	some, caught := bugs, 0
	if names := os.Getenv("DUBAN_BUGS"); names != "" {
		some = strings.Split(names, ",")
	}
	for _, name := range some {
		planted.Set(name)
		var found *Violation
		seed := uint64(1)
		for ; found == nil && seed <= within; seed++ {
			found = c.tell(seed, weeks, nil).bad
		}
		if found == nil {
			t.Errorf("%-30s not found in %d histories", name, within)
			continue
		}
		if !clean(seed - 1) {
			t.Errorf("%-30s found in history %d, which fails without it: %v", name, seed-1, found)
			continue
		}
		caught++
		t.Logf("%-28s found in history %d: %s: %.160s", name, seed-1, found.Invariant, found.Found)
	}
	t.Logf("%d of %d bugs found", caught, len(some))
}
