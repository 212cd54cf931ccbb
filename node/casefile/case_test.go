package casefile_test

import (
	"crypto/sha256"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"duban.internal/configs"
	"duban.internal/node/casefile"
	"duban.internal/node/fault"
	"duban.internal/node/profile"
	dubanv1 "duban.internal/proto/duban/v1"
)

var (
	morning = time.Date(2026, 3, 2, 1, 0, 0, 0, time.UTC)
	bytes   = sha256.Sum256([]byte("scanned"))
)

func load(t testing.TB, name string) *profile.Profile {
	t.Helper()
	p, err := profile.Load(configs.FS, "profiles/"+name)
	require.NoError(t, err)
	return p
}

// facts: officers o1 to o9 of agency a1, o8 of another, o9's certificate ended; everything uploaded has the hash of bytes.
func facts() casefile.Facts {
	return casefile.Facts{
		Agency: &dubanv1.Agency{Id: "a1", Items: []string{"item1"}},
		Officer: func(id string) *dubanv1.Officer {
			o := &dubanv1.Officer{Id: id, Agency: "a1", Certificate: "c-" + id}
			switch id {
			case "o1", "o2", "o3", "o4", "o5":
			case "o8":
				o.Agency = "a2"
			case "o9":
				o.ValidFromUs, o.ValidUntilUs = morning.AddDate(-2, 0, 0).UnixMicro(), morning.AddDate(0, 0, -1).UnixMicro()
			default:
				return nil
			}
			return o
		},
		Uploaded: func(sha []byte) bool { return string(sha) == string(bytes[:]) },
	}
}

func opening() *dubanv1.CaseOpened {
	return &dubanv1.CaseOpened{
		CaseId: "2026-1", Number: "津执罚〔2026〕1号", Agency: "a1", Item: "item1", Procedure: "penalty_general", Source: "patrol",
		Party: &dubanv1.Party{Name: "某公司", Kind: "organisation"}, Summary: "占道经营", Handler: "o1",
	}
}

// record is one step of a walk: a stage with its result, or evidence.
type record struct {
	stage, result, reason string
	fields                map[string]string
}

// stageOf makes a stage that brings everything that the profile asks for.
func stageOf(p *profile.Profile, procedure string, r record, completed time.Time) *dubanv1.StageRecorded {
	def := p.Procedure(procedure).Stage(r.stage)
	s := &dubanv1.StageRecorded{CaseId: "2026-1", Stage: r.stage, CompletedUs: completed.UnixMicro(), Handler: "o1", Fields: map[string]string{}}
	if r.result != "" {
		s.Opinion = &dubanv1.Opinion{Result: r.result, Reason: r.reason}
	}
	switch def.Hand {
	case "review":
		s.Handler = "o3"
	case "decision":
		s.Handler = "o4"
	case "hearing":
		s.Handler = "o5"
	default:
		s.Officers = []string{"o1", "o2"}
	}
	for _, d := range def.Require.Documents {
		if len(d.With) == 0 || slices.Contains(d.With, r.result) {
			doc := &dubanv1.Document{Name: d.Name, Code: "no-" + d.Name}
			if d.Attach {
				doc.Sha256 = bytes[:]
			}
			s.Documents = append(s.Documents, doc)
		}
	}
	values := map[string]string{"text": "文字", "date": "2026-03-02", "number": "2000", "yesno": "no"}
	for _, f := range def.Require.Fields {
		if !f.Optional && (len(f.With) == 0 || slices.Contains(f.With, r.result)) {
			s.Fields[f.Name] = values[f.Type]
			if len(f.Values) > 0 {
				s.Fields[f.Name] = f.Values[0]
			}
		}
	}
	maps.Copy(s.Fields, r.fields)
	return s
}

// walk records steps one hour after the other and checks that each is let through.
func walk(t *testing.T, p *profile.Profile, opened *dubanv1.CaseOpened, steps ...record) (*casefile.State, time.Time) {
	t.Helper()
	st := &casefile.State{}
	now := morning
	require.Empty(t, casefile.CheckOpen(p, opened, now.UnixMicro(), facts(), now))
	st.Apply(1, now.UnixMicro(), opened)
	for i, r := range steps {
		now = now.Add(time.Hour)
		number := uint64(i + 2)
		if r.stage == "evidence" {
			e := &dubanv1.EvidenceAttached{CaseId: "2026-1", Sha256: bytes[:], Size: 7, Name: "photo.jpg"}
			require.Empty(t, casefile.CheckEvidence(p, st, e, facts()))
			st.Apply(number, now.UnixMicro(), e)
			continue
		}
		s := stageOf(p, opened.Procedure, r, now)
		require.Empty(t, casefile.CheckStage(p, st, s, facts(), now), "step %d, %s", i, r.stage)
		st.Apply(number, now.UnixMicro(), s)
	}
	return st, now
}

