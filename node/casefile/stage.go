package casefile

import (
	"slices"
	"strconv"
	"time"

	"duban.internal/node/fault"
	"duban.internal/node/profile"
	dubanv1 "duban.internal/proto/duban/v1"
)

// CheckStage is the stage gate: it says everything that keeps s from being recorded as the next stage of the case.
func CheckStage(p *profile.Profile, st *State, s *dubanv1.StageRecorded, f Facts, now time.Time) fault.List {
	var l fault.List
	if s.GetCaseId() != st.CaseID {
		l.Add("stage.case_id", "%s is not the case %s", short(s.GetCaseId()), st.CaseID)
	}
	pr := p.Procedure(st.Procedure)
	if pr == nil {
		l.Add("stage.case_id", "the case runs by procedure %s, which profile %s does not have", short(st.Procedure), p.Name)
		return l
	}
	def := pr.Stage(s.GetStage())
	if def == nil {
		l.Add("stage.stage", "%s is not a stage of %s; there are %s", short(s.GetStage()), called(pr.Name, pr.Title),
			listed(pr.Stages, func(s *profile.Stage) string { return called(s.Name, s.Title) }))
		return l
	}
	checkOrder(&l, pr, st, def, s)
	checkTime(&l, st, s, &f, now)
	stageContent(&l, def, s, st, &f)
	checkHands(&l, pr, st, def, s)
	if n := def.Require.Evidence; st.Evidence < n {
		l.Add("stage.stage", "%s needs %d attachment(s) of evidence (证据) in the case; there are %d", def.Name, n, st.Evidence)
	}
	return l
}

// checkOrder says whether the stage may come now, and if not, which may.
func checkOrder(l *fault.List, pr *profile.Procedure, st *State, def *profile.Stage, s *dubanv1.StageRecorded) {
	if st.Closed(pr) {
		l.Add("stage.stage", "the case is closed: no stage follows; what was collected can be corrected by application")
		return
	}
	before := st.latest(def.Name)
	repeated := before != nil && !def.Repeat
	if repeated {
		l.Add("stage.stage", "%s is on record already (entry %d) and does not repeat; what was collected can be corrected by application", def.Name, before.Number)
	}
	last := st.last()
	switch {
	case last == nil && !def.First:
		l.Add("stage.stage", "a case of %s does not begin with %s; it may begin with %s", pr.Name, def.Name, allowed(pr, st))
	case last != nil && !repeated && !follows(pr, last, def):
		l.Add("stage.stage", "%s does not follow %s; next may be %s", called(def.Name, def.Title), afterCalled(pr, last), allowed(pr, st))
	}
	for _, need := range def.Needs {
		checkNeed(l, pr, st, def, profile.ParseNeed(need))
	}
	for _, need := range needsOf(def, s.GetOpinion().GetResult()) {
		checkNeed(l, pr, st, def, profile.ParseNeed(need))
	}
}

func needsOf(def *profile.Stage, result string) []string {
	if r := def.Result(result); r != nil {
		return r.Needs
	}
	return nil
}

func checkNeed(l *fault.List, pr *profile.Procedure, st *State, def *profile.Stage, need profile.Need) {
	done := st.latest(need.Stage)
	switch {
	case done == nil && need.Result == "":
		l.Add("stage.stage", "%s needs %s on record before", def.Name, stageCalled(pr, need.Stage))
	case done == nil || need.Result != "" && done.Result != need.Result:
		l.Add("stage.stage", "%s needs %s on record before, with the result %s", def.Name, stageCalled(pr, need.Stage), need.Result)
	}
}

func follows(pr *profile.Procedure, last *Done, next *profile.Stage) bool {
	before := pr.Stage(last.Stage)
	return before != nil && before.Follows(last.Result, next)
}

func afterCalled(pr *profile.Procedure, last *Done) string {
	if last.Result == "" {
		return stageCalled(pr, last.Stage)
	}
	return stageCalled(pr, last.Stage) + " with the result " + last.Result
}

