package bulk

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"strings"
	"time"

	"duban.internal/node/fault"
	dubanv1 "duban.internal/proto/duban/v1"
)

// Row is one row of the input.
type Row struct {
	Line   int      // in the input, from 1
	Values []string // by the mapping's columns
	Broken string   // why it could not be read; Values are then what could be made of it
}

// hash is over the whole row: every value with its length, in the order of the columns.
func (r Row) hash() [sha256.Size]byte {
	var b []byte
	for _, v := range r.Values {
		b = binary.BigEndian.AppendUint32(b, uint32(len(v)))
		b = append(b, v...)
	}
	return sha256.Sum256(b)
}

// Record turns a row into what is sent: the case with its stages. All that is wrong with the row comes at once.
func (m *Mapping) Record(r Row) (*dubanv1.CollectRequest, fault.List) {
	w := maker{m: m, row: r}
	if r.Broken != "" {
		w.wrong.Add("row", "%s", r.Broken)
		return nil, w.wrong
	}
	hash := r.hash()
	w.hash = hex.EncodeToString(hash[:])
	c := &m.Case
	opened := &dubanv1.CaseOpened{
		CaseId: w.text("id", c.ID), Number: w.text("number", c.Number), Agency: w.text("agency", c.Agency),
		Item: w.text("item", c.Item), Procedure: w.text("procedure", c.Procedure), Source: w.text("source", c.Source),
		Summary: w.text("summary", c.Summary), Handler: w.text("handler", c.Handler), Division: w.text("division", c.Division),
		Imported: true, Fields: w.fields(c.Fields),
	}
	party := dubanv1.Party{Name: w.text("party.name", c.Party.Name), Kind: w.text("party.kind", c.Party.Kind), CreditCode: w.text("party.credit_code", c.Party.CreditCode)}
	if party.Name != "" || party.Kind != "" || party.CreditCode != "" {
		opened.Party = &party
	}
	whole := &dubanv1.CaseHistory{Case: opened}
	record := &dubanv1.CollectRequest{
		RecordId: m.Name + ":" + w.hash, OccurredUs: w.time("occurred", c.Occurred), Record: &dubanv1.CollectRequest_History{History: whole},
	}
	for i := range m.Stages {
		s := &m.Stages[i]
		if s.If != "" && r.Values[m.column[s.If]] == "" {
			continue
		}
		at := s.Stage + "."
		stage := &dubanv1.StageRecorded{
			CaseId: opened.CaseId, Stage: s.Stage, CompletedUs: w.time(at+"completed", s.Completed),
			Handler: w.text(at+"handler", s.Handler), LateReason: w.text(at+"late_reason", s.LateReason), Fields: w.fields(s.Fields),
		}
		for _, v := range s.Officers {
			stage.Officers = append(stage.Officers, w.text(at+"officers", v))
		}
		if s.Result != (Value{}) || s.Reason != (Value{}) {
			stage.Opinion = &dubanv1.Opinion{Result: w.text(at+"result", s.Result), Reason: w.text(at+"reason", s.Reason)}
		}
		whole.Stages = append(whole.Stages, stage)
	}
	return record, w.wrong
}

type maker struct {
	m     *Mapping
	row   Row
	hash  string
	wrong fault.List
}

func (w *maker) text(name string, v Value) string {
	if v.Column == "" {
		return w.fill(v.Template)
	}
	value := w.row.Values[w.m.column[v.Column]]
	if value == "" {
		if v.Required {
			w.wrong.Add(v.Column, "is empty, and %s needs it", name)
		}
		return ""
	}
	if v.Table == "" {
		return value
	}
	mapped, ok := w.m.Tables[v.Table][value]
	if !ok {
		w.wrong.Add(v.Column, "%.40q is not in the table %s, and %s needs it", value, v.Table, name)
	}
	return mapped
}

// fill replaces {column} and {hash}; the mapping's check has seen to it that nothing else is there.
func (w *maker) fill(template string) string {
	if !strings.Contains(template, "{") {
		return template
	}
	return placeholder.ReplaceAllStringFunc(template, func(p string) string {
		name := p[1 : len(p)-1]
		if name == "hash" {
			return w.hash[:8]
		}
		return w.row.Values[w.m.column[name]]
	})
}

func (w *maker) fields(values map[string]Value) map[string]string {
	if len(values) == 0 {
		return nil
	}
	out := make(map[string]string, len(values))
	for name, v := range values {
		if text := w.text("fields."+name, v); text != "" {
			out[name] = text
		}
	}
	return out
}

func (w *maker) time(name string, v Value) int64 {
	text := w.text(name, v)
	t, err := time.ParseInLocation(w.m.Time, text, w.m.zone)
	if err != nil {
		w.wrong.Add(name, "%.40q: expected a time such as %s", text, w.m.Time)
		return 0
	}
	return t.UnixMicro()
}