var toDecision = []record{
	{stage: "filing", result: "filed"}, {stage: "evidence"}, {stage: "investigation"}, {stage: "legal_review", result: "agree"},
	{stage: "notice", result: "hearing_right"}, {stage: "statement", result: "heard"},
}

func after(more ...record) []record { return append(slices.Clone(toDecision), more...) }

func TestLawfulCases(t *testing.T) {
	p := load(t, "tianjin")
	for name, steps := range map[string][]record{
		"punished": after(record{stage: "decision", result: "penalty"}, record{stage: "service"},
			record{stage: "execution", result: "incomplete"}, record{stage: "execution", result: "complete"},
			record{stage: "closing", result: "executed"}),
		"a hearing, and a second review after it": append(slices.Clone(toDecision[:5]),
			record{stage: "statement", result: "hearing_asked"}, record{stage: "hearing", result: "held"},
			record{stage: "legal_review", result: "agree"}, record{stage: "decision", result: "penalty"}),
		"sent back by the review": append(slices.Clone(toDecision[:3]),
			record{stage: "legal_review", result: "disagree", reason: "facts are unclear"}, record{stage: "investigation"},
			record{stage: "legal_review", result: "agree"}),
		"not punished": append(slices.Clone(toDecision[:4]), record{stage: "decision", result: "no_penalty"},
			record{stage: "service"}, record{stage: "closing", result: "no_penalty"}),
		"transferred": append(slices.Clone(toDecision[:4]), record{stage: "decision", result: "transfer"},
			record{stage: "closing", result: "transferred"}),
		"withdrawn": append(slices.Clone(toDecision[:3]), record{stage: "withdrawal", result: "withdrawn"},
			record{stage: "closing", result: "withdrawn"}),
		"not filed": {{stage: "acceptance", result: "accepted"}, {stage: "filing", result: "not_filed", reason: "no violation"},
			{stage: "closing", result: "not_filed"}},
		"not accepted": {{stage: "acceptance", result: "not_accepted", reason: "not ours"}, {stage: "closing", result: "not_accepted"}},
	} {
		t.Run(name, func(t *testing.T) {
			st, _ := walk(t, p, opening(), steps...)
			last := steps[len(steps)-1].stage
			require.Equal(t, last == "closing", st.Closed(p.Procedure(st.Procedure)))
			require.Equal(t, last, st.Stages[len(st.Stages)-1].Stage)
		})
	}
	inspection := opening()
	inspection.Procedure, inspection.Source = "inspection", "random"
	walk(t, p, inspection, record{stage: "inspection"}, record{stage: "outcome", result: "mend"},
		record{stage: "outcome", result: "no_problem"}, record{stage: "closing"})
}

func TestHistoryNeedsNoOfficers(t *testing.T) {
	p := load(t, "chicago")
	f := facts()
	c := &dubanv1.CaseOpened{CaseId: "00-1", Number: "00-1", Agency: "a1", Procedure: "sanitation_complaint", Imported: true, Division: "900001001",
		Fields: map[string]string{"status": "Completed"}}
	require.Equal(t, []string{"case.imported"}, names(casefile.CheckOpen(p, c, 1, f, morning)))
	f.History = true
	require.Empty(t, casefile.CheckOpen(p, c, 1, f, morning))
	st := &casefile.State{}
	st.Apply(0, 1, c)
	s := &dubanv1.StageRecorded{CaseId: "00-1", Stage: "filing", CompletedUs: 1, Handler: "long gone"}
	require.Empty(t, casefile.CheckStage(p, st, s, f, morning))
}

func names(l fault.List) []string {
	var fields []string
	for _, f := range l {
		if !slices.Contains(fields, f.Field) {
			fields = append(fields, f.Field)
		}
	}
	return fields
}

// said joins a list for looking into it.
func said(l fault.List) string {
	var b strings.Builder
	for _, f := range l {
		b.WriteString(f.Field + ": " + f.Description + "\n")
	}
	return b.String()
}

