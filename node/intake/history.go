package intake

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"duban.internal/node/casefile"
	"duban.internal/node/fault"
	"duban.internal/node/identity"
	dubanv1 "duban.internal/proto/duban/v1"
)

// maxStages is how many stages one record may bring with its case.
const maxStages = 64

// history opens a case and records the stages that it has been through: all of them or nothing. Each stage is judged on
// the state that the case would have by then.
func (in *Intake) history(caller identity.Identity, m *dubanv1.CaseHistory, occurred int64) *command {
	c := in.opening(caller, m.GetCase(), occurred)
	for _, s := range m.GetStages() {
		c.more = append(c.more, further{kind: dubanv1.EntryKind_ENTRY_KIND_STAGE_RECORDED, record: s, occurredAt: s.GetCompletedUs()})
	}
	decide := c.decide
	c.decide = func(ctx context.Context, l *look, now time.Time) (decision, error) {
		d, err := decide(ctx, l, now)
		if _, same := errors.AsType[*recorded](err); same { // its stages may not be there
			return d, fault.Refuse(fault.Exists, "there is such a case", fault.Fields(err)...)
		}
		if err != nil {
			return d, err
		}
		p, err := l.profile(ctx)
		if err != nil {
			return d, err
		}
		facts, err := l.facts(ctx, caller, m.GetCase().GetAgency())
		if err != nil {
			return d, err
		}
		var bad fault.List
		if n := len(m.GetStages()); n > maxStages {
			bad.Add("stages", "%d, at most %d are allowed in one record", n, maxStages)
			return d, l.settled(bad, "the case can't be recorded")
		}
		var st casefile.State
		st.Apply(0, d.occurredAt, m.GetCase())
		for i, s := range m.GetStages() {
			for _, f := range casefile.CheckStage(p, &st, s, facts, now) {
				bad.Add(fmt.Sprintf("stages[%d]%s", i, strings.TrimPrefix(f.Field, "stage")), "%s", f.Description)
			}
			st.Apply(uint64(i+1), s.GetCompletedUs(), s)
		}
		return d, l.settled(bad, "the case can't be recorded")
	}
	return c
}
