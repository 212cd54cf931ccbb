package caseview

import (
	"bytes"
	"fmt"
	"strings"

	"google.golang.org/protobuf/proto"

	"duban.internal/node/casefile"
	"duban.internal/node/fault"
	"duban.internal/node/journal"
	"duban.internal/node/planted"
	"duban.internal/node/profile"
	"duban.internal/node/store"
	dubanv1 "duban.internal/proto/duban/v1"
)

// Fold folds cases.
func Fold() store.Fold {
	return store.Fold{
		Name: "caseview", Version: 1,
		Tables: []*store.Table{CaseRow, CaseState, CaseEntry, CaseCorrection, AttachmentUse, CaseCount, ClosingStage},
		Kinds: []uint32{
			uint32(dubanv1.EntryKind_ENTRY_KIND_PROFILE_ADOPTED),
			uint32(dubanv1.EntryKind_ENTRY_KIND_CASE_OPENED),
			uint32(dubanv1.EntryKind_ENTRY_KIND_STAGE_RECORDED),
			uint32(dubanv1.EntryKind_ENTRY_KIND_EVIDENCE_ATTACHED),
			uint32(dubanv1.EntryKind_ENTRY_KIND_EXPLANATION_GIVEN),
			uint32(dubanv1.EntryKind_ENTRY_KIND_CORRECTION_REQUESTED),
			uint32(dubanv1.EntryKind_ENTRY_KIND_CORRECTION_DECIDED),
		},
		Apply: apply,
	}
}

func apply(tx store.Tx, e *journal.Entry) error {
	kind := dubanv1.EntryKind(e.Kind)
	if kind == dubanv1.EntryKind_ENTRY_KIND_PROFILE_ADOPTED {
		return adopted(tx, e)
	}
	if e.Erased {
		return erased(tx, e)
	}
	if kind == dubanv1.EntryKind_ENTRY_KIND_CASE_OPENED {
		return opened(tx, e)
	}
	c, err := at(tx, strings.TrimPrefix(e.Stream, "case/"), e)
	if err != nil {
		return err
	}
	var m payload
	switch kind {
	case dubanv1.EntryKind_ENTRY_KIND_STAGE_RECORDED:
		m = new(dubanv1.StageRecorded)
	case dubanv1.EntryKind_ENTRY_KIND_EVIDENCE_ATTACHED:
		m = new(dubanv1.EvidenceAttached)
	case dubanv1.EntryKind_ENTRY_KIND_EXPLANATION_GIVEN:
		m = new(dubanv1.ExplanationGiven)
	case dubanv1.EntryKind_ENTRY_KIND_CORRECTION_REQUESTED:
		m = new(dubanv1.CorrectionRequested)
	case dubanv1.EntryKind_ENTRY_KIND_CORRECTION_DECIDED:
		m = new(dubanv1.CorrectionDecided)
	default:
		return fmt.Errorf("entry %d: kind %d is none of a case", e.Number, e.Kind)
	}
	if err := proto.Unmarshal(e.Payload, m); err != nil {
		return fmt.Errorf("entry %d: %w", e.Number, err)
	}
	if m.GetCaseId() != c.id {
		return fmt.Errorf("entry %d: is about case %.80q, its stream about %.80q", e.Number, m.GetCaseId(), c.id)
	}
	row := store.Row{c.id, int64(e.Number), int64(e.Kind), e.RecordedAt, nil, nil, nil}
	switch m := m.(type) {
	case *dubanv1.StageRecorded:
		row[4], row[5], row[6] = m.GetStage(), m.GetOpinion().GetResult(), m.GetCompletedUs()
		c.staged(m)
	case *dubanv1.EvidenceAttached:
		if !planted.On("fold.forgets-evidence") {
			c.evidence++
		}
		c.uses(m.GetSha256())
	case *dubanv1.CorrectionRequested:
		c.corrections = append(c.corrections, casefile.Correction{ID: m.GetCorrectionId(), Entry: m.GetEntry()})
		// A copy: a remembered row must not keep the whole group of entries that this one came with.
		tx.Put(CaseCorrection, store.Row{c.id, m.GetCorrectionId(), bytes.Clone(e.Payload)})
	case *dubanv1.CorrectionDecided:
		if err := c.decided(m); err != nil {
			return err
		}
	}
	tx.Put(CaseEntry, row)
	c.put()
	return nil
}

// payload is what every entry of a case but its opening is.
type payload interface {
	proto.Message
	GetCaseId() string
}

