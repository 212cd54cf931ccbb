package service_test

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"

	"duban.internal/node/fault"
	"duban.internal/node/identity"
	"duban.internal/node/jurisdiction"
	"duban.internal/node/rpc"
	dubanv1 "duban.internal/proto/duban/v1"
)

// Whatever is wrong with a request: the field and the reason are said, and nothing is changed.
func TestBadInput(t *testing.T) {
	w := newWorld(t, plan{}).staffed()
	w.opened("c-1")
	a, b, op := w.agency(agency), w.agency(other), w.operator(street)
	ctx := t.Context()
	openWith := func(change func(*dubanv1.CaseOpened)) func() error {
		return func() error {
			c := opening("c-2")
			change(c)
			_, err := a.OpenCase(ctx, &dubanv1.OpenCaseRequest{Case: c})
			return err
		}
	}
	investigated := func(change func(*dubanv1.StageRecorded)) func() error {
		return func() error {
			s := &dubanv1.StageRecorded{
				CaseId: "c-1", Stage: "investigation", CompletedUs: w.us(0), Handler: "o-1", Officers: []string{"o-1", "o-2"},
				Documents: []*dubanv1.Document{{Name: "investigation_report", Code: "D"}}, Fields: map[string]string{"certificate_shown": "yes"},
			}
			change(s)
			_, err := a.RecordStage(ctx, &dubanv1.RecordStageRequest{Stage: s})
			return err
		}
	}
	unknownField := protowire.AppendBytes(protowire.AppendTag(nil, 999, protowire.BytesType), []byte("x"))
	absent := sha256.Sum256([]byte("never uploaded"))
	for _, c := range []struct {
		name         string
		do           func() error
		kind         fault.Kind
		field, words string
	}{
		{"empty request", func() error { _, err := a.OpenCase(ctx, &dubanv1.OpenCaseRequest{}); return err }, fault.Invalid, "case", "missing"},
		{"unknown key", openWith(func(c *dubanv1.CaseOpened) { c.Fields = map[string]string{"colour": "red"} }), fault.Invalid, "case.fields.colour", "allowed are"},
		{"unknown field of the message", openWith(func(c *dubanv1.CaseOpened) { c.Party.ProtoReflect().SetUnknown(unknownField) }), fault.Invalid, "case", "999"},
		{"unknown procedure", openWith(func(c *dubanv1.CaseOpened) { c.Procedure = "guess" }), fault.Invalid, "case.procedure", "penalty_general"},
		{"wrong case id", openWith(func(c *dubanv1.CaseOpened) { c.CaseId = "../c" }), fault.Invalid, "case.case_id", "want 1 to 64"},
		{"long case id", openWith(func(c *dubanv1.CaseOpened) { c.CaseId = strings.Repeat("案", 1000) }), fault.Invalid, "case.case_id", "want 1 to 64"},
		{"wrong item code", openWith(func(c *dubanv1.CaseOpened) { c.Item = "000000" }), fault.Invalid, "case.item", "not one of agency"},
		{"case that is there", openWith(func(c *dubanv1.CaseOpened) { c.CaseId = "c-1" }), fault.Exists, "case.case_id", "another case"},
		{"entry for another jurisdiction", openWith(func(c *dubanv1.CaseOpened) { c.Imported, c.Division = true, "120101" }), fault.Denied, "case.agency", "imported"},
		{"officer of another agency", openWith(func(c *dubanv1.CaseOpened) { c.Handler = "x-1" }), fault.Invalid, "case.handler", "belongs to agency a-2"},
		{"agency that is not registered", func() error {
			c := opening("c-2")
			c.Agency = "a-9"
			_, err := w.agency("a-9").OpenCase(ctx, &dubanv1.OpenCaseRequest{Case: c})
			return err
		}, fault.Invalid, "case.agency", "not registered"},
		{"other agency's name", func() error {
			_, err := b.OpenCase(ctx, &dubanv1.OpenCaseRequest{Case: opening("c-2")})
			return err
		}, fault.Denied, "case.agency", "a-2"},
		{"other agency's case", func() error {
			_, err := b.RecordStage(ctx, &dubanv1.RecordStageRequest{Stage: w.filing("c-1")})
			return err
		}, fault.NotFound, "stage.case_id", `"c-1": expected the id of a case of this node`},
		{"case in the future", func() error {
			_, err := a.OpenCase(ctx, &dubanv1.OpenCaseRequest{Case: opening("c-2"), OccurredUs: w.us(2 * time.Minute)})
			return err
		}, fault.Invalid, "occurred_us", "in the future"},
		{"unknown case", func() error {
			_, err := a.RecordStage(ctx, &dubanv1.RecordStageRequest{Stage: w.filing("c-9")})
			return err
		}, fault.NotFound, "stage.case_id", `"c-9": expected the id of a case of this node`},
		{"unknown stage", investigated(func(s *dubanv1.StageRecorded) { s.Stage = "lunch" }), fault.Invalid, "stage.stage", "there are"},
		{"stage out of order", investigated(func(s *dubanv1.StageRecorded) { s.Stage = "service" }), fault.Invalid, "stage.stage", "does not follow"},
		{"stage in the future", investigated(func(s *dubanv1.StageRecorded) { s.CompletedUs = w.us(61 * time.Second) }), fault.Invalid, "stage.completed_us", "in the future"},
		{"nobody's officer", investigated(func(s *dubanv1.StageRecorded) { s.Officers = []string{"ghost"} }), fault.Invalid, "stage.officers[0]", "not registered"},
		{"certificate that has run out", investigated(func(s *dubanv1.StageRecorded) { s.Officers = []string{"o-2", "late"} }), fault.Invalid, "stage.officers[1]", "certificate"},
		{"wrong value", investigated(func(s *dubanv1.StageRecorded) { s.Fields["certificate_shown"] = "perhaps" }), fault.Invalid, "stage.fields.certificate_shown", "yes or no"},
		{"no evidence yet", investigated(func(*dubanv1.StageRecorded) {}), fault.Invalid, "stage.stage", "evidence"},
		{"document that was not uploaded", investigated(func(s *dubanv1.StageRecorded) { s.Documents[0].Sha256 = absent[:] }), fault.Invalid, "stage.documents[0].sha256", "upload"},
		{"evidence that was not uploaded", func() error {
			_, err := a.AttachEvidence(ctx, &dubanv1.AttachEvidenceRequest{Evidence: &dubanv1.EvidenceAttached{
				CaseId: "c-1", Sha256: absent[:], Size: 5, Name: "x.jpg",
			}})
			return err
		}, fault.Invalid, "evidence.sha256", "upload it first"},
		{"agency of another jurisdiction", func() error {
			_, err := op.RegisterAgency(ctx, &dubanv1.RegisterAgencyRequest{Agency: &dubanv1.Agency{Id: "a-3", Name: "x", Jurisdiction: "120101"}})
			return err
		}, fault.Invalid, "agency.jurisdiction", "this is the node of 120116013"},
		{"officer of no agency", func() error {
			_, err := op.RegisterOfficer(ctx, &dubanv1.RegisterOfficerRequest{Officer: &dubanv1.Officer{Id: "o-9", Name: "x", Agency: "a-9", Certificate: "C"}})
			return err
		}, fault.Invalid, "officer.agency", "not registered"},
		{"office of no role", func() error {
			_, err := op.RegisterOffice(ctx, &dubanv1.RegisterOfficeRequest{Office: &dubanv1.Office{Role: "king", Name: "x", Jurisdiction: street}})
			return err
		}, fault.Invalid, "office.role", "legal_office"},
		{"operator's hands off cases", func() error {
			_, err := op.OpenCase(ctx, &dubanv1.OpenCaseRequest{Case: opening("c-2")})
			return err
		}, fault.Denied, "certificate", "agency"},
		{"agency registers itself", func() error {
			_, err := a.RegisterAgency(ctx, &dubanv1.RegisterAgencyRequest{Agency: &dubanv1.Agency{Id: "a-3", Name: "x", Jurisdiction: street}})
			return err
		}, fault.Denied, "certificate", "operator of 120116013"},
		{"another district's office", func() error {
			_, err := w.office("120101").ListCases(ctx, &dubanv1.ListCasesRequest{})
			return err
		}, fault.Denied, "certificate", "office"},
		{"other agency's list", func() error {
			_, err := b.ListCases(ctx, &dubanv1.ListCasesRequest{Agency: agency})
			return err
		}, fault.Denied, "agency", "another agency"},
		{"other agency's file", func() error {
			_, err := b.GetCase(ctx, &dubanv1.GetCaseRequest{CaseId: "c-1"})
			return err
		}, fault.NotFound, "case_id", "yours to read"},
		{"upload of an agency that is not registered", func() error {
			_, err := upload(ctx, w.agency("a-9"), 5, absent[:], []byte("bytes"))
			return err
		}, fault.Denied, "certificate", "agency:a-9 is not on record at this node"},
		{"malformed page", func() error {
			_, err := a.ListCases(ctx, &dubanv1.ListCasesRequest{PageSize: -1, PageToken: "?"})
			return err
		}, fault.Invalid, "page_token", "leave it empty"},
		{"long request id", func() error {
			_, err := a.OpenCase(ctx, &dubanv1.OpenCaseRequest{RequestId: strings.Repeat("x", 65), Case: opening("c-2")})
			return err
		}, fault.Invalid, "request_id", "at most 64"},
		{"oversized message", openWith(func(c *dubanv1.CaseOpened) { c.Summary = strings.Repeat("x", rpc.MaxMessage+1) }), fault.Exhausted, "message", "larger than max"},
		{"oversized text", openWith(func(c *dubanv1.CaseOpened) { c.Summary = strings.Repeat("x", 1<<20) }), fault.Invalid, "case.summary", "at most"},
		{"truncated message", func() error { return truncated(ctx, a.conn, "/duban.v1.CaseService/OpenCase") }, fault.Invalid, "message", "truncated or malformed"},
		{"truncated record", func() error { return truncatedStream(ctx, a.conn) }, fault.Invalid, "message", "truncated or malformed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := w.size()
			err := c.do()
			outer := w.t
			w.t = t
			defer func() { w.t = outer }()
			w.refused(before, err, c.kind, c.field, c.words)
		})
	}
}

