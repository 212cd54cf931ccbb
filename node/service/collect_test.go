package service_test

import (
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"duban.internal/node/fault"
	"duban.internal/node/identity"
	"duban.internal/node/intake"
	dubanv1 "duban.internal/proto/duban/v1"
)

func record(id string, m any) *dubanv1.CollectRequest {
	r := &dubanv1.CollectRequest{RecordId: id}
	switch m := m.(type) {
	case *dubanv1.CaseOpened:
		r.Record = &dubanv1.CollectRequest_Case{Case: m}
	case *dubanv1.StageRecorded:
		r.Record = &dubanv1.CollectRequest_Stage{Stage: m}
	case *dubanv1.ExplanationGiven:
		r.Record = &dubanv1.CollectRequest_Explanation{Explanation: m}
	case *dubanv1.CaseHistory:
		r.Record = &dubanv1.CollectRequest_History{History: m}
	}
	return r
}

// collect sends records over one stream and gives the answers.
func collect(t testing.TB, c client, records []*dubanv1.CollectRequest) []*dubanv1.CollectResponse {
	t.Helper()
	s, err := c.Collect(t.Context())
	require.NoError(t, err)
	failed := make(chan error, 1)
	go func() {
		for _, r := range records {
			if err := s.Send(r); err != nil {
				failed <- err
				return
			}
		}
		failed <- s.CloseSend()
	}()
	var answers []*dubanv1.CollectResponse
	for {
		a, err := s.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		answers = append(answers, a)
	}
	require.NoError(t, <-failed)
	require.Len(t, answers, len(records))
	for i := range answers {
		require.Equal(t, records[i].GetRecordId(), answers[i].GetRecordId(), "answers come in order")
	}
	return answers
}

func outcomes(answers []*dubanv1.CollectResponse) map[dubanv1.CollectOutcome]int {
	n := map[dubanv1.CollectOutcome]int{}
	for _, a := range answers {
		n[a.GetOutcome()]++
	}
	return n
}

const (
	taken   = dubanv1.CollectOutcome_COLLECT_OUTCOME_TAKEN
	already = dubanv1.CollectOutcome_COLLECT_OUTCOME_ALREADY_THERE
	refused = dubanv1.CollectOutcome_COLLECT_OUTCOME_REFUSED
)

// Records of a case that follow each other at once are decided in order; sent again, nothing is added.
func TestCollect(t *testing.T) {
	w := newWorld(t, plan{}).staffed()
	a := w.agency(agency)
	var records []*dubanv1.CollectRequest
	for i := range 300 {
		id := fmt.Sprintf("c-%03d", i)
		o := opening(id)
		records = append(records, record("o/"+id, o), record("f/"+id, w.filing(id)),
			record("x/"+id, &dubanv1.ExplanationGiven{CaseId: id, Subject: "other", Text: "说明", Officer: "o-2"}))
	}
	for _, r := range records {
		r.OccurredUs = w.us(-time.Minute)
	}
	before := w.size()
	answers := collect(t, a, records)
	require.Equal(t, map[dubanv1.CollectOutcome]int{taken: 900}, outcomes(answers), "%v", answers[0])
	require.Equal(t, before+900, w.size())
	first := map[string]uint64{}
	for _, x := range answers {
		first[x.GetRecordId()] = x.GetReceipt().GetNumber()
	}
	again := collect(t, a, records)
	require.Equal(t, map[dubanv1.CollectOutcome]int{already: 900}, outcomes(again))
	for _, x := range again {
		require.Equal(t, first[x.GetRecordId()], x.GetReceipt().GetNumber())
	}
	for i, r := range records {
		r.RecordId = fmt.Sprint(i) // another mark, the same content
	}
	require.Equal(t, map[dubanv1.CollectOutcome]int{already: 900}, outcomes(collect(t, a, records)))
	require.Equal(t, before+900, w.size())
}

func TestCollectRefuses(t *testing.T) {
	w := newWorld(t, plan{}).staffed()
	a := w.agency(agency)
	good, bad := opening("c-1"), opening("c-2")
	bad.Item, bad.Summary = "0", ""
	theirs := opening("c-3")
	theirs.Agency = other
	old := opening("c-4")
	old.Imported = true
	changed := opening("c-5")
	answers := collect(t, a, []*dubanv1.CollectRequest{
		record("1", good), record("2", bad), record("3", theirs), record("4", w.filing("c-9")), record("5", nil),
		record("", opening("c-6")), record("1", changed), record("7", old), record("8", w.filing("c-1")),
	})
	want := []struct {
		outcome dubanv1.CollectOutcome
		fields  []string
	}{
		{taken, nil}, {refused, []string{"case.item", "case.summary"}}, {refused, []string{"case.agency"}},
		{refused, []string{"stage.case_id"}}, {refused, []string{"record"}}, {refused, []string{"record_id"}},
		{refused, []string{"record_id"}}, {refused, []string{"case.agency"}}, {taken, nil},
	}
	for i, x := range answers {
		// Record 1 and its mark's second use are of two cases and race; one of them holds the mark.
		if i == 0 || i == 6 || i == 8 {
			continue
		}
		require.Equal(t, want[i].outcome, x.GetOutcome(), "%d: %v", i, x)
		var fields []string
		for _, v := range x.GetViolations() {
			require.NotEmpty(t, v.GetDescription())
			fields = append(fields, v.GetField())
		}
		require.Equal(t, want[i].fields, fields, "%d", i)
		if x.GetOutcome() == refused {
			require.NotEmpty(t, x.GetMessage())
			require.Nil(t, x.GetReceipt())
		}
	}
	require.Equal(t, map[dubanv1.CollectOutcome]int{taken: 1, refused: 1}, outcomes([]*dubanv1.CollectResponse{answers[0], answers[6]}))
}

