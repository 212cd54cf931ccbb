package workday

import (
	"crypto/sha256"
	"slices"
	"sort"
	"time"

	_ "time/tzdata" // a machine without zone data counts the same days
)

// Calendar says which days are worked in the years it covers. It is never changed once parsed or merged, and is safe for
// concurrent use. Make one with Parse or Merge.
type Calendar struct {
	file    file
	content []byte
	hash    [sha256.Size]byte

	// Days are numbered from January 1 of the first covered year; n days are covered. Tables, so that a limit is counted
	// without walking over its days.
	first, last int     // covered years
	n           int     // covered days
	starts      []int64 // n+1: Unix second at which a day begins
	before      []int32 // n+1: how many working days come before a day
	workdays    []int32 // the working days, in order
}

// newCalendar builds the tables of a checked file.
func newCalendar(f file, content []byte) *Calendar {
	c := &Calendar{file: f, content: content, hash: sha256.Sum256(content), first: f.years[0].year, last: f.years[len(f.years)-1].year}
	c.n = daysFromCivil(c.last+1, 1, 1) - daysFromCivil(c.first, 1, 1)
	c.starts = make([]int64, c.n+1)
	c.before = make([]int32, c.n+1)
	named := make(map[int]bool, len(f.rows))
	for _, r := range f.rows {
		named[r.date.number()-daysFromCivil(c.first, 1, 1)] = r.work
	}
	for i := range c.n {
		c.starts[i] = c.midnight(i).Unix()
		c.before[i] = int32(len(c.workdays))
		work, ok := named[i]
		if !ok {
			work = !f.weekend[time.Date(c.first, 1, 1+i, 0, 0, 0, 0, time.UTC).Weekday()]
		}
		if work {
			c.workdays = append(c.workdays, int32(i))
		}
	}
	c.starts[c.n] = c.midnight(c.n).Unix()
	c.before[c.n] = int32(len(c.workdays))
	return c
}

// Name is what the calendar calls itself, for people.
func (c *Calendar) Name() string { return c.file.name }

// Location is the zone whose days are counted.
func (c *Calendar) Location() *time.Location { return c.file.zone }

// Years gives the first and the last year that the calendar covers; there is no gap between.
func (c *Calendar) Years() (first, last int) { return c.first, c.last }

// Bytes returns the calendar as a file: what Parse was given, or what Merge wrote.
func (c *Calendar) Bytes() []byte { return slices.Clone(c.content) }

// Hash is the content address of the calendar: the SHA-256 of Bytes.
func (c *Calendar) Hash() [sha256.Size]byte { return c.hash }

// WorkingDay says whether the local day that holds t is worked. Where its year is not published, both are false.
func (c *Calendar) WorkingDay(t time.Time) (working, published bool) {
	i := c.day(t)
	if !c.covers(i) {
		return false, false
	}
	return c.working(i), true
}

// announceFrom is the month from which a missing next year is worth saying: the State Council publishes it in autumn.
const announceFrom = time.November

// Missing says which year the calendar should have by now and has not: the current local year, which current reports and
// which is an error at start-up, or, from November 1 on, the next, which is announced. Zero where none is missing.
func (c *Calendar) Missing(now time.Time) (year int, current bool) {
	local := now.In(c.file.zone)
	switch y := local.Year(); {
	case y < c.first || y > c.last:
		return y, true
	case y == c.last && local.Month() >= announceFrom:
		return y + 1, false
	}
	return 0, false
}

func (c *Calendar) covers(i int) bool  { return i >= 0 && i < c.n }
func (c *Calendar) working(i int) bool { return c.before[i] != c.before[i+1] }

// midnight is the instant at which day i begins, covered or not.
func (c *Calendar) midnight(i int) time.Time {
	return time.Date(c.first, 1, 1+i, 0, 0, 0, 0, c.file.zone)
}

// start is midnight by table where that can be.
func (c *Calendar) start(i int) time.Time {
	if i >= 0 && i <= c.n {
		return time.Unix(c.starts[i], 0).UTC()
	}
	return c.midnight(i).UTC()
}

// day numbers the local day that holds t.
func (c *Calendar) day(t time.Time) int {
	sec := t.Unix()
	if sec < c.starts[0] || sec >= c.starts[c.n] {
		y, m, d := t.In(c.file.zone).Date()
		return daysFromCivil(y, int(m), d) - daysFromCivil(c.first, 1, 1)
	}
	// A day is 24 hours but for summer time, so the guess is off by one at most; were a zone to do worse, search.
	i := min(int((sec-c.starts[0])/(24*60*60)), c.n-1)
	if c.starts[i] > sec {
		i--
	} else if c.starts[i+1] <= sec {
		i++
	}
	if c.starts[i] > sec || c.starts[i+1] <= sec {
		i = sort.Search(c.n, func(k int) bool { return c.starts[k] > sec }) - 1
	}
	return i
}

// year is the local year of day i, covered or not.
func (c *Calendar) year(i int) int { return time.Date(c.first, 1, 1+i, 0, 0, 0, 0, time.UTC).Year() }

// daysFromCivil counts days from 1970-01-01 in the Gregorian calendar.
func daysFromCivil(y, m, d int) int {
	return int(time.Date(y, time.Month(m), d, 0, 0, 0, 0, time.UTC).Unix() / (24 * 60 * 60))
}