// allowed lists the stages that may come next.
func allowed(pr *profile.Procedure, st *State) string {
	return listed(Next(pr, st), func(s **profile.Stage) string { return called((*s).Name, (*s).Title) })
}

// Next are the stages that may be recorded next, by order alone: what each needs besides is for CheckStage to say.
func Next(pr *profile.Procedure, st *State) []*profile.Stage {
	var next []*profile.Stage
	last := st.last()
	for i := range pr.Stages {
		s := &pr.Stages[i]
		switch {
		case last == nil && !s.First, last != nil && !follows(pr, last, s), !s.Repeat && st.latest(s.Name) != nil:
		default:
			next = append(next, s)
		}
	}
	return next
}

func checkTime(l *fault.List, st *State, s *dubanv1.StageRecorded, f *Facts, now time.Time) {
	const field = "stage.completed_us"
	us := s.GetCompletedUs()
	if us <= 0 {
		l.Add(field, "missing: when the stage was completed, in microseconds since 1970")
		return
	}
	notAhead(l, field, us, f, now)
	if us < st.OpenedAt {
		l.Add(field, "%s is before the case was opened, at %s", stamp(us), stamp(st.OpenedAt))
	}
	if last := st.last(); last != nil && us < last.CompletedAt {
		l.Add(field, "%s is before the stage before it, %s, was completed, at %s", stamp(us), last.Stage, stamp(last.CompletedAt))
	}
}

// stageContent checks what a stage brings, as first recorded and as corrected.
func stageContent(l *fault.List, def *profile.Stage, s *dubanv1.StageRecorded, st *State, f *Facts) {
	result := s.GetOpinion().GetResult()
	checkOpinion(l, def, s.GetOpinion())
	checkPeople(l, def, s, st, f)
	checkDocuments(l, def, s.GetDocuments(), result, f)
	checkFields(l, "stage.fields", def.Require.Fields, s.GetFields(), result)
	bounded(l, "stage.late_reason", s.GetLateReason(), MaxText)
}

func checkOpinion(l *fault.List, def *profile.Stage, o *dubanv1.Opinion) {
	bounded(l, "stage.opinion.reason", o.GetReason(), MaxText)
	r := def.Result(o.GetResult())
	results := func() string {
		return listed(def.Results, func(r *profile.Result) string { return called(r.Name, r.Title) })
	}
	switch {
	case len(def.Results) == 0 && o.GetResult() != "":
		l.Add("stage.opinion.result", "%s has no result; leave it empty", def.Name)
	case len(def.Results) == 0:
	case o.GetResult() == "":
		l.Add("stage.opinion.result", "missing: the result of %s; want one of %s", def.Name, results())
	case r == nil:
		l.Add("stage.opinion.result", "%s is not a result of %s; want one of %s", short(o.GetResult()), def.Name, results())
	case r.Reason && blank(o.GetReason()):
		l.Add("stage.opinion.reason", "missing: the reason (理由) for %s", called(r.Name, r.Title))
	}
}

func checkPeople(l *fault.List, def *profile.Stage, s *dubanv1.StageRecorded, st *State, f *Facts) {
	officers := s.GetOfficers()
	if len(officers) > MaxOfficers {
		l.Add("stage.officers", "%d officers, at most %d are allowed", len(officers), MaxOfficers)
		return
	}
	if def.Require.Officers && len(officers) == 0 {
		l.Add("stage.officers", "missing: the officers (执法人员) who acted at %s", def.Name)
	}
	if def.Require.Handler && s.GetHandler() == "" {
		l.Add("stage.handler", "missing: the officer who is answerable for %s, by id", def.Name)
	}
	for i, id := range officers {
		if slices.Contains(officers[:i], id) {
			l.Add(officerField(i), "officer %s is named twice", short(id))
		} else if !st.Imported {
			person(l, officerField(i), id, st.Agency, s.GetCompletedUs(), f)
		}
	}
	if h := s.GetHandler(); h != "" && !st.Imported && !slices.Contains(officers, h) {
		person(l, "stage.handler", h, st.Agency, s.GetCompletedUs(), f)
	}
	bounded(l, "stage.handler", s.GetHandler(), MaxValue)
}