// What can't be read ends the stream; what was answered stands.
func TestCollectEnds(t *testing.T) {
	w := newWorld(t, plan{}).staffed()
	s, err := w.agency(agency).Collect(t.Context())
	require.NoError(t, err)
	require.NoError(t, s.Send(record("1", opening("c-1"))))
	x, err := s.Recv()
	require.NoError(t, err)
	require.Equal(t, taken, x.GetOutcome(), "%v", x)
	require.NoError(t, s.CloseSend())
	_, err = s.Recv()
	require.ErrorIs(t, err, io.EOF)
}

// A case that comes with its stages is recorded as a whole, or nothing of it is.
func TestCollectHistory(t *testing.T) {
	w := newWorld(t, plan{}).staffed()
	a := w.agency(agency)
	whole := func(id string, stages ...*dubanv1.StageRecorded) *dubanv1.CollectRequest {
		r := record("h/"+id, &dubanv1.CaseHistory{Case: opening(id), Stages: stages})
		r.OccurredUs = w.us(-time.Hour)
		return r
	}
	before := w.size()
	missing := w.filing("c-2")
	missing.Fields = nil
	elsewhere := w.filing("c-9")
	many := make([]*dubanv1.StageRecorded, 65)
	for i := range many {
		many[i] = w.filing("c-5")
	}
	bad := whole("c-6", w.filing("c-6"))
	bad.GetHistory().Case.Item = "0"
	for _, c := range []struct {
		r      *dubanv1.CollectRequest
		fields []string
	}{
		{whole("c-2", missing), []string{"stages[0].fields.cause"}},
		{whole("c-3", w.filing("c-3"), w.filing("c-3")), []string{"stages[1].stage"}},
		{whole("c-4", elsewhere), []string{"stages[0].case_id"}},
		{whole("c-5", many...), []string{"stages"}},
		{bad, []string{"case.item"}},
		{record("h/none", &dubanv1.CaseHistory{}), []string{"record"}},
	} {
		x := collect(t, a, []*dubanv1.CollectRequest{c.r})[0]
		require.Equal(t, refused, x.GetOutcome(), "%v", x)
		var fields []string
		for _, v := range x.GetViolations() {
			fields = append(fields, v.GetField())
		}
		require.Equal(t, c.fields, fields)
	}
	require.Equal(t, before, w.size(), "nothing of what was refused is recorded")

	good := whole("c-1", w.filing("c-1"))
	got := collect(t, a, []*dubanv1.CollectRequest{good, whole("c-7")})
	require.Equal(t, map[dubanv1.CollectOutcome]int{taken: 2}, outcomes(got), "%v", got)
	require.Equal(t, before+3, w.size())
	c, err := a.GetCase(t.Context(), &dubanv1.GetCaseRequest{CaseId: "c-1"})
	require.NoError(t, err)
	require.Equal(t, got[0].GetReceipt().GetNumber()+1, c.GetCase().GetStages()[0].GetNumber())
	require.Equal(t, good.GetOccurredUs(), c.GetCase().GetOpenedUs())
	again := collect(t, a, []*dubanv1.CollectRequest{good})[0]
	require.Equal(t, already, again.GetOutcome())
	require.Equal(t, got[0].GetReceipt().GetNumber(), again.GetReceipt().GetNumber())
	require.Equal(t, before+3, w.size())
}

// panicking are files that have a defect.
type panicking struct{}

func (panicking) Has([]byte) (uint64, bool) { panic("a defect") }

// A defect in deciding, receiving or answering one record ends its collection with an error that has the stack; the node
// goes on.
func TestCollectSurvivesPanics(t *testing.T) {
	w := newWorld(t, plan{}).staffed()
	c := w.intake.Config
	c.Files = panicking{}
	in, err := intake.New(c)
	require.NoError(t, err)
	w.opened("c-1")
	caller := identity.Identity{City: w.ca.City, Kind: identity.Agency, ID: agency}
	evidence := &dubanv1.CollectRequest{RecordId: "1", Record: &dubanv1.CollectRequest_Evidence{
		Evidence: &dubanv1.EvidenceAttached{CaseId: "c-1", Sha256: make([]byte, 32), Name: "a", Size: 1},
	}}
	once := func(r *dubanv1.CollectRequest) func() (*dubanv1.CollectRequest, error) {
		return func() (*dubanv1.CollectRequest, error) {
			if r == nil {
				return nil, io.EOF
			}
			next := r
			r = nil
			return next, nil
		}
	}
	keep := func(*dubanv1.CollectResponse) error { return nil }
	for name, err := range map[string]error{
		"deciding":  in.Collect(t.Context(), caller, once(evidence), keep),
		"receiving": in.Collect(t.Context(), caller, func() (*dubanv1.CollectRequest, error) { panic("a defect") }, keep),
		"answering": in.Collect(t.Context(), caller, once(record("2", opening("c-2"))), func(*dubanv1.CollectResponse) error { panic("a defect") }),
	} {
		require.ErrorContains(t, err, "a defect", name)
		require.ErrorContains(t, err, "goroutine", name)
		require.Equal(t, fault.Internal, fault.Of(err), name)
	}
	require.NoError(t, in.Collect(t.Context(), caller, once(record("3", opening("c-3"))), keep))
}
