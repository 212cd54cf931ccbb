package workday_test

import (
	"bytes"
	"crypto/sha256"
	"strings"
	"testing"
	"time"

	"duban.internal/configs"
	"duban.internal/node/workday"
)

func TestShippedCalendars(t *testing.T) {
	files, err := configs.FS.ReadDir("calendars")
	if err != nil || len(files) < 2 {
		t.Fatal(files, err)
	}
	for _, f := range files {
		c := calendar(t, f.Name())
		if c.Name() == "" || c.Hash() != sha256.Sum256(c.Bytes()) {
			t.Errorf("%s: name %q, hash %x", f.Name(), c.Name(), c.Hash())
		}
	}
	first, last := china(t).Years()
	if zone := china(t).Location().String(); zone != "Asia/Shanghai" || first != 2004 || last != 2026 {
		t.Errorf("%s, %d-%d", zone, first, last)
	}
	first, last = calendar(t, "plain-2000-2015.csv").Years()
	if first != 2000 || last != 2015 {
		t.Errorf("%d-%d", first, last)
	}
}

// The number of working days that each year is publicly known for: 365 or 366 less weekends and holidays.
func TestWorkingDaysInAYear(t *testing.T) {
	c := china(t)
	for year, want := range map[int]int{2024: 251, 2025: 248, 2026: 248} {
		days, rest, known := c.WorkingTimeLeft(
			time.Date(year, 1, 1, 0, 0, 0, 0, c.Location()), time.Date(year+1, 1, 1, 0, 0, 0, 0, c.Location()))
		if days != want || rest != 0 || !known {
			t.Errorf("%d has %d working days and %s, %v; want %d", year, days, rest, known, want)
		}
	}
}

const statements = "# name: test\n# zone: Asia/Shanghai\n# weekend: sat,sun\n"
const head = "date,day,holiday\n"

func TestParseNamesEverythingThatIsWrong(t *testing.T) {
	for _, row := range []struct {
		name, file string
		want       []string
	}{
		{"empty", "", []string{"name: missing", "zone: missing", "weekend: missing", "heading: missing", "years: missing"}},
		{"not utf-8", statements + "\xb4\xba\xbd\xda", []string{"want UTF-8"}},
		{"too large", strings.Repeat("#", 1<<20+1), []string{"want at most 1048576"}},
		{"heading", statements + "# plain: 2026\ndate;day;holiday\n", []string{"line 5: heading: want date,day,holiday"}},
		{"statements", "# name:\n# zone: Beijing\n# zone: Asia/Shanghai\n# weekend: sat,sat,so\n# years: 2026-2004, 1066, x\n# jahre: 2026\n" + head, []string{
			"line 1: name: want 1 to 200", `line 2: zone: "Beijing": want an IANA name`, "line 3: zone: stated before, on line 2",
			`line 4: weekend: "sat": want each day once`, `line 4: weekend: "so": want`, `line 5: years: "2026-2004": want`,
			`line 5: years: " 1066": want`, `line 5: years: " x": want`, "line 6: jahre: unknown; want one of name, zone", "years: missing"}},
		{"local zone", "# name: x\n# zone: Local\n# weekend: sat,sun\n# plain: 2026\n" + head, []string{`line 2: zone: "Local"`}},
		{"zone outside", "# name: x\n# zone: ../etc/localtime\n# weekend: sat,sun\n# plain: 2026\n" + head, []string{`line 2: zone`}},
		{"no working day", "# name: x\n# zone: UTC\n# weekend: mon,tue,wed,thu,fri,sat,sun\n# plain: 2026\n" + head, []string{"line 3: weekend: leaves no working day"}},
		{"years", statements + "# years: 2024, 2026\n# plain: 2024\n" + head + "2024-01-01,off,\n", []string{
			"line 5: plain: 2024: stated twice", "2025 to 2025 are missing", "2026: has no rows"}},
		{"rows", statements + "# years: 2026\n" + head +
			"2026-02-30,off,a\n2026-2-14,work,a\n2026-02-14,on,a\n2026-02-15,off,a\n2026-02-15,work,a\n2027-01-01,off,b\n2025-11-30,off,b\n2025-12-31,off,b\n2026-03-01,off\n2026-03-02,off,\"x\ny\"\n2026-03-03,off,x\"y\n", []string{
			`line 6: date: "2026-02-30": want a day`, `line 7: date: "2026-2-14": want a day`, `line 8: day: "on": want off or work`,
			"line 10: date: 2026-02-15: named before, on line 9", "line 11: date: 2027-01-01: not in a year stated",
			"line 12: date: 2025-11-30: not in a year stated", "line 14: row: 2 fields, want 3", "line 15: holiday: want at most 200 characters, no control",
			"line 17: row: bare"}},
		{"rows of a plain year", statements + "# plain: 2026\n" + head + "2026-01-01,off,a\n", []string{"line 6: date: 2026-01-01: 2026 is stated as plain"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			c, err := workday.Parse([]byte(row.file))
			if err == nil || c != nil {
				t.Fatalf("parsed: %v, %v", c, err)
			}
			for _, want := range row.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error lacks %q", want)
				}
			}
			if got := strings.Count(err.Error(), "\n") + 1; got != len(row.want) || t.Failed() {
				t.Errorf("%d problems, want %d:\n%v", got, len(row.want), err)
			}
		})
	}
}

