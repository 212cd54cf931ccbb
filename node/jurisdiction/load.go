package jurisdiction

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	// maxFile bounds a divisions file in bytes. The whole of China, 45 thousand streets and towns, takes under 3 MB.
	maxFile = 16 << 20
	// maxName bounds a division's name in characters.
	maxName = 100
)

var heading = []string{"code", "name", "tier", "parent"}

// Source is one divisions file. Name goes before the line number in errors and may be empty.
type Source struct {
	Name   string
	Reader io.Reader
}

// Load reads one divisions file. See LoadAll.
func Load(r io.Reader) (*Tree, error) { return LoadAll(Source{Reader: r}) }

// LoadAll reads divisions files into one tree; a file may name parents that another one has, so an operator adds zones in
// a file of his own. The error joins all that is wrong, each with file, line and field, and there is then no tree: malformed
// codes, unknown tiers and parents, codes given twice, a code whose length is not its tier's, and a division that lies in
// itself or in one of its own or a lower tier (which is what a cycle needs).
func LoadAll(sources ...Source) (*Tree, error) {
	l := loader{lines: make(map[Code]place)}
	for _, s := range sources {
		l.read(s)
	}
	l.link()
	if len(l.problems) > 0 {
		return nil, errors.Join(l.problems...)
	}
	if len(l.rows) == 0 {
		return nil, errors.New("divisions: want at least one row under the heading " + strings.Join(heading, ","))
	}
	return newTree(l.rows), nil
}

// place is where a code was read, with its tier.
type place struct {
	at   string
	tier Tier
}

type loader struct {
	rows     []Division
	lines    map[Code]place
	problems []error
}

func (l *loader) problem(at, format string, args ...any) {
	l.problems = append(l.problems, fmt.Errorf("divisions: %s: %s", at, fmt.Sprintf(format, args...)))
}

func (l *loader) read(s Source) {
	name := s.Name
	if name == "" {
		name = "file"
	}
	content, err := io.ReadAll(io.LimitReader(s.Reader, maxFile+1))
	switch {
	case err != nil:
		l.problems = append(l.problems, fmt.Errorf("divisions: %s: %w", name, err))
		return
	case len(content) > maxFile:
		l.problem(name, "over %d bytes", maxFile)
		return
	case !utf8.Valid(content):
		l.problem(name, "want UTF-8")
		return
	}
	r := csv.NewReader(bytes.NewReader(bytes.TrimPrefix(content, []byte("\ufeff"))))
	r.Comment = '#'
	r.FieldsPerRecord = -1
	for headed := false; ; {
		record, err := r.Read()
		if errors.Is(err, io.EOF) {
			if !headed {
				l.problem(name, "want the heading %s", strings.Join(heading, ","))
			}
			return
		}
		if err != nil {
			var bad *csv.ParseError
			if !errors.As(err, &bad) {
				l.problem(name, "%v", err)
				return
			}
			l.problem(fmt.Sprintf("%s line %d", name, bad.Line), "%v", bad.Err)
			continue
		}
		line, _ := r.FieldPos(0)
		at := strings.TrimPrefix(fmt.Sprintf("%s line %d", s.Name, line), " ")
		switch {
		case !headed:
			if !slices.Equal(record, heading) {
				l.problem(at, "want the heading %s", strings.Join(heading, ","))
				return
			}
			headed = true
		case len(record) != len(heading):
			l.problem(at, "%d fields, want %d: %s", len(record), len(heading), strings.Join(heading, ","))
		default:
			l.row(at, record)
		}
	}
}

func (l *loader) row(at string, record []string) {
	d := Division{Name: record[1], Tier: Tier(record[2]), Parent: Code(record[3])}
	code, err := ParseCode(record[0])
	if err != nil {
		l.problem(at, "%v", err)
	}
	d.Code = code
	if d.Name == "" || utf8.RuneCountInString(d.Name) > maxName || strings.ContainsFunc(d.Name, unicode.IsControl) ||
		strings.TrimSpace(d.Name) != d.Name {
		l.problem(at, "name %.200q: want 1 to %d characters, none of them a control character or a space at an end",
			d.Name, maxName)
	}
	switch want := d.Tier.digits(); {
	case want == 0:
		l.problem(at, "tier %.20q: want %s, %s or %s", record[2], City, District, Street)
	case code != "" && len(code) != want:
		l.problem(at, "code %q: a %s has %d digits", code, d.Tier, want)
	}
	if code == "" {
		return
	}
	if first, twice := l.lines[code]; twice {
		l.problem(at, "code %q: given before, at %s", code, first.at)
		return
	}
	l.lines[code] = place{at: at, tier: d.Tier}
	l.rows = append(l.rows, d)
}

// link checks parents once every file is read.
func (l *loader) link() {
	for _, d := range l.rows {
		at := l.lines[d.Code].at
		if d.Tier.digits() == 0 {
			continue // already a problem
		}
		if d.Tier == City {
			if d.Parent != "" {
				l.problem(at, "parent %.20q: a city has none", string(d.Parent))
			}
			continue
		}
		switch parent, ok := l.lines[d.Parent]; {
		case d.Parent == "":
			l.problem(at, "parent: a %s needs one", d.Tier)
		case !ok:
			l.problem(at, "parent %.20q: no such division", string(d.Parent))
		case d.Parent == d.Code:
			l.problem(at, "parent %q: is the division itself", d.Parent)
		case parent.tier.digits() != 0 && !d.Tier.under(parent.tier):
			l.problem(at, "parent %q: is a %s; a %s cannot lie in it", d.Parent, parent.tier, d.Tier)
		}
	}
}
