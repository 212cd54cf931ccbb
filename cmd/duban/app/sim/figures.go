package sim

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	dubanv1 "duban.internal/proto/duban/v1"
)

func planOf(seed uint64, length time.Duration) plan {
	return newPlan(rand.New(rand.NewPCG(seed, 1)), length)
}

// add counts a history. Of several violations the one of the lowest seed is kept.
func (r *Report) add(o outcome) {
	k := func(kind dubanv1.EntryKind) int { return o.sight.kinds[kind] }
	r.Histories++
	r.Steps += o.steps
	for _, n := range o.sight.kinds {
		r.Entries += n
	}
	r.Levels += k(dubanv1.EntryKind_ENTRY_KIND_LEVEL_OPENED)
	r.Silent += o.sight.silent
	r.Withdrawn += k(dubanv1.EntryKind_ENTRY_KIND_LEVEL_WITHDRAWN)
	r.Claimed += o.sight.claimed
	r.Handled += k(dubanv1.EntryKind_ENTRY_KIND_LEVEL_HANDLED)
	r.Disputed += k(dubanv1.EntryKind_ENTRY_KIND_LEVEL_DISPUTED)
	r.Around += o.sight.around
	r.Crashes += o.ups
	r.Refused += o.sight.refusals
	if o.bad != nil && (r.Violation == nil || o.bad.Seed < r.Violation.Seed) {
		r.Violation = o.bad
	}
}

// Text is the report for people.
func (r Report) Text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d histories of %d days, seeds %d to %d, %d nodes each: %.0f a minute\n", r.Histories, r.Virtual/(24*time.Hour),
		r.Seed, r.Seed+uint64(max(1, r.Histories))-1, r.Nodes, r.PerMinute())
	fmt.Fprintf(&b, "%d entries written, %d levels opened (%d for want of word), %d handled, %d disputed, %d withdrawn (%d as claimed)\n",
		r.Entries, r.Levels, r.Silent, r.Handled, r.Disputed, r.Withdrawn, r.Claimed)
	fmt.Fprintf(&b, "%d crashes, %d ways around a parent, %d requests refused\n", r.Crashes, r.Around, r.Refused)
	fmt.Fprintf(&b, "hash of all traces: %s\n", r.Hash)
	if v := r.Violation; v != nil {
		fmt.Fprintf(&b, "\nVIOLATION at seed %d, step %d, %s, node %s\n%s: %s\n\nthe last events before it:\n", v.Seed, v.Step, v.Time, v.Node, v.Invariant, v.Found)
		for _, e := range v.Last {
			fmt.Fprintln(&b, "  "+e)
		}
		fmt.Fprintf(&b, "\nrun it again: duban simulate --seed %d --histories 1 --nodes %d --days %d --trace\n", v.Seed, r.Nodes, r.Virtual/(24*time.Hour))
	} else {
		fmt.Fprintln(&b, "nothing was violated")
	}
	return b.String()
}
