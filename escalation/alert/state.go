package alert

import (
	"cmp"
	"slices"

	"duban.internal/node/journal"
	dubanv1 "duban.internal/proto/duban/v1"
)

// Level is one level of one round, as far as a node knows. Times are microseconds of UTC.
type Level struct {
	Opening  *dubanv1.LevelOpened // as written; not to be changed
	Journal  journal.ID           // in which it was opened
	Number   uint64               // of the opening there
	OpenedAt int64                // when that was recorded

	HandledAt   int64 // when the handling was recorded; 0 where there is none
	Action      string
	Explanation string
	HandledBy   string
	Late        bool // it closes nothing

	Dispute *dubanv1.LevelDisputed // of the handling, by the office above; nil where there is none

	Withdrawal  *dubanv1.LevelWithdrawn // by the node that opened it; nil where there is none
	WithdrawnAt int64                   // when that was recorded
	Reopening   *dubanv1.LevelReopened  // after a withdrawal; nil where there is none
	ReopenedAt  int64                   // when that was recorded
}

// Alert is one alert with its levels by round, then level.
type Alert struct {
	ID     string
	Levels []Level
}

// HandledLate says whether a handling recorded at a time comes too late to close a level: its office said so, or the due
// time had come and another level follows. An open-ended level (due 0) is never handled late by its time.
func HandledLate(said, last bool, due, at int64) bool {
	return said || !last && due != 0 && at >= due
}

// PassedAtOnce says whether nobody can handle this level and another one follows.
func PassedAtOnce(o *dubanv1.LevelOpened) bool { return o.GetVacant() && !o.GetLast() }

// Opened adds a level. One that is there already stays as it is: it exists once.
func (a *Alert) Opened(j journal.ID, number uint64, at int64, o *dubanv1.LevelOpened) {
	if a.Level(o.GetRound(), o.GetLevel()) != nil {
		return
	}
	a.Levels = append(a.Levels, Level{Opening: o, Journal: j, Number: number, OpenedAt: at})
	slices.SortStableFunc(a.Levels, func(x, y Level) int {
		return cmp.Or(cmp.Compare(x.Round(), y.Round()), cmp.Compare(x.Step(), y.Step()))
	})
}

// Handled notes the first handling of a level; false where there is no such level or it was handled before.
func (a *Alert) Handled(at int64, h *dubanv1.LevelHandled) bool {
	l := a.Level(h.GetRound(), h.GetLevel())
	if l == nil || l.HandledAt != 0 {
		return false
	}
	l.HandledAt = at
	l.Action, l.Explanation, l.HandledBy = h.GetAction(), h.GetExplanation(), h.GetHandledBy()
	l.Late = HandledLate(h.GetLate(), l.Opening.GetLast(), l.DueAt(), at)
	return true
}

// Disputed notes a dispute of the handling of a level.
func (a *Alert) Disputed(d *dubanv1.LevelDisputed) {
	if l := a.Level(d.GetRound(), d.GetLevel()); l != nil {
		l.Dispute = d
	}
}

// Withdrawn notes that a level was withdrawn. A level is withdrawn once.
func (a *Alert) Withdrawn(at int64, w *dubanv1.LevelWithdrawn) {
	if l := a.Level(w.GetRound(), w.GetLevel()); l != nil && l.Withdrawal == nil {
		l.Withdrawal, l.WithdrawnAt = w, at
	}
}

// Reopened notes that a withdrawn level is open again. It is to be noted before a handling of the level.
func (a *Alert) Reopened(at int64, r *dubanv1.LevelReopened) {
	if l := a.Level(r.GetRound(), r.GetLevel()); l != nil && l.Withdrawal != nil && l.Reopening == nil {
		l.Reopening, l.ReopenedAt = r, at
	}
}

// Round of the level, from 1.
func (l *Level) Round() uint32 { return l.Opening.GetRound() }

// Step is the number of the level, from 1.
func (l *Level) Step() uint32 { return l.Opening.GetLevel() }