// Everything that is missing is said at once.
func TestAllAtOnce(t *testing.T) {
	w := newWorld(t, plan{}).staffed()
	before := w.size()
	_, err := w.agency(agency).OpenCase(t.Context(), &dubanv1.OpenCaseRequest{
		OccurredUs: w.us(time.Hour), Case: &dubanv1.CaseOpened{CaseId: "c 1", Agency: agency, Procedure: "penalty_general", Item: "0"},
	})
	for _, field := range []string{"case.case_id", "case.number", "occurred_us", "case.item", "case.summary", "case.source", "case.party.name", "case.handler"} {
		w.refused(before, err, fault.Invalid, field, "")
	}
}

// raw sends bytes as they are.
type raw struct{ encoding.CodecV2 }

func (raw) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(v.([]byte))}, nil
}

func (r raw) Unmarshal(data mem.BufferSlice, v any) error { return r.CodecV2.Unmarshal(data, v) }

func (raw) Name() string { return "proto" }

// half is a message whose second field ends too early.
var half = []byte{0x0a, 0x01, 'r', 0x1a, 0x7f, 0x0a}

func truncated(ctx context.Context, conn *grpc.ClientConn, method string) error {
	return conn.Invoke(ctx, method, half, new(dubanv1.OpenCaseResponse), grpc.ForceCodecV2(raw{encoding.GetCodecV2("proto")}))
}

