package rule_test

import (
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"duban.internal/configs"
	"duban.internal/escalation/rule"
	"duban.internal/node/profile"
	"duban.internal/node/workday"
	dubanv1 "duban.internal/proto/duban/v1"
)

var loadCalendar = sync.OnceValues(func() (*workday.Calendar, error) {
	content, err := configs.FS.ReadFile("calendars/cn-holidays.csv")
	if err != nil {
		return nil, err
	}
	return workday.Parse(content)
})

var loadTianjin = sync.OnceValues(func() (*rule.Set, error) {
	p, err := profile.Load(configs.FS, "profiles/tianjin")
	if err != nil {
		return nil, err
	}
	return rule.Compile(p)
})

func calendar(t testing.TB) *workday.Calendar {
	t.Helper()
	cal, err := loadCalendar()
	require.NoError(t, err)
	return cal
}

func tianjin(t testing.TB) *rule.Set {
	t.Helper()
	set, err := loadTianjin()
	require.NoError(t, err)
	return set
}

var shanghai = time.FixedZone("CST", 8*60*60)

// at is a local time in Tianjin, in microseconds.
func at(t testing.TB, local string) int64 {
	t.Helper()
	moment, err := time.ParseInLocation("2006-01-02 15:04:05", local, shanghai)
	require.NoError(t, err)
	return moment.UnixMicro()
}

var street = rule.Case{ID: "2026-17", Procedure: "penalty_general", Act: "penalty", Agency: "a1", Tier: "street"}

// stage is a stage of a case, completed and recorded at local times.
func stage(t testing.TB, name, result, completed, recorded string, officers ...string) rule.Event {
	s := &dubanv1.StageRecorded{CaseId: street.ID, Stage: name, CompletedUs: at(t, completed), Officers: officers}
	if result != "" {
		s.Opinion = &dubanv1.Opinion{Result: result}
	}
	return rule.Event{Number: 7, OccurredAt: s.CompletedUs, RecordedAt: at(t, recorded), Payload: s}
}

func step(t testing.TB, c rule.Case, e rule.Event) rule.Outcome {
	t.Helper()
	out, err := tianjin(t).Step(calendar(t), c, e)
	require.NoError(t, err)
	return out
}

func fired(o rule.Outcome) []string {
	names := []string{}
	for _, f := range o.Firings {
		names = append(names, f.Point.Name)
	}
	return names
}

// T16: a stage is collected at latest 1 working day after it; T15: an inspection 3.
func TestCollectedLate(t *testing.T) {
	inspected := street
	inspected.Procedure, inspected.Act = "inspection", "inspection"
	for name, tc := range map[string]struct {
		c                   rule.Case
		stage               string
		completed, recorded string
		want                []string
	}{
		"Friday before Spring Festival 2026 is Saturday 14, a working day: in time on it": {
			street, "service", "2026-02-13 10:00:00", "2026-02-14 23:59:59", []string{}},
		"and late at midnight": {
			street, "service", "2026-02-13 10:00:00", "2026-02-15 00:00:00", []string{"late_collection"}},
		"the day before the festival: in time until the end of the first working day after it": {
			street, "service", "2026-02-14 16:00:00", "2026-02-24 23:59:59", []string{}},
		"and late a second after": {
			street, "service", "2026-02-14 16:00:00", "2026-02-25 00:00:00", []string{"late_collection"}},
		"September 30 counts to October 8": {
			street, "service", "2026-09-30 17:00:00", "2026-10-08 23:59:59", []string{}},
		"and is late on the 9th": {
			street, "service", "2026-09-30 17:00:00", "2026-10-09 00:00:00", []string{"late_collection"}},
		"an inspection before the festival has three working days": {
			inspected, "inspection", "2026-02-14 09:00:00", "2026-02-26 23:59:59", []string{}},
		"and is late after them": {
			inspected, "inspection", "2026-02-14 09:00:00", "2026-02-27 00:00:00", []string{"late_inspection"}},
		"an inspection on September 30 is in time on October 10, a Saturday that is worked": {
			inspected, "inspection", "2026-09-30 09:00:00", "2026-10-10 23:59:59", []string{}},
		"and late on the Sunday": {
			inspected, "inspection", "2026-09-30 09:00:00", "2026-10-11 00:00:00", []string{"late_inspection"}},
		"a limit into the year that is not published never fires": {
			street, "service", "2026-12-31 10:00:00", "2027-01-20 10:00:00", []string{}},
	} {
		t.Run(name, func(t *testing.T) {
			e := stage(t, tc.stage, "", tc.completed, tc.recorded)
			out := step(t, tc.c, e)
			require.Equal(t, tc.want, fired(out))
			for _, f := range out.Firings {
				require.Equal(t, e.RecordedAt, f.At, "level 1 counts from the recording")
				require.Equal(t, e.Number, f.Trigger)
			}
		})
	}
}