func TestOpenSaysEverythingAtOnce(t *testing.T) {
	p := load(t, "tianjin")
	l := casefile.CheckOpen(p, &dubanv1.CaseOpened{Procedure: "penalty_general"}, 0, facts(), morning)
	require.Equal(t, []string{"case.case_id", "case.number", "occurred_us", "case.agency", "case.item", "case.summary", "case.source",
		"case.party.name", "case.party.kind", "case.handler"}, names(l))
	require.Contains(t, said(l), `case.source: "" is not a source (案源) of this procedure; there are patrol (巡查发现), report`)

	for want, change := range map[string]func(*dubanv1.CaseOpened){
		`case.case_id: "a/b": want 1 to 64 letters`:                             func(c *dubanv1.CaseOpened) { c.CaseId = "a/b" },
		`case.procedure: "none" is not a procedure of profile tianjin`:          func(c *dubanv1.CaseOpened) { c.Procedure = "none" },
		`case.agency: agency "a7" is not registered here`:                       func(c *dubanv1.CaseOpened) { c.Agency = "a7" },
		`case.item: item "x" (执法事项) is not one of agency a1's`:                  func(c *dubanv1.CaseOpened) { c.Item = "x" },
		`case.handler: officer "nobody" is not registered here`:                 func(c *dubanv1.CaseOpened) { c.Handler = "nobody" },
		`case.handler: officer o8 belongs to agency a2, not to a1`:              func(c *dubanv1.CaseOpened) { c.Handler = "o8" },
		`case.party.kind: "ship": want citizen or organisation`:                 func(c *dubanv1.CaseOpened) { c.Party.Kind = "ship" },
		`case.division: only imported history belongs to a division`:            func(c *dubanv1.CaseOpened) { c.Division = "120101001" },
		`case.imported: history is brought by the operator only`:                func(c *dubanv1.CaseOpened) { c.Imported = true },
		`case.fields.hue: no such field here; allowed are address`:              func(c *dubanv1.CaseOpened) { c.Fields = map[string]string{"hue": "red"} },
		`case.summary: 70000 bytes, at most 65536 are allowed`:                  func(c *dubanv1.CaseOpened) { c.Summary = strings.Repeat("x", 70000) },
		`the certificate "c-o9" (执法证件) of officer o9 is not valid at 2026-03-0`: func(c *dubanv1.CaseOpened) { c.Handler = "o9" },
	} {
		c := opening()
		change(c)
		require.Contains(t, said(casefile.CheckOpen(p, c, morning.UnixMicro(), facts(), morning)), want)
	}
	ahead := casefile.CheckOpen(p, opening(), morning.Add(time.Second).UnixMicro(), facts(), morning)
	require.Contains(t, said(ahead), "occurred_us: 2026-03-02T01:00:01Z is in the future; here it is 2026-03-02T01:00:00Z")
	f := facts()
	f.Ahead = time.Second
	require.Empty(t, casefile.CheckOpen(p, opening(), morning.Add(time.Second).UnixMicro(), f, morning))
}

func TestStageSaysEverythingAtOnce(t *testing.T) {
	p := load(t, "tianjin")
	st, now := walk(t, p, opening(), toDecision[0])
	l := casefile.CheckStage(p, st, &dubanv1.StageRecorded{CaseId: "2026-1", Stage: "investigation"}, facts(), now)
	require.Equal(t, []string{"stage.completed_us", "stage.officers", "stage.handler", "stage.documents",
		"stage.fields.certificate_shown", "stage.stage"}, names(l))
	require.Contains(t, said(l), "stage.documents: missing: investigation_report (调查终结报告, P57)")
	require.Contains(t, said(l), "stage.stage: investigation needs 1 attachment(s) of evidence (证据) in the case; there are 0")
	require.Contains(t, said(l), "stage.fields.certificate_shown: missing: certificate_shown (出示执法证件, P55, C4(3)); want yes or no")
}