// folded is a case as one entry finds it.
type folded struct {
	*progress
	tx      store.Tx
	entry   *journal.Entry
	id      string
	version int64
	stage   string
}

func at(tx store.Tx, id string, e *journal.Entry) (*folded, error) {
	row, ok := tx.Get(CaseState, id)
	if !ok {
		return nil, fmt.Errorf("entry %d: its journal has no case %.80q", e.Number, id)
	}
	p, err := decodeProgress(row[3].([]byte))
	if err != nil {
		return nil, err
	}
	return &folded{progress: p, tx: tx, entry: e, id: id, version: row[1].(int64), stage: row[2].(string)}, nil
}

func (c *folded) put() {
	if planted.On("fold.version-stays") && c.version > 1 {
		c.version--
	}
	c.tx.Put(CaseState, store.Row{c.id, c.version + 1, c.stage, c.encode()})
}

func opened(tx store.Tx, e *journal.Entry) error {
	var m dubanv1.CaseOpened
	if err := proto.Unmarshal(e.Payload, &m); err != nil {
		return fmt.Errorf("entry %d: %w", e.Number, err)
	}
	id := m.GetCaseId()
	if id == "" || e.Stream != Stream(id) {
		return fmt.Errorf("entry %d: opens case %.80q in the stream %.80q", e.Number, id, e.Stream)
	}
	if _, there := tx.Get(CaseState, id); there {
		return fmt.Errorf("entry %d: case %s is open already", e.Number, id)
	}
	at := e.OccurredAt
	if at == 0 {
		at = e.RecordedAt
	}
	imported := flag(m.GetImported())
	tx.Put(CaseRow, store.Row{
		id, m.GetNumber(), m.GetAgency(), m.GetItem(), m.GetProcedure(), m.GetDivision(), flag(m.GetGenerated()), imported,
		at, int64(0), int64(e.Number),
	})
	tx.Put(CaseEntry, store.Row{id, int64(e.Number), int64(e.Kind), e.RecordedAt, nil, nil, nil})
	count(tx, 1, 0, imported)
	c := folded{tx: tx, entry: e, id: id, progress: &progress{
		procedure: m.GetProcedure(), agency: m.GetAgency(), openedAt: at, imported: m.GetImported(), opening: e.Number,
	}}
	c.put()
	return nil
}

