package main

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// example gives the n-th command of a command's example as arguments, as a shell would.
func example(t *testing.T, path string, n int) []string {
	t.Helper()
	c, rest, err := newRoot().Find(strings.Fields(path))
	require.NoError(t, err)
	require.Empty(t, rest)
	lines := strings.Split(strings.TrimPrefix(strings.ReplaceAll(c.Example, "\\\n", ""), "  duban "), "\n  duban ")
	require.Greater(t, len(lines), n, "%s has no such example", path)
	var words []string
	var word strings.Builder
	quoted, begun := false, false
	end := func() {
		if begun {
			words = append(words, word.String())
		}
		word.Reset()
		begun = false
	}
	for _, r := range lines[n] {
		switch {
		case r == '\'':
			quoted, begun = !quoted, true
		case quoted, r != ' ' && r != '#':
			word.WriteRune(r)
			begun = true
		case r == '#' && !begun: // a comment
			return words
		default:
			end()
		}
	}
	end()
	return words
}

// The examples in the help texts of cases, alerts and base information work as they stand, one after the other, with the
// profile that ships; only what a node numbers itself is put in.
func TestExamplesWork(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	must(t, example(t, "keygen", 0)...)
	require.NoError(t, os.WriteFile("photo.jpg", []byte("photo"), 0o600))
	require.NoError(t, os.WriteFile("report.pdf", []byte("report"), 0o600))
	w := &tianjin{keys: "keys", dir: dir}
	w.start(t)
	t.Setenv("DUBAN_NODE", w.district.address)
	as := func(client string) { t.Setenv("DUBAN_IDENTITY", filepath.Join(w.keys, "clients", client)) }
	run := func(path string, n int, replace ...string) string {
		t.Helper()
		args := example(t, path, n)
		for i := range args {
			for k := 0; k < len(replace); k += 2 {
				if args[i] == replace[k] {
					args[i] = replace[k+1]
				}
			}
		}
		return must(t, args...)
	}

	as("operator-120116")
	run("agency register", 0)
	run("officer register", 0)
	run("officer register", 1)
	run("office register", 0)
	run("agency list", 0)
	as("agency-binhai-market")
	run("case open", 0)
	require.Regexp(t, `^already recorded: entry \d+ of journal [0-9a-f]{32} at 20`, run("case open", 0), "without a request id, too")
	run("case stage", 0)
	run("case evidence", 0)
	run("case stage", 1)
	run("case explain", 0)
	opening := decode[struct {
		Entry uint64 `json:"opening_entry"`
	}](t, must(t, append(example(t, "case show", 0), "--json")...)).Entry
	run("case correct", 0, "42", strconv.FormatUint(opening, 10))
	run("case decide-correction", 0)
	run("case list", 0)
	run("case list", 1)

	// One officer alone: an alert.
	must(t, "case", "stage", "2026-0017", "investigation", "--officer", "officer-1", "--handler", "officer-1", "--field", "certificate_shown=yes",
		"--document", "investigation_report=B-18")
	as("operator-120116")
	var list struct{ Alerts []alertJSON }
	eventually(t, func() bool {
		list = decode[struct{ Alerts []alertJSON }](t, must(t, append(example(t, "alert list", 0), "--json")...))
		return len(list.Alerts) == 1
	}, "an alert")
	run("alert list", 1)
	run("alert list", 2)
	id := list.Alerts[0].ID[:6]
	run("alert show", 0, "3fa9c2", id)
	run("alert handle", 0, "3fa9c2", id)
	run("alert dispute", 0, "3fa9c2", id)
	run("office register", 1)
	w.stop(t)

	// Keys later on.
	run("keygen", 1)
	for n := range 4 {
		run("keygen issue", n)
	}
	for n := range 2 {
		run("profile", n)
	}
}

// A command that only holds others shows how each of them is used.
func TestGroupsHaveExamples(t *testing.T) {
	for _, name := range []string{"case", "alert", "agency", "officer", "office"} {
		help := must(t, name, "--help")
		c, _, err := newRoot().Find([]string{name})
		require.NoError(t, err)
		for _, sub := range c.Commands() {
			require.Contains(t, help, "  duban "+name+" "+sub.Name()+" ", help)
		}
	}
}

// A profile says to people and programs what it asks for.
func TestProfileShow(t *testing.T) {
	out := must(t, "profile", "show")
	for _, want := range []string{
		"procedure penalty_general", "stage filing 立案", "document   filing_approval 立案审批表 (with the result filed", "field      cause 案由",
		"result     not_filed 不予立案 (with a reason, then closing)", "explained", "政府法制机构", "decision_late", "90d", "3wd (own choice)",
		"takes      the handler, the officers who acted, 1 attachment of evidence in the case",
	} {
		require.Contains(t, out, want)
	}
	data := decode[struct {
		Name       string
		Procedures []struct {
			Stages []struct {
				Name    string
				Require struct{ Documents []struct{ Name string } }
			}
		}
		Points  []struct{ Name, Limit string }
		Ladders []struct {
			Levels []struct{ Role, Limit string }
		}
	}](t, must(t, "profile", "show", "tianjin", "--json"))
	require.Equal(t, "tianjin", data.Name)
	require.NotEmpty(t, data.Procedures[0].Stages[0].Require.Documents[0].Name)
	require.Equal(t, "legal_unit", data.Ladders[0].Levels[0].Role)
	require.NotEmpty(t, data.Points[0].Limit)
	must(t, "profile", "show", "chicago")
	require.Contains(t, duban(t, "profile", "show", "none").stderr, "chicago, tianjin")
}