func TestOrder(t *testing.T) {
	p := load(t, "tianjin")
	punished := after(record{stage: "decision", result: "penalty"}, record{stage: "service"}, record{stage: "execution", result: "complete"})
	for name, tc := range map[string]struct {
		before []record
		next   record
		want   string
	}{
		"the first":            {nil, record{stage: "decision", result: "penalty"}, "stage.stage: a case of penalty_general does not begin with decision; it may begin with acceptance (受理), filing (立案)"},
		"unknown":              {nil, record{stage: "filing", result: "filed"}, ""},
		"not after":            {toDecision[:3], record{stage: "notice", result: "hearing_right"}, "stage.stage: notice (处罚告知) does not follow investigation (调查取证); next may be investigation (调查取证), legal_review (法制审核), withdrawal (撤销立案)"},
		"not after the result": {[]record{{stage: "acceptance", result: "not_accepted", reason: "no"}}, record{stage: "filing", result: "filed"}, "filing (立案) does not follow acceptance (受理) with the result not_accepted; next may be closing (结案)"},
		"P62: without notice":  {toDecision[:4], record{stage: "decision", result: "penalty"}, "decision needs notice (处罚告知) on record before\nstage.stage: decision needs statement (陈述申辩) on record before"},
		"P58: disagreed":       {append(slices.Clone(toDecision[:3]), record{stage: "legal_review", result: "disagree", reason: "no"}), record{stage: "decision", result: "no_penalty"}, "decision needs legal_review (法制审核) on record before, with the result agree"},
		"no right to hearing":  {append(slices.Clone(toDecision[:4]), record{stage: "notice", result: "no_hearing_right"}), record{stage: "statement", result: "hearing_asked"}, "statement needs notice (处罚告知) on record before, with the result hearing_right"},
		"repeated":             {toDecision[:3], record{stage: "filing", result: "filed"}, "stage.stage: filing is on record already (entry 2) and does not repeat"},
		"closed":               {append(slices.Clone(punished), record{stage: "closing", result: "executed"}), record{stage: "execution", result: "complete"}, "stage.stage: the case is closed"},
		"closing for nothing":  {punished, record{stage: "closing", result: "no_penalty"}, "closing needs decision (处罚决定) on record before, with the result no_penalty"},
		"unexecuted":           {punished[:len(punished)-1], record{stage: "closing", result: "executed"}, "closing needs execution (执行) on record before"},
	} {
		t.Run(name, func(t *testing.T) {
			st, now := walk(t, p, opening(), tc.before...)
			now = now.Add(time.Hour)
			l := casefile.CheckStage(p, st, stageOf(p, "penalty_general", tc.next, now), facts(), now)
			if tc.want == "" {
				require.Empty(t, l)
			}
			require.Contains(t, said(l), tc.want)
		})
	}
}

