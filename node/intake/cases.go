package intake

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"duban.internal/node/casefile"
	"duban.internal/node/caseview"
	"duban.internal/node/clock"
	"duban.internal/node/fault"
	"duban.internal/node/identity"
	"duban.internal/node/jurisdiction"
	"duban.internal/node/planted"
	"duban.internal/node/profile"
	dubanv1 "duban.internal/proto/duban/v1"
)

func firstField(raw []byte) int32 {
	number, _, _ := protowire.ConsumeTag(raw)
	return int32(number)
}

func missing(field string) error {
	return fault.Refuse(fault.Invalid, "the request is empty", fault.Field{Field: field, Description: "is missing"})
}

// OpenCase opens a case (案源登记).
func (in *Intake) OpenCase(ctx context.Context, caller identity.Identity, req *dubanv1.OpenCaseRequest) (*dubanv1.Receipt, error) {
	if req.GetCase() == nil {
		return nil, missing("case")
	}
	c := in.opening(caller, req.GetCase(), req.GetOccurredUs())
	if err := c.keyed("OpenCase", req.GetRequestId(), req); err != nil {
		return nil, err
	}
	return in.do(ctx, c)
}

func (in *Intake) opening(caller identity.Identity, m *dubanv1.CaseOpened, occurred int64) *command {
	return &command{
		caller: caller, stream: stream(m.GetCaseId()), field: "case", kind: dubanv1.EntryKind_ENTRY_KIND_CASE_OPENED, record: m,
		decide: func(ctx context.Context, l *look, now time.Time) (decision, error) {
			if err := mayWrite(caller, m.GetAgency(), "case.agency", m.GetImported()); err != nil {
				return decision{}, err
			}
			p, err := l.profile(ctx)
			if err != nil {
				return decision{}, err
			}
			f, err := l.facts(ctx, caller, m.GetAgency())
			if err != nil {
				return decision{}, err
			}
			at := occurred
			if at == 0 {
				at = clock.Micros(now)
			}
			bad := casefile.CheckOpen(p, m, at, f, now)
			if err := in.checkDivision(ctx, m.GetDivision(), &bad); err != nil {
				return decision{}, err
			}
			if err := l.settled(bad, "the case can't be opened"); err != nil {
				return decision{}, err
			}
			version, err := in.Store.Version(ctx, stream(m.GetCaseId()))
			if err != nil {
				return decision{}, fmt.Errorf("case %s: %w", m.GetCaseId(), err)
			}
			if version > 0 && !planted.On("intake.case-twice") {
				return decision{}, in.opened(ctx, m, occurred)
			}
			return decision{occurredAt: at}, nil
		},
	}
}

// opened is the refusal of a case whose id is taken; its cause says where the very same opening stands, if it is that.
func (in *Intake) opened(ctx context.Context, m *dubanv1.CaseOpened, occurred int64) error {
	e, ok, err := in.Cases.OpeningEntry(ctx, in.own, m.GetCaseId())
	if err != nil {
		return fmt.Errorf("case %s: %w", m.GetCaseId(), err)
	}
	payload, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		return fmt.Errorf("encode: %w", err)
	}
	refusal := fault.Refuse(fault.Exists, "there is such a case", fault.Field{
		Field: "case.case_id", Description: fmt.Sprintf("%s is another case of this node: expected an id that is new here", m.GetCaseId()),
	})
	if ok && !e.Erased && bytes.Equal(payload, e.Payload) && (occurred == 0 || occurred == e.OccurredAt) {
		refusal.Err = &recorded{number: e.Number, at: e.RecordedAt}
	}
	return refusal
}

// stream is a case's; an id out of bounds, which the gate refuses, is cut to what a stream may hold.
func stream(caseID string) string { return caseview.Stream(caseID[:min(len(caseID), 64)]) }

