package alert

import (
	"google.golang.org/protobuf/proto"

	"duban.internal/node/jurisdiction"
	dubanv1 "duban.internal/proto/duban/v1"
)

// In gives Site.Receiver over a tree: the jurisdiction itself, or the nearest that it lies in, of a tier.
func In(t *jurisdiction.Tree) func(code, tier string) string {
	return func(code, tier string) string {
		d, ok := t.Get(jurisdiction.Code(code))
		for ; ok; d, ok = t.Parent(d.Code) {
			if string(d.Tier) == tier {
				return string(d.Code)
			}
		}
		return ""
	}
}

// Rung is one level of a ladder with its limit counted. Times are microseconds of UTC.
type Rung struct {
	Role          string // by the profile's name
	At            string // tier of the jurisdiction whose body receives it
	OfAgency      bool   // the body belongs to the acting agency, not to the jurisdiction
	Limit         string // as the profile states it
	Last          bool   // no level follows
	DueAt         int64  // first instant that is late; 0 where open-ended
	OpenEndedYear uint32 // the year that is not published, where open-ended
}

// Site is a node as far as opening levels goes: where it stands, and what its profile, calendar and registry say.
type Site struct {
	Code string // its jurisdiction
	// Rung counts a level (from 1) of the ladder for agencies of a tier, from start on; false past the ladder's end.
	Rung func(tier string, level uint32, start int64) (Rung, bool)
	// Receiver is the jurisdiction of a tier that code is or lies in; "" where there is none.
	Receiver func(code, tier string) string
	// Vacant says whether nobody can handle the level here: no such body, or nobody in it.
	Vacant func(r Rung, agency string) bool
	// Profile and Calendar are the addresses of what judges here.
	Profile, Calendar []byte
}

// Receives says whether the level after prev is received by the office of this node, so that this node keeps the
// deadline of prev and opens the next level. A level of the ladder for whose tier there is no jurisdiction, such as a
// district's where a street lies straight under its city, counts to the node that receives the one after it.
func (s Site) Receives(prev *dubanv1.LevelOpened) bool {
	for level := prev.GetLevel() + 1; ; level++ {
		r, ok := s.Rung(prev.GetTier(), level, prev.GetStartUs())
		if !ok {
			return false
		}
		if to := s.Receiver(prev.GetReceiver(), r.At); to != "" {
			return to == s.Code
		}
	}
}

// Next writes the opening of the level after prev, with its limit counted from start, and, as long as a level is vacant,
// of the next as well: as far as this node receives them. None where another node does or the ladder ends. prev of level
// 0 is the limit that ran out; its Receiver is the jurisdiction of the case.
func (s Site) Next(prev *dubanv1.LevelOpened, start int64) []*dubanv1.LevelOpened {
	var out []*dubanv1.LevelOpened
	for s.Receives(prev) {
		level := prev.GetLevel() + 1
		r, _ := s.Rung(prev.GetTier(), level, start)
		o := proto.CloneOf(prev)
		o.Level, o.Role, o.Limit, o.Last = level, r.Role, r.Limit, r.Last
		o.Receiver, o.StartUs, o.DueUs, o.OpenEndedYear = s.Code, start, r.DueAt, r.OpenEndedYear
		o.ProfileHash, o.CalendarHash = s.Profile, s.Calendar
		o.Vacant = s.Receiver(prev.GetReceiver(), r.At) == "" || s.Vacant(r, o.GetAgency())
		o.NotOpenedBelow, o.OnSilence, o.Below = false, false, "" // were about the level below prev
		out = append(out, o)
		if !PassedAtOnce(o) {
			break
		}
		o.DueUs, o.OpenEndedYear = start, 0 // T27 is silent; nobody is given time that nobody can use
		prev = o
	}
	return out
}

// Derive says which level this node's office waits for, where it has not been opened: the one below the first level that
// the office receives, counted from prev on, whose limit ended at start. Limits follow each other as though each level had
// run out unhandled; a role that is vacant within the agency takes no time, and whether an office elsewhere is vacant is
// not known here. An open-ended limit, start 0, ends the counting there: DueUs is 0 then. False where this node receives no later level.
// Receives says whether prev itself is the level waited for.
func (s Site) Derive(prev *dubanv1.LevelOpened, start int64) (*dubanv1.LevelOpened, bool) {
	o := proto.CloneOf(prev)
	o.NotOpenedBelow, o.OnSilence, o.Below = false, false, ""
	for !s.Receives(o) {
		if start == 0 {
			return o, s.receivesLater(o)
		}
		r, ok := s.Rung(o.GetTier(), o.GetLevel()+1, start)
		if !ok {
			return nil, false
		}
		to := s.Receiver(o.GetReceiver(), r.At)
		o.Level, o.Role, o.Limit, o.Last = o.GetLevel()+1, r.Role, r.Limit, r.Last
		o.StartUs, o.DueUs, o.OpenEndedYear = start, r.DueAt, r.OpenEndedYear
		if o.Vacant = to == "" || r.OfAgency && s.Vacant(r, o.GetAgency()); PassedAtOnce(o) {
			o.DueUs, o.OpenEndedYear = start, 0
		}
		if to != "" {
			o.Receiver = to
		}
		start = o.GetDueUs()
	}
	return o, true
}

func (s Site) receivesLater(prev *dubanv1.LevelOpened) bool {
	for level := prev.GetLevel() + 1; ; level++ {
		r, ok := s.Rung(prev.GetTier(), level, prev.GetStartUs())
		if !ok {
			return false
		}
		if s.Receiver(prev.GetReceiver(), r.At) == s.Code {
			return true
		}
	}
}

// Watches says whether this node runs the rules of a case's node over its copy: it receives the first level that is not
// received where the case is. zero is the limit's opening, of level 0.
func (s Site) Watches(zero *dubanv1.LevelOpened) bool {
	for level := uint32(1); ; level++ {
		r, ok := s.Rung(zero.GetTier(), level, zero.GetStartUs())
		if !ok {
			return false
		}
		if to := s.Receiver(zero.GetReceiver(), r.At); to != "" && to != zero.GetReceiver() {
			return to == s.Code
		}
	}
}