func flag(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

func count(tx store.Tx, total, closed, imported int64) {
	row, ok := tx.Get(CaseCount, int64(0))
	if !ok {
		row = store.Row{int64(0), int64(0), int64(0), int64(0)}
	}
	tx.Put(CaseCount, store.Row{int64(0), row[1].(int64) + total, row[2].(int64) + closed, row[3].(int64) + imported})
}

func (c *folded) staged(m *dubanv1.StageRecorded) {
	c.stage = m.GetStage()
	c.steps = append(c.steps, step{
		number: c.entry.Number, stage: m.GetStage(), result: m.GetOpinion().GetResult(), completedAt: m.GetCompletedUs(),
		handler: m.GetHandler(), officers: m.GetOfficers(),
	})
	for _, d := range m.GetDocuments() {
		c.uses(d.GetSha256())
	}
	if c.closes(m.GetStage()) {
		c.close(m.GetCompletedUs())
	}
}

func (c *folded) closes(stage string) bool {
	row, ok := c.tx.Get(ClosingStage, c.procedure)
	return ok && strings.Contains(row[1].(string), ","+stage+",")
}

// close notes when the case was closed, or, corrected, when it was after all.
func (c *folded) close(at int64) {
	row, ok := c.tx.Get(CaseRow, c.id)
	if !ok || at == 0 {
		return
	}
	if row[9].(int64) == 0 {
		count(c.tx, 0, 1, 0)
	}
	row = append(store.Row(nil), row...)
	row[9] = at
	c.tx.Put(CaseRow, row)
}

func (c *folded) uses(sha256 []byte) {
	if len(sha256) > 0 {
		c.tx.Put(AttachmentUse, store.Row{sha256, c.id, int64(c.entry.Number), c.agency})
	}
}

// decided answers an application; approved, the typed columns go to the new version.
func (c *folded) decided(m *dubanv1.CorrectionDecided) error {
	for i := range c.corrections {
		x := &c.corrections[i]
		if x.ID != m.GetCorrectionId() || x.Decided {
			continue
		}
		x.Decided, x.Approved = true, m.GetApproved()
		if !x.Approved {
			return nil
		}
		row, ok := c.tx.Get(CaseCorrection, c.id, x.ID)
		if !ok {
			return fmt.Errorf("entry %d: application %.80q of case %s is not there", c.entry.Number, x.ID, c.id)
		}
		var request dubanv1.CorrectionRequested
		if err := proto.Unmarshal(row[2].([]byte), &request); err != nil {
			return err
		}
		return c.correct(&request)
	}
	return fmt.Errorf("entry %d: case %s has no open application %.80q", c.entry.Number, c.id, m.GetCorrectionId())
}

// correct moves the typed columns of the corrected entry. Other fields are corrected where the entry is read.
func (c *folded) correct(m *dubanv1.CorrectionRequested) error {
	if m.GetEntry() == c.opening {
		return c.correctOpening(m.GetChanges())
	}
	for i := range c.steps {
		s := &c.steps[i]
		if s.number != m.GetEntry() {
			continue
		}
		target := &dubanv1.StageRecorded{
			Stage: s.stage, CompletedUs: s.completedAt, Officers: s.officers, Handler: s.handler,
			Opinion: &dubanv1.Opinion{Result: s.result},
		}
		corrected, wrong := casefile.Correct(target, only(m.GetChanges(), "completed_us", "officers", "handler", "opinion.result"))
		if err := wrong.Err(fault.Internal, "correction"); err != nil {
			return err
		}
		got := corrected.(*dubanv1.StageRecorded)
		s.result, s.completedAt = got.GetOpinion().GetResult(), got.GetCompletedUs()
		s.handler, s.officers = got.GetHandler(), got.GetOfficers()
		if row, ok := c.tx.Get(CaseEntry, c.id, int64(s.number)); ok {
			row = append(store.Row(nil), row...)
			row[5], row[6] = s.result, s.completedAt
			c.tx.Put(CaseEntry, row)
		}
		if c.closes(s.stage) {
			c.close(s.completedAt)
		}
		return nil
	}
	return nil // evidence and explanations have no columns
}

func (c *folded) correctOpening(changes map[string]string) error {
	row, ok := c.tx.Get(CaseRow, c.id)
	if !ok {
		return nil
	}
	target := &dubanv1.CaseOpened{Number: row[1].(string), Item: row[3].(string)}
	corrected, wrong := casefile.Correct(target, only(changes, "number", "item"))
	if err := wrong.Err(fault.Internal, "correction"); err != nil {
		return err
	}
	got := corrected.(*dubanv1.CaseOpened)
	row = append(store.Row(nil), row...)
	row[1], row[3] = got.GetNumber(), got.GetItem()
	c.tx.Put(CaseRow, row)
	return nil
}

func only(changes map[string]string, paths ...string) map[string]string {
	kept := make(map[string]string, len(paths))
	for _, p := range paths {
		if v, ok := changes[p]; ok {
			kept[p] = v
		}
	}
	return kept
}

// erased keeps the count of a case's entries; what an erased entry said is gone.
func erased(tx store.Tx, e *journal.Entry) error {
	c, err := at(tx, strings.TrimPrefix(e.Stream, "case/"), e)
	if err != nil {
		return nil //nolint:nilerror // the opening itself was erased: there is no case to count for
	}
	tx.Put(CaseEntry, store.Row{c.id, int64(e.Number), int64(e.Kind), e.RecordedAt, nil, nil, nil})
	c.put()
	return nil
}

// adopted notes which stages close which procedure, for a fold sees rows and no profile.
func adopted(tx store.Tx, e *journal.Entry) error {
	var m dubanv1.ProfileAdopted
	if err := proto.Unmarshal(e.Payload, &m); err != nil {
		return fmt.Errorf("entry %d: %w", e.Number, err)
	}
	files := make([]profile.File, len(m.GetFiles()))
	for i, f := range m.GetFiles() {
		files[i] = profile.File{Path: f.GetPath(), Content: f.GetContent()}
	}
	p, err := profile.Parse(files)
	if err != nil {
		return fmt.Errorf("entry %d: profile %.80q: %w", e.Number, m.GetName(), err)
	}
	for i := range p.Procedures {
		pr := &p.Procedures[i]
		names := ","
		for j := range pr.Stages {
			if pr.Stages[j].Closes {
				names += pr.Stages[j].Name + ","
			}
		}
		tx.Put(ClosingStage, store.Row{pr.Name, names})
	}
	return nil
}