// A file as a spreadsheet saves it, with free comments.
func TestParseSpreadsheet(t *testing.T) {
	text := "\ufeff# A free comment: with a colon\n#another\n" + statements + "# years: 2027\n" + head + "2027-01-01,off,元旦\n"
	content := []byte(strings.ReplaceAll(text, "\n", "\r\n"))
	c, err := workday.Parse(content)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(c.Bytes(), content) || c.Hash() != sha256.Sum256(content) {
		t.Error("content is not what was parsed")
	}
	if working, published := c.WorkingDay(at(t, c, "2027-01-01")); working || !published {
		t.Error("January 1 is not off")
	}
}

func parse(t testing.TB, text string) *workday.Calendar {
	t.Helper()
	c, err := workday.Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// In November 2026 the State Council publishes 2027 and, say, makes December 31, 2026 a day off.
func TestMergeNextYear(t *testing.T) {
	old := china(t)
	next := parse(t, statements+"# years: 2027\n"+head+"2026-12-31,off,元旦\n2027-01-01,off,元旦\n2027-01-02,off,元旦\n2027-01-03,off,元旦\n")
	c, err := old.Merge(next)
	if err != nil {
		t.Fatal(err)
	}
	if first, last := c.Years(); first != 2004 || last != 2027 {
		t.Errorf("%d-%d", first, last)
	}
	start := at(t, c, "2026-12-30 10:00")
	if got := old.Due(start, limit(t, "1wd")); !got.At.Equal(at(t, c, "2027-01-01")) {
		t.Errorf("old: %v", got)
	}
	if got := c.Due(start, limit(t, "1wd")); !got.At.Equal(at(t, c, "2027-01-05")) {
		t.Errorf("merged: %v", got)
	}
	if got := c.Due(start, limit(t, "90d+roll")); got.Open {
		t.Errorf("still %v", got)
	}
	if got, want := c.Due(at(t, c, "2026-02-13"), limit(t, "3wd")), at(t, c, "2026-02-26"); !got.At.Equal(want) {
		t.Errorf("2026 changed: %v", got)
	}
	if working, published := old.WorkingDay(at(t, c, "2026-12-31")); !working || !published {
		t.Error("the older calendar changed")
	}

	again, err := old.Merge(next)
	if err != nil || again.Hash() != c.Hash() {
		t.Errorf("merged twice, two hashes: %v", err)
	}
	if reread := parse(t, string(c.Bytes())); reread.Hash() != c.Hash() {
		t.Error("a merged calendar is not a file")
	}
}

// A year published anew replaces the old one wholly.
func TestMergeAmendment(t *testing.T) {
	old := parse(t, statements+"# years: 2026\n# plain: 2025\n"+head+"2026-01-01,off,a\n2026-01-02,off,a\n")
	c, err := old.Merge(parse(t, "# name: amended\n# zone: Asia/Shanghai\n# weekend: sat,sun\n# years: 2026\n"+head+"2026-01-01,off,\"a, b\"\n"))
	if err != nil {
		t.Fatal(err)
	}
	if working, _ := c.WorkingDay(at(t, c, "2026-01-02")); !working {
		t.Error("a day that is no longer named is still off")
	}
	want := "# name: amended\n# zone: Asia/Shanghai\n# years: 2026\n# plain: 2025\n# weekend: sun,sat\n" + head + "2026-01-01,off,\"a, b\"\n"
	if string(c.Bytes()) != want {
		t.Errorf("got\n%s\nwant\n%s", c.Bytes(), want)
	}

	december := parse(t, statements+"# years: 2026\n"+head+"2025-12-31,off,a\n2026-01-01,off,a\n")
	if _, err := old.Merge(december); err == nil || !strings.Contains(err.Error(), "2025-12-31: 2025 is stated as plain") {
		t.Errorf("a row in a plain year: %v", err)
	}
}

func TestMergeRefuses(t *testing.T) {
	other := parse(t, "# name: x\n# zone: America/Chicago\n# weekend: fri\n# plain: 2030\n"+head)
	_, err := china(t).Merge(other)
	for _, want := range []string{"zone: America/Chicago, want Asia/Shanghai", "weekend: fri, want sun,sat", "years: 2030-2030 leave a gap"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error lacks %q: %v", want, err)
		}
	}
}

