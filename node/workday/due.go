package workday

import (
	"fmt"
	"time"
)

// Deadline is when a limit ends. An open-ended one never fires and has no At.
type Deadline struct {
	At          time.Time // the first instant that is too late, in UTC
	Open        bool      // not to be counted yet
	MissingYear int       // of an open one: the year that is not published; 0 where there is no limit at all
}

// Passed says whether the limit has run out at now. An open-ended one never has.
func (d Deadline) Passed(now time.Time) bool { return !d.Open && !now.Before(d.At) }

// String is for people and logs.
func (d Deadline) String() string {
	switch {
	case !d.Open:
		return d.At.Format(time.RFC3339)
	case d.MissingYear == 0:
		return "open: no limit"
	}
	return fmt.Sprintf("open: the days off of %d are not published", d.MissingYear)
}

// Due counts l from an event at start, as the package comment says. It is a matter of nanoseconds and allocates nothing.
// A limit that is zero or not valid is open-ended.
func (c *Calendar) Due(start time.Time, l Limit) Deadline {
	if l.Validate() != nil {
		return Deadline{Open: true}
	}
	if l.Unit == Hours {
		return Deadline{At: start.UTC().Add(time.Duration(l.N) * time.Hour)}
	}
	event := c.day(start)
	last := event + l.N // the last day in time
	switch {
	case l.Unit == NaturalDays && !l.RollOver:
		return Deadline{At: c.start(last + 1)}
	case l.Unit == NaturalDays:
		return c.nth(last, 1)
	}
	return c.nth(event+1, l.N)
}

// nth is the end of the nth working day from day i on, i itself included.
func (c *Calendar) nth(i, n int) Deadline {
	if !c.covers(i) {
		return Deadline{Open: true, MissingYear: c.year(i)}
	}
	k := int(c.before[i]) + n - 1
	if k >= len(c.workdays) {
		return Deadline{Open: true, MissingYear: c.last + 1}
	}
	return Deadline{At: c.start(int(c.workdays[k]) + 1)}
}

// WarnBefore is the instant at which a yellow card (黄牌) lights for a limit that ends at due: so much before it as l says,
// counted back. Hours are exact. Days keep due's time of day, so before the end of a day they are whole days: 1wd before
// the end of a Tuesday is the beginning of that Tuesday, 1wd before the end of a Sunday is the beginning of Friday, and
// from then on just that much working time is left. RollOver means nothing here. Where the count needs a year that the
// calendar lacks, or l is not valid, nothing can be warned of in time: due itself comes back.
func (c *Calendar) WarnBefore(due time.Time, l Limit) time.Time {
	due = due.UTC()
	if l.Validate() != nil {
		return due
	}
	if l.Unit == Hours {
		return due.Add(-time.Duration(l.N) * time.Hour)
	}
	day := c.day(due)
	to := day - l.N
	if l.Unit == WorkingDays {
		if day < 0 || day > c.n || int(c.before[day]) < l.N {
			return due
		}
		to = int(c.workdays[int(c.before[day])-l.N])
	}
	return c.start(to).Add(due.Sub(c.start(day)))
}

// WorkingTimeLeft is the working time from now to due, for people: whole working days and, below 24 hours, the rest. The
// hours of a day off do not count. Zero once due has come; swapped arguments tell by how much it is overdue. known is false
// where the calendar lacks a year in between.
func (c *Calendar) WorkingTimeLeft(now, due time.Time) (days int, rest time.Duration, known bool) {
	if !now.Before(due) {
		return 0, 0, true
	}
	from, to := c.day(now), c.day(due)
	dueStart := c.start(to)
	if !c.covers(from) || to > c.n || to == c.n && !due.Equal(dueStart) {
		return 0, 0, false
	}
	if from == to {
		if c.working(from) {
			rest = due.Sub(now)
		}
		return 0, rest, true
	}
	days = int(c.before[to] - c.before[from+1])
	if c.working(from) {
		rest = c.start(from + 1).Sub(now)
	}
	if to < c.n && c.working(to) {
		rest += due.Sub(dueStart)
	}
	if rest >= 24*time.Hour {
		days, rest = days+1, rest-24*time.Hour
	}
	return days, rest, true
}
