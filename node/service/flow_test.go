package service_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/proto"

	"duban.internal/node/fault"
	"duban.internal/node/registry"
	dubanv1 "duban.internal/proto/duban/v1"
)

func TestHealth(t *testing.T) {
	w := newWorld(t, plan{})
	h := healthpb.NewHealthClient(w.agency(agency).conn)
	r, err := h.Check(t.Context(), &healthpb.HealthCheckRequest{})
	require.NoError(t, err)
	require.Equal(t, healthpb.HealthCheckResponse_SERVING, r.GetStatus())
}

// A case from its opening to its investigation, with evidence, and what everybody may see of it.
func TestCase(t *testing.T) {
	w := newWorld(t, plan{}).staffed()
	ctx := t.Context()
	w.opened("c-1")
	a := w.agency(agency)
	photo := uploadAll(t, a, "photo")
	_, err := a.AttachEvidence(ctx, &dubanv1.AttachEvidenceRequest{Evidence: &dubanv1.EvidenceAttached{
		CaseId: "c-1", Stage: "investigation", Sha256: photo, Size: 5, Name: "现场.jpg", MediaType: "image/jpeg",
	}})
	require.NoError(t, err)
	_, err = a.RecordStage(ctx, &dubanv1.RecordStageRequest{Stage: &dubanv1.StageRecorded{
		CaseId: "c-1", Stage: "investigation", CompletedUs: w.us(0), Handler: "o-1", Officers: []string{"o-1", "o-2"},
		Documents: []*dubanv1.Document{{Name: "investigation_report", Code: "D", Sha256: photo}}, Fields: map[string]string{"certificate_shown": "yes"},
	}})
	require.NoError(t, err)
	_, err = a.GiveExplanation(ctx, &dubanv1.GiveExplanationRequest{Explanation: &dubanv1.ExplanationGiven{
		CaseId: "c-1", Subject: "other", Text: "说明", Officer: "o-1",
	}})
	require.NoError(t, err)

	for name, reader := range map[string]client{"agency": a, "office above": w.office(city), "operator": w.operator(street)} {
		got, err := reader.GetCase(ctx, &dubanv1.GetCaseRequest{CaseId: "c-1"})
		require.NoError(t, err, name)
		c := got.GetCase()
		require.Equal(t, street, c.GetJurisdiction())
		require.Equal(t, "investigation", c.GetStage())
		require.EqualValues(t, 5, c.GetVersion())
		require.Equal(t, w.us(-time.Hour), c.GetOpenedUs())
		require.Zero(t, c.GetClosedUs())
		require.True(t, proto.Equal(opening("c-1"), c.GetOpening()))
		require.Len(t, c.GetStages(), 2)
		require.Len(t, c.GetEvidence(), 1)
		require.Equal(t, []uint64{c.GetOpeningEntry() + 2}, c.GetEvidenceEntries())
		require.Len(t, c.GetExplanationEntries(), 1)
		require.Equal(t, "现场.jpg", c.GetEvidence()[0].GetName())
		require.Len(t, c.GetExplanations(), 1)
		require.True(t, c.GetGenerated())
	}
	version, err := w.store.Version(ctx, "case/c-1")
	require.NoError(t, err)
	require.EqualValues(t, 5, version, "the view counts as the journal does")

	got := download(t, a, photo, 2)
	require.Equal(t, "oto", string(got))
	require.Equal(t, "photo", string(download(t, w.office(street), photo, 0)))
	s, err := w.agency(other).DownloadAttachment(ctx, &dubanv1.DownloadAttachmentRequest{Sha256: photo})
	require.NoError(t, err)
	_, err = s.Recv()
	require.Equal(t, fault.NotFound, fault.Of(err), "another agency's evidence")
	figures, err := w.cases.Figures(ctx)
	require.NoError(t, err)
	require.EqualValues(t, 1, figures.GetTotal())
	require.EqualValues(t, 1, figures.GetOpen())
}

func download(t *testing.T, c client, sum []byte, offset uint64) []byte {
	t.Helper()
	s, err := c.DownloadAttachment(t.Context(), &dubanv1.DownloadAttachmentRequest{Sha256: sum, Offset: offset})
	require.NoError(t, err)
	var all []byte
	for {
		m, err := s.Recv()
		if errors.Is(err, io.EOF) {
			return all
		}
		require.NoError(t, err)
		all = append(all, m.GetChunk()...)
	}
}

