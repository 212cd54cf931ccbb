// Package service serves what node/intake decides and node/caseview shows: cases, collection, attachments and base
// information over gRPC. It translates and narrows, and decides nothing: an agency sees its own cases only.
//
// Errors are faults; the server's interceptor (node/rpc) makes statuses of them. Who may call at all was decided before.
package service

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"google.golang.org/grpc"

	"duban.internal/node/access"
	"duban.internal/node/attachment"
	"duban.internal/node/caseview"
	"duban.internal/node/fault"
	"duban.internal/node/identity"
	"duban.internal/node/intake"
	"duban.internal/node/journal"
	"duban.internal/node/jurisdiction"
	"duban.internal/node/registry"
	dubanv1 "duban.internal/proto/duban/v1"
)

// Config of the services. Every field but Bring is needed.
type Config struct {
	Own      journal.ID
	Intake   *intake.Intake
	Cases    *caseview.View
	Registry *registry.Registry
	Files    *attachment.Files
	// Bring makes an attachment durable here that a node below has; nil where nothing lies below.
	Bring func(ctx context.Context, sha256 []byte) error
}

// Register adds CaseService, CollectionService, AttachmentService and RegistryService to a server.
func (c Config) Register(r grpc.ServiceRegistrar) {
	dubanv1.RegisterCaseServiceServer(r, cases{Config: c})
	dubanv1.RegisterCollectionServiceServer(r, collection{Config: c})
	dubanv1.RegisterAttachmentServiceServer(r, attachments{Config: c, flight: newFlight()})
	dubanv1.RegisterRegistryServiceServer(r, base{Config: c})
}

func caller(ctx context.Context) (identity.Identity, error) {
	id, ok := access.CallerFrom(ctx)
	if !ok {
		return id, fault.New(fault.Unauthenticated, "no certificate was shown")
	}
	return id, nil
}

// write runs one command for who calls and wraps its receipt.
func write[Q any, A any](ctx context.Context, req Q, do func(context.Context, identity.Identity, Q) (*dubanv1.Receipt, error), wrap func(*dubanv1.Receipt) A) (A, error) {
	var none A
	id, err := caller(ctx)
	if err != nil {
		return none, err
	}
	receipt, err := do(ctx, id, req)
	if err != nil {
		return none, err
	}
	return wrap(receipt), nil
}

type cases struct {
	dubanv1.UnimplementedCaseServiceServer
	Config
}

// OpenCase opens a case.
func (s cases) OpenCase(ctx context.Context, req *dubanv1.OpenCaseRequest) (*dubanv1.OpenCaseResponse, error) {
	return write(ctx, req, s.Intake.OpenCase, func(r *dubanv1.Receipt) *dubanv1.OpenCaseResponse {
		return &dubanv1.OpenCaseResponse{Receipt: r}
	})
}

// RecordStage records a stage.
func (s cases) RecordStage(ctx context.Context, req *dubanv1.RecordStageRequest) (*dubanv1.RecordStageResponse, error) {
	return write(ctx, req, s.Intake.RecordStage, func(r *dubanv1.Receipt) *dubanv1.RecordStageResponse {
		return &dubanv1.RecordStageResponse{Receipt: r}
	})
}

// AttachEvidence names evidence.
func (s cases) AttachEvidence(ctx context.Context, req *dubanv1.AttachEvidenceRequest) (*dubanv1.AttachEvidenceResponse, error) {
	return write(ctx, req, s.Intake.AttachEvidence, func(r *dubanv1.Receipt) *dubanv1.AttachEvidenceResponse {
		return &dubanv1.AttachEvidenceResponse{Receipt: r}
	})
}

// GiveExplanation records an explanation.
func (s cases) GiveExplanation(ctx context.Context, req *dubanv1.GiveExplanationRequest) (*dubanv1.GiveExplanationResponse, error) {
	return write(ctx, req, s.Intake.GiveExplanation, func(r *dubanv1.Receipt) *dubanv1.GiveExplanationResponse {
		return &dubanv1.GiveExplanationResponse{Receipt: r}
	})
}

// RequestCorrection applies for a correction.
func (s cases) RequestCorrection(ctx context.Context, req *dubanv1.RequestCorrectionRequest) (*dubanv1.RequestCorrectionResponse, error) {
	return write(ctx, req, s.Intake.RequestCorrection, func(r *dubanv1.Receipt) *dubanv1.RequestCorrectionResponse {
		return &dubanv1.RequestCorrectionResponse{Receipt: r}
	})
}

