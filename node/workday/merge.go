package workday

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Merge lays a newer calendar over c, as when a year is published or amended: years that newer covers are newer's alone,
// the others stay as c has them, and newer's rows in the December before its first year replace c's of the same dates. The
// result is written as a file of its own, the same bytes wherever the same two are merged, so one hash names it. Zone and
// weekend must be the same, and the years must leave no gap; the error joins all that is wrong.
func (c *Calendar) Merge(newer *Calendar) (*Calendar, error) {
	var problems []error
	if a, b := c.file.zone.String(), newer.file.zone.String(); a != b {
		problems = append(problems, fmt.Errorf("calendar: zone: %s, want %s", b, a))
	}
	if c.file.weekend != newer.file.weekend {
		problems = append(problems, fmt.Errorf("calendar: weekend: %s, want %s", weekend(newer.file), weekend(c.file)))
	}
	if newer.first > c.last+1 || newer.last < c.first-1 {
		problems = append(problems, fmt.Errorf("calendar: years: %d-%d leave a gap to %d-%d", newer.first, newer.last, c.first, c.last))
	}
	if len(problems) > 0 {
		return nil, errors.Join(problems...)
	}
	merged := newer.file
	merged.years = slices.Clone(newer.file.years)
	merged.rows = slices.Clone(newer.file.rows)
	inNewer := func(year int) bool { return year >= newer.first && year <= newer.last }
	for _, y := range c.file.years {
		if !inNewer(y.year) {
			merged.years = append(merged.years, y)
		}
	}
	named := make(map[date]bool, len(newer.file.rows))
	for _, r := range newer.file.rows {
		named[r.date] = true
	}
	for _, r := range c.file.rows {
		if !inNewer(r.date.year) && !named[r.date] {
			merged.rows = append(merged.rows, r)
		}
	}
	return Parse(merged.render())
}

// render writes the canonical text of a file: statements in the order of keys, years and rows ascending.
func (f file) render() []byte {
	slices.SortFunc(f.years, func(a, b covered) int { return a.year - b.year })
	slices.SortFunc(f.rows, func(a, b row) int { return a.date.number() - b.date.number() })
	var b bytes.Buffer
	for _, s := range []struct{ key, value string }{
		{keyName, f.name}, {keyZone, f.zone.String()}, {keyYears, f.ranges(false)}, {keyPlain, f.ranges(true)},
		{keyWeekend, weekend(f)}, {keyFrom, f.source},
	} {
		if s.value != "" {
			fmt.Fprintf(&b, "# %s: %s\n", s.key, s.value)
		}
	}
	w := csv.NewWriter(&b)
	w.Write(heading)
	for _, r := range f.rows {
		day := off
		if r.work {
			day = work
		}
		w.Write([]string{r.date.String(), day, r.holiday})
	}
	w.Flush()
	return b.Bytes()
}

// ranges writes the plain or the other years, such as 2000-2003, 2010.
func (f file) ranges(plain bool) string {
	var parts []string
	for i := 0; i < len(f.years); i++ {
		if f.years[i].plain != plain {
			continue
		}
		from := i
		for i+1 < len(f.years) && f.years[i+1].plain == plain {
			i++
		}
		part := strconv.Itoa(f.years[from].year)
		if i > from {
			part += "-" + strconv.Itoa(f.years[i].year)
		}
		parts = append(parts, part)
	}
	return strings.Join(parts, ", ")
}

func weekend(f file) string {
	var days []string
	for i, isOff := range f.weekend {
		if isOff {
			days = append(days, weekdays[i])
		}
	}
	return strings.Join(days, ",")
}