func checkDocuments(l *fault.List, def *profile.Stage, given []*dubanv1.Document, result string, f *Facts) {
	if len(given) > MaxDocuments {
		l.Add("stage.documents", "%d documents, at most %d are allowed", len(given), MaxDocuments)
		return
	}
	for i, d := range given {
		field := func(part string) string { return "stage.documents[" + strconv.Itoa(i) + "]." + part }
		wanted := def.Document(d.GetName())
		if wanted == nil {
			l.Add(field("name"), "%s is not a document of %s; there are %s; anything else is attached as evidence", short(d.GetName()), def.Name,
				listed(def.Require.Documents, func(d *profile.Document) string { return called(d.Name, d.Title) }))
			continue
		}
		if blank(d.GetCode()) {
			l.Add(field("code"), "missing: the number of %s", called(d.GetName(), wanted.Title))
		} else if len(d.GetCode()) > MaxValue {
			l.Add(field("code"), "%d bytes, at most %d are allowed", len(d.GetCode()), MaxValue)
		}
		switch sha := d.GetSha256(); {
		case len(sha) == 0 && wanted.Attach:
			l.Add(field("sha256"), "missing: %s has to be uploaded and named by its SHA-256", called(d.GetName(), wanted.Title))
		case len(sha) == 0:
		case len(sha) != sha256Size:
			l.Add(field("sha256"), "%d bytes, want the %d of a SHA-256", len(sha), sha256Size)
		case !f.uploaded(sha):
			l.Add(field("sha256"), "no such attachment here: upload %s first", called(d.GetName(), wanted.Title))
		}
	}
	for i := range def.Require.Documents {
		wanted := &def.Require.Documents[i]
		if applies(wanted.With, result) && !slices.ContainsFunc(given, func(d *dubanv1.Document) bool { return d.GetName() == wanted.Name }) {
			l.Add("stage.documents", "missing: %s", called(wanted.Name, wanted.Title, wanted.Article))
		}
	}
}

const sha256Size = 32

// checkHands keeps hands that the profile separates in different people (N-3(3)2).
func checkHands(l *fault.List, pr *profile.Procedure, st *State, def *profile.Stage, s *dubanv1.StageRecorded) {
	type hand struct{ id, hand string }
	var said []hand
	for i := range st.Stages {
		done := &st.Stages[i]
		before := pr.Stage(done.Stage)
		if before == nil || !separate(pr, def.Hand, before.Hand) {
			continue
		}
		for _, id := range done.People {
			other := hand{id, before.Hand}
			if id != s.GetHandler() && !slices.Contains(s.GetOfficers(), id) || slices.Contains(said, other) {
				continue
			}
			said = append(said, other)
			l.Add(personField(s, id), "officer %s acted at %s in the hand of %s; %s is in the hand of %s, which must be another's",
				short(id), called(before.Name, before.Title), before.Hand, def.Name, def.Hand)
		}
	}
}

func separate(pr *profile.Procedure, a, b string) bool {
	return a != "" && b != "" && a != b && slices.ContainsFunc(pr.Separate, func(set []string) bool {
		return slices.Contains(set, a) && slices.Contains(set, b)
	})
}

func personField(s *dubanv1.StageRecorded, id string) string {
	if i := slices.Index(s.GetOfficers(), id); i >= 0 {
		return officerField(i)
	}
	return "stage.handler"
}

func officerField(i int) string { return "stage.officers[" + strconv.Itoa(i) + "]" }