func TestTextNamesTheLastMoment(t *testing.T) {
	out := step(t, street, stage(t, "service", "", "2026-02-14 16:00:00", "2026-02-25 09:30:00"))
	require.Len(t, out.Firings, 1)
	require.Equal(t, "2026-17: service 送达 was collected more than 1 working day after it was completed; the last moment was 2026-02-24 (归集超时)",
		out.Firings[0].Text)
}

// P60: a decision within 90 days of filing; a maximum on power, it does not roll over the festival.
func TestDecisionLate(t *testing.T) {
	out := step(t, street, stage(t, "filing", "filed", "2025-11-20 11:00:00", "2025-11-20 12:00:00"))
	require.Len(t, out.Starts, 1)
	s := out.Starts[0]
	require.Equal(t, "decision_late", s.Point.Name)
	require.Equal(t, at(t, "2025-11-20 11:00:00"), s.StartAt)
	require.Equal(t, at(t, "2026-02-19 00:00:00"), s.Due.At.UnixMicro(), "the end of February 18, amid the festival")
	require.Equal(t, at(t, "2026-02-09 00:00:00"), s.WarnAt, "10 days before")
	require.Contains(t, s.Text, "the last moment was 2026-02-18")
	require.Empty(t, out.Firings)

	require.Empty(t, step(t, street, stage(t, "filing", "not_filed", "2025-11-20 11:00:00", "2025-11-20 12:00:00")).Starts)
	otherwise := stage(t, "filing", "filed", "2025-11-20 11:00:00", "2025-11-20 12:00:00")
	otherwise.Payload.(*dubanv1.StageRecorded).Fields = map[string]string{"other_limit_basis": "a rule that says so"}
	require.Empty(t, step(t, street, otherwise).Starts, "a law, regulation or rule says otherwise")

	for _, end := range []string{"decision", "withdrawal", "closing"} {
		require.Contains(t, step(t, street, stage(t, end, "", "2026-02-18 23:00:00", "2026-02-18 23:30:00")).Ends, "decision_late")
	}
	require.NotContains(t, step(t, street, stage(t, "notice", "", "2026-02-18 23:00:00", "2026-02-18 23:30:00")).Ends, "decision_late")
}