func truncatedStream(ctx context.Context, conn *grpc.ClientConn) error {
	desc := &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}
	s, err := conn.NewStream(ctx, desc, "/duban.v1.CollectionService/Collect", grpc.ForceCodecV2(raw{encoding.GetCodecV2("proto")}))
	if err != nil {
		return err
	}
	if err := s.SendMsg(half); err != nil {
		return err
	}
	return s.RecvMsg(new(dubanv1.CollectResponse))
}

// Without a certificate, with one of another tree, or with none of ours: nothing is answered.
func TestStrangers(t *testing.T) {
	w := newWorld(t, plan{}).staffed()
	before := w.size()
	try := func(config *tls.Config) error {
		conn, err := rpc.Dial(w.address, config)
		require.NoError(t, err)
		defer conn.Close()
		_, err = dubanv1.NewCaseServiceClient(conn).OpenCase(t.Context(), &dubanv1.OpenCaseRequest{Case: opening("c-1")})
		return err
	}
	mine := w.pair(identity.Identity{City: city, Kind: identity.Agency, ID: agency})
	none := mine.Client(identity.Identity{})
	none.Certificates = nil
	w.refused(before, try(none), fault.Unauthenticated, "certificate", "none was shown")

	theirs, err := identity.NewAuthority(city, w.clock.Now(), time.Hour)
	require.NoError(t, err)
	cert, key, err := theirs.Issue(identity.Identity{City: city, Kind: identity.Agency, ID: agency}, nil, w.clock.Now(), time.Hour)
	require.NoError(t, err)
	forged, err := identity.NewPair(cert, key, w.ca.Certificate())
	require.NoError(t, err)
	forged.Now = w.clock.Now
	require.Error(t, try(forged.Client(identity.Identity{})), "a certificate of another authority ends in the handshake")

	wrong := mine.Client(identity.Identity{City: city, Kind: identity.Node, Code: jurisdiction.Code(district)})
	require.Error(t, try(wrong), "the node is another than the one that was meant")
	require.Equal(t, before, w.size())
}
