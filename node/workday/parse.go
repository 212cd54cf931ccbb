package workday

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

const (
	maxFile             = 1 << 20    // bytes of a calendar file; 23 years take 20 KB
	maxText             = 200        // characters of a name or source
	minYear, maxYear    = 1970, 2200 // years that a calendar may cover
	off, work           = "off", "work"
	keyName, keyZone    = "name", "zone"
	keyYears, keyPlain  = "years", "plain"
	keyWeekend, keyFrom = "weekend", "source"
)

var (
	keys     = []string{keyName, keyZone, keyYears, keyPlain, keyWeekend, keyFrom}
	heading  = []string{"date", "day", "holiday"}
	weekdays = []string{time.Sunday: "sun", time.Monday: "mon", time.Tuesday: "tue", time.Wednesday: "wed",
		time.Thursday: "thu", time.Friday: "fri", time.Saturday: "sat"}
)

// file is a calendar file once read.
type file struct {
	name, source string
	zone         *time.Location
	weekend      [7]bool
	years        []covered // by year, without gap
	rows         []row     // by date
}

type covered struct {
	year  int
	plain bool
}

type row struct {
	date    date
	work    bool
	holiday string
}

type date struct{ year, month, day int }

func (d date) number() int    { return daysFromCivil(d.year, d.month, d.day) }
func (d date) String() string { return fmt.Sprintf("%04d-%02d-%02d", d.year, d.month, d.day) }

// Parse reads a calendar file, whose form the package comment gives. The error joins all that is wrong, each with line and
// field; there is then no calendar.
func Parse(content []byte) (*Calendar, error) {
	p := parser{dates: make(map[date]int), stated: make(map[string]statement)}
	switch {
	case len(content) > maxFile:
		return nil, fmt.Errorf("calendar: %d bytes, want at most %d", len(content), maxFile)
	case !utf8.Valid(content):
		return nil, errors.New("calendar: want UTF-8")
	}
	body := bytes.TrimPrefix(content, []byte("\ufeff"))
	p.comments(body)
	p.statements()
	p.table(body)
	p.coverage()
	if len(p.problems) > 0 {
		return nil, errors.Join(p.problems...)
	}
	slices.SortFunc(p.file.rows, func(a, b row) int { return a.date.number() - b.date.number() })
	return newCalendar(p.file, slices.Clone(content)), nil
}

type statement struct {
	line  int
	value string
}

type parser struct {
	file     file
	stated   map[string]statement
	dates    map[date]int // line of each row's date
	problems []error
}

// problem records what is wrong; line 0 is the file as a whole.
func (p *parser) problem(line int, field, format string, args ...any) {
	where := field
	if line > 0 {
		where = fmt.Sprintf("line %d: %s", line, field)
	}
	p.problems = append(p.problems, fmt.Errorf("calendar: %s: %s", where, fmt.Sprintf(format, args...)))
}

// comments collects the statements of "# key: value" lines.
func (p *parser) comments(body []byte) {
	n := 0
	for line := range bytes.Lines(body) {
		n++
		text, comment := strings.CutPrefix(string(line), "#")
		key, value, ok := strings.Cut(text, ":")
		key, value = strings.TrimSpace(key), strings.TrimSpace(value)
		if !comment || !ok || key == "" || strings.ContainsFunc(key, func(r rune) bool { return !unicode.IsLetter(r) }) {
			continue
		}
		first, twice := p.stated[key]
		switch {
		case !slices.Contains(keys, key):
			p.problem(n, key, "unknown; want one of %s, or a comment that does not begin with a word and a colon",
				strings.Join(keys, ", "))
		case twice:
			p.problem(n, key, "stated before, on line %d", first.line)
		default:
			p.stated[key] = statement{n, value}
		}
	}
}

func (p *parser) statements() {
	p.file.name = p.text(keyName)
	if _, ok := p.stated[keyFrom]; ok {
		p.file.source = p.text(keyFrom)
	}
	if s, ok := p.need(keyZone, "an IANA name such as Asia/Shanghai"); ok {
		zone, err := time.LoadLocation(s.value)
		if err != nil || s.value == "" || s.value == "Local" {
			p.problem(s.line, keyZone, "%.100q: want an IANA name such as Asia/Shanghai", s.value)
		}
		p.file.zone = zone
	}
	if s, ok := p.need(keyWeekend, "days such as sat,sun"); ok {
		for word := range strings.SplitSeq(s.value, ",") {
			i := slices.Index(weekdays, strings.TrimSpace(word))
			if i < 0 || p.file.weekend[i] {
				p.problem(s.line, keyWeekend, "%.40q: want each day once, of %s", word, strings.Join(weekdays, ", "))
				continue
			}
			p.file.weekend[i] = true
		}
		if p.file.weekend == [7]bool{true, true, true, true, true, true, true} {
			p.problem(s.line, keyWeekend, "leaves no working day")
		}
	}
	p.years(keyYears, false)
	p.years(keyPlain, true)
}

