package workday_test

import (
	"strings"
	"testing"
	"time"

	"duban.internal/configs"
	"duban.internal/node/workday"
)

func calendar(t testing.TB, file string) *workday.Calendar {
	t.Helper()
	content, err := configs.FS.ReadFile("calendars/" + file)
	if err != nil {
		t.Fatal(err)
	}
	c, err := workday.Parse(content)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func china(t testing.TB) *workday.Calendar { return calendar(t, "cn-holidays.csv") }

func limit(t testing.TB, s string) workday.Limit {
	t.Helper()
	l, err := workday.ParseLimit(s)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// at reads a local time of the calendar, "2026-02-13 10:00:00.000001" or shorter.
func at(t testing.TB, c *workday.Calendar, s string) time.Time {
	t.Helper()
	for _, layout := range []string{"2006-01-02 15:04:05.999999", "2006-01-02 15:04", time.DateOnly} {
		if v, err := time.ParseInLocation(layout, s, c.Location()); err == nil {
			return v
		}
	}
	t.Fatalf("time %q", s)
	return time.Time{}
}

func TestDue(t *testing.T) {
	c := china(t)
	for _, row := range []struct {
		what, start, limit, due string // due is the local first instant too late; "open YEAR"
	}{
		// Spring Festival 2026: February 15 to 23 off; Saturdays 14 and 28 are made up.
		{"make-up Saturday counts", "2026-02-13 10:00", "1wd", "2026-02-15"},
		{"over the festival", "2026-02-13 10:00", "2wd", "2026-02-25"},
		{"three days, T27", "2026-02-13 10:00", "3wd", "2026-02-26"},
		{"up to the second make-up Saturday", "2026-02-13 10:00", "6wd", "2026-03-01"},
		{"past it", "2026-02-13 10:00", "7wd", "2026-03-03"},
		{"event in the festival", "2026-02-18 09:00", "1wd", "2026-02-25"},
		{"event on a make-up day", "2026-02-14 23:00", "1wd", "2026-02-25"},
		{"event on its last day", "2026-02-23 23:59:59.999999", "1wd", "2026-02-25"},
		{"event as work resumes", "2026-02-24", "1wd", "2026-02-26"},
		{"natural days run through it", "2026-02-13 10:00", "5d", "2026-02-19"},
		{"and roll over it", "2026-02-13 10:00", "5d+roll", "2026-02-25"},
		{"no roll from a make-up Saturday", "2026-02-13 10:00", "1d+roll", "2026-02-15"},
		{"roll from the make-up Saturday's Sunday", "2026-02-26 10:00", "3d+roll", "2026-03-03"},

		// May 2026: 1 to 5 off, Saturday 9 made up.
		{"May", "2026-04-30 17:00", "1wd", "2026-05-07"},
		{"May make-up", "2026-04-30 17:00", "4wd", "2026-05-10"},
		{"after May make-up", "2026-04-30 17:00", "5wd", "2026-05-12"},
		{"15 natural days, T12", "2026-04-16 12:00", "15d", "2026-05-02"},
		{"rolled", "2026-04-16 12:00", "15d+roll", "2026-05-07"},

		// National Day 2026: October 1 to 7 off; Sunday September 20 and Saturday October 10 made up.
		{"made up before", "2026-09-18 08:00", "1wd", "2026-09-21"},
		{"Mid-Autumn", "2026-09-24 08:00", "1wd", "2026-09-29"},
		{"October", "2026-09-30 18:00", "1wd", "2026-10-09"},
		{"October make-up", "2026-09-30 18:00", "3wd", "2026-10-11"},
		{"Sunday after it is off", "2026-09-30 18:00", "4wd", "2026-10-13"},
		{"event on October 10", "2026-10-10 12:00", "1wd", "2026-10-13"},
		{"7 working days, P61", "2026-09-28 12:00", "7wd", "2026-10-14"},

		// New Year: January 1 to 3, 2026 off, Sunday 4 made up. Nothing of 2027 is published.
		{"New Year", "2025-12-31 16:00", "1wd", "2026-01-05"},
		{"across it", "2025-12-30 16:00", "3wd", "2026-01-06"},
		{"rolled over it", "2025-12-31 16:00", "1d+roll", "2026-01-05"},
		{"last published day", "2026-12-30 16:00", "1wd", "2027-01-01"},
		{"one more", "2026-12-30 16:00", "2wd", "open 2027"},
		{"from the last day", "2026-12-31 23:59:59.999999", "1wd", "open 2027"},
		{"natural days need no calendar", "2026-12-01 09:00", "90d", "2027-03-02"},
		{"rolling does", "2026-12-01 09:00", "90d+roll", "open 2027"},
		{"ends within", "2026-12-01 09:00", "30d+roll", "2027-01-01"},
		{"hours need none", "2026-12-31 09:00", "24h", "2027-01-01 09:00"},
		{"starts in an unpublished year", "2029-05-04 09:00", "1wd", "open 2029"},
		{"starts at the end of one", "2028-12-31 09:00", "1wd", "open 2029"},
		{"starts before the first", "2003-06-01 09:00", "300wd", "open 2003"},
		{"first day counted is published", "2003-12-31 09:00", "1wd", "2004-01-03"},
		{"natural days before the first", "1999-12-31 09:00", "1d", "2000-01-02"},
		{"hundred years on", "2026-01-01", "36500d", "2125-12-09"},
		{"too many working days", "2026-01-05 09:00", "36500wd", "open 2027"},

		// Months, leap days.
		{"month end", "2026-01-30 12:00", "1wd", "2026-02-03"},
		{"31 days", "2026-01-31 12:00", "31d", "2026-03-04"},
		{"leap day", "2024-02-28 12:00", "1d", "2024-03-01"},
		{"leap day worked", "2024-02-28 12:00", "1wd", "2024-03-01"},
		{"from a leap day", "2024-02-29 12:00", "365d", "2025-03-01"},
		{"no leap day", "2026-02-28 12:00", "1d", "2026-03-02"},
		{"90 days, P60", "2026-03-02 12:00", "90d", "2026-06-01"},

		// The edges of a day.
		{"first instant of a day", "2026-03-03", "1wd", "2026-03-05"},
		{"last instant of the day before", "2026-03-02 23:59:59.999999", "1wd", "2026-03-04"},
		{"last instant, natural", "2026-03-02 23:59:59.999999", "0d", "2026-03-03"},
		{"same day from its first instant", "2026-03-02", "0d", "2026-03-03"},
		{"same day, rolled", "2026-03-07 10:00", "0d+roll", "2026-03-10"},
		{"hours over midnight", "2026-03-06 22:30", "3h", "2026-03-07 01:30"},
		{"hours to the microsecond", "2026-03-06 22:30:00.000001", "24h", "2026-03-07 22:30:00.000001"},
	} {
		t.Run(row.what, func(t *testing.T) {
			got := c.Due(at(t, c, row.start), limit(t, row.limit))
			if year, open := strings.CutPrefix(row.due, "open "); open {
				if !got.Open || !got.At.IsZero() || !strings.Contains(got.String(), year) {
					t.Errorf("%s + %s = %v, want open-ended for %s", row.start, row.limit, got, year)
				}
				if got.Passed(at(t, c, "2200-01-01")) {
					t.Error("an open-ended limit fired")
				}
				return
			}
			want := at(t, c, row.due)
			if got.Open || !got.At.Equal(want) {
				t.Fatalf("%s + %s = %s, want %s", row.start, row.limit, got.At.In(c.Location()), want)
			}
			if got.At.Location() != time.UTC {
				t.Error("not in UTC")
			}
			if got.Passed(want.Add(-time.Microsecond)) || !got.Passed(want) {
				t.Error("At is not the first instant too late")
			}
		})
	}
}

func TestDueOfNoLimit(t *testing.T) {
	c := china(t)
	for _, l := range []workday.Limit{{}, {N: 3}, {N: -1, Unit: workday.NaturalDays}, {Unit: workday.WorkingDays},
		{N: 1, Unit: workday.Hours, RollOver: true}, {N: 1, Unit: 9}, {N: workday.MaxN + 1, Unit: workday.Hours}} {
		if got := c.Due(at(t, c, "2026-03-02"), l); !got.Open || got.MissingYear != 0 {
			t.Errorf("Due(%v) = %v", l, got)
		}
	}
}

// Chicago has summer time: days of 23 and 25 hours are still days.
func TestDueOverSummerTime(t *testing.T) {
	c := calendar(t, "plain-2000-2015.csv")
	for _, row := range []struct{ start, limit, due string }{
		{"2014-03-07 23:30", "1wd", "2014-03-11"},
		{"2014-03-08 23:59:59.999999", "1d", "2014-03-10"},
		{"2014-03-09 00:00", "0d", "2014-03-10"},
		{"2014-11-01 23:59:59.999999", "1d", "2014-11-03"},
		{"2014-11-02 23:30", "1wd", "2014-11-04"},
		{"2014-03-09 01:30", "24h", "2014-03-10 02:30"},
		{"2014-12-24 12:00", "1wd", "2014-12-26"}, // plain: Christmas is worked
		{"2014-10-02 12:00", "90d", "2015-01-01"},
	} {
		if got := c.Due(at(t, c, row.start), limit(t, row.limit)); !got.At.Equal(at(t, c, row.due)) {
			t.Errorf("%s + %s = %s, want %s", row.start, row.limit, got.At.In(c.Location()), row.due)
		}
	}
}

func TestWarnBefore(t *testing.T) {
	c := china(t)
	for _, row := range []struct{ due, limit, want string }{
		{"2026-03-05", "1wd", "2026-03-04"},
		{"2026-03-10", "1wd", "2026-03-09"},
		{"2026-03-10", "2wd", "2026-03-06"},
		{"2026-03-09", "1wd", "2026-03-06"}, // due at the end of a Sunday
		{"2026-02-25", "1wd", "2026-02-24"}, // after the festival
		{"2026-02-25", "2wd", "2026-02-14"}, // the make-up Saturday before it
		{"2026-02-25", "2d", "2026-02-23"},  // natural days do not care
		{"2026-03-09 15:00", "1wd", "2026-03-06 15:00"},
		{"2026-03-09 15:00", "1d", "2026-03-08 15:00"},
		{"2026-03-09 15:00", "30h", "2026-03-08 09:00"},
		{"2027-01-01", "1wd", "2026-12-31"},
		{"2027-03-02", "10d", "2027-02-20"},
		{"2027-03-02", "1wd", "2027-03-02"}, // not published: no warning before due
		{"2004-01-03", "9wd", "2004-01-03"},
	} {
		if got := c.WarnBefore(at(t, c, row.due), limit(t, row.limit)); !got.Equal(at(t, c, row.want)) {
			t.Errorf("%s before %s = %s, want %s", row.limit, row.due, got.In(c.Location()), row.want)
		}
	}
	if due := at(t, c, "2026-03-05"); !c.WarnBefore(due, workday.Limit{}).Equal(due) {
		t.Error("no limit warned")
	}
}

func TestWorkingTimeLeft(t *testing.T) {
	c := china(t)
	for _, row := range []struct {
		now, due string
		days     int
		rest     time.Duration
		known    bool
	}{
		{"2026-03-02 00:00", "2026-03-05", 3, 0, true},
		{"2026-03-02 18:00", "2026-03-05", 2, 6 * time.Hour, true},
		{"2026-03-02 20:00", "2026-03-04 10:00", 1, 14 * time.Hour, true},
		{"2026-03-02 08:00", "2026-03-04 10:00", 2, 2 * time.Hour, true},
		{"2026-03-02 08:00", "2026-03-02 10:00", 0, 2 * time.Hour, true},
		{"2026-03-06 18:00", "2026-03-10", 1, 6 * time.Hour, true},
		{"2026-03-07 18:00", "2026-03-08 09:00", 0, 0, true}, // Saturday to Sunday
		{"2026-02-13 22:00", "2026-02-25", 2, 2 * time.Hour, true},
		{"2026-02-14 23:59:59", "2026-02-25", 1, time.Second, true},
		{"2026-02-20 12:00", "2026-02-25", 1, 0, true},
		{"2026-12-31 12:00", "2027-01-01", 0, 12 * time.Hour, true},
		{"2026-12-31 12:00", "2027-01-01 00:00:01", 0, 0, false},
		{"2003-12-31 12:00", "2004-01-03", 0, 0, false},
		{"2027-01-01 12:00", "2027-01-03", 0, 0, false},
		{"2026-03-05", "2026-03-05", 0, 0, true},
		{"2026-03-06", "2026-03-05", 0, 0, true},
		{"2030-03-06", "2026-03-05", 0, 0, true},
	} {
		days, rest, known := c.WorkingTimeLeft(at(t, c, row.now), at(t, c, row.due))
		if days != row.days || rest != row.rest || known != row.known {
			t.Errorf("from %s to %s: %d days %s, %v; want %d days %s, %v", row.now, row.due, days, rest, known, row.days, row.rest, row.known)
		}
	}
}

func TestWorkingDayAndMissing(t *testing.T) {
	c := china(t)
	for _, row := range []struct {
		day                string
		working, published bool
	}{
		{"2026-02-14 12:00", true, true},
		{"2026-02-15 00:00", false, true},
		{"2026-02-14 23:59:59.999999", true, true},
		{"2026-10-10", true, true},
		{"2026-10-11", false, true},
		{"2026-03-02", true, true},
		{"2004-01-01", false, true},
		{"2026-12-31 23:59:59.999999", true, true},
		{"2027-01-01", false, false},
		{"2003-12-31 23:59:59.999999", false, false},
	} {
		if working, published := c.WorkingDay(at(t, c, row.day).UTC()); working != row.working || published != row.published {
			t.Errorf("%s: working %v, published %v", row.day, working, published)
		}
	}
	for _, row := range []struct {
		now     string
		year    int
		current bool
	}{
		{"2026-10-31 23:59:59.999999", 0, false},
		{"2026-11-01", 2027, false},
		{"2026-12-31 23:59:59.999999", 2027, false},
		{"2027-01-01", 2027, true},
		{"2003-12-01", 2003, true},
		{"2025-12-01", 0, false},
	} {
		if year, current := c.Missing(at(t, c, row.now).UTC()); year != row.year || current != row.current {
			t.Errorf("at %s missing %d, current %v", row.now, year, current)
		}
	}
}

func BenchmarkDue(b *testing.B) {
	c := china(b)
	start := at(b, c, "2026-02-13 10:00").UTC()
	for _, s := range []string{"3wd", "90d", "15d+roll", "24h"} {
		l := limit(b, s)
		b.Run(s, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if c.Due(start, l).Open {
					b.Fatal("open")
				}
			}
		})
	}
}
