package rule

import (
	"time"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"

	"duban.internal/node/casefile"
	dubanv1 "duban.internal/proto/duban/v1"
)

// Kinds of events, as a profile calls them.
const (
	onCase        = "case"
	onStage       = "stage"
	onEvidence    = "evidence"
	onExplanation = "explanation"
	onCorrection  = "correction"
)

// event is an entry about a case, as conditions see it: a CEL activation that converts only what is asked for.
type event struct {
	kind      string
	c         *Case
	entry     *Event
	stage     string // that the event names
	subject   string // of an explanation
	completed int64  // when it happened, as stated

	opened      *dubanv1.CaseOpened
	recorded    *dubanv1.StageRecorded
	evidence    *dubanv1.EvidenceAttached
	explanation *dubanv1.ExplanationGiven
	correction  correction
}

type correction struct {
	id, reason        string
	decided, approved bool
}

func read(c *Case, e *Event) (event, bool) {
	ev := event{c: c, entry: e, completed: e.OccurredAt}
	switch p := e.Payload.(type) {
	case *dubanv1.CaseOpened:
		ev.kind, ev.opened = onCase, p
	case *dubanv1.StageRecorded:
		ev.kind, ev.recorded, ev.stage, ev.completed = onStage, p, p.GetStage(), p.GetCompletedUs()
	case *dubanv1.EvidenceAttached:
		ev.kind, ev.evidence, ev.stage = onEvidence, p, p.GetStage()
	case *dubanv1.ExplanationGiven:
		ev.kind, ev.explanation, ev.stage, ev.subject = onExplanation, p, p.GetStage(), p.GetSubject()
	case *dubanv1.CorrectionRequested:
		ev.kind, ev.correction = onCorrection, correction{id: p.GetCorrectionId(), reason: p.GetReason()}
	case *dubanv1.CorrectionDecided:
		ev.kind = onCorrection
		ev.correction = correction{id: p.GetCorrectionId(), reason: p.GetReason(), decided: true, approved: p.GetApproved()}
	default:
		return ev, false
	}
	return ev, true
}

// oversized says that the record is larger than the gate lets pass, so that the bound on a condition's cost would not
// hold. Only a node that has no gate writes such a record.
func (ev *event) oversized() bool {
	if len(ev.c.Fields) > casefile.MaxFields {
		return true
	}
	s := ev.recorded
	return s != nil && (len(s.GetOfficers()) > casefile.MaxOfficers || len(s.GetDocuments()) > casefile.MaxDocuments ||
		len(s.GetFields()) > casefile.MaxFields)
}

// variables declares what conditions on a kind of event may ask; ResolveName gives the values.
func variables(kind string) []cel.EnvOption {
	fields := cel.MapType(cel.StringType, cel.StringType)
	list := cel.ListType(cel.StringType)
	texts := []string{"case.id", "case.procedure", "case.act", "case.item", "case.agency", "case.tier", "case.source"}
	vars := []cel.EnvOption{
		cel.Variable("case.fields", fields),
		cel.Variable("event.occurred", cel.TimestampType),
		cel.Variable("event.recorded", cel.TimestampType),
	}
	switch kind {
	case onCase:
		texts = append(texts, "opening.number", "opening.summary", "opening.handler", "opening.party_name", "opening.party_kind")
	case onStage:
		texts = append(texts, "stage.name", "stage.result", "stage.reason", "stage.handler", "stage.late_reason")
		vars = append(vars, cel.Variable("stage.completed", cel.TimestampType), cel.Variable("stage.officers", list),
			cel.Variable("stage.documents", list), cel.Variable("stage.fields", fields))
	case onEvidence:
		texts = append(texts, "evidence.stage", "evidence.name", "evidence.media_type")
		vars = append(vars, cel.Variable("evidence.size", cel.IntType))
	case onExplanation:
		texts = append(texts, "explanation.stage", "explanation.subject", "explanation.officer", "explanation.text")
	case onCorrection:
		texts = append(texts, "correction.id", "correction.reason")
		vars = append(vars, cel.Variable("correction.decided", cel.BoolType), cel.Variable("correction.approved", cel.BoolType))
	}
	for _, name := range texts {
		vars = append(vars, cel.Variable(name, cel.StringType))
	}
	return vars
}

