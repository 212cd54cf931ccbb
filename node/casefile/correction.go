package casefile

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"duban.internal/node/fault"
	"duban.internal/node/profile"
	dubanv1 "duban.internal/proto/duban/v1"
)

// CheckCorrection says what keeps an application for a correction (修改申请, T14) from being recorded. target is the
// payload of the entry that is to be corrected, as it stands with earlier corrections; nil where that entry is not one of
// this case. A closed case can be corrected too.
func CheckCorrection(p *profile.Profile, st *State, c *dubanv1.CorrectionRequested, target proto.Message, f Facts, now time.Time) fault.List {
	var l fault.List
	if c.GetCaseId() != st.CaseID {
		l.Add("correction.case_id", "%s is not the case %s", short(c.GetCaseId()), st.CaseID)
	}
	if p.Corrections.Role == "" {
		l.Add("correction", "profile %s knows no corrections", p.Name)
	}
	if id := c.GetCorrectionId(); !idForm.MatchString(id) {
		l.Add("correction.correction_id", "%s: %s", short(id), idWanted)
	} else if st.correction(id) != nil {
		l.Add("correction.correction_id", "%s is an earlier application in this case: choose another id", id)
	}
	required(&l, "correction.reason", c.GetReason(), MaxText, called("why it is to be corrected", p.Corrections.Article))
	if c.GetOfficer() == "" {
		l.Add("correction.officer", "missing: who applies, by officer id")
	} else if !st.Imported {
		person(&l, "correction.officer", c.GetOfficer(), st.Agency, now.UnixMicro(), &f)
	}
	for _, other := range st.Corrections {
		if other.Entry == c.GetEntry() && !other.Decided {
			l.Add("correction.entry", "the application %s to correct entry %d still waits for its answer", other.ID, other.Entry)
		}
	}
	if target == nil {
		l.Add("correction.entry", "entry %d is not a record of this case", c.GetEntry())
		return l
	}
	checkChanges(&l, p, st, c, target, &f, now)
	return l
}

func checkChanges(l *fault.List, p *profile.Profile, st *State, c *dubanv1.CorrectionRequested, target proto.Message, f *Facts, now time.Time) {
	switch n := len(c.GetChanges()); {
	case n == 0:
		l.Add("correction.changes", "missing: new values by field path")
		return
	case n > MaxChanges:
		l.Add("correction.changes", "%d changes, at most %d are allowed", n, MaxChanges)
		return
	}
	corrected, problems := Correct(target, c.GetChanges())
	*l = append(*l, problems...)
	if len(problems) > 0 {
		return
	}
	if proto.Equal(corrected, target) {
		l.Add("correction.changes", "nothing would change: these are the present values")
	}
	checkCorrected(l, p, st, c.GetEntry(), corrected, f, now)
}

// checkCorrected holds the corrected record against the data standard, as if it had been recorded so.
func checkCorrected(l *fault.List, p *profile.Profile, st *State, entry uint64, corrected proto.Message, f *Facts, now time.Time) {
	switch e := corrected.(type) {
	case *dubanv1.CaseOpened:
		required(l, "case.number", e.GetNumber(), MaxValue, "the case number (案号)")
		checkActor(l, e, f)
		openingContent(l, p, e, st.OpenedAt, f)
	case *dubanv1.StageRecorded:
		pr := p.Procedure(st.Procedure)
		if pr == nil || pr.Stage(e.GetStage()) == nil {
			l.Add("correction.entry", "profile %s does not have stage %s of procedure %s", p.Name, short(e.GetStage()), short(st.Procedure))
			return
		}
		def := pr.Stage(e.GetStage())
		rest := *st // the case without this stage's own record, as it was before it
		rest.Stages = slices.DeleteFunc(slices.Clone(st.Stages), func(d Done) bool { return d.Number >= entry })
		checkTime(l, &rest, e, f, now)
		stageContent(l, def, e, st, f)
		rest.Stages = slices.DeleteFunc(slices.Clone(st.Stages), func(d Done) bool { return d.Number == entry })
		checkHands(l, pr, &rest, def, e)
	case *dubanv1.ExplanationGiven:
		*l = append(*l, CheckExplanation(p, st, e, *f, now)...)
	case *dubanv1.EvidenceAttached:
		if pr := p.Procedure(st.Procedure); pr != nil {
			knownStage(l, "evidence.stage", pr, e.GetStage())
		}
		required(l, "evidence.name", e.GetName(), MaxValue, "the file's name")
	}
}

// CheckCorrectionDecision says what keeps an answer to an application from being recorded. role is what the caller is, by
// the profile's names.
func CheckCorrectionDecision(p *profile.Profile, st *State, d *dubanv1.CorrectionDecided, role string) fault.List {
	var l fault.List
	if d.GetCaseId() != st.CaseID {
		l.Add("decision.case_id", "%s is not the case %s", short(d.GetCaseId()), st.CaseID)
	}
	if want := p.Corrections.Role; want == "" || role != want {
		l.Add("decision.decided_by", "a correction is decided by %s, not by %s", roleCalled(p, want), short(role))
	}
	switch c := st.correction(d.GetCorrectionId()); {
	case c == nil:
		l.Add("decision.correction_id", "there is no application %s in this case", short(d.GetCorrectionId()))
	case c.Decided:
		l.Add("decision.correction_id", "the application %s was answered before", c.ID)
	}
	if !d.GetApproved() {
		required(&l, "decision.reason", d.GetReason(), MaxText, "why it is not approved")
	}
	bounded(&l, "decision.reason", d.GetReason(), MaxText)
	required(&l, "decision.decided_by", d.GetDecidedBy(), MaxValue, "who decided")
	return l
}

// roleCalled is who decides corrections.
func roleCalled(p *profile.Profile, name string) string {
	if r := p.Role(name); r != nil {
		return called(r.Name, r.Title, p.Corrections.Article)
	}
	return name
}

// Correct gives target with changes made, a new message; target stays as it is. Paths are those that may be corrected:
// never what the record is about (case, agency, procedure, stage, the bytes of evidence) nor what kind of record it is.
func Correct(target proto.Message, changes map[string]string) (proto.Message, fault.List) {
	var l fault.List
	corrected := proto.Clone(target)
	// Shorter paths first, so that documents[9] is there before documents[10] is added.
	paths := slices.SortedFunc(maps.Keys(changes), func(a, b string) int {
		return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b))
	})
	for _, path := range paths {
		if len(changes[path]) > MaxText {
			l.Add("correction.changes["+printable(path)+"]", "%d bytes, at most %d are allowed", len(changes[path]), MaxText)
			continue
		}
		if problem := set(corrected, path, changes[path]); problem != "" {
			l.Add("correction.changes["+short(path)+"]", "%s", problem)
		}
	}
	return corrected, l
}