// P61, P85: served within 7 working days of the decision.
func TestServiceLate(t *testing.T) {
	for completed, due := range map[string]string{
		"2026-02-10 15:00:00": "2026-02-27 00:00:00", // 11, 12, 13, 14, then 24, 25, 26
		"2026-09-28 15:00:00": "2026-10-14 00:00:00", // 29, 30, then 8, 9, 10 (worked), 12, 13
	} {
		out := step(t, street, stage(t, "decision", "penalty", completed, completed))
		require.Len(t, out.Starts, 1)
		require.Equal(t, "service_late", out.Starts[0].Point.Name)
		require.Equal(t, at(t, due), out.Starts[0].Due.At.UnixMicro())
		require.Less(t, out.Starts[0].WarnAt, at(t, due))
	}
	open := step(t, street, stage(t, "decision", "no_penalty", "2026-12-28 10:00:00", "2026-12-28 10:00:00"))
	require.Len(t, open.Starts, 1)
	require.True(t, open.Starts[0].Due.Open)
	require.Equal(t, 2027, open.Starts[0].Due.MissingYear)
	require.Zero(t, open.Starts[0].WarnAt)
	require.Empty(t, step(t, street, stage(t, "decision", "transfer", "2026-03-02 10:00:00", "2026-03-02 10:00:00")).Starts)
	require.Equal(t, []string{"service_late"}, step(t, street, stage(t, "service", "", "2026-03-02 10:00:00", "2026-03-02 10:00:00")).Ends)
}

// P42: two officers at least.
func TestTooFewOfficers(t *testing.T) {
	const day = "2026-03-02 10:00:00"
	require.Equal(t, []string{"too_few_officers"}, fired(step(t, street, stage(t, "investigation", "", day, day, "o1"))))
	require.Empty(t, fired(step(t, street, stage(t, "investigation", "", day, day, "o1", "o2"))))
	require.Empty(t, fired(step(t, street, stage(t, "filing", "filed", day, day, "o1"))))
}

// Z12, Z19: an anomaly has to be explained; the limit counts from the recording and ends with the explanation of it.
func TestUnexplained(t *testing.T) {
	const completed, recorded = "2026-02-10 10:00:00", "2026-02-11 10:00:00"
	for point, tc := range map[string]struct {
		stage, result, subject string
		fields                 map[string]string
	}{
		"withdrawal_unexplained":      {"withdrawal", "withdrawn", "filing_withdrawn", nil},
		"cause_change_unexplained":    {"decision", "transfer", "cause_changed", map[string]string{"cause_changed": "yes"}},
		"hearing_unexplained":         {"hearing", "not_held", "hearing_not_held", nil},
		"standard_change_unexplained": {"decision", "transfer", "standard_changed", map[string]string{"standard_changed": "yes"}},
		"off_standard_unexplained":    {"decision", "transfer", "off_standard", map[string]string{"off_standard": "yes"}},
		"execution_unexplained":       {"execution", "incomplete", "execution_incomplete", nil},
		"rights_unexplained":          {"decision", "transfer", "rights_untold", map[string]string{"rights_told": "no"}},
	} {
		t.Run(point, func(t *testing.T) {
			e := stage(t, tc.stage, tc.result, completed, recorded)
			s := e.Payload.(*dubanv1.StageRecorded)
			s.Fields = tc.fields
			out := step(t, street, e)
			require.Len(t, out.Starts, 1)
			require.Equal(t, point, out.Starts[0].Point.Name)
			require.Equal(t, at(t, recorded), out.Starts[0].StartAt)
			require.Equal(t, at(t, "2026-02-15 00:00:00"), out.Starts[0].Due.At.UnixMicro(), "12, 13, 14")
			require.Equal(t, at(t, "2026-02-14 00:00:00"), out.Starts[0].WarnAt)

			s.Opinion.Reason = "because of this"
			require.Empty(t, step(t, street, e).Starts, "with a reason there is nothing to explain")

			explain := func(subject string) []string {
				return step(t, street, rule.Event{Number: 8, OccurredAt: e.RecordedAt, RecordedAt: e.RecordedAt,
					Payload: &dubanv1.ExplanationGiven{Subject: subject, Text: "so it was"}}).Ends
			}
			require.Equal(t, []string{point}, explain(tc.subject))
			require.Empty(t, explain("other"))
		})
	}
	due := stage(t, "decision", "no_penalty", completed, recorded)
	due.Payload.(*dubanv1.StageRecorded).Fields = map[string]string{"transfer_due": "yes"}
	out := step(t, street, due)
	require.Equal(t, "transfer_unexplained", out.Starts[len(out.Starts)-1].Point.Name)
}