func TestStageContent(t *testing.T) {
	p := load(t, "tianjin")
	for want, change := range map[string]func(*dubanv1.StageRecorded){
		`stage.stage: "picnic" is not a stage of penalty_general (行政处罚普通程序); there are acceptance (受理), filing`: func(s *dubanv1.StageRecorded) { s.Stage = "picnic" },
		`stage.case_id: "other" is not the case 2026-1`: func(s *dubanv1.StageRecorded) { s.CaseId = "other" },
		`stage.completed_us: 2026-03-02T06:59:59Z is before the stage before it, statement, was completed, at 2026-03-02T07:00:00Z`: func(s *dubanv1.StageRecorded) {
			s.CompletedUs = morning.Add(6*time.Hour - time.Second).UnixMicro()
		},
		`is before the case was opened, at 2026-03-02T01:00:00Z`:                                   func(s *dubanv1.StageRecorded) { s.CompletedUs = morning.Add(-time.Second).UnixMicro() },
		`stage.completed_us: 2026-03-02T09:00:00Z is in the future`:                                func(s *dubanv1.StageRecorded) { s.CompletedUs = morning.Add(8 * time.Hour).UnixMicro() },
		`stage.opinion.result: missing: the result of decision; want one of penalty (给予行政处罚)`:      func(s *dubanv1.StageRecorded) { s.Opinion = nil },
		`stage.opinion.result: "maybe" is not a result of decision; want one of penalty`:           func(s *dubanv1.StageRecorded) { s.Opinion.Result = "maybe" },
		`stage.handler: missing: the officer who is answerable for decision`:                       func(s *dubanv1.StageRecorded) { s.Handler = "" },
		`stage.handler: officer "ghost" is not registered here`:                                    func(s *dubanv1.StageRecorded) { s.Handler = "ghost" },
		`stage.officers[1]: officer "o5" is named twice`:                                           func(s *dubanv1.StageRecorded) { s.Officers = []string{"o5", "o5"} },
		`stage.officers[0]: the certificate "c-o9" (执法证件) of officer o9 is not valid at`:           func(s *dubanv1.StageRecorded) { s.Officers = []string{"o9"} },
		`stage.officers[0]: officer o8 belongs to agency a2`:                                       func(s *dubanv1.StageRecorded) { s.Officers = []string{"o8"} },
		`stage.officers: 65 officers, at most 64 are allowed`:                                      func(s *dubanv1.StageRecorded) { s.Officers = make([]string, 65) },
		`stage.handler: officer "o1" acted at filing (立案) in the hand of handling; decision is in`: func(s *dubanv1.StageRecorded) { s.Handler = "o1" },
		`stage.handler: officer "o3" acted at legal_review (法制审核) in the hand of review`:           func(s *dubanv1.StageRecorded) { s.Handler = "o3" },
		`stage.documents: missing: decision (行政处罚决定书, P59)`:                                        func(s *dubanv1.StageRecorded) { s.Documents = nil },
		`stage.documents[0].code: missing: the number of decision (行政处罚决定书)`:                       func(s *dubanv1.StageRecorded) { s.Documents[0].Code = "" },
		`stage.documents[0].sha256: missing: decision (行政处罚决定书) has to be uploaded`:                func(s *dubanv1.StageRecorded) { s.Documents[0].Sha256 = nil },
		`stage.documents[0].sha256: 3 bytes, want the 32 of a SHA-256`:                             func(s *dubanv1.StageRecorded) { s.Documents[0].Sha256 = []byte("abc") },
		`stage.documents[0].sha256: no such attachment here: upload decision (行政处罚决定书) first`:      func(s *dubanv1.StageRecorded) { s.Documents[0].Sha256 = make([]byte, 32) },
		`stage.documents[0].name: "poem" is not a document of decision; there are decision`:        func(s *dubanv1.StageRecorded) { s.Documents[0].Name = "poem" },
		`stage.fields.basis: missing: basis (处罚依据, P59); want text`:                                func(s *dubanv1.StageRecorded) { delete(s.Fields, "basis") },
		`stage.fields.decided_on: "yesterday" is not allowed for decided_on (处罚决定日期); want a date`: func(s *dubanv1.StageRecorded) { s.Fields["decided_on"] = "yesterday" },
		`stage.fields.fine: "NaN" is not allowed for fine (罚款金额); want a number`:                   func(s *dubanv1.StageRecorded) { s.Fields["fine"] = "NaN" },
		`stage.fields.rights_told: "maybe" is not allowed`:                                         func(s *dubanv1.StageRecorded) { s.Fields["rights_told"] = "maybe" },
		`stage.fields.weather: no such field here; allowed are decided_on, violation_type`:         func(s *dubanv1.StageRecorded) { s.Fields["weather"] = "fine" },
	} {
		t.Run(want, func(t *testing.T) {
			st, now := walk(t, p, opening(), toDecision...)
			s := stageOf(p, "penalty_general", record{stage: "decision", result: "penalty"}, now)
			require.Empty(t, casefile.CheckStage(p, st, s, facts(), now))
			change(s)
			require.Contains(t, said(casefile.CheckStage(p, st, s, facts(), now)), want)
		})
	}
	st, now := walk(t, p, opening(), toDecision[:3]...)
	review := stageOf(p, "penalty_general", record{stage: "legal_review", result: "disagree"}, now)
	require.Equal(t, "stage.opinion.reason: missing: the reason (理由) for disagree (审核未通过)\n", said(casefile.CheckStage(p, st, review, facts(), now)))
	served := stageOf(p, "penalty_general", record{stage: "service"}, now)
	served.Fields["service_method"] = "pigeon"
	require.Contains(t, said(casefile.CheckStage(p, st, served, facts(), now)), "want one of direct, left, electronic")
}

