package workday_test

import (
	"testing"
	"time"

	"duban.internal/node/workday"
	"pgregory.net/rapid"
)

// slowDue counts as a person would, day by day on the calendar sheet. It is the meaning of Due; Due's tables are its speed.
func slowDue(c *workday.Calendar, start time.Time, l workday.Limit) workday.Deadline {
	if l.Unit == workday.Hours {
		return workday.Deadline{At: start.Add(time.Duration(l.N) * time.Hour)}
	}
	y, m, d := start.In(c.Location()).Date()
	end := func(i int) workday.Deadline {
		return workday.Deadline{At: time.Date(y, m, d+i+1, 0, 0, 0, 0, c.Location())}
	}
	if l.Unit == workday.NaturalDays && !l.RollOver {
		return end(l.N)
	}
	i, n := 1, l.N
	if l.RollOver {
		i, n = l.N, 1
	}
	for ; ; i++ {
		noon := time.Date(y, m, d+i, 12, 0, 0, 0, c.Location())
		working, published := c.WorkingDay(noon)
		if !published {
			return workday.Deadline{Open: true, MissingYear: noon.Year()}
		}
		if working {
			if n--; n == 0 {
				return end(i)
			}
		}
	}
}

func same(a, b workday.Deadline) bool {
	return a.Open == b.Open && a.MissingYear == b.MissingYear && a.At.Equal(b.At)
}

func drawLimit(t *rapid.T) workday.Limit {
	l := workday.Limit{Unit: rapid.SampledFrom([]workday.Unit{workday.WorkingDays, workday.NaturalDays, workday.Hours}).Draw(t, "unit")}
	l.N = rapid.IntRange(1, 300).Draw(t, "n")
	if l.Unit == workday.NaturalDays {
		l.RollOver = rapid.Bool().Draw(t, "roll")
		l.N--
	}
	return l
}

func drawTime(t *rapid.T, c *workday.Calendar, label string) time.Time {
	first, last := c.Years()
	from := time.Date(first-1, 6, 1, 0, 0, 0, 0, c.Location())
	to := time.Date(last+1, 6, 1, 0, 0, 0, 0, c.Location())
	if rapid.Bool().Draw(t, label+" at an edge of a day") {
		days := int(to.Sub(from) / (24 * time.Hour))
		return time.Date(first-1, 6, 1+rapid.IntRange(0, days).Draw(t, label+" day"), 0, 0, 0, 0, c.Location()).
			Add(time.Duration(rapid.IntRange(-1, 1).Draw(t, label+" off")) * time.Microsecond)
	}
	return time.UnixMicro(rapid.Int64Range(from.UnixMicro(), to.UnixMicro()).Draw(t, label)).UTC()
}

func TestDueProperties(t *testing.T) {
	for _, file := range []string{"cn-holidays.csv", "plain-2000-2015.csv"} {
		c := calendar(t, file)
		t.Run(file, rapid.MakeCheck(func(t *rapid.T) {
			l := drawLimit(t)
			start := drawTime(t, c, "start")
			due := c.Due(start, l)
			if want := slowDue(c, start, l); !same(due, want) {
				t.Fatalf("Due(%s, %s) = %v, day by day %v", start, l, due, want)
			}

			// A later event is never due earlier, and once open stays open.
			if later := drawTime(t, c, "later"); later.After(start) && start.In(c.Location()).Year() >= 2004 {
				next := c.Due(later, l)
				if due.Open && !next.Open || !due.Open && !next.Open && next.At.Before(due.At) {
					t.Fatalf("%s: from %s due %v, but from %s due %v", l, start, due, later, next)
				}
			}
			if due.Open {
				return
			}

			// One more is later; by a rolled day off it may be the same.
			longer := l
			longer.N++
			if next := c.Due(start, longer); !next.Open && (next.At.Before(due.At) || next.At.Equal(due.At) && !l.RollOver) {
				t.Fatalf("%s due %v, %s due %v", l, due, longer, next)
			}

			// The day of the event is not counted: due is the same from wherever on it, and beyond it.
			if l.Unit != workday.Hours {
				y, m, d := start.In(c.Location()).Date()
				midnight := time.Date(y, m, d, 0, 0, 0, 0, c.Location())
				tomorrow := time.Date(y, m, d+1, 0, 0, 0, 0, c.Location())
				if !same(due, c.Due(midnight, l)) || !same(due, c.Due(tomorrow.Add(-1), l)) {
					t.Fatal("due depends on the hour of the event")
				}
				if due.At.Before(tomorrow) || l.N > 0 && !due.At.After(tomorrow) {
					t.Fatalf("due %v counts the day of the event", due)
				}
			}

			// A warning takes back what the limit gave, and the time left is what was given.
			if l.Unit == workday.WorkingDays {
				back := rapid.IntRange(1, l.N).Draw(t, "back")
				warn := c.WarnBefore(due.At, workday.Limit{N: back, Unit: workday.WorkingDays})
				if back < l.N {
					shorter := c.Due(start, workday.Limit{N: l.N - back, Unit: workday.WorkingDays})
					if working, _ := c.WorkingDay(shorter.At); working && !warn.Equal(shorter.At) || warn.Before(shorter.At) {
						t.Fatalf("%d of %s before %v is %v, want %v", back, l, due, warn, shorter)
					}
				}
				if days, rest, known := c.WorkingTimeLeft(warn, due.At); days != back || rest != 0 || !known {
					t.Fatalf("from a warning %dwd before due, %d days %s left, %v", back, days, rest, known)
				}
			}
		}))
	}
}

func TestLimitTextProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := drawLimit(t)
		if got, err := workday.ParseLimit(l.String()); err != nil || got != l {
			t.Fatalf("%v became %v, %v", l, got, err)
		}
	})
}
