package clock

import (
	"fmt"
	"sync"
	"time"
)

// A Guard says whether a node may still believe its clock: what it records by a wrong one could end a limit that has not
// run out, or save one that has. Judge decides; Guard remembers between decisions.
//
// Three things stop a clock, each by more than a limit: it jumped, ahead or back, against a counter that nobody can set; it
// runs ahead of the parent's; or it shows less than what is on record already, so that it was turned back while the node was
// down. It is put right where that no longer holds, and a jump also where the parent's clock agrees with what is shown now.
// People may accept a clock as it is; what they accepted holds until the clock strays from that again.
//
// What it can't see: a clock that was turned ahead while the node was down, before the parent has been heard.

// Reading is what is known of the time at one instant. Times are microseconds.
type Reading struct {
	Now    int64 // what the clock shows
	Steady int64 // the clock's counter, see Clock.Steady
	Record int64 // the latest time on record: of the last entry or of the last checkpoint; 0 for none
	Heard  int64 // what the clock showed at the last exchange with the parent; 0 where there was none
	Parent int64 // the parent's clock less this one at that exchange
}

// Accepted is what people accepted on record; the zero value is nothing.
type Accepted struct {
	Expected int64 // what the clock should have shown
	Shown    int64 // what it showed
}

// Standing is what the next decision goes by. The zero value is that of a node that starts.
type Standing struct {
	Accepted Accepted

	begun    bool
	drift    int64 // Now less Steady, when the clock was believed last
	parental bool
	parent   int64 // the parent's clock less Steady
	heard    int64 // the exchange that parent is of
	jumped   bool  // at the reading before
}

// Alarm says why a clock is not believed.
type Alarm struct {
	Expected int64  // what it should show, by what is known
	Shown    int64  // what it shows
	Reason   string // for people
}

// Judge decides whether a clock is believed, given how far it may stray. It is pure.
func Judge(s Standing, r Reading, limit time.Duration) (Standing, *Alarm) {
	most, offset := limit.Microseconds(), r.Now-r.Steady
	if !s.begun {
		s.begun, s.drift = true, offset
	}
	jump := offset - s.drift
	// An exchange that the clock may have jumped after says nothing of the clock as it is now.
	if r.Heard != 0 && r.Heard != s.heard && (within(jump, most) || s.jumped) {
		s.parental, s.parent = true, offset+r.Parent
	}
	s.heard = r.Heard
	ahead := offset - s.parent
	if !within(jump, most) && s.parental && within(ahead, most) {
		s.drift, jump = offset, 0 // the parent's clock says so too
	}
	s.jumped = !within(jump, most)
	allowed := max(0, s.Accepted.Shown-s.Accepted.Expected)
	if s.parental && ahead <= most {
		allowed = 0
		if s.Accepted.Shown > s.Accepted.Expected {
			s.Accepted = Accepted{} // it was put right: what was accepted is over
		}
	}
	alarm := func(expected int64, format string, args ...any) (Standing, *Alarm) {
		return s, &Alarm{Expected: expected, Shown: r.Now, Reason: fmt.Sprintf(format, args...)}
	}
	switch {
	case r.Record-r.Now > most && !s.Accepted.covers(r, most):
		return alarm(r.Record, "it shows %s and there is a record of %s already: it was turned back by %s or more", stamp(r.Now), stamp(r.Record), span(r.Record-r.Now))
	case s.parental && ahead > allowed+most:
		return alarm(r.Now-ahead, "it shows %s and runs %s ahead of the parent's", stamp(r.Now), span(ahead))
	case jump > most:
		return alarm(r.Now-jump, "it jumped ahead by %s and shows %s", span(jump), stamp(r.Now))
	case jump < -most:
		return alarm(r.Now-jump, "it jumped back by %s and shows %s", span(-jump), stamp(r.Now))
	}
	return s, nil
}

// covers says whether people accepted that the clock shows less than what is on record.
func (a Accepted) covers(r Reading, most int64) bool {
	return a.Expected > a.Shown && r.Record <= a.Expected && r.Now >= a.Shown-most
}

// Accept takes the clock as it is, from a reading for which there is an alarm.
func Accept(s Standing, r Reading, a Alarm) Standing {
	s.begun, s.drift, s.jumped = true, r.Now-r.Steady, false
	s.Accepted = Accepted{Expected: a.Expected, Shown: a.Shown}
	return s
}

// AcceptedAt is what was accepted by an entry recorded at a time: where the clock shows less than what is on record, that
// entry bears the latest time that the store has promised, which may be later than the one in the alarm.
func AcceptedAt(a Alarm, recordedAt int64) Alarm {
	if a.Expected > a.Shown {
		a.Expected = max(a.Expected, recordedAt)
	}
	return a
}

func within(d, most int64) bool { return -most <= d && d <= most }

func stamp(us int64) string { return Time(us).Format(time.RFC3339) }

func span(us int64) time.Duration { return (time.Duration(us) * time.Microsecond).Round(time.Second) }

// Guard holds a Standing for many goroutines.
type Guard struct {
	limit time.Duration

	mu       sync.Mutex
	standing Standing
}

// NewGuard makes a Guard that allows limit, for a node on whose record accepted was the last that people accepted.
func NewGuard(limit time.Duration, accepted Accepted) *Guard {
	return &Guard{limit: limit, standing: Standing{Accepted: accepted}}
}

// Look judges a reading; nil where the clock is believed. read is called under the Guard's lock, so that readings come in
// their order.
func (g *Guard) Look(read func() Reading) *Alarm {
	g.mu.Lock()
	defer g.mu.Unlock()
	var alarm *Alarm
	g.standing, alarm = Judge(g.standing, read(), g.limit)
	return alarm
}

// Accept takes the clock as it is once commit has put the alarm on record, which says when that was recorded. Nil is given
// to commit where there is no alarm; nothing changes then, nor where commit fails.
func (g *Guard) Accept(read func() Reading, commit func(*Alarm) (recordedAt int64, err error)) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	r := read()
	standing, alarm := Judge(g.standing, r, g.limit)
	g.standing = standing
	at, err := commit(alarm)
	if err != nil || alarm == nil {
		return err
	}
	g.standing = Accept(standing, r, AcceptedAt(*alarm, at))
	return nil
}
