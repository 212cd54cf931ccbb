package casefile

import (
	"slices"
	"time"

	"duban.internal/node/fault"
	"duban.internal/node/jurisdiction"
	"duban.internal/node/profile"
	dubanv1 "duban.internal/proto/duban/v1"
)

var partyKinds = []string{"citizen", "organisation"}

// CheckOpen says what keeps a case from being opened. occurredAt is when it began, as the agency states it, in
// microseconds. Whether the id is taken is the journal's to say, by the version of the case's stream.
func CheckOpen(p *profile.Profile, c *dubanv1.CaseOpened, occurredAt int64, f Facts, now time.Time) fault.List {
	var l fault.List
	if !idForm.MatchString(c.GetCaseId()) {
		l.Add("case.case_id", "%s: %s", short(c.GetCaseId()), idWanted)
	}
	required(&l, "case.number", c.GetNumber(), MaxValue, "the case number (案号)")
	if occurredAt <= 0 {
		l.Add("occurred_us", "missing: when the case began, in microseconds since 1970")
	}
	notAhead(&l, "occurred_us", occurredAt, &f, now)
	checkActor(&l, c, &f)
	if c.GetImported() && !f.History {
		l.Add("case.imported", "history is brought by the operator only: its cases open no levels")
	}
	if d := c.GetDivision(); d != "" {
		if !c.GetImported() {
			l.Add("case.division", "only imported history belongs to a division below the node's own")
		} else if _, err := jurisdiction.ParseCode(d); err != nil {
			l.Add("case.division", "%v", err)
		}
	}
	openingContent(&l, p, c, occurredAt, &f)
	return l
}

// checkActor holds agency and item against the base information (N-3(2)2).
func checkActor(l *fault.List, c *dubanv1.CaseOpened, f *Facts) {
	switch {
	case c.GetAgency() == "":
		l.Add("case.agency", "missing: the acting agency's id (行政执法机关)")
		return
	case f.Agency == nil || f.Agency.GetId() != c.GetAgency():
		l.Add("case.agency", "agency %s is not registered here", short(c.GetAgency()))
		return
	}
	if items := f.Agency.GetItems(); c.GetItem() != "" && len(items) > 0 && !slices.Contains(items, c.GetItem()) {
		l.Add("case.item", "item %s (执法事项) is not one of agency %s's", short(c.GetItem()), c.GetAgency())
	}
}

// openingContent checks what the profile asks of an opening, as first recorded and as corrected.
func openingContent(l *fault.List, p *profile.Profile, c *dubanv1.CaseOpened, occurredAt int64, f *Facts) {
	bounded(l, "case.item", c.GetItem(), MaxValue)
	bounded(l, "case.summary", c.GetSummary(), MaxText)
	bounded(l, "case.source", c.GetSource(), MaxValue)
	pr := p.Procedure(c.GetProcedure())
	if pr == nil {
		l.Add("case.procedure", "%s is not a procedure of profile %s; there are %s", short(c.GetProcedure()), p.Name,
			listed(p.Procedures, func(pr *profile.Procedure) string { return called(pr.Name, pr.Title) }))
		return
	}
	o := &pr.Opening
	if o.Item {
		required(l, "case.item", c.GetItem(), MaxValue, called("the item code", "事项编码", o.Article))
	}
	if o.Summary {
		required(l, "case.summary", c.GetSummary(), MaxText, called("what happened", "案情", o.Article))
	}
	if len(o.Sources) > 0 && !slices.ContainsFunc(o.Sources, func(s profile.Source) bool { return s.Name == c.GetSource() }) {
		l.Add("case.source", "%s is not a source (案源) of this procedure; there are %s", short(c.GetSource()),
			listed(o.Sources, func(s *profile.Source) string { return called(s.Name, s.Title) }))
	}
	checkParty(l, c.GetParty(), o)
	switch {
	case c.GetHandler() != "" && !c.GetImported():
		person(l, "case.handler", c.GetHandler(), c.GetAgency(), occurredAt, f)
	case c.GetHandler() == "" && o.Handler:
		l.Add("case.handler", "missing: the officer who handles the case, by id")
	}
	checkFields(l, "case.fields", o.Fields, c.GetFields(), "")
}

func checkParty(l *fault.List, party *dubanv1.Party, o *profile.Opening) {
	if o.Party {
		required(l, "case.party.name", party.GetName(), MaxValue, called("whom it is directed at", "当事人", o.Article))
	} else {
		bounded(l, "case.party.name", party.GetName(), MaxValue)
	}
	bounded(l, "case.party.credit_code", party.GetCreditCode(), MaxValue)
	if kind := party.GetKind(); (o.Party || kind != "") && !slices.Contains(partyKinds, kind) {
		l.Add("case.party.kind", "%s: want citizen or organisation", short(kind))
	}
}