// T14: what was collected is never changed; an approved correction adds a version beside it.
func TestCorrection(t *testing.T) {
	w := newWorld(t, plan{}).staffed()
	ctx := t.Context()
	number := w.opened("c-1")
	a, office := w.agency(agency), w.office(district)
	ask := func(id string, entry uint64, changes map[string]string) error {
		_, err := a.RequestCorrection(ctx, &dubanv1.RequestCorrectionRequest{Correction: &dubanv1.CorrectionRequested{
			CaseId: "c-1", CorrectionId: id, Entry: entry, Changes: changes, Reason: "录入有误", Officer: "o-1",
		}})
		return err
	}
	decide := func(c client, id string, approved bool) error {
		_, err := c.DecideCorrection(ctx, &dubanv1.DecideCorrectionRequest{Decision: &dubanv1.CorrectionDecided{
			CaseId: "c-1", CorrectionId: id, Approved: approved, Reason: "核实", DecidedBy: "审核人",
		}})
		return err
	}
	earlier := w.us(-30 * time.Minute)
	before := w.size()
	w.refused(before, ask("k-1", number, map[string]string{"case_id": "c-2"}), fault.Invalid, `correction.changes["case_id"]`, "cannot be corrected")
	w.refused(before, ask("k-1", 0, map[string]string{"item": item}), fault.Invalid, "correction.entry", "not a record of this case")
	w.refused(before, decide(office, "k-1", true), fault.Invalid, "decision.correction_id", "no application")
	w.refused(before, ask("k-1", number, map[string]string{"handler": "x-1"}), fault.Invalid, "stage.handler", "belongs to agency")

	require.NoError(t, ask("k-1", number, map[string]string{"completed_us": fmt.Sprint(earlier), "fields.cause": "无照经营"}))
	before = w.size()
	w.refused(before, ask("k-2", number, map[string]string{"fields.cause": "x"}), fault.Invalid, "correction.entry", "still waits")
	w.refused(before, decide(a, "k-1", true), fault.Denied, "certificate", "office")
	c, err := a.GetCase(ctx, &dubanv1.GetCaseRequest{CaseId: "c-1"})
	require.NoError(t, err)
	require.EqualValues(t, 1, c.GetCase().GetStages()[0].GetVersions(), "an application alone changes nothing")

	require.NoError(t, decide(office, "k-1", true))
	w.refused(w.size(), decide(office, "k-1", false), fault.Invalid, "decision.correction_id", "answered before")
	require.NoError(t, ask("k-2", number-1, map[string]string{"number": "更正号"}))
	require.NoError(t, decide(office, "k-2", true))
	require.NoError(t, ask("k-3", number, map[string]string{"fields.cause": "没有"}))
	require.NoError(t, decide(office, "k-3", false))

	got, err := a.GetCase(ctx, &dubanv1.GetCaseRequest{CaseId: "c-1"})
	require.NoError(t, err)
	s := got.GetCase().GetStages()[0]
	require.EqualValues(t, 2, s.GetVersions())
	require.Equal(t, "无照经营", s.GetStage().GetFields()["cause"])
	require.Equal(t, earlier, s.GetStage().GetCompletedUs())
	require.Len(t, s.GetEarlier(), 1)
	require.True(t, proto.Equal(w.filing("c-1"), s.GetEarlier()[0]), "the version before stands beside it")
	require.Equal(t, "更正号", got.GetCase().GetOpening().GetNumber())
	require.Equal(t, "更正号", got.GetCase().GetNumber())
	require.Len(t, got.GetCase().GetEarlierOpenings(), 1)
	require.Len(t, got.GetCase().GetCorrections(), 3)
	require.False(t, got.GetCase().GetCorrections()[2].GetDecision().GetApproved())
	entries, err := w.store.Read(ctx, w.store.Own(), number, 1)
	require.NoError(t, err)
	var kept dubanv1.StageRecorded
	require.NoError(t, proto.Unmarshal(entries[0].Payload, &kept))
	require.True(t, proto.Equal(w.filing("c-1"), &kept), "the entry is what it was")
	state, version, err := w.cases.State(ctx, w.store.Own(), "c-1")
	require.NoError(t, err)
	require.EqualValues(t, 8, version)
	require.Equal(t, earlier, state.Stages[0].CompletedAt, "what follows is judged by the correction")
}

