// Package rule applies the alert points (预警点) and ladders of a profile to what happened in a case.
//
// Compile checks a profile's conditions once and says everything that is wrong with them, by file and line. Step then
// judges one event of one case: which limits begin, which end, what fires. It is pure: the same profile, calendar, case
// and event give the same outcome on every node, so a parent that runs a child's rules over its copy derives the same
// alerts. It keeps no state and reads no clock: who calls it remembers the limits that run and fires them when due.
//
// # Conditions
//
// A condition (Trigger.When) is CEL that gives true or false. What it may ask, beside CEL's own functions:
//
//	always         case.id, case.procedure, case.act, case.item, case.agency, case.tier, case.source  text
//	               case.fields  fields of the opening; event.occurred, event.recorded  times
//	on case        opening.number, opening.summary, opening.handler, opening.party_name, opening.party_kind  text
//	on stage       stage.name, stage.result, stage.reason, stage.handler, stage.late_reason  text
//	               stage.completed  time; stage.officers, stage.documents  lists of ids and names; stage.fields
//	on evidence    evidence.stage, evidence.name, evidence.media_type  text; evidence.size  number
//	on explanation explanation.stage, explanation.subject, explanation.officer, explanation.text  text
//	on correction  correction.id, correction.reason  text; correction.decided, correction.approved  yes or no
//
// A field is asked for by its name, stage.fields.get('cause'), and is empty text where the record has none. Names that are
// compared with (stages, results, fields, acts) must be the profile's, and a condition's cost is bounded when it is
// compiled, by the bounds of a record (node/casefile).
package rule

import (
	"time"

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
	Imported       bool              // history: nothing fires, no limit begins
	Fields         map[string]string // of the opening
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
	At      int64 // from when level 1 counts: the recording
	Text    string
}

// Outcome is what one event brings about.
type Outcome struct {
	Starts  []Start
	Ends    []string // points whose running limits of this case end; a limit that starts with the same event runs on
	Firings []Firing
}

// Step judges one event of a case. An error names the conditions that failed on this event; the outcome holds all others.
func (s *Set) Step(cal *workday.Calendar, c Case, e Event) (Outcome, error) {
	var out Outcome
	if c.Imported {
		return out, nil
	}
	ev, ok := read(&c, &e)
	if !ok {
		return out, nil
	}
	var failed []error
	for _, w := range s.watching(&ev) {
		matched, err := w.trigger.matches(&ev)
		switch {
		case err != nil:
			failed = append(failed, err)
		case !matched:
		case w.ends:
			out.end(w.point.Name)
		default:
			s.start(&out, cal, w.point, &ev)
		}
	}
	if len(failed) > 0 {
		return out, failures(e.Number, failed)
	}
	return out, nil
}

func (o *Outcome) end(point string) {
	for _, name := range o.Ends {
		if name == point {
			return
		}
	}
	o.Ends = append(o.Ends, point)
}

// start is what a point whose start matched brings about.
func (s *Set) start(out *Outcome, cal *workday.Calendar, pt *point, ev *event) {
	if pt.Limit.IsZero() {
		out.Firings = append(out.Firings, s.firing(cal, pt, ev, workday.Deadline{Open: true}))
		return
	}
	from := ev.completed
	if pt.From == "recorded" {
		from = ev.entry.RecordedAt
	}
	due := cal.Due(time.UnixMicro(from), pt.Limit)
	if pt.Judged == "arrival" {
		if due.Passed(time.UnixMicro(ev.entry.RecordedAt)) {
			out.Firings = append(out.Firings, s.firing(cal, pt, ev, due))
		}
		return
	}
	st := Start{Point: pt.Point, Trigger: ev.entry.Number, StartAt: from, Due: due, Text: pt.text.fill(cal, s.titles, ev, due)}
	if !due.Open && !pt.Warn.IsZero() {
		st.WarnAt = cal.WarnBefore(due.At, pt.Warn).UnixMicro()
	}
	out.Starts = append(out.Starts, st)
}

func (s *Set) firing(cal *workday.Calendar, pt *point, ev *event, due workday.Deadline) Firing {
	return Firing{Point: pt.Point, Trigger: ev.entry.Number, At: ev.entry.RecordedAt, Text: pt.text.fill(cal, s.titles, ev, due)}
}

// Opening is one level of a ladder with its limit counted.
type Opening struct {
	Level   profile.Level
	Number  int   // from 1
	Last    bool  // no level follows
	StartAt int64 // from when its limit counts
	Due     workday.Deadline
}

// LevelDue counts the limit of a level (from 1) of a point's alerts that starts at start, in microseconds, by the ladder
// for agencies, or nodes, of a tier; false past the ladder's end.
func (s *Set) LevelDue(cal *workday.Calendar, point, tier string, level int, start int64) (Opening, bool) {
	ladder := s.profile.LadderOf(point, tier)
	if ladder == nil || level < 1 || level > len(ladder.Levels) {
		return Opening{}, false
	}
	l := ladder.Levels[level-1]
	return Opening{
		Level: l, Number: level, Last: level == len(ladder.Levels), StartAt: start,
		Due: cal.Due(time.UnixMicro(start), l.Limit),
	}, true
}
