package profile_test

import (
	"errors"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	"duban.internal/configs"
	"duban.internal/node/profile"
)

// small is a profile that has one of everything.
const small = `name: small
title: A small one
source: X = a text
roles:
  - {name: unit, title: U, of: agency}
  - {name: office, title: O, of: jurisdiction}
actions: [{name: explained, title: E}]
subjects: [{name: why, title: W, article: X1}]
corrections: {role: office, article: X2}
procedures:
  - name: plain
    title: P
    act: penalty
    article: X3
    separate: [[doing, judging]]
    stages:
      - {name: begin, title: B, article: X4, first: true, hand: doing}
      - name: judge
        title: J
        article: X5
        after: [begin]
        needs: [begin]
        hand: judging
        results:
          - {name: agree, title: A, next: finish}
          - {name: disagree, title: D, reason: true, next: finish}
        require:
          fields: [{name: on, title: T, type: date}]
          documents: [{name: paper, title: T, with: [agree]}]
      - {name: finish, title: F, article: X6, after: [judge], needs: [judge/agree], closes: true}
points:
  - name: slow
    title: S
    article: X7
    grade: red
    start: {on: stage, acts: [penalty], stages: [begin]}
    end: [{on: explanation, subjects: [why]}]
    limit: 3wd
    judged: timer
    warn: 1wd
    warn_article: X8
    text: "{case} {stage} {limit} {due}"
ladders:
  - tier: street
    article: X9
    levels:
      - {role: unit, at: street, limit: 3wd, own_choice: true}
      - {role: office, at: district, limit: 3wd, article: X10}
nodes:
  - name: away
    title: A
    article: X11
    grade: red
    on: silent
    text: "{node} {since}"
    ladders:
      - {tier: district, article: X12, levels: [{role: office, at: city, limit: 1wd, article: X12}]}
`

func parse(t *testing.T, content string) (*profile.Profile, error) {
	t.Helper()
	return profile.Parse([]profile.File{{Path: "p.yaml", Content: []byte(content)}})
}

