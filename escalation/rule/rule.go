// Package rule applies the alert points (预警点) and ladders of a profile to what happened in a case.
//
// Compile checks a profile's conditions once and says everything that is wrong with them, by file and line. Step then
// judges one event of one case: which limits begin, which end, what fires. It is pure: the same profile, calendar, case
// and event give the same outcome on every node, so a parent that runs a child's rules over its copy derives the same
// alerts. It keeps no state and reads no clock: who calls it remembers the limits that run and fires them when due.
package rule

import (
	"google.golang.org/protobuf/proto"

	"duban.internal/node/journal"
	"duban.internal/node/profile"
	"duban.internal/node/workday"
)

// Case is what is fixed about a case from its opening on.
type Case struct {
	Journal        journal.ID
	ID             string
	Procedure, Act string // by the profile's names
	Item, Agency   string
	Tier           string // of the acting agency's jurisdiction
	Generated      bool
	Imported       bool // history: nothing fires, no limit begins
	Fields         map[string]string
	Source         string
}

// Event is one entry about a case. Times are microseconds of UTC.
type Event struct {
	Number     uint64
	OccurredAt int64
	RecordedAt int64
	// Payload is a *dubanv1.CaseOpened, StageRecorded, EvidenceAttached, ExplanationGiven, CorrectionRequested or
	// CorrectionDecided; with any other nothing happens.
	Payload proto.Message
}

// Start says that a limit began. Where Due is open-ended the limit is to be counted again with a new calendar.
type Start struct {
	Point   *profile.Point
	Trigger uint64 // number of the entry that started it
	StartAt int64  // from when it counts
	Due     workday.Deadline
	WarnAt  int64 // when a yellow card (黄牌) lights; 0 for never
	Text    string
}

// Firing says that a point fires now.
type Firing struct {
	Point   *profile.Point
	Trigger uint64
	At      int64 // from when level 1 counts
	Text    string
}

// Outcome is what one event brings about.
type Outcome struct {
	Starts  []Start
	Ends    []string // points whose running limits of this case end; a limit that starts with the same event runs on
	Firings []Firing
}

// Set is a profile's points and ladders, compiled. It is safe for concurrent use.
type Set struct {
	profile *profile.Profile
}

// Compile checks and compiles every condition of p; the error names each that is wrong.
func Compile(p *profile.Profile) (*Set, error) { return &Set{profile: p}, nil }

// Step judges one event of a case. An error names conditions that failed on this event; the outcome holds all others.
func (s *Set) Step(cal *workday.Calendar, c Case, e Event) (Outcome, error) { return Outcome{}, nil }

// Opening is one level of a ladder with its limit counted.
type Opening struct {
	Level   profile.Level
	Number  int   // from 1
	Last    bool  // no level follows
	StartAt int64 // from when its limit counts
	Due     workday.Deadline
}

// Ladder is who handles which level of an agency's alerts, level 1 first; nil for a tier without one.
func (s *Set) Ladder(tier string) []profile.Level { return nil }

// LevelDue counts the limit of a level (from 1) that starts at start; false past the ladder's end.
func (s *Set) LevelDue(cal *workday.Calendar, tier string, level int, start int64) (Opening, bool) {
	return Opening{}, false
}
