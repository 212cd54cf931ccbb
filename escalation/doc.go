// Package escalation is the runner (预警): it follows the journals that a node holds, keeps the limits that run, and opens
// levels and shows cards when their time has come.
//
// What it promises:
//
//   - A level of a round exists once, whatever crashes, fails over or is delivered twice: an opening is committed on the
//     version of the alert's stream that it was decided on, and together with the cursor or the deadline it came from.
//   - Nothing fires early: what the own journal decides fires at a stamp of the store, once everything recorded before
//     that stamp has been followed; what a journal from below decides, once a checkpoint of it states a time not before
//     the due time and everything that the checkpoint covers has been followed. Lateness is measured.
//   - The agency's node opens level 1 of its own journal's cases. Level n+1 is opened by the node whose office receives
//     it, from its copy of level n's opening, with a limit that counts from level n's due time (T27).
//   - What fires is found by due time within a journal: the cost doesn't grow with how many wait.
//
// Deadlines are rows of the runner, not entries: thrown away together with its cursors, they come back by following
// anew. Where a journal's fold stopped at an unknown kind, nothing is concluded from it until it resumes.
//
// Limits: the rules of a child are not run over its copy here, and silence is not judged; Witnessed is where both attach.
//
// Core decides: batches of entries or deadlines and a time in, commands out; it has no goroutine, socket or clock, and
// keeps nothing but caches between calls. Runner drives it.
package escalation

import (
	"context"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"

	"duban.internal/node/clock"
	"duban.internal/node/fault"
	"duban.internal/node/journal"
	"duban.internal/node/jurisdiction"
	"duban.internal/node/profile"
	"duban.internal/node/store"
	"duban.internal/node/workday"
	dubanv1 "duban.internal/proto/duban/v1"
)

// Registry answers from base information and adoptions, as folded from the journals.
type Registry interface {
	// Judged is what a journal had adopted before its entry of this number: what judges that entry. Its Size asks for
	// the present. Kind of errors: fault.Precondition where it had adopted none.
	Judged(ctx context.Context, id journal.ID, number uint64) (*profile.Profile, *workday.Calendar, error)
	// Agency is an agency as last registered in a journal; false where it is not.
	Agency(ctx context.Context, id journal.ID, agency string) (*dubanv1.Agency, bool, error)
	// Office is an office as last registered in the own journal; false where it is not.
	Office(ctx context.Context, role, code string) (*dubanv1.Office, bool, error)
}

// Cases gives what is fixed about a case.
type Cases interface {
	// Opening is a case's opening as it was recorded; nil where the journal has no such case or its payload was erased.
	Opening(ctx context.Context, id journal.ID, caseID string) (*dubanv1.CaseOpened, error)
}

// Config of a Runner.
type Config struct {
	Store    store.Store
	Registry Registry
	Cases    Cases
	Tree     *jurisdiction.Tree
	Code     jurisdiction.Code // of this node
	Clock    clock.Clock
	// Witnessed is the time that the last accepted checkpoint of a journal from below states, in microseconds, 0 for
	// none. What the checkpoint covers must be in the store before Witnessed says so.
	Witnessed func(journal.ID) int64
	Log       *slog.Logger          // nil for none
	Metrics   prometheus.Registerer // nil for none
}

// Validate names every field that is missing (fault.Invalid).
func (c Config) Validate() error {
	var bad fault.List
	for _, f := range []struct {
		name    string
		missing bool
	}{
		{"Store", c.Store == nil}, {"Registry", c.Registry == nil}, {"Cases", c.Cases == nil}, {"Tree", c.Tree == nil},
		{"Clock", c.Clock == nil}, {"Witnessed", c.Witnessed == nil},
	} {
		if f.missing {
			bad.Add(f.name, "is missing")
		}
	}
	if c.Tree != nil {
		if _, ok := c.Tree.Get(c.Code); !ok {
			bad.Add("Code", "%q: want a code of Tree", c.Code)
		}
	}
	return bad.Err(fault.Invalid, "escalation")
}