// checkDivision keeps an imported case within the node's jurisdiction.
func (in *Intake) checkDivision(ctx context.Context, division string, bad *fault.List) error {
	if division == "" {
		return nil
	}
	d, _, err := in.Registry.Jurisdiction(ctx, in.own)
	if err == nil && !in.Tree.Within(jurisdiction.Code(division), d.Code) {
		bad.Add("case.division", "%.20q is not in %s: expected a division of this node's jurisdiction", division, d.Code)
	}
	return err
}

// RecordStage records that a stage (环节) was completed.
func (in *Intake) RecordStage(ctx context.Context, caller identity.Identity, req *dubanv1.RecordStageRequest) (*dubanv1.Receipt, error) {
	if req.GetStage() == nil {
		return nil, missing("stage")
	}
	c := in.stage(caller, req.GetStage())
	if err := c.keyed("RecordStage", req.GetRequestId(), req); err != nil {
		return nil, err
	}
	return in.do(ctx, c)
}

func (in *Intake) stage(caller identity.Identity, m *dubanv1.StageRecorded) *command {
	c := in.about(caller, m, "stage", dubanv1.EntryKind_ENTRY_KIND_STAGE_RECORDED,
		func(_ context.Context, s *subject) (fault.List, error) {
			return casefile.CheckStage(s.profile, s.state, m, s.facts, s.now), nil
		})
	return c.at(m.GetCompletedUs())
}

// AttachEvidence names uploaded bytes as evidence (证据) in a case.
func (in *Intake) AttachEvidence(ctx context.Context, caller identity.Identity, req *dubanv1.AttachEvidenceRequest) (*dubanv1.Receipt, error) {
	if req.GetEvidence() == nil {
		return nil, missing("evidence")
	}
	c := in.evidence(caller, req.GetEvidence(), 0)
	if err := c.keyed("AttachEvidence", req.GetRequestId(), req); err != nil {
		return nil, err
	}
	return in.do(ctx, c)
}

func (in *Intake) evidence(caller identity.Identity, m *dubanv1.EvidenceAttached, occurred int64) *command {
	c := in.about(caller, m, "evidence", dubanv1.EntryKind_ENTRY_KIND_EVIDENCE_ATTACHED,
		func(_ context.Context, s *subject) (fault.List, error) {
			bad := casefile.CheckEvidence(s.profile, s.state, m, s.facts)
			if size, ok := in.Files.Has(m.GetSha256()); ok && m.GetSize() != 0 && m.GetSize() != size {
				bad.Add("evidence.size", "%d, the attachment has %d bytes", m.GetSize(), size)
			}
			in.notAhead(&bad, occurred, s.now)
			return bad, nil
		})
	return c.at(occurred)
}

// GiveExplanation records an explanation (说明理由).
func (in *Intake) GiveExplanation(ctx context.Context, caller identity.Identity, req *dubanv1.GiveExplanationRequest) (*dubanv1.Receipt, error) {
	if req.GetExplanation() == nil {
		return nil, missing("explanation")
	}
	c := in.explanation(caller, req.GetExplanation(), 0)
	if err := c.keyed("GiveExplanation", req.GetRequestId(), req); err != nil {
		return nil, err
	}
	return in.do(ctx, c)
}

func (in *Intake) explanation(caller identity.Identity, m *dubanv1.ExplanationGiven, occurred int64) *command {
	c := in.about(caller, m, "explanation", dubanv1.EntryKind_ENTRY_KIND_EXPLANATION_GIVEN,
		func(_ context.Context, s *subject) (fault.List, error) {
			bad := casefile.CheckExplanation(s.profile, s.state, m, s.facts, s.now)
			in.notAhead(&bad, occurred, s.now)
			return bad, nil
		})
	return c.at(occurred)
}