func (p *parser) need(key, want string) (statement, bool) {
	s, ok := p.stated[key]
	if !ok {
		p.problem(0, key, "missing; want a line \"# %s: ...\" with %s", key, want)
	}
	return s, ok
}

func (p *parser) text(key string) string {
	s, ok := p.need(key, "a text")
	if ok && (s.value == "" || utf8.RuneCountInString(s.value) > maxText || strings.ContainsFunc(s.value, unicode.IsControl)) {
		p.problem(s.line, key, "want 1 to %d characters, no control characters", maxText)
	}
	return s.value
}

func (p *parser) years(key string, plain bool) {
	s, ok := p.stated[key]
	if !ok {
		return
	}
	for part := range strings.SplitSeq(s.value, ",") {
		from, to, isRange := strings.Cut(strings.TrimSpace(part), "-")
		if !isRange {
			to = from
		}
		a, errA := strconv.Atoi(from)
		b, errB := strconv.Atoi(to)
		if errA != nil || errB != nil || a < minYear || b > maxYear || a > b {
			p.problem(s.line, key, "%.40q: want a year or a range such as 2004-2026, within %d-%d", part, minYear, maxYear)
			continue
		}
		for y := a; y <= b; y++ {
			if slices.ContainsFunc(p.file.years, func(c covered) bool { return c.year == y }) {
				p.problem(s.line, key, "%d: stated twice", y)
				continue
			}
			p.file.years = append(p.file.years, covered{y, plain})
		}
	}
}

func (p *parser) table(body []byte) {
	r := csv.NewReader(bytes.NewReader(body))
	r.Comment = '#'
	r.FieldsPerRecord = -1
	for headed := false; ; {
		record, err := r.Read()
		if errors.Is(err, io.EOF) {
			if !headed {
				p.problem(0, "heading", "missing; want %s", strings.Join(heading, ","))
			}
			return
		}
		var bad *csv.ParseError
		if errors.As(err, &bad) {
			p.problem(bad.Line, "row", "%v", bad.Err)
			continue
		}
		line, _ := r.FieldPos(0)
		switch {
		case !headed:
			if !slices.Equal(record, heading) {
				p.problem(line, "heading", "want %s", strings.Join(heading, ","))
				return
			}
			headed = true
		case len(record) != len(heading):
			p.problem(line, "row", "%d fields, want %d: %s", len(record), len(heading), strings.Join(heading, ","))
		default:
			p.row(line, record)
		}
	}
}

func (p *parser) row(line int, record []string) {
	t, err := time.Parse(time.DateOnly, record[0])
	d := date{t.Year(), int(t.Month()), t.Day()}
	first, twice := p.dates[d]
	switch {
	case err != nil:
		p.problem(line, heading[0], "%.40q: want a day such as 2026-02-14", record[0])
	case twice:
		p.problem(line, heading[0], "%s: named before, on line %d", d, first)
	default:
		p.dates[d] = line
	}
	if record[1] != off && record[1] != work {
		p.problem(line, heading[1], "%.40q: want %s or %s", record[1], off, work)
	}
	if utf8.RuneCountInString(record[2]) > maxText || strings.ContainsFunc(record[2], unicode.IsControl) {
		p.problem(line, heading[2], "want at most %d characters, no control characters", maxText)
	}
	p.file.rows = append(p.file.rows, row{d, record[1] == work, record[2]})
}

// coverage checks years against one another and against the rows.
func (p *parser) coverage() {
	years := p.file.years
	if len(years) == 0 {
		p.problem(0, keyYears, "missing; want a line \"# years: ...\" or \"# plain: ...\" with years such as 2004-2026")
		return
	}
	slices.SortFunc(years, func(a, b covered) int { return a.year - b.year })
	for i := range len(years) - 1 {
		if years[i].year+1 != years[i+1].year {
			p.problem(0, keyYears, "%d to %d are missing between the years stated", years[i].year+1, years[i+1].year-1)
		}
	}
	rows := make(map[int]int) // by year
	for _, d := range slices.SortedFunc(maps.Keys(p.dates), func(a, b date) int { return p.dates[a] - p.dates[b] }) {
		line := p.dates[d]
		rows[d.year]++
		i, ok := slices.BinarySearchFunc(years, d.year, func(c covered, y int) int { return c.year - y })
		switch {
		case ok && years[i].plain:
			p.problem(line, heading[0], "%s: %d is stated as plain, without rows", d, d.year)
		case !ok && (d.year != years[0].year-1 || d.month != int(time.December)):
			p.problem(line, heading[0], "%s: not in a year stated, nor in the December before", d)
		}
	}
	for _, c := range years {
		if !c.plain && rows[c.year] == 0 {
			p.problem(0, keyYears, "%d: has no rows; a year without any is stated under %s", c.year, keyPlain)
		}
	}
}
