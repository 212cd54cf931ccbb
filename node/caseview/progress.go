package caseview

import (
	"encoding/binary"
	"errors"
	"slices"

	"duban.internal/node/casefile"
)

// progress is how a case stands, as the column of that name holds it: a version byte, then fields in the order of the
// struct, numbers as varints, text and lists with their length before.
type progress struct {
	procedure, agency string
	openedAt          int64
	imported          bool
	opening           uint64 // number of the opening
	evidence          int
	steps             []step
	corrections       []casefile.Correction
}

// step is a stage on record, with approved corrections.
type step struct {
	number        uint64
	stage, result string
	completedAt   int64
	handler       string
	officers      []string
}

const progressVersion = 1

func (p *progress) encode() []byte {
	b := make([]byte, 0, 96+64*len(p.steps))
	b = append(b, progressVersion)
	b = appendText(b, p.procedure)
	b = appendText(b, p.agency)
	b = binary.AppendVarint(b, p.openedAt)
	b = appendFlags(b, p.imported, false)
	b = binary.AppendUvarint(b, p.opening)
	b = binary.AppendUvarint(b, uint64(p.evidence))
	b = binary.AppendUvarint(b, uint64(len(p.steps)))
	for i := range p.steps {
		s := &p.steps[i]
		b = binary.AppendUvarint(b, s.number)
		b = appendText(b, s.stage)
		b = appendText(b, s.result)
		b = binary.AppendVarint(b, s.completedAt)
		b = appendText(b, s.handler)
		b = binary.AppendUvarint(b, uint64(len(s.officers)))
		for _, o := range s.officers {
			b = appendText(b, o)
		}
	}
	b = binary.AppendUvarint(b, uint64(len(p.corrections)))
	for _, c := range p.corrections {
		b = appendText(b, c.ID)
		b = binary.AppendUvarint(b, c.Entry)
		b = appendFlags(b, c.Decided, c.Approved)
	}
	return b
}

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func appendFlags(b []byte, first, second bool) []byte {
	var f byte
	if first {
		f |= 1
	}
	if second {
		f |= 2
	}
	return append(b, f)
}

var errProgress = errors.New("caseview: malformed progress of a case")

// decodeProgress reads what encode wrote; it fails on anything else and never panics.
func decodeProgress(b []byte) (*progress, error) {
	d := decoder{rest: b}
	if d.byte() != progressVersion {
		return nil, errProgress
	}
	p := &progress{procedure: d.text(), agency: d.text(), openedAt: d.varint()}
	p.imported, _ = d.flags()
	p.opening = d.uvarint()
	p.evidence = int(d.uvarint() & (1<<31 - 1))
	if n := d.count(); n > 0 {
		p.steps = make([]step, n, n+1)
		for i := range p.steps {
			s := &p.steps[i]
			s.number, s.stage, s.result, s.completedAt, s.handler = d.uvarint(), d.text(), d.text(), d.varint(), d.text()
			if n := d.count(); n > 0 {
				s.officers = make([]string, n)
				for i := range s.officers {
					s.officers[i] = d.text()
				}
			}
		}
	}
	if n := d.count(); n > 0 {
		p.corrections = make([]casefile.Correction, n, n+1)
		for i := range p.corrections {
			c := &p.corrections[i]
			c.ID, c.Entry = d.text(), d.uvarint()
			c.Decided, c.Approved = d.flags()
		}
	}
	if d.bad || len(d.rest) > 0 {
		return nil, errProgress
	}
	return p, nil
}

type decoder struct {
	rest []byte
	bad  bool
}

func (d *decoder) byte() byte {
	if len(d.rest) == 0 {
		d.bad = true
		return 0
	}
	b := d.rest[0]
	d.rest = d.rest[1:]
	return b
}

func (d *decoder) flags() (first, second bool) {
	f := d.byte()
	return f&1 != 0, f&2 != 0
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.rest)
	if n <= 0 {
		d.bad, d.rest = true, nil
		return 0
	}
	d.rest = d.rest[n:]
	return v
}

func (d *decoder) varint() int64 {
	v, n := binary.Varint(d.rest)
	if n <= 0 {
		d.bad, d.rest = true, nil
		return 0
	}
	d.rest = d.rest[n:]
	return v
}

// count is a list's length: each of its elements takes a byte at least.
func (d *decoder) count() int {
	n := d.uvarint()
	if n > uint64(len(d.rest)) {
		d.bad, d.rest = true, nil
		return 0
	}
	return int(n)
}

func (d *decoder) text() string {
	n := d.count()
	s := string(d.rest[:n])
	d.rest = d.rest[n:]
	return s
}

// state is what the gate must know.
func (p *progress) state(caseID string) *casefile.State {
	st := &casefile.State{
		CaseID: caseID, Procedure: p.procedure, Agency: p.agency, OpenedAt: p.openedAt, Imported: p.imported,
		Evidence: p.evidence, Corrections: p.corrections, Stages: make([]casefile.Done, len(p.steps)),
	}
	for i := range p.steps {
		s := &p.steps[i]
		st.Stages[i] = casefile.Done{
			Number: s.number, Stage: s.stage, Result: s.result, CompletedAt: s.completedAt, People: s.people(),
		}
	}
	return st
}

// people are those who acted or are answerable, each once.
func (s *step) people() []string {
	all := make([]string, 0, len(s.officers)+1)
	for _, id := range s.officers {
		if id != "" && !slices.Contains(all, id) {
			all = append(all, id)
		}
	}
	if s.handler != "" && !slices.Contains(all, s.handler) {
		all = append(all, s.handler)
	}
	return all
}