// RequestCorrection applies for a correction of what was collected (T14).
func (in *Intake) RequestCorrection(ctx context.Context, caller identity.Identity, req *dubanv1.RequestCorrectionRequest) (*dubanv1.Receipt, error) {
	m := req.GetCorrection()
	if m == nil {
		return nil, missing("correction")
	}
	c := in.about(caller, m, "correction", dubanv1.EntryKind_ENTRY_KIND_CORRECTION_REQUESTED,
		func(ctx context.Context, s *subject) (fault.List, error) {
			target, err := in.Cases.Record(ctx, in.own, m.GetCaseId(), m.GetEntry())
			if err != nil {
				return nil, err
			}
			return casefile.CheckCorrection(s.profile, s.state, m, target, s.facts, s.now), nil
		})
	if err := c.keyed("RequestCorrection", req.GetRequestId(), req); err != nil {
		return nil, err
	}
	return in.do(ctx, c)
}

// DecideCorrection is the legal office's answer to an application (T14): which office that is, the profile says.
func (in *Intake) DecideCorrection(ctx context.Context, caller identity.Identity, req *dubanv1.DecideCorrectionRequest) (*dubanv1.Receipt, error) {
	m := req.GetDecision()
	if m == nil {
		return nil, missing("decision")
	}
	c := in.about(caller, m, "decision", dubanv1.EntryKind_ENTRY_KIND_CORRECTION_DECIDED,
		func(_ context.Context, s *subject) (fault.List, error) {
			return casefile.CheckCorrectionDecision(s.profile, s.state, m, caller.Role), nil
		})
	if err := c.keyed("DecideCorrection", req.GetRequestId(), req); err != nil {
		return nil, err
	}
	return in.do(ctx, c)
}

// about is a record of a case that is open: what it is about has a state.
type about interface {
	proto.Message
	GetCaseId() string
}

// subject is what a record of a case is judged by.
type subject struct {
	profile *profile.Profile
	state   *casefile.State
	facts   casefile.Facts
	now     time.Time
}

func (in *Intake) about(caller identity.Identity, m about, field string, kind dubanv1.EntryKind,
	check func(context.Context, *subject) (fault.List, error),
) *command {
	return &command{
		caller: caller, stream: stream(m.GetCaseId()), field: field, kind: kind, record: m,
		decide: func(ctx context.Context, l *look, now time.Time) (decision, error) {
			st, version, err := in.Cases.State(ctx, in.own, m.GetCaseId())
			if err != nil {
				return decision{}, fmt.Errorf("case %s: %w", m.GetCaseId(), err)
			}
			// To an agency a case of another one is as if it were not there.
			if st == nil || caller.Kind == identity.Agency && caller.ID != st.Agency && !planted.On("intake.any-agency") {
				return decision{}, fault.Refuse(fault.NotFound, "there is no such case", fault.Field{
					Field: field + ".case_id", Description: fmt.Sprintf("%.80q: expected the id of a case of this node", m.GetCaseId()),
				})
			}
			if err := mayWrite(caller, st.Agency, field+".case_id", st.Imported); err != nil {
				return decision{}, err
			}
			p, err := l.profile(ctx)
			if err != nil {
				return decision{}, err
			}
			f, err := l.facts(ctx, caller, st.Agency)
			if err != nil {
				return decision{}, err
			}
			bad, err := check(ctx, &subject{profile: p, state: st, facts: f, now: now})
			if err != nil {
				return decision{}, err
			}
			return decision{version: version}, l.settled(bad, "the record can't be taken")
		},
	}
}

// at says when it happened, as stated; 0 for when it is recorded.
func (c *command) at(occurred int64) *command {
	decide := c.decide
	c.decide = func(ctx context.Context, l *look, now time.Time) (decision, error) {
		d, err := decide(ctx, l, now)
		d.occurredAt = occurred
		return d, err
	}
	return c
}

func (in *Intake) notAhead(bad *fault.List, occurred int64, now time.Time) {
	switch most := clock.Micros(now.Add(in.Ahead)); {
	case occurred < 0:
		bad.Add("occurred_us", "%d: expected microseconds since 1970, or 0 for now", occurred)
	case occurred > most:
		bad.Add("occurred_us", "%s is in the future; here it is %s", clock.Time(occurred).Format(time.RFC3339), now.Format(time.RFC3339))
	}
}
