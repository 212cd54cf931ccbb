package casefile

import (
	"time"

	"duban.internal/node/fault"
	"duban.internal/node/profile"
	dubanv1 "duban.internal/proto/duban/v1"
)

// CheckEvidence says what keeps evidence from being named in the case (Z15). A closed case takes no more.
func CheckEvidence(p *profile.Profile, st *State, e *dubanv1.EvidenceAttached, f Facts) fault.List {
	var l fault.List
	if e.GetCaseId() != st.CaseID {
		l.Add("evidence.case_id", "%s is not the case %s", short(e.GetCaseId()), st.CaseID)
	}
	if pr := p.Procedure(st.Procedure); pr != nil {
		if st.Closed(pr) {
			l.Add("evidence.case_id", "the case is closed: evidence can no longer be added")
		}
		knownStage(&l, "evidence.stage", pr, e.GetStage())
	}
	switch sha := e.GetSha256(); {
	case len(sha) != sha256Size:
		l.Add("evidence.sha256", "%d bytes, want the %d of a SHA-256", len(sha), sha256Size)
	case !f.uploaded(sha):
		l.Add("evidence.sha256", "no such attachment here: upload it first")
	}
	if e.GetSize() == 0 {
		l.Add("evidence.size", "missing: the length in bytes")
	}
	required(&l, "evidence.name", e.GetName(), MaxValue, "the file's name")
	bounded(&l, "evidence.media_type", e.GetMediaType(), MaxValue)
	return l
}

// CheckExplanation says what keeps an explanation (说明理由) from being recorded. A closed case still takes it.
func CheckExplanation(p *profile.Profile, st *State, x *dubanv1.ExplanationGiven, f Facts, now time.Time) fault.List {
	var l fault.List
	if x.GetCaseId() != st.CaseID {
		l.Add("explanation.case_id", "%s is not the case %s", short(x.GetCaseId()), st.CaseID)
	}
	if pr := p.Procedure(st.Procedure); pr != nil {
		knownStage(&l, "explanation.stage", pr, x.GetStage())
	}
	if p.Subject(x.GetSubject()) == nil {
		l.Add("explanation.subject", "%s is not a subject of explanations; there are %s", short(x.GetSubject()),
			listed(p.Subjects, func(s *profile.Subject) string { return called(s.Name, s.Title) }))
	}
	required(&l, "explanation.text", x.GetText(), MaxText, "the explanation")
	if x.GetOfficer() == "" {
		l.Add("explanation.officer", "missing: who explains, by officer id")
	} else if !st.Imported {
		person(&l, "explanation.officer", x.GetOfficer(), st.Agency, now.UnixMicro(), &f)
	}
	return l
}

func knownStage(l *fault.List, field string, pr *profile.Procedure, stage string) {
	if stage != "" && pr.Stage(stage) == nil {
		l.Add(field, "%s is not a stage of %s; there are %s", short(stage), pr.Name,
			listed(pr.Stages, func(s *profile.Stage) string { return s.Name }))
	}
}