// The same request again is answered as before; its id with other content is refused.
func TestIdempotent(t *testing.T) {
	w := newWorld(t, plan{}).staffed()
	ctx := t.Context()
	a := w.agency(agency)
	req := &dubanv1.OpenCaseRequest{RequestId: "r-1", Case: opening("c-1")}
	first, err := a.OpenCase(ctx, req)
	require.NoError(t, err)
	size := w.size()
	w.clock.Advance(time.Second)
	second, err := a.OpenCase(ctx, req)
	require.NoError(t, err)
	require.True(t, second.GetReceipt().GetDuplicate())
	require.Equal(t, first.GetReceipt().GetNumber(), second.GetReceipt().GetNumber())
	require.Equal(t, first.GetReceipt().GetRecordedUs(), second.GetReceipt().GetRecordedUs())
	require.Equal(t, size, w.size())
	_, err = a.OpenCase(ctx, &dubanv1.OpenCaseRequest{RequestId: "r-1", Case: opening("c-2")})
	w.refused(size, err, fault.Exists, "request_id", "other content")
	_, err = a.RecordStage(ctx, &dubanv1.RecordStageRequest{RequestId: "r-1", Stage: w.filing("c-1")})
	w.refused(size, err, fault.Exists, "request_id", "other content")
	// The very same under another id, or none, is on record; anything else by that id is another case.
	for _, id := range []string{"", "r-2"} {
		same, err := a.OpenCase(ctx, &dubanv1.OpenCaseRequest{RequestId: id, Case: opening("c-1")})
		require.NoError(t, err)
		require.True(t, same.GetReceipt().GetDuplicate())
		require.Equal(t, first.GetReceipt().GetNumber(), same.GetReceipt().GetNumber())
		require.Equal(t, first.GetReceipt().GetRecordedUs(), same.GetReceipt().GetRecordedUs())
		require.Equal(t, size, w.size())
	}
	changed := opening("c-1")
	changed.Summary = "其他"
	_, err = a.OpenCase(ctx, &dubanv1.OpenCaseRequest{RequestId: "r-3", Case: changed})
	w.refused(size, err, fault.Exists, "case.case_id", "another case")
	_, err = a.OpenCase(ctx, &dubanv1.OpenCaseRequest{Case: opening("c-1"), OccurredUs: w.us(-time.Hour)})
	w.refused(size, err, fault.Exists, "case.case_id", "another case")
	whole := collect(t, a, []*dubanv1.CollectRequest{record("w", &dubanv1.CaseHistory{Case: opening("c-1"), Stages: []*dubanv1.StageRecorded{w.filing("c-1")}})})
	require.Equal(t, refused, whole[0].GetOutcome(), "its stage is not on record")

	_, err = w.operator(street).RegisterAgency(ctx, &dubanv1.RegisterAgencyRequest{Agency: &dubanv1.Agency{
		Id: agency, Name: "综合执法队", Jurisdiction: street, Items: []string{item},
	}})
	require.NoError(t, err)
	require.Equal(t, size, w.size(), "an agency registered again as it stands adds nothing")
}