// DueAt is the first instant that is late: of the reopening, where it was reopened. 0 where open-ended.
func (l *Level) DueAt() int64 {
	if l.Reopening != nil {
		return l.Reopening.GetDueUs()
	}
	return l.Opening.GetDueUs()
}

// Withdrawn says whether the level was taken back and not opened again.
func (l *Level) Withdrawn() bool { return l.Withdrawal != nil && l.Reopening == nil }

// HandledInTime says whether a handling closed the level.
func (l *Level) HandledInTime() bool { return l.HandledAt != 0 && !l.Late }

// Settled says whether nothing is to be done about the level any more by itself: handled in time, withdrawn, or never to
// be handled.
func (l *Level) Settled() bool { return l.HandledInTime() || l.Withdrawn() || PassedAtOnce(l.Opening) }

// Level of a round; nil where it is not known.
func (a *Alert) Level(round, level uint32) *Level {
	for i := range a.Levels {
		if l := &a.Levels[i]; l.Round() == round && l.Step() == level {
			return l
		}
	}
	return nil
}

// Top is the highest level of the last round that stands; where all of that round were withdrawn, the highest of those.
// It is nil while no level is known.
func (a *Alert) Top() *Level {
	if len(a.Levels) == 0 {
		return nil
	}
	last := &a.Levels[len(a.Levels)-1]
	for i := len(a.Levels) - 1; i >= 0 && a.Levels[i].Round() == last.Round(); i-- {
		if !a.Levels[i].Withdrawn() {
			return &a.Levels[i]
		}
	}
	return last
}

// Open is the level that waits to be handled; nil where none does.
func (a *Alert) Open() *Level {
	if top := a.Top(); top != nil && !top.Settled() {
		return top
	}
	return nil
}

// Closed says whether the alert is at its end: its top level was handled in time, and nobody disputed that, or it was
// withdrawn.
func (a *Alert) Closed() bool {
	top := a.Top()
	return top != nil && (top.Withdrawn() || top.HandledInTime() && top.Dispute == nil)
}

// Unhandled says whether a level of a round, seen opened or not, may have run out: neither it nor one below it was handled
// in time or withdrawn, or a level not below the handled one was opened again since.
func (a *Alert) Unhandled(round, level uint32) bool {
	for i := len(a.Levels) - 1; i >= 0; i-- {
		l := &a.Levels[i]
		if l.Round() != round || l.Step() > level {
			continue
		}
		if l.HandledInTime() || l.Withdrawn() {
			return false
		}
		if l.Reopening != nil {
			return true
		}
	}
	return true
}

// LevelAt says which level is due to be opened at a time: the one above an open level whose due time has come, or above a
// vacant one. Its limit counts from start, the due time below it. It is never early, and opens nothing itself.
func (a *Alert) LevelAt(now int64) (level uint32, start int64, due bool) {
	top := a.Top()
	if top == nil || top.Opening.GetLast() || top.HandledInTime() || top.Withdrawn() {
		return 0, 0, false
	}
	at := top.DueAt()
	if at == 0 || now < at {
		return 0, 0, false
	}
	return top.Step() + 1, at, true
}

// State says how a level of the alert stands at a time.
func (a *Alert) State(l *Level, now int64) dubanv1.LevelState {
	top := a.Top()
	switch {
	case l.Withdrawn():
		return dubanv1.LevelState_LEVEL_STATE_WITHDRAWN
	case l.Dispute != nil:
		return dubanv1.LevelState_LEVEL_STATE_DISPUTED
	case PassedAtOnce(l.Opening):
		return dubanv1.LevelState_LEVEL_STATE_VACANT
	case l.HandledInTime():
		return dubanv1.LevelState_LEVEL_STATE_HANDLED
	case top.Round() > l.Round() || top.Step() > l.Step():
		return dubanv1.LevelState_LEVEL_STATE_PASSED
	case l.Opening.GetLast() && l.DueAt() != 0 && now >= l.DueAt():
		return dubanv1.LevelState_LEVEL_STATE_OVERDUE
	}
	return dubanv1.LevelState_LEVEL_STATE_OPEN
}