func TestParseLimit(t *testing.T) {
	for s, want := range map[string]workday.Limit{
		"3wd":      {N: 3, Unit: workday.WorkingDays},
		"90d":      {N: 90, Unit: workday.NaturalDays},
		"0d":       {N: 0, Unit: workday.NaturalDays},
		"90d+roll": {N: 90, Unit: workday.NaturalDays, RollOver: true},
		"24h":      {N: 24, Unit: workday.Hours},
		"36500h":   {N: 36500, Unit: workday.Hours},
	} {
		var l workday.Limit
		if err := l.UnmarshalText([]byte(s)); err != nil || l != want || l.String() != s {
			t.Errorf("%q = %+v (%s), %v", s, l, l, err)
		}
		if text, err := l.MarshalText(); err != nil || string(text) != s {
			t.Errorf("%q marshals to %q, %v", s, text, err)
		}
	}
	for s, want := range map[string]string{
		"": "want a number and a unit", "3": "a number and a unit", "none": "a number and a unit", "3 wd": "whole number",
		"wd": "whole number", "+3d": "whole number", "-3d": "from 0 to 36500", "03d": "whole number", "3.5h": "whole number", "３d": "whole number",
		"0wd": "from 1 to 36500", "0h": "from 1 to", "36501d": "from 0 to 36500", "99999999999999999999d": "whole number",
		"3wd+roll": "only natural days roll over", "24h+roll": "only natural days", "3d+rolls": "a number and a unit", "3D": "a number and a unit",
	} {
		l := workday.Limit{N: 7, Unit: workday.Hours}
		if err := l.UnmarshalText([]byte(s)); err == nil || !strings.Contains(err.Error(), want) || l.N != 7 {
			t.Errorf("%q: %+v, %v", s, l, err)
		}
	}
	if _, err := (workday.Limit{}).MarshalText(); err == nil || !(workday.Limit{}).IsZero() {
		t.Error("no limit has a text", err)
	}
}

func FuzzParseLimit(f *testing.F) {
	for _, s := range []string{"3wd", "90d+roll", "24h", "0d", "+roll", "wd"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if l, err := workday.ParseLimit(s); err == nil && (l.String() != s || l.Validate() != nil) {
			t.Fatalf("%q parsed as %v", s, l)
		}
	})
}

// Whatever parses counts, and merged with itself is a file that counts the same.
func FuzzParse(f *testing.F) {
	f.Add([]byte(statements + "# years: 2026\n# plain: 2025\n" + head + "2026-02-14,work,春节\n2026-02-15,off,春节\n"))
	f.Add([]byte("# name: x\n# zone: America/Chicago\n# weekend: fri\n# plain: 2000-2001, 2002\n" + head))
	f.Fuzz(func(t *testing.T, content []byte) {
		c, err := workday.Parse(content)
		if err != nil {
			return
		}
		merged, err := c.Merge(c)
		if err != nil {
			t.Fatal(err)
		}
		first, last := c.Years()
		for _, l := range []workday.Limit{{N: 3, Unit: workday.WorkingDays}, {N: 10, Unit: workday.NaturalDays, RollOver: true}} {
			for year := first; year <= last; year++ {
				start := time.Date(year, 12, 20, 12, 0, 0, 0, c.Location())
				due := c.Due(start, l)
				if !same(due, merged.Due(start, l)) || !due.Open && !due.At.After(start) {
					t.Fatalf("%d: %v, merged %v", year, due, merged.Due(start, l))
				}
			}
		}
	})
}
