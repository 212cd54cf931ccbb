package service_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"duban.internal/node/clock"
	"duban.internal/node/fault"
	dubanv1 "duban.internal/proto/duban/v1"
)

// Imported history: the operator brings it, of divisions below the node's own; the figures count it by the profile's limit
// in natural days.
func TestHistory(t *testing.T) {
	const code, n = "990100", 120
	w := newWorld(t, plan{code: code, profile: "profiles/chicago", calendar: "calendars/plain-2000-2015.csv", divisions: "divisions/chicago.csv"})
	op := w.operator(code)
	_, err := op.RegisterAgency(t.Context(), &dubanv1.RegisterAgencyRequest{Agency: &dubanv1.Agency{Id: "sanitation", Name: "Sanitation", Jurisdiction: code}})
	require.NoError(t, err)
	zone, err := time.LoadLocation("America/Chicago")
	require.NoError(t, err)
	filed := time.Date(2010, 1, 4, 0, 0, 0, 0, zone)
	var records []*dubanv1.CollectRequest
	for i := range n {
		id := fmt.Sprintf("c-%04d", i)
		at := clock.Micros(filed)
		o := record(id+"/case", &dubanv1.CaseOpened{
			CaseId: id, Number: id, Agency: "sanitation", Procedure: "sanitation_complaint", Imported: true,
			Division: fmt.Sprintf("990100%03d", i%50),
		})
		o.OccurredUs = at
		records = append(records, o, record(id+"/filing", &dubanv1.StageRecorded{CaseId: id, Stage: "filing", CompletedUs: at}))
		if days := 89 + i%4; i < n-20 { // 89 to 92 days: 91 and 92 are late
			records = append(records, record(id+"/closing", &dubanv1.StageRecorded{
				CaseId: id, Stage: "closing", CompletedUs: clock.Micros(filed.AddDate(0, 0, days)),
			}))
		}
	}
	answers := collect(t, op, records)
	require.Equal(t, map[dubanv1.CollectOutcome]int{taken: len(records)}, outcomes(answers), "%v", answers[0])
	began := time.Now()
	f, err := w.cases.Figures(t.Context())
	require.NoError(t, err)
	t.Logf("figures of %d cases: %v", n, time.Since(began))
	require.Equal(t, [4]uint64{n, 20, n - 20, n}, [4]uint64{f.GetTotal(), f.GetOpen(), f.GetClosed(), f.GetImported()})
	require.Len(t, f.GetOverdue(), 1)
	require.EqualValues(t, (n-20)/2, f.GetOverdue()[0].GetEndedLate())
	require.EqualValues(t, 20, f.GetOverdue()[0].GetNeverEnded())
	require.Equal(t, "90d", f.GetOverdue()[0].GetLimit())

	page, err := op.ListCases(t.Context(), &dubanv1.ListCasesRequest{Jurisdiction: "990100007"})
	require.NoError(t, err)
	require.Len(t, page.GetCases(), 3)
	for _, c := range page.GetCases() {
		require.Equal(t, "990100007", c.GetDivision())
	}

	size := w.size()
	agency := w.agency("sanitation")
	for _, x := range collect(t, agency, []*dubanv1.CollectRequest{
		record("1", &dubanv1.StageRecorded{CaseId: "c-0119", Stage: "closing", CompletedUs: clock.Micros(filed)}),
		record("2", &dubanv1.CaseOpened{CaseId: "c-x", Number: "x", Agency: "sanitation", Procedure: "sanitation_complaint", Imported: true}),
	}) {
		require.Equal(t, refused, x.GetOutcome(), "history is the operator's")
	}
	outside := record("3", &dubanv1.CaseOpened{
		CaseId: "c-y", Number: "y", Agency: "sanitation", Procedure: "sanitation_complaint", Imported: true, Division: "990000",
	})
	own := record("4", &dubanv1.CaseOpened{CaseId: "c-z", Number: "z", Agency: "sanitation", Procedure: "sanitation_complaint"})
	got := collect(t, op, []*dubanv1.CollectRequest{outside, own})
	require.Equal(t, "case.division", got[0].GetViolations()[0].GetField())
	require.Equal(t, refused, got[1].GetOutcome(), "the operator brings history only")
	require.Equal(t, size, w.size())
	_, err = agency.OpenCase(t.Context(), &dubanv1.OpenCaseRequest{Case: outside.GetCase()})
	w.refused(size, err, fault.Denied, "case.agency", "imported")
}
