// Package show writes what commands have to say: aligned tables and times for people, JSON for programs, progress for
// those who watch. It promises that columns of Chinese and Latin text line up on a terminal whose wide characters take two
// cells, and that nothing but what was asked for goes to standard output. It knows no command and no node.
package show

import (
	"bufio"
	"fmt"
	"io"
	"strings"
	"time"
	_ "time/tzdata" // zone data is built in, none is needed on the machine
	"unicode"

	"golang.org/x/text/width"
)

// Table is rows under a heading.
type Table struct {
	heading []string
	right   []bool
	rows    [][]string
}

// NewTable begins a table; a heading that begins with > makes its column end flush, as numbers want it.
func NewTable(heading ...string) *Table {
	t := &Table{heading: make([]string, len(heading)), right: make([]bool, len(heading))}
	for i, h := range heading {
		t.heading[i], t.right[i] = strings.TrimPrefix(h, ">"), strings.HasPrefix(h, ">")
	}
	return t
}

// Row adds a row; cells are written as fmt.Sprint does, cleaned as OneLine does.
func (t *Table) Row(cells ...any) {
	row := make([]string, len(t.heading))
	for i := range row {
		if i < len(cells) {
			row[i] = OneLine(fmt.Sprint(cells[i]))
		}
		if row[i] == "" {
			row[i] = "-"
		}
	}
	t.rows = append(t.rows, row)
}

// Len is the number of rows.
func (t *Table) Len() int { return len(t.rows) }

// Write writes the table, without the columns that no row has anything in.
func (t *Table) Write(w io.Writer) error {
	cells, filled := make([]int, len(t.heading)), make([]bool, len(t.heading))
	for _, row := range append([][]string{t.heading}, t.rows...) {
		for i, c := range row {
			cells[i] = max(cells[i], Cells(c))
		}
	}
	for _, row := range t.rows {
		for i, c := range row {
			filled[i] = filled[i] || c != "-"
		}
	}
	out := bufio.NewWriter(w)
	for _, row := range append([][]string{t.heading}, t.rows...) {
		var line strings.Builder
		for i, c := range row {
			if !filled[i] && len(t.rows) > 0 {
				continue
			}
			if line.Len() > 0 {
				line.WriteString("  ")
			}
			pad := strings.Repeat(" ", cells[i]-Cells(c))
			if t.right[i] {
				line.WriteString(pad + c)
			} else {
				line.WriteString(c + pad)
			}
		}
		fmt.Fprintln(out, strings.TrimRight(line.String(), " "))
	}
	return out.Flush()
}

// Cells is how many cells of a terminal a text takes: two for a wide character, none for a mark that combines.
func Cells(s string) (n int) {
	for _, r := range s {
		switch {
		case unicode.Is(unicode.Mn, r) || unicode.Is(unicode.Me, r) || unicode.Is(unicode.Cf, r):
		case wide(r):
			n += 2
		default:
			n++
		}
	}
	return n
}

func wide(r rune) bool {
	k := width.LookupRune(r).Kind()
	return k == width.EastAsianWide || k == width.EastAsianFullwidth
}

// Shanghai is where people read and write times.
var Shanghai = func() *time.Location {
	l, err := time.LoadLocation("Asia/Shanghai")
	if err != nil {
		return time.FixedZone("UTC+8", 8*60*60)
	}
	return l
}()

// Time is stored microseconds for people, in Asia/Shanghai; empty for 0.
func Time(us int64) string {
	if us == 0 {
		return ""
	}
	return time.UnixMicro(us).In(Shanghai).Format("2006-01-02 15:04:05")
}

// Date is the day of a time for people, in Asia/Shanghai.
func Date(t time.Time) string { return t.In(Shanghai).Format(time.DateOnly) }

// Count is a number of things: "1 finding", "2 findings".
func Count[N int | uint64](n N, thing string) string {
	if n != 1 {
		thing += "s"
	}
	return fmt.Sprintf("%d %s", n, thing)
}

// Skew is a difference of clocks in microseconds for people.
func Skew(us int64) string {
	return (time.Duration(us) * time.Microsecond).Round(time.Millisecond).String()
}