// DecideCorrection answers an application.
func (s cases) DecideCorrection(ctx context.Context, req *dubanv1.DecideCorrectionRequest) (*dubanv1.DecideCorrectionResponse, error) {
	return write(ctx, req, s.Intake.DecideCorrection, func(r *dubanv1.Receipt) *dubanv1.DecideCorrectionResponse {
		return &dubanv1.DecideCorrectionResponse{Receipt: r}
	})
}

// GetCase returns a case, whole.
func (s cases) GetCase(ctx context.Context, req *dubanv1.GetCaseRequest) (*dubanv1.GetCaseResponse, error) {
	id, err := caller(ctx)
	if err != nil {
		return nil, err
	}
	of := s.Own
	if len(req.GetJournal()) > 0 {
		if of, err = journal.IDFrom(req.GetJournal()); err != nil {
			return nil, fault.Refuse(fault.Invalid, "no case is asked for", fault.Field{Field: "journal", Description: err.Error()})
		}
	}
	c, err := s.Cases.Case(ctx, of, req.GetCaseId())
	if err != nil {
		return nil, err
	}
	// To an agency a case of another one is as if it were not there.
	if c == nil || id.Kind == identity.Agency && c.GetAgency() != id.ID {
		return nil, fault.Refuse(fault.NotFound, "there is no such case", fault.Field{
			Field: "case_id", Description: fmt.Sprintf("%.80q: expected the id of a case in journal %s that is yours to read", req.GetCaseId(), of),
		})
	}
	return &dubanv1.GetCaseResponse{Case: c}, nil
}

// ListCases lists cases, newest first.
func (s cases) ListCases(ctx context.Context, req *dubanv1.ListCasesRequest) (*dubanv1.ListCasesResponse, error) {
	id, err := caller(ctx)
	if err != nil {
		return nil, err
	}
	agency := req.GetAgency()
	if id.Kind == identity.Agency {
		if agency == "" {
			agency = id.ID
		}
		if err := access.OwnAgency(id, agency, "agency"); err != nil {
			return nil, err
		}
	}
	list, next, err := s.Cases.List(ctx, caseview.Query{
		Jurisdiction: jurisdiction.Code(req.GetJurisdiction()), Agency: agency, OpenOnly: req.GetOpenOnly(),
		Size: int(req.GetPageSize()), Token: req.GetPageToken(),
	})
	if err != nil {
		return nil, err
	}
	return &dubanv1.ListCasesResponse{Cases: list, NextPageToken: next}, nil
}

type collection struct {
	dubanv1.UnimplementedCollectionServiceServer
	Config
}

// Collect takes a stream of records and answers each one, in order.
func (s collection) Collect(stream grpc.BidiStreamingServer[dubanv1.CollectRequest, dubanv1.CollectResponse]) error {
	id, err := caller(stream.Context())
	if err != nil {
		return err
	}
	return s.Intake.Collect(stream.Context(), id, stream.Recv, stream.Send)
}

type attachments struct {
	dubanv1.UnimplementedAttachmentServiceServer
	Config
	flight *flight
}

// chunk is how much of an attachment goes into one message, in bytes.
const chunk = 256 << 10

// UploadAttachment takes one attachment; answered means durable.
func (s attachments) UploadAttachment(stream grpc.ClientStreamingServer[dubanv1.UploadAttachmentRequest, dubanv1.UploadAttachmentResponse]) error {
	first, err := stream.Recv()
	if errors.Is(err, io.EOF) {
		err = noDescription()
	}
	if err != nil {
		return err
	}
	d := first.GetDescription()
	if d == nil {
		return noDescription()
	}
	done, err := s.admit(stream.Context(), d.GetSize())
	if err != nil {
		return err
	}
	defer done()
	duplicate, err := s.Files.Put(stream.Context(), d.GetSha256(), d.GetSize(), &chunks{stream: stream})
	if err != nil {
		return err
	}
	return stream.SendAndClose(&dubanv1.UploadAttachmentResponse{Sha256: d.GetSha256(), Size: d.GetSize(), Duplicate: duplicate})
}

func noDescription() error {
	return fault.Refuse(fault.Invalid, "an upload begins with its description", fault.Field{
		Field: "description", Description: "is missing: expected sha256 and size in the first message",
	})
}

// chunks reads an upload.
type chunks struct {
	stream grpc.ClientStreamingServer[dubanv1.UploadAttachmentRequest, dubanv1.UploadAttachmentResponse]
	rest   []byte
}

