package rule_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"duban.internal/configs"
	"duban.internal/escalation/rule"
	"duban.internal/node/profile"
	dubanv1 "duban.internal/proto/duban/v1"
)

// with is Tianjin's profile and one more point whose condition is when.
func with(t testing.TB, on, when string) (*rule.Set, error) {
	t.Helper()
	p, err := profile.Load(configs.FS, "profiles/tianjin")
	require.NoError(t, err)
	more := fmt.Sprintf(`points:
  - name: more
    title: M
    article: X
    grade: yellow
    text: "{case}"
    start:
      on: %s
      when: >-
        %s
`, on, when)
	p, err = profile.Parse(append(p.Files(), profile.File{Path: "z.yaml", Content: []byte(more)}))
	require.NoError(t, err)
	return rule.Compile(p)
}

func TestCompileSaysWhatIsWrong(t *testing.T) {
	for when, want := range map[string]string{
		`stage.nam == 'filing'`:                             "z.yaml:9: points[more].start.when: at character 1: undeclared reference to 'stage' (in container ''); what may be asked is case.act,",
		`stage.name = 'filing'`:                             "z.yaml:9: points[more].start.when: at character 12: Syntax error",
		`size(stage.officers) < '2'`:                        "no matching overload",
		`stage.name`:                                        "gives string, want true or false",
		`stage.name == 'fling'`:                             `stage.name is never "fling"; there are inspection, outcome, closing, acceptance`,
		`stage.result in ['filed', 'field']`:                `stage.result is never "field"`,
		`'nobody' == case.source`:                           `case.source is never "nobody"; there are plan, random`,
		`case.act != 'building'`:                            `case.act is never "building"; there are inspection, penalty`,
		`stage.fields.get('caus') == ''`:                    `stage.fields is never "caus"; there are basis, inspected_on`,
		`case.fields.get('adres') == ''`:                    `case.fields is never "adres"; there are address`,
		`stage.fields.cause == 'x'`:                         "ask for a field with stage.fields.get('name')",
		`stage.fields['cause'] == 'x'`:                      "ask for a field with stage.fields.get('name')",
		`explanation.text == ''`:                            "undeclared reference",
		`now() > event.recorded`:                            "undeclared reference to 'now'",
		strings.Repeat("(", 200) + strings.Repeat(")", 200): "z.yaml:9: points[more].start.when",
		`stage.officers.all(a, stage.officers.all(b, stage.officers.all(c, stage.officers.all(d, a != b || c != d))))`: "at most 200000 is allowed",
		`matches(stage.reason, 'x{1,200}')`: "regular expressions are not allowed",
		`stage.reason.matches('x{1,200}')`:  "regular expressions are not allowed",
	} {
		_, err := with(t, "stage", when)
		require.ErrorContains(t, err, want, when)
		var problems profile.Problems
		require.ErrorAs(t, err, &problems)
	}
}

func TestEveryProblemIsSaidAtOnce(t *testing.T) {
	_, err := with(t, "stage", `stage.name == 'a' || stage.result == 'b' || stage.fields.get('c') == 'd'`)
	var problems profile.Problems
	require.ErrorAs(t, err, &problems)
	require.Len(t, problems, 3)
}

func TestConditionsSeeWhatTheirEventBrings(t *testing.T) {
	c := street
	c.Item, c.Source, c.Fields = "item1", "patrol", map[string]string{"address": "here"}
	for on, tc := range map[string]struct {
		when  string
		event rule.Event
	}{
		"case": {`opening.party_kind == 'citizen' && opening.summary.contains('stall') && opening.number + opening.handler + opening.party_name == 'no1o1name'
          && case.item == 'item1' && case.fields.get('address') == 'here' && case.source == 'patrol' && case.id == '2026-17' && case.agency == 'a1'
          && case.tier == 'street' && case.procedure == 'penalty_general'`,
			rule.Event{Payload: &dubanv1.CaseOpened{Number: "no1", Handler: "o1", Summary: "a stall", Party: &dubanv1.Party{Kind: "citizen", Name: "name"}}}},
		"stage": {`stage.name == 'filing' && 'filing_approval' in stage.documents && 'o1' in stage.officers && stage.handler == 'o2'
          && stage.late_reason == 'storm' && event.recorded - stage.completed > duration('1h') && event.occurred == stage.completed`,
			rule.Event{OccurredAt: 5, RecordedAt: 3_600_000_006, Payload: &dubanv1.StageRecorded{Stage: "filing", CompletedUs: 5, Handler: "o2",
				LateReason: "storm", Officers: []string{"o1"}, Documents: []*dubanv1.Document{{Name: "filing_approval"}}}}},
		"evidence": {`evidence.size > 10 && evidence.name.endsWith('.jpg') && evidence.media_type == 'image/jpeg' && evidence.stage == ''`,
			rule.Event{Payload: &dubanv1.EvidenceAttached{Size: 11, Name: "a.jpg", MediaType: "image/jpeg"}}},
		"explanation": {`explanation.subject == 'other' && explanation.stage == 'filing' && explanation.officer == 'o1' && size(explanation.text) < 5`,
			rule.Event{Payload: &dubanv1.ExplanationGiven{Subject: "other", Stage: "filing", Officer: "o1", Text: "so"}}},
		"correction": {`correction.decided && !correction.approved && correction.id == 'c1' && correction.reason == 'no'`,
			rule.Event{Payload: &dubanv1.CorrectionDecided{CorrectionId: "c1", Reason: "no"}}},
	} {
		set, err := with(t, on, tc.when)
		require.NoError(t, err, on)
		out, err := set.Step(calendar(t), c, tc.event)
		require.NoError(t, err, on)
		require.Contains(t, fired(out), "more", on)

		c := c
		c.ID = "other"
		set, err = with(t, on, "case.id == '2026-17' && "+strings.TrimSpace(tc.when))
		require.NoError(t, err, on)
		out, err = set.Step(calendar(t), c, tc.event)
		require.NoError(t, err, on)
		require.NotContains(t, fired(out), "more", on)
	}
}

// A condition that fails on a record is said, and hides nothing else.
func TestConditionThatFails(t *testing.T) {
	set, err := with(t, "stage", `int(stage.fields.get('fine')) > 10`)
	require.NoError(t, err)
	e := stage(t, "investigation", "", "2026-03-02 10:00:00", "2026-03-02 10:00:00", "o1")
	out, err := set.Step(calendar(t), street, e)
	require.ErrorContains(t, err, "rule: entry 7: points[more].start:")
	require.Equal(t, []string{"too_few_officers"}, fired(out))
}

func TestRecordBeyondBounds(t *testing.T) {
	e := stage(t, "investigation", "", "2026-03-02 10:00:00", "2026-03-02 10:00:00", make([]string, 65)...)
	_, err := tianjin(t).Step(calendar(t), street, e)
	require.ErrorContains(t, err, "points[too_few_officers].start: the record is larger than any gate lets pass")
}

func TestShippedProfilesCompile(t *testing.T) {
	for _, name := range []string{"tianjin", "chicago"} {
		p, err := profile.Load(configs.FS, "profiles/"+name)
		require.NoError(t, err)
		_, err = rule.Compile(p)
		require.NoError(t, err)
	}
}
