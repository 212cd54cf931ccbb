package casefile

import (
	"slices"

	"google.golang.org/protobuf/proto"

	"duban.internal/node/profile"
	dubanv1 "duban.internal/proto/duban/v1"
)

// State is what the gate must know of a case. It can be built from rows, or from entries with Apply.
type State struct {
	CaseID      string
	Procedure   string
	Agency      string
	OpenedAt    int64 // as stated, microseconds
	Imported    bool
	Stages      []Done // in order of recording
	Evidence    int    // attachments named so far
	Corrections []Correction
}

// Done is a stage on record, with approved corrections applied.
type Done struct {
	Number      uint64 // of its entry
	Stage       string
	Result      string
	CompletedAt int64    // as stated, microseconds
	People      []string // who acted or is answerable: officers and handler, each once
}

// Correction is an application that was made in the case.
type Correction struct {
	ID       string
	Entry    uint64 // that it wants to correct
	Decided  bool
	Approved bool
}

// DoneFrom is what the gate keeps of a stage on record.
func DoneFrom(number uint64, s *dubanv1.StageRecorded) Done {
	return Done{
		Number: number, Stage: s.GetStage(), Result: s.GetOpinion().GetResult(), CompletedAt: s.GetCompletedUs(),
		People: people(s),
	}
}

func people(s *dubanv1.StageRecorded) []string {
	all := make([]string, 0, len(s.GetOfficers())+1)
	for _, id := range append(slices.Clone(s.GetOfficers()), s.GetHandler()) {
		if id != "" && !slices.Contains(all, id) {
			all = append(all, id)
		}
	}
	return all
}

// Apply brings st up to date with one entry about its case, in the journal's order. Payloads that say nothing to the gate
// change nothing. When a correction of a stage is approved, call Corrected as well: the entry does not carry the stage.
func (st *State) Apply(number uint64, occurredAt int64, payload proto.Message) {
	switch e := payload.(type) {
	case *dubanv1.CaseOpened:
		*st = State{
			CaseID: e.GetCaseId(), Procedure: e.GetProcedure(), Agency: e.GetAgency(), OpenedAt: occurredAt,
			Imported: e.GetImported(),
		}
	case *dubanv1.StageRecorded:
		st.Stages = append(st.Stages, DoneFrom(number, e))
	case *dubanv1.EvidenceAttached:
		st.Evidence++
	case *dubanv1.CorrectionRequested:
		st.Corrections = append(st.Corrections, Correction{ID: e.GetCorrectionId(), Entry: e.GetEntry()})
	case *dubanv1.CorrectionDecided:
		if c := st.correction(e.GetCorrectionId()); c != nil {
			c.Decided, c.Approved = true, e.GetApproved()
		}
	}
}

// Corrected puts a corrected stage in place of the one of entry number.
func (st *State) Corrected(number uint64, s *dubanv1.StageRecorded) {
	for i := range st.Stages {
		if st.Stages[i].Number == number {
			st.Stages[i] = DoneFrom(number, s)
		}
	}
}

// Closed says whether the case has come to its end.
func (st *State) Closed(pr *profile.Procedure) bool {
	last := st.last()
	if last == nil {
		return false
	}
	s := pr.Stage(last.Stage)
	return s != nil && s.Closes
}

func (st *State) last() *Done {
	if len(st.Stages) == 0 {
		return nil
	}
	return &st.Stages[len(st.Stages)-1]
}

// latest is the last record of a stage.
func (st *State) latest(stage string) *Done {
	for i := len(st.Stages) - 1; i >= 0; i-- {
		if st.Stages[i].Stage == stage {
			return &st.Stages[i]
		}
	}
	return nil
}

func (st *State) correction(id string) *Correction {
	for i := range st.Corrections {
		if st.Corrections[i].ID == id {
			return &st.Corrections[i]
		}
	}
	return nil
}