func TestEvidenceAndExplanation(t *testing.T) {
	p := load(t, "tianjin")
	st, now := walk(t, p, opening(), toDecision[0])
	l := casefile.CheckEvidence(p, st, &dubanv1.EvidenceAttached{CaseId: "x", Stage: "picnic", Sha256: []byte("short")}, facts())
	require.Equal(t, []string{"evidence.case_id", "evidence.stage", "evidence.sha256", "evidence.size", "evidence.name"}, names(l))
	l = casefile.CheckEvidence(p, st, &dubanv1.EvidenceAttached{CaseId: "2026-1", Sha256: make([]byte, 32), Size: 1, Name: "a"}, casefile.Facts{})
	require.Equal(t, "evidence.sha256: no such attachment here: upload it first\n", said(l))

	l = casefile.CheckExplanation(p, st, &dubanv1.ExplanationGiven{CaseId: "x", Stage: "picnic", Subject: "y"}, facts(), now)
	require.Equal(t, []string{"explanation.case_id", "explanation.stage", "explanation.subject", "explanation.text", "explanation.officer"}, names(l))
	require.Contains(t, said(l), "there are filing_withdrawn (撤销立案), cause_changed (变更案由)")
	require.Empty(t, casefile.CheckExplanation(p, st,
		&dubanv1.ExplanationGiven{CaseId: "2026-1", Stage: "filing", Subject: "cause_changed", Text: "new facts", Officer: "o1"}, facts(), now))

	closed, _ := walk(t, p, opening(), record{stage: "filing", result: "not_filed", reason: "no"}, record{stage: "closing", result: "not_filed"})
	l = casefile.CheckEvidence(p, closed, &dubanv1.EvidenceAttached{CaseId: "2026-1", Sha256: bytes[:], Size: 1, Name: "a"}, facts())
	require.Equal(t, []string{"evidence.case_id"}, names(l))
}

// T14: an application, approved by the legal office, that adds a version.
func TestCorrections(t *testing.T) {
	p := load(t, "tianjin")
	st, now := walk(t, p, opening(), toDecision...)
	target := stageOf(p, "penalty_general", toDecision[4], morning.Add(5*time.Hour)) // the notice, entry 6
	before := proto.Clone(target)
	apply := func(changes map[string]string) *dubanv1.CorrectionRequested {
		return &dubanv1.CorrectionRequested{CaseId: "2026-1", CorrectionId: "c1", Entry: 6, Changes: changes, Reason: "typo", Officer: "o1"}
	}
	check := func(changes map[string]string) string {
		return said(casefile.CheckCorrection(p, st, apply(changes), target, facts(), now))
	}
	require.Empty(t, check(map[string]string{
		"fields.notified_on": "2026-03-01", "completed_us": "2026-03-02T13:30:00+08:00", "documents[0].code": "告2", "officers": "o1",
		"opinion.reason": "told orally", "late_reason": "no network", "documents[0].sha256": "",
	}))
	for want, changes := range map[string]map[string]string{
		"correction.changes: missing: new values by field path":                                  nil,
		"correction.changes: nothing would change":                                               {"handler": "o1"},
		`correction.changes["case_id"]: cannot be corrected here; allowed are completed_us`:      {"case_id": "other"},
		`correction.changes["stage"]: cannot be corrected here`:                                  {"stage": "closing"},
		`correction.changes["documents[2].name"]: there are 1 documents; the next has`:           {"documents[2].name": "x"},
		`correction.changes["documents[0].sha256"]: want the 64 hexadecimal digits`:              {"documents[0].sha256": "xyz"},
		`correction.changes["completed_us"]: want a time such as`:                                {"completed_us": "noon"},
		`stage.completed_us: 2026-03-02T02:00:00Z is before the stage before it, legal_review`:   {"completed_us": "2026-03-02T02:00:00Z"},
		`stage.fields.notified_on: missing: notified_on (告知日期, P44)`:                             {"fields.notified_on": ""},
		`stage.fields.weather: no such field here`:                                               {"fields.weather": "fine"},
		`stage.opinion.result: "maybe" is not a result of notice`:                                {"opinion.result": "maybe"},
		`stage.handler: officer "o3" acted at legal_review (法制审核) in the hand of review; notice`: {"handler": "o3"},
		`stage.officers[0]: officer "ghost" is not registered here`:                              {"officers": "ghost, o2"},
	} {
		require.Contains(t, check(changes), want)
	}
	require.True(t, proto.Equal(before, target), "the record itself stays as it was")

	bare := &dubanv1.CorrectionRequested{CaseId: "x", CorrectionId: "a b", Entry: 99}
	require.Equal(t, []string{"correction.case_id", "correction.correction_id", "correction.reason", "correction.officer", "correction.entry"},
		names(casefile.CheckCorrection(p, st, bare, nil, facts(), now)))

	request := apply(map[string]string{"fields.notified_on": "2026-03-01"})
	st.Apply(9, now.UnixMicro(), request)
	l := casefile.CheckCorrection(p, st, request, target, facts(), now)
	require.Equal(t, []string{"correction.correction_id", "correction.entry"}, names(l), "the same id, and one is waiting")

	decide := func(id, role string, approved bool, reason string) string {
		return said(casefile.CheckCorrectionDecision(p, st,
			&dubanv1.CorrectionDecided{CaseId: "2026-1", CorrectionId: id, Approved: approved, Reason: reason, DecidedBy: "d1"}, role))
	}
	require.Empty(t, decide("c1", "legal_office", true, ""))
	require.Contains(t, decide("c1", "legal_unit", true, ""), "decision.decided_by: a correction is decided by legal_office (政府法制机构, T14), not by \"legal_unit\"")
	require.Contains(t, decide("c2", "legal_office", true, ""), `there is no application "c2" in this case`)
	require.Contains(t, decide("c1", "legal_office", false, ""), "decision.reason: missing: why it is not approved")
	st.Apply(10, now.UnixMicro(), &dubanv1.CorrectionDecided{CorrectionId: "c1", Approved: true})
	require.Contains(t, decide("c1", "legal_office", true, ""), "the application c1 was answered before")

	corrected, problems := casefile.Correct(target, request.Changes)
	require.Empty(t, problems)
	require.Equal(t, "2026-03-01", corrected.(*dubanv1.StageRecorded).Fields["notified_on"])
	changed := proto.Clone(corrected).(*dubanv1.StageRecorded)
	changed.Opinion.Result = "no_hearing_right"
	st.Corrected(6, changed)
	require.Equal(t, "no_hearing_right", st.Stages[4-1].Result)
}