// Bootstrap adds only what differs.
func TestBootstrapAgain(t *testing.T) {
	w := newWorld(t, plan{})
	ctx := t.Context()
	size := w.size()
	require.EqualValues(t, 3, size)
	p, c, err := w.reg.Present(ctx)
	require.NoError(t, err)
	d, ok := w.tree.Get(street)
	require.True(t, ok)
	office := &dubanv1.Office{Role: "legal_office", Jurisdiction: street, Name: "司法所"}
	key := &dubanv1.JournalKeyRecorded{Journal: bytes.Repeat([]byte{7}, 16), Code: street, VerifierKey: "k"}
	start := registry.Start{Division: d, Profile: p, Calendar: c, Offices: []*dubanv1.Office{office}, Keys: []*dubanv1.JournalKeyRecorded{key}}
	for range 2 {
		require.NoError(t, registry.Bootstrap(ctx, w.store, start))
		require.Equal(t, size+2, w.size())
	}
	got, ok, err := w.reg.Office(ctx, "legal_office", street)
	require.NoError(t, err)
	require.True(t, ok)
	require.True(t, proto.Equal(office, got))
	code, verifier, ok, err := w.reg.VerifierKey(ctx, w.store.Own(), [16]byte(key.GetJournal()))
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, street+"k", code+verifier)
	d.Code = district
	err = registry.Bootstrap(ctx, w.store, registry.Start{Division: d, Profile: p, Calendar: c})
	require.Equal(t, fault.Precondition, fault.Of(err))
	require.Equal(t, size+2, w.size())

	_, _, err = w.reg.Judged(ctx, w.store.Own(), 1)
	require.Equal(t, fault.Precondition, fault.Of(err), "entry 1 is the adoption: nothing judged before it")
	then, _, err := w.reg.Judged(ctx, w.store.Own(), 3)
	require.NoError(t, err)
	require.Equal(t, p.Hash(), then.Hash())
}

// Lists are in pages that leave nothing out and give nothing twice.
func TestList(t *testing.T) {
	w := newWorld(t, plan{}).staffed()
	ctx := t.Context()
	a := w.agency(agency)
	for i := range 25 {
		_, err := a.OpenCase(ctx, &dubanv1.OpenCaseRequest{Case: opening(fmt.Sprintf("c-%02d", i)), OccurredUs: w.us(-time.Duration(i/5) * time.Hour)})
		require.NoError(t, err)
	}
	for _, q := range []*dubanv1.ListCasesRequest{
		{}, {OpenOnly: true}, {Agency: agency}, {Agency: agency, OpenOnly: true}, {Jurisdiction: street}, {Jurisdiction: city},
	} {
		var last *dubanv1.Case
		seen := map[string]bool{}
		q.PageSize = 4
		for {
			page, err := w.office(street).ListCases(ctx, q)
			require.NoError(t, err)
			for _, c := range page.GetCases() {
				require.False(t, seen[c.GetCaseId()])
				seen[c.GetCaseId()] = true
				require.True(t, last == nil || last.GetOpenedUs() >= c.GetOpenedUs(), "newest first")
				require.Equal(t, "某单位", c.GetOpening().GetParty().GetName())
				last = c
			}
			if q.PageToken = page.GetNextPageToken(); q.PageToken == "" {
				break
			}
		}
		require.Len(t, seen, 25, "%v", q)
	}
	for _, q := range []*dubanv1.ListCasesRequest{{Jurisdiction: "120101"}, {Agency: other}} {
		page, err := w.office(street).ListCases(ctx, q)
		require.NoError(t, err)
		require.Empty(t, page.GetCases())
	}
	page, err := w.agency(other).ListCases(ctx, &dubanv1.ListCasesRequest{})
	require.NoError(t, err)
	require.Empty(t, page.GetCases(), "an agency sees its own")
	agencies, err := a.ListAgencies(ctx, &dubanv1.ListAgenciesRequest{PageSize: 1})
	require.NoError(t, err)
	require.Len(t, agencies.GetAgencies(), 1)
	require.Equal(t, agency, agencies.GetNextPageToken())
}

// 200 MB of evidence go through without a memory of that size.
func TestLargeEvidence(t *testing.T) {
	w := newWorld(t, plan{}).staffed()
	a := w.agency(agency)
	const size = 200 << 20
	part := bytes.Repeat([]byte("0123456789abcdef"), 16<<10)
	chunks := make([][]byte, size/len(part))
	digest := sha256.New()
	for i := range chunks {
		chunks[i] = part
		digest.Write(part)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	r, err := upload(t.Context(), a, size, digest.Sum(nil), chunks...)
	require.NoError(t, err)
	runtime.ReadMemStats(&after)
	require.False(t, r.GetDuplicate())
	require.Less(t, after.HeapSys-min(before.HeapSys, after.HeapSys), uint64(100<<20))
	stored, ok := w.files.Has(r.GetSha256())
	require.True(t, ok)
	require.EqualValues(t, size, stored)
	before200 := w.size()
	_, err = upload(t.Context(), a, size, part[:32], chunks[:1]...)
	w.refused(before200, err, fault.Invalid, "size", "announced")
}