func TestProblems(t *testing.T) {
	_, err := parse(t, small)
	require.NoError(t, err)
	for name, tc := range map[string]struct{ old, new, want string }{
		"unknown key":             {"of: agency", "off: agency", `p.yaml:5: roles[unit].off: unknown key; allowed here are name, title, of`},
		"unknown body":            {"of: agency", "of: planet", `p.yaml:5: roles[unit].of: "planet" is not known; allowed are agency, jurisdiction`},
		"not a list":              {"actions: [{name: explained, title: E}]", "actions: explained", `p.yaml:7: actions: want a list`},
		"not text":                {"title: A small one", "title: [a]", `p.yaml:2: title: want text`},
		"quoted truth":            {"title: A small one", "title: true", `p.yaml:2: title: want text; put true in quotes`},
		"empty":                   {"title: A small one", `title: ""`, `p.yaml:2: title: empty; leave the key out`},
		"not a truth":             {"first: true", "first: yes", `p.yaml:17: procedures[plain].stages[begin].first: want true or false`},
		"missing title":           {"title: A small one\n", "", `title: missing`},
		"duplicate role":          {"{name: office, title: O", "{name: unit, title: O", `p.yaml:6: roles[unit].name: unit is there twice`},
		"bad name":                {"{name: explained", "{name: Explained", `"Explained": want a lower-case letter`},
		"unknown after":           {"after: [begin]", "after: [start]", `p.yaml:21: procedures[plain].stages[judge].after[0]: stage "start" is not known; there are begin, judge, finish`},
		"unknown need":            {"needs: [begin]", "needs: [start]", `p.yaml:22: procedures[plain].stages[judge].needs: stage "start" is not known`},
		"unknown need's result":   {"needs: [judge/agree]", "needs: [judge/yes]", `judge has no result "yes"`},
		"unknown next":            {"next: finish}\n          - {name: dis", "next: start}\n          - {name: dis", `p.yaml:25: procedures[plain].stages[judge].results[agree].next: stage "start" is not known`},
		"next that cannot come":   {"next: finish}\n          - {name: dis", "next: begin}\n          - {name: dis", `begin does not come after judge`},
		"unreachable":             {"after: [begin]", "after: [judge]", `procedures[plain].stages[judge]: no way leads to it`},
		"dead end":                {"after: [judge], needs", "needs", `procedures[plain].stages[judge]: nothing can follow it`},
		"no beginning":            {"first: true, ", "", `no stage is the first`},
		"no end":                  {", closes: true", "", `no stage closes`},
		"unknown hand":            {"separate: [[doing, judging]]", "separate: [[doing, other]]", `p.yaml:15: procedures[plain].separate[0]: no stage is in the hand "other"`},
		"unknown type":            {"type: date", "type: day", `p.yaml:28: procedures[plain].stages[judge].require.fields[on].type: "day" is not known`},
		"unknown with":            {"with: [agree]", "with: [yes]", `there is no result "yes"`},
		"unit":                    {"limit: 3wd\n    judged", "limit: 3 weeks\n    judged", `p.yaml:38: points[slow].limit: limit "3 weeks": want a number and a unit`},
		"point without article":   {"    article: X7\n", "", `p.yaml:32: points[slow].article: missing`},
		"timer without end":       {"    end: [{on: explanation, subjects: [why]}]\n", "", `points[slow].end: missing`},
		"timer without limit":     {"    limit: 3wd\n    judged", "    judged", `points[slow].judged: without a limit the point fires at once`},
		"unknown judged":          {"judged: timer", "judged: guess", `points[slow].judged: "guess" is not known; allowed are timer, arrival`},
		"unknown stage":           {"stages: [begin]}", "stages: [start]}", `p.yaml:36: points[slow].start.stages[0]: no procedure has the stage "start"`},
		"unknown act":             {"acts: [penalty]", "acts: [building]", `no procedure is of the act "building"`},
		"unknown subject":         {"subjects: [why]", "subjects: [how]", `there is no subject "how"`},
		"unknown event":           {"start: {on: stage", "start: {on: moon", `p.yaml:36: points[slow].start.on: "moon" is not known`},
		"unknown blank":           {`"{case} {stage}`, `"{who} {stage}`, `points[slow].text: {who} cannot be filled in`},
		"warn without source":     {"    warn_article: X8\n", "", `points[slow].warn_article: missing`},
		"unknown grade":           {"grade: red", "grade: blue", `points[slow].grade: "blue" is not known`},
		"unknown tier":            {"tier: street", "tier: county", `p.yaml:44: ladders[county].tier: "county" is not known; allowed are city, district, street`},
		"hole":                    {"role: office, at: district", "at: district", `p.yaml:48: ladders[street].levels[1].role: missing: a ladder has no hole; level 2 needs a receiver`},
		"unknown role":            {"role: office, at", "role: bureau, at", `role "bureau" is not known; there are unit, office`},
		"level going down":        {"role: office, at: district, limit: 3wd, article: X10}", "role: office, at: district, limit: 3wd, article: X10}\n      - {role: office, at: street, limit: 1wd, article: X}", `street is below district`},
		"unit elsewhere":          {"role: unit, at: street", "role: unit, at: city", `unit belongs to the acting agency: want street`},
		"no limit":                {"at: district, limit: 3wd", "at: district", `ladders[street].levels[1].limit: missing`},
		"neither article nor own": {", article: X10", "", `ladders[street].levels[1]: want either the article that states the limit or own_choice: true`},
		"article and own":         {"own_choice: true}", "own_choice: true, article: X}", `ladders[street].levels[0]: want either`},
		"a node's event":          {"on: silent", "on: fire", `p.yaml:54: nodes[away].on: "fire" is not known; allowed are silent, stopped, refused`},
		"a node's text":           {"{node} {since}", "{node} {case}", `nodes[away].text: {case} cannot be filled in; allowed are {node}, {since}`},
		"a node as a case":        {"name: away", "name: slow", `nodes[slow].name: slow is the name of a point about cases as well`},
		"a node's own level":      {"at: city, limit: 1wd", "at: district, limit: 1wd", `nodes[away].ladders[district].levels[0].at: district is the node's own tier: who handles it is above it`},
		"nobody for a node":       {"    ladders:\n      - {tier: district, article: X12, levels: [{role: office, at: city, limit: 1wd, article: X12}]}\n", "", `nodes[away].ladders: missing: who handles it`},
		"watched twice":           {"nodes:\n", "nodes:\n  - {name: gone, title: G, article: X, grade: red, on: silent, text: t, ladders: [{tier: street, article: X, levels: [{role: office, at: city, limit: 1d, article: X}]}]}\n", `silent is watched by gone already`},
		"no action":               {"actions: [{name: explained, title: E}]\n", "", `actions: missing`},
		"alias":                   {"title: A small one", "title: &a A", `want text`},
		"syntax":                  {"roles:", "roles: [", `p.yaml:`},
		"second document":         {"source: X = a text", "source: X\n---\nname: two", `a second document`},
		"given twice":             {"title: A small one", "title: A\ntitle: B", `already defined`},
	} {
		t.Run(name, func(t *testing.T) {
			content := strings.Replace(small, tc.old, tc.new, 1)
			require.NotEqual(t, small, content, "the test changes something")
			p, err := parse(t, content)
			require.ErrorContains(t, err, tc.want)
			require.Nil(t, p)
			var problems profile.Problems
			require.True(t, errors.As(err, &problems))
		})
	}
}