func TestHistoryOpensNothing(t *testing.T) {
	history := street
	history.Imported = true
	out := step(t, history, stage(t, "investigation", "", "2010-03-02 10:00:00", "2026-03-02 10:00:00"))
	require.Equal(t, rule.Outcome{}, out)
}

func TestOtherEntriesDoNothing(t *testing.T) {
	for _, payload := range []proto.Message{nil, &dubanv1.LevelHandled{}, &dubanv1.CaseOpened{}, &dubanv1.EvidenceAttached{},
		&dubanv1.CorrectionRequested{}, &dubanv1.CorrectionDecided{}, &dubanv1.StageRecorded{Stage: "nowhere"}} {
		out := step(t, street, rule.Event{OccurredAt: 1, RecordedAt: 1, Payload: payload})
		require.Equal(t, rule.Outcome{}, out)
	}
}

// T27: level 1 the agency's legal unit; level 2 the legal office of its own level, a street's its district's; level 3 the
// city's, only after a district.
func TestLadders(t *testing.T) {
	set, cal := tianjin(t), calendar(t)
	for tier, want := range map[string][]string{
		"street":   {"legal_unit street", "legal_office district", "legal_office city"},
		"district": {"legal_unit district", "legal_office district", "legal_office city"},
		"city":     {"legal_unit city", "legal_office city"},
	} {
		start := at(t, "2026-09-30 17:00:00")
		for i, level := range want {
			o, ok := set.LevelDue(cal, "late_collection", tier, i+1, start)
			require.True(t, ok)
			require.Equal(t, level, o.Level.Role+" "+o.Level.At)
			require.Equal(t, i+1, o.Number)
			require.Equal(t, i+1 == len(want), o.Last)
			require.Equal(t, start, o.StartAt)
			require.True(t, o.Level.Own, "T26 names no number")
		}
		first, _ := set.LevelDue(cal, "late_collection", tier, 1, start)
		require.Equal(t, at(t, "2026-10-11 00:00:00"), first.Due.At.UnixMicro(), "8, 9, and the worked Saturday 10")
		_, ok := set.LevelDue(cal, "late_collection", tier, len(want)+1, start)
		require.False(t, ok)
	}
	_, ok := set.LevelDue(cal, "late_collection", "county", 1, 0)
	require.False(t, ok)
	_, ok = set.LevelDue(cal, "late_collection", "city", 0, 0)
	require.False(t, ok)

	// A silent street is the district's to look after first.
	o, ok := set.LevelDue(cal, "node_silent", "street", 1, at(t, "2026-09-30 17:00:00"))
	require.True(t, ok)
	require.Equal(t, "legal_office district", o.Level.Role+" "+o.Level.At)
}

// BenchmarkCase steps the entries of a whole case: what an entry costs on average.
func BenchmarkCase(b *testing.B) {
	set, cal := tianjin(b), calendar(b)
	const day = "2026-03-02 10:00:00"
	decision := stage(b, "decision", "penalty", day, day)
	decision.Payload.(*dubanv1.StageRecorded).Fields = map[string]string{
		"cause_changed": "no", "standard_changed": "no", "off_standard": "no", "rights_told": "yes", "transfer_due": "no",
	}
	entries := []rule.Event{
		{Payload: &dubanv1.CaseOpened{}}, stage(b, "filing", "filed", day, day), {Payload: &dubanv1.EvidenceAttached{}},
		stage(b, "investigation", "", day, day, "o1", "o2"), stage(b, "legal_review", "agree", day, day),
		stage(b, "notice", "hearing_right", day, day), stage(b, "statement", "heard", day, day), decision,
		stage(b, "service", "", day, day), stage(b, "execution", "complete", day, day), stage(b, "closing", "executed", day, day),
	}
	b.ReportAllocs()
	for i := range b.N {
		if _, err := set.Step(cal, street, entries[i%len(entries)]); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "entries/s")
}
