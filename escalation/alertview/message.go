package alertview

import (
	"duban.internal/escalation/alert"
	"duban.internal/node/journal"
	dubanv1 "duban.internal/proto/duban/v1"
)

// Message is an alert for the wire, as it stands at a time. code tells the jurisdiction of a journal, "" where unknown.
func Message(a *alert.Alert, now int64, code func(journal.ID) string) *dubanv1.Alert {
	out := &dubanv1.Alert{AlertId: a.ID, Closed: a.Closed()}
	if len(a.Levels) == 0 {
		return out
	}
	o := a.Levels[0].Opening
	out.Point, out.Article, out.Grade, out.Journal = o.GetPoint(), o.GetArticle(), o.GetGrade(), o.GetJournal()
	out.CaseId, out.Agency, out.Text, out.Generated = o.GetCaseId(), o.GetAgency(), o.GetText(), o.GetGenerated()
	if id, err := journal.IDFrom(o.GetJournal()); err == nil {
		out.Jurisdiction = code(id)
	}
	for i := range a.Levels {
		out.Levels = append(out.Levels, level(a, &a.Levels[i], now))
	}
	return out
}

func level(a *alert.Alert, l *alert.Level, now int64) *dubanv1.AlertLevel {
	o := l.Opening
	out := &dubanv1.AlertLevel{
		Round: l.Round(), Level: l.Step(), State: a.State(l, now),
		Role: o.GetRole(), Receiver: o.GetReceiver(), Journal: l.Journal[:], Number: l.Number, OpenedUs: l.OpenedAt,
		StartUs: o.GetStartUs(), DueUs: o.GetDueUs(), OpenEndedYear: o.GetOpenEndedYear(), Limit: o.GetLimit(),
		NotOpenedBelow: o.GetNotOpenedBelow(), OnSilence: o.GetOnSilence(), Below: o.GetBelow(),
		Withdrawn: l.Withdrawal.GetBasis(), WithdrawnUs: l.WithdrawnAt, ReopenedUs: l.ReopenedAt, ReopenReason: l.Reopening.GetReason(),
		HandledUs: l.HandledAt, Action: l.Action, Explanation: l.Explanation, HandledBy: l.HandledBy, Late: l.Late,
	}
	if r := l.Reopening; r != nil {
		out.StartUs, out.DueUs, out.OpenEndedYear = r.GetStartUs(), r.GetDueUs(), r.GetOpenEndedYear()
	}
	return out
}