func TestEveryProblemAtOnce(t *testing.T) {
	_, err := parse(t, strings.NewReplacer("of: agency", "off: agency", "first: true", "first: yes", "limit: 3wd\n", "limit: 3 weeks\n").Replace(small))
	var problems profile.Problems
	require.ErrorAs(t, err, &problems)
	require.Len(t, problems, 3)
	require.Equal(t, []int{5, 17, 38}, []int{problems[0].Line, problems[1].Line, problems[2].Line})
}

func TestFilesAreMerged(t *testing.T) {
	cut := strings.Index(small, "points:")
	files := []profile.File{{Path: "b.yaml", Content: []byte(small[cut:])}, {Path: "a.yaml", Content: []byte(small[:cut])}}
	p, err := profile.Parse(files)
	require.NoError(t, err)
	require.NotNil(t, p.Point("slow"))
	require.Equal(t, "a.yaml", p.Files()[0].Path)

	again, err := profile.Parse([]profile.File{files[1], files[0]})
	require.NoError(t, err)
	require.Equal(t, p.Hash(), again.Hash(), "whatever the order")
	whole, err := parse(t, small)
	require.NoError(t, err)
	require.NotEqual(t, p.Hash(), whole.Hash(), "other files, other address")

	twice := append(files, profile.File{Path: "c.yaml", Content: []byte("name: other\nactions: [{name: explained, title: E}]\n")})
	_, err = profile.Parse(twice)
	require.ErrorContains(t, err, "c.yaml:1: name: given before, at a.yaml:1")
	_, err = profile.Parse(append(files, profile.File{Path: "c.yaml", Content: []byte("actions: [{name: explained, title: E}]\n")}))
	require.ErrorContains(t, err, "c.yaml:1: actions[explained].name: explained is there twice")
	_, err = profile.Parse(append(files, files[0]))
	require.ErrorContains(t, err, `path "b.yaml" is there twice`)
}

func TestLoad(t *testing.T) {
	fsys := fstest.MapFS{"x/small/p.yaml": {Data: []byte(small)}, "x/small/README": {Data: []byte("not read")}}
	p, err := profile.Load(fsys, "x/small")
	require.NoError(t, err)
	same, err := parse(t, small)
	require.NoError(t, err)
	require.Equal(t, same.Hash(), p.Hash(), "where it was read from does not matter")
	_, err = profile.Load(fsys, "x/none")
	require.ErrorContains(t, err, "no .yaml file there")
}