func TestCorrectionsOfOtherRecords(t *testing.T) {
	p := load(t, "tianjin")
	st, now := walk(t, p, opening(), toDecision...)
	check := func(target proto.Message, path, value string) string {
		return said(casefile.CheckCorrection(p, st, &dubanv1.CorrectionRequested{CaseId: "2026-1", CorrectionId: "c1", Entry: 1, Reason: "typo",
			Officer: "o1", Changes: map[string]string{path: value}}, target, facts(), now))
	}
	require.Empty(t, check(opening(), "party.name", "某某公司"))
	require.Empty(t, check(opening(), "fields.address", "和平区"))
	require.Contains(t, check(opening(), "party.name", ""), "case.party.name: missing")
	require.Contains(t, check(opening(), "agency", "a2"), "cannot be corrected here; allowed are number, item")
	evidence := &dubanv1.EvidenceAttached{CaseId: "2026-1", Sha256: bytes[:], Size: 1, Name: "a"}
	require.Empty(t, check(evidence, "name", "b"))
	require.Contains(t, check(evidence, "sha256", "00"), "cannot be corrected here; allowed are stage, name, media_type")
	explanation := &dubanv1.ExplanationGiven{CaseId: "2026-1", Subject: "other", Text: "so", Officer: "o1"}
	require.Empty(t, check(explanation, "text", "so it was"))
	require.Contains(t, check(explanation, "subject", "weather"), "explanation.subject")
	require.Contains(t, check(&dubanv1.LevelHandled{}, "action", "x"), "a record of this kind is not corrected")
}

func TestNext(t *testing.T) {
	p := load(t, "tianjin")
	st, _ := walk(t, p, opening(), toDecision[:3]...)
	var got []string
	for _, s := range casefile.Next(p.Procedure(st.Procedure), st) {
		got = append(got, s.Name)
	}
	require.Equal(t, []string{"investigation", "legal_review", "withdrawal"}, got)
}

func BenchmarkCheckStage(b *testing.B) {
	p := load(b, "tianjin")
	st := &casefile.State{CaseID: "2026-1", Procedure: "penalty_general", Agency: "a1", Evidence: 1}
	for i, r := range toDecision {
		if r.stage != "evidence" {
			st.Apply(uint64(i), 0, stageOf(p, st.Procedure, r, morning))
		}
	}
	s := stageOf(p, st.Procedure, record{stage: "decision", result: "penalty"}, morning)
	f := facts()
	b.ReportAllocs()
	for range b.N {
		if l := casefile.CheckStage(p, st, s, f, morning); len(l) > 0 {
			b.Fatal(said(l))
		}
	}
}
