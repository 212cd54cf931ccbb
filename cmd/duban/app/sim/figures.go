package sim

import (
	"math/rand/v2"
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