func TestBounds(t *testing.T) {
	for name, tc := range map[string]struct{ content, want string }{
		"a long line":       {"name: " + strings.Repeat("x", 2000), "p.yaml:1: 2006 bytes in one line, at most 600"},
		"a large file":      {strings.Repeat("# comment\n", 30_000), "at most 131072 are allowed"},
		"deep brackets":     {strings.Repeat("[\n", 1000), "more than 8 brackets and braces are open"},
		"not UTF-8":         {"name: \xff", "not UTF-8"},
		"a zero byte":       {"name: \x00", "a zero byte"},
		"nothing":           {"# only a comment\n", "name: missing"},
		"no path":           {"", "name: missing"},
		"not a mapping":     {"- a\n", "want keys and values"},
		"deep blocks":       {strings.Repeat("- ", 250) + "a", "want keys and values"},
		"a number as a key": {"1: a\n", "unknown key"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := parse(t, tc.content)
			require.ErrorContains(t, err, tc.want)
		})
	}
	_, err := profile.Parse(nil)
	require.ErrorContains(t, err, "0 files")
	_, err = profile.Parse([]profile.File{{Path: "../p.yaml"}})
	require.ErrorContains(t, err, "want a slash-separated path")
}

func TestLookups(t *testing.T) {
	p, err := parse(t, small)
	require.NoError(t, err)
	pr := p.Procedure("plain")
	require.Equal(t, "J", pr.Stage("judge").Title)
	require.Equal(t, "D", pr.Stage("judge").Result("disagree").Title)
	require.Equal(t, "date", pr.Stage("judge").Field("on").Type)
	require.NotNil(t, pr.Stage("judge").Document("paper"))
	require.Equal(t, "O", p.Role("office").Title)
	require.Equal(t, "E", p.Action("explained").Title)
	require.Equal(t, "W", p.Subject("why").Title)
	require.Len(t, p.Ladder("street").Levels, 2)
	require.Nil(t, p.Procedure("none"))
	require.Nil(t, pr.Stage("none"))
	require.Nil(t, p.Ladder("city"))
	require.Equal(t, profile.Problem{File: "p.yaml", Line: 36, Field: "points[slow].start.when", Text: "here"},
		p.Problem("points[0].start.when", "%s", "here"))
}

// TestShippedProfiles: what ships can be read, and read again from the files that an entry carries.
func TestShippedProfiles(t *testing.T) {
	for _, name := range []string{"tianjin", "chicago"} {
		p, err := profile.Load(configs.FS, "profiles/"+name)
		require.NoError(t, err)
		require.Equal(t, name, p.Name)
		again, err := profile.Parse(p.Files())
		require.NoError(t, err)
		require.Equal(t, p.Hash(), again.Hash())
		require.Equal(t, p.Procedures, again.Procedures)
		require.Equal(t, p.Points, again.Points)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(small))
	f.Add([]byte("a: &x [*x]\n"))
	f.Add([]byte("? - {}\n: !!binary x\n"))
	f.Add([]byte("a: |\n  b\n<<: {a: .nan}\n"))
	f.Fuzz(func(t *testing.T, content []byte) {
		p, err := profile.Parse([]profile.File{{Path: "p.yaml", Content: content}})
		if err != nil {
			require.NotEmpty(t, err.Error())
			require.Nil(t, p)
			return
		}
		again, err := profile.Parse(p.Files())
		require.NoError(t, err)
		require.Equal(t, p.Hash(), again.Hash())
	})
}

// A point about nodes has ladders of its own; any other has the profile's.
func TestLadderOf(t *testing.T) {
	p, err := parse(t, small)
	require.NoError(t, err)
	require.Equal(t, "away", p.NodePoint("silent").Name)
	require.Nil(t, p.NodePoint("stopped"))
	require.Equal(t, "city", p.LadderOf("away", "district").Levels[0].At)
	require.Nil(t, p.LadderOf("away", "street"))
	require.Same(t, p.Ladder("street"), p.LadderOf("slow", "street"))
}