// Parent is for CEL: there is none.
func (ev *event) Parent() cel.Activation { return nil }

// ResolveName gives CEL the value of a variable.
func (ev *event) ResolveName(name string) (any, bool) {
	switch name {
	case "case.id":
		return ev.c.ID, true
	case "case.procedure":
		return ev.c.Procedure, true
	case "case.act":
		return ev.c.Act, true
	case "case.item":
		return ev.c.Item, true
	case "case.agency":
		return ev.c.Agency, true
	case "case.tier":
		return ev.c.Tier, true
	case "case.source":
		return ev.c.Source, true
	case "case.fields":
		return ev.c.Fields, true
	case "event.occurred":
		return instant(ev.entry.OccurredAt), true
	case "event.recorded":
		return instant(ev.entry.RecordedAt), true
	}
	switch ev.kind {
	case onCase:
		return resolveOpening(ev.opened, name)
	case onStage:
		return resolveStage(ev.recorded, name)
	case onEvidence:
		return resolveEvidence(ev.evidence, name)
	case onExplanation:
		return resolveExplanation(ev.explanation, name)
	case onCorrection:
		return ev.correction.resolve(name)
	}
	return nil, false
}

func instant(us int64) types.Timestamp { return types.Timestamp{Time: time.UnixMicro(us).UTC()} }

func resolveOpening(c *dubanv1.CaseOpened, name string) (any, bool) {
	switch name {
	case "opening.number":
		return c.GetNumber(), true
	case "opening.summary":
		return c.GetSummary(), true
	case "opening.handler":
		return c.GetHandler(), true
	case "opening.party_name":
		return c.GetParty().GetName(), true
	case "opening.party_kind":
		return c.GetParty().GetKind(), true
	}
	return nil, false
}

func resolveStage(s *dubanv1.StageRecorded, name string) (any, bool) {
	switch name {
	case "stage.name":
		return s.GetStage(), true
	case "stage.result":
		return s.GetOpinion().GetResult(), true
	case "stage.reason":
		return s.GetOpinion().GetReason(), true
	case "stage.handler":
		return s.GetHandler(), true
	case "stage.late_reason":
		return s.GetLateReason(), true
	case "stage.completed":
		return instant(s.GetCompletedUs()), true
	case "stage.officers":
		return s.GetOfficers(), true
	case "stage.documents":
		names := make([]string, len(s.GetDocuments()))
		for i, d := range s.GetDocuments() {
			names[i] = d.GetName()
		}
		return names, true
	case "stage.fields":
		return s.GetFields(), true
	}
	return nil, false
}

func resolveEvidence(e *dubanv1.EvidenceAttached, name string) (any, bool) {
	switch name {
	case "evidence.stage":
		return e.GetStage(), true
	case "evidence.name":
		return e.GetName(), true
	case "evidence.media_type":
		return e.GetMediaType(), true
	case "evidence.size":
		return int64(min(e.GetSize(), 1<<62)), true
	}
	return nil, false
}

func resolveExplanation(x *dubanv1.ExplanationGiven, name string) (any, bool) {
	switch name {
	case "explanation.stage":
		return x.GetStage(), true
	case "explanation.subject":
		return x.GetSubject(), true
	case "explanation.officer":
		return x.GetOfficer(), true
	case "explanation.text":
		return x.GetText(), true
	}
	return nil, false
}

func (c *correction) resolve(name string) (any, bool) {
	switch name {
	case "correction.id":
		return c.id, true
	case "correction.reason":
		return c.reason, true
	case "correction.decided":
		return c.decided, true
	case "correction.approved":
		return c.approved, true
	}
	return nil, false
}
