// Package escalation is the runner (预警): it follows the journals that a node holds, keeps the limits that run, and opens
// levels and shows cards when their time has come.
//
// What it promises:
//
//   - A level of a round exists once, whatever crashes, fails over or is delivered twice: an opening is committed on the
//     version of the alert's stream that it was decided on, and together with the cursor or the deadline it came from.
//   - Nothing fires early: what the own journal decides fires at a stamp of the store, once everything recorded before
//     that stamp has been followed. Lateness is measured.
//   - The agency's node opens level 1 of its own journal's cases. Level n+1 is opened by the node whose office receives
//     it, from its copy of level n's opening, with a limit that counts from level n's due time (T27): once a checkpoint
//     of that journal states a time not before the due time, and everything that it covers has been followed; or after
//     the grace of silence, and the opening says so.
//   - The node that receives the first level above a case's own node runs that node's rules over its copy, by what that
//     journal had adopted, and opens what was not opened there, after the grace; whoever receives a level further up does
//     so from the opening of level 1. The opening names the node that did not open the level below.
//   - A level that was opened for want of word is withdrawn by who opened it, once an entry recorded in time turns up that
//     handled a level below or ended the limit: as witnessed, where a checkpoint over it was accepted by an ancestor
//     within the grace, and else as claimed. Its office may open a claimed one again; the ladder goes on from there.
//   - A dispute told by a letter from above opens level 1 of the new round, counted from the dispute.
//   - A child that is silent for the configured time, whose journal's fold stopped, or whose journal was refused, is an
//     alert of its own, by the profile's points about nodes; it is withdrawn when the child speaks, the fold goes on, or
//     people readmit the journal.
//   - What fires is found by due time within a journal: the cost doesn't grow with how many wait.
//
// Deadlines are rows of the runner, not entries: thrown away together with its cursors, they come back by following
// anew. Where a journal's fold stopped at an unknown kind, nothing is concluded from it until it resumes, not even from
// its silence: the stop itself is shown.
//
// Limits: what a child states as a level's due time is believed, as its rules are its own. A child that was never heard of
// is not missed. Where a case's own node and the next both fall silent before level 1 was opened, the third doesn't run
// the rules for them. A withdrawal's basis is what was known of witnesses when the entry arrived.
//
// Core decides: batches of entries or deadlines and a time in, commands out; it has no goroutine, socket or clock, reads
// by key alone, and keeps nothing but caches between calls. Runner drives it.
package escalation

import (
	"context"
	"log/slog"
	"time"

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
	// Jurisdiction is which jurisdiction a journal stands for; false before its first entry.
	Jurisdiction(ctx context.Context, id journal.ID) (jurisdiction.Division, bool, error)
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
	// Peer tells how a journal from below stands. What its checkpoint covers must be in the store before Peer says so.
	Peer func(journal.ID) Peer
	// Witnessed is when an ancestor, this node or one above, first accepted a checkpoint of a journal that covers an entry,
	// by that ancestor's clock in microseconds, and the checkpoint's size; false where none is known. Nil knows of none.
	Witnessed func(ctx context.Context, id journal.ID, number uint64) (acceptedUs int64, size uint64, ok bool, err error)
	Grace     time.Duration         // how long after a due time the word of a silent child is waited for
	Silence   time.Duration         // how long a child may be silent before that is an alert; 0 for ever
	Rules     *Sets                 // compiled by others; nil for none
	Log       *slog.Logger          // nil for none
	Metrics   prometheus.Registerer // nil for none
}

// Peer is how a journal from below stands. Times are microseconds; 0 where there is none.
type Peer struct {
	Checkpoint int64  // that the last accepted checkpoint states: nothing it doesn't cover was recorded earlier
	Size       uint64 // of that checkpoint
	Heard      int64  // when this node last accepted one, by its own clock
	Since      int64  // from when on this node would have heard: its start. Before that nothing is called silence
}

// Validate names every field that is missing (fault.Invalid).
func (c Config) Validate() error {
	var bad fault.List
	for _, f := range []struct {
		name    string
		missing bool
	}{
		{"Store", c.Store == nil}, {"Registry", c.Registry == nil}, {"Cases", c.Cases == nil}, {"Tree", c.Tree == nil},
		{"Clock", c.Clock == nil}, {"Peer", c.Peer == nil},
	} {
		if f.missing {
			bad.Add(f.name, "is missing")
		}
	}
	for _, f := range []struct {
		name string
		d    time.Duration
	}{{"Grace", c.Grace}, {"Silence", c.Silence}} {
		if f.d < 0 {
			bad.Add(f.name, "%s: want at least 0", f.d)
		}
	}
	if c.Tree != nil {
		if _, ok := c.Tree.Get(c.Code); !ok {
			bad.Add("Code", "%q: want a code of Tree", c.Code)
		}
	}
	return bad.Err(fault.Invalid, "escalation")
}