// Read reads on.
func (c *chunks) Read(p []byte) (int, error) {
	for len(c.rest) == 0 {
		m, err := c.stream.Recv()
		if err != nil {
			return 0, err
		}
		switch part := m.GetPart().(type) {
		case *dubanv1.UploadAttachmentRequest_Chunk:
			if len(part.Chunk) > chunk {
				return 0, fault.Refuse(fault.Exhausted, "the chunk is too large", fault.Field{
					Field: "chunk", Description: fmt.Sprintf("%d bytes, at most %d are allowed", len(part.Chunk), chunk),
				})
			}
			c.rest = part.Chunk
		default:
			return 0, fault.Refuse(fault.Invalid, "the upload can't be read", fault.Field{
				Field: "chunk", Description: "is missing: after the description expected chunks only",
			})
		}
	}
	n := copy(p, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

// DownloadAttachment streams an attachment from an offset on. What is not here is brought from the node below that has it
// first: who may open it here may have it brought.
func (s attachments) DownloadAttachment(req *dubanv1.DownloadAttachmentRequest, stream grpc.ServerStreamingServer[dubanv1.DownloadAttachmentResponse]) (err error) {
	ctx := stream.Context()
	id, err := caller(ctx)
	if err != nil {
		return err
	}
	if _, err := attachment.Address(req.GetSha256()); err != nil {
		return err
	}
	if id.Kind == identity.Agency {
		agencies, err := s.Cases.Uses(ctx, req.GetSha256())
		if err != nil {
			return err
		}
		if !slices.Contains(agencies, id.ID) {
			return fault.Refuse(fault.NotFound, "there is no such attachment", fault.Field{
				Field: "sha256", Description: fmt.Sprintf("%x: expected evidence or a document of a case of yours", req.GetSha256()),
			})
		}
	}
	if _, here := s.Files.Has(req.GetSha256()); !here && s.Bring != nil {
		if err := s.Bring(ctx, req.GetSha256()); err != nil {
			return err
		}
	}
	r, err := s.Files.Get(req.GetSha256(), req.GetOffset())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	buffer := make([]byte, chunk)
	for {
		n, err := io.ReadFull(r, buffer)
		if n > 0 {
			if err := stream.Send(&dubanv1.DownloadAttachmentResponse{Chunk: buffer[:n]}); err != nil {
				return err
			}
		}
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return nil
		case err != nil:
			return fmt.Errorf("read attachment: %w", err)
		}
	}
}

type base struct {
	dubanv1.UnimplementedRegistryServiceServer
	Config
}

// RegisterAgency registers an agency.
func (s base) RegisterAgency(ctx context.Context, req *dubanv1.RegisterAgencyRequest) (*dubanv1.RegisterAgencyResponse, error) {
	return write(ctx, req, s.Intake.RegisterAgency, func(r *dubanv1.Receipt) *dubanv1.RegisterAgencyResponse {
		return &dubanv1.RegisterAgencyResponse{Receipt: r}
	})
}

// RegisterOfficer registers an officer.
func (s base) RegisterOfficer(ctx context.Context, req *dubanv1.RegisterOfficerRequest) (*dubanv1.RegisterOfficerResponse, error) {
	return write(ctx, req, s.Intake.RegisterOfficer, func(r *dubanv1.Receipt) *dubanv1.RegisterOfficerResponse {
		return &dubanv1.RegisterOfficerResponse{Receipt: r}
	})
}

// RegisterOffice registers an office.
func (s base) RegisterOffice(ctx context.Context, req *dubanv1.RegisterOfficeRequest) (*dubanv1.RegisterOfficeResponse, error) {
	return write(ctx, req, s.Intake.RegisterOffice, func(r *dubanv1.Receipt) *dubanv1.RegisterOfficeResponse {
		return &dubanv1.RegisterOfficeResponse{Receipt: r}
	})
}

// ListAgencies lists agencies by id.
func (s base) ListAgencies(ctx context.Context, req *dubanv1.ListAgenciesRequest) (*dubanv1.ListAgenciesResponse, error) {
	size := int(req.GetPageSize())
	switch {
	case size == 0:
		size = caseview.DefaultPage
	case size < 0 || size > caseview.MaxPage:
		return nil, fault.Refuse(fault.Invalid, "agencies can't be listed", fault.Field{
			Field: "page_size", Description: fmt.Sprintf("%d: expected 1 to %d, or 0 for %d", size, caseview.MaxPage, caseview.DefaultPage),
		})
	}
	list, err := s.Registry.Agencies(ctx, req.GetPageToken(), size+1)
	if err != nil {
		return nil, err
	}
	out := &dubanv1.ListAgenciesResponse{Agencies: list}
	if len(list) > size {
		out.Agencies = list[:size]
		out.NextPageToken = out.Agencies[size-1].GetId()
	}
	return out, nil
}
