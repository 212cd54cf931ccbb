package profile

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Problem is one thing that is wrong with a profile.
type Problem struct {
	File  string // empty where it is about all files
	Line  int    // from 1; 0 where it is about the whole file
	Field string // such as points[late_service].limit
	Text  string // what is wrong, what is allowed
}

// String is file:line: field: text.
func (p Problem) String() string {
	var b strings.Builder
	if p.File != "" {
		b.WriteString(p.File)
		if p.Line > 0 {
			fmt.Fprintf(&b, ":%d", p.Line)
		}
		b.WriteString(": ")
	}
	if p.Field != "" {
		b.WriteString(p.Field)
		b.WriteString(": ")
	}
	b.WriteString(p.Text)
	return b.String()
}

// Problems is everything that is wrong with a profile, by file and line.
type Problems []Problem

// Error has one problem a line.
func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

func (ps Problems) sorted() Problems {
	slices.SortStableFunc(ps, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line))
	})
	return ps
}

// position is where something stands in the files, and for an element of a list what it is called.
type position struct {
	file string
	line int
	name string
}

// Problem is a problem of p at a path such as points[3].start.when, for packages that check more than this one can.
// Where the path's end was left out of the file, the line of what holds it is given.
func (p *Profile) Problem(path, format string, args ...any) Problem {
	at := p.lines[path]
	for up := path; at.line == 0 && up != ""; at = p.lines[up] {
		up = up[:max(strings.LastIndexAny(up, ".["), 0)]
	}
	return Problem{File: at.file, Line: at.line, Field: p.named(path), Text: fmt.Sprintf(format, args...)}
}

// named puts the names of what is listed in place of numbers: points[3].limit becomes points[late_service].limit.
func (p *Profile) named(path string) string {
	var b strings.Builder
	for rest := path; ; {
		open := strings.IndexByte(rest, '[')
		if open < 0 {
			b.WriteString(rest)
			return b.String()
		}
		end := open + strings.IndexByte(rest[open:], ']')
		b.WriteString(rest[:open+1])
		index := path[:len(path)-len(rest)+end+1]
		if name := p.lines[index].name; name != "" {
			b.WriteString(name)
		} else {
			b.WriteString(rest[open+1 : end])
		}
		b.WriteByte(']')
		rest = rest[end+1:]
	}
}
