package rule

import (
	"strconv"
	"strings"
	"time"

	"duban.internal/node/profile"
	"duban.internal/node/workday"
)

// text is a point's sentence, cut at what is filled in.
type text struct {
	parts []string // those with an odd index are names: case, stage, limit, due
	limit string
}

func parseText(s string) text {
	var t text
	for {
		open := strings.IndexByte(s, '{')
		end := strings.IndexByte(s, '}')
		if open < 0 || end < open {
			t.parts = append(t.parts, s)
			return t
		}
		t.parts = append(t.parts, s[:open], s[open+1:end])
		s = s[end+1:]
	}
}

func (t text) fill(cal *workday.Calendar, titles map[string]string, ev *event, due workday.Deadline) string {
	var b strings.Builder
	for i, part := range t.parts {
		switch {
		case i%2 == 0:
			b.WriteString(part)
		case part == "case":
			b.WriteString(ev.c.ID)
		case part == "stage":
			if title, ok := titles[ev.c.Procedure+"/"+ev.stage]; ok {
				b.WriteString(title)
			} else {
				b.WriteString(ev.stage)
			}
		case part == "limit":
			b.WriteString(t.limit)
		case part == "due":
			b.WriteString(LastMoment(cal, due))
		}
	}
	return b.String()
}

// LastMoment is a deadline for people, in the calendar's zone: the last day in time, or the last minute.
func LastMoment(cal *workday.Calendar, due workday.Deadline) string {
	if due.Open {
		if due.MissingYear == 0 {
			return "without a limit"
		}
		return "not to be counted before the days off of " + strconv.Itoa(due.MissingYear) + " are published"
	}
	at := due.At.In(cal.Location())
	if h, m, s := at.Clock(); h == 0 && m == 0 && s == 0 {
		return at.Add(-time.Nanosecond).Format("2006-01-02")
	}
	return at.Format("2006-01-02 15:04")
}

// worded is a limit for people.
func worded(l workday.Limit) string {
	unit := map[workday.Unit]string{workday.WorkingDays: " working day", workday.NaturalDays: " day", workday.Hours: " hour"}[l.Unit]
	if l.N != 1 {
		unit += "s"
	}
	return strconv.Itoa(l.N) + unit
}

func textOf(pt *profile.Point) text {
	t := parseText(pt.Text)
	t.limit = worded(pt.Limit)
	return t
}
