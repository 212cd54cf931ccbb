package bulk

import (
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml"

	"duban.internal/node/fault"
)

// Mapping says how a row becomes records.
type Mapping struct {
	Name    string                       `yaml:"name"`
	Format  string                       `yaml:"format"`
	Columns []string                     `yaml:"columns"`
	Zone    string                       `yaml:"zone"`
	Time    string                       `yaml:"time"`
	Tables  map[string]map[string]string `yaml:"tables"`
	Case    CaseMapping                  `yaml:"case"`
	Stages  []StageMapping               `yaml:"stages"`

	zone   *time.Location
	column map[string]int
}

// CaseMapping makes a case of a row.
type CaseMapping struct {
	ID        Value            `yaml:"id"`
	Number    Value            `yaml:"number"`
	Agency    Value            `yaml:"agency"`
	Item      Value            `yaml:"item"`
	Procedure Value            `yaml:"procedure"`
	Source    Value            `yaml:"source"`
	Summary   Value            `yaml:"summary"`
	Handler   Value            `yaml:"handler"`
	Division  Value            `yaml:"division"`
	Party     PartyMapping     `yaml:"party"`
	Occurred  Value            `yaml:"occurred"`
	Fields    map[string]Value `yaml:"fields"`
}

// PartyMapping makes the party of a case.
type PartyMapping struct {
	Name       Value `yaml:"name"`
	Kind       Value `yaml:"kind"`
	CreditCode Value `yaml:"credit_code"`
}

// StageMapping makes one stage of a row.
type StageMapping struct {
	Stage      string           `yaml:"stage"`
	If         string           `yaml:"if"`
	Completed  Value            `yaml:"completed"`
	Officers   []Value          `yaml:"officers"`
	Handler    Value            `yaml:"handler"`
	Result     Value            `yaml:"result"`
	Reason     Value            `yaml:"reason"`
	LateReason Value            `yaml:"late_reason"`
	Fields     map[string]Value `yaml:"fields"`
}

// Value is text made of a row.
type Value struct {
	Template string
	Column   string
	Table    string
	Required bool
}

// UnmarshalYAML reads a template or a block.
func (v *Value) UnmarshalYAML(decode func(any) error) error {
	if decode(&v.Template) == nil {
		return nil
	}
	var block struct {
		Column   string `yaml:"column"`
		Table    string `yaml:"table"`
		Required bool   `yaml:"required"`
	}
	if err := decode(&block); err != nil {
		return err
	}
	*v = Value{Column: block.Column, Table: block.Table, Required: block.Required}
	return nil
}

// maxName keeps record ids, which are name and hash, well below 128 characters.
const maxName = 24

var (
	validName   = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]*$`)
	placeholder = regexp.MustCompile(`\{([^{}]*)\}`)
)

// LoadMapping reads a mapping file. Everything that is wrong is said at once (fault.Invalid).
func LoadMapping(file string) (*Mapping, error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return nil, fault.New(fault.Invalid, "mapping: %w", err)
	}
	m, err := ParseMapping(content)
	if err != nil {
		return nil, &fault.Error{Kind: fault.Invalid, Msg: "mapping " + file, Fields: fault.Fields(err), Err: err}
	}
	return m, nil
}

// ParseMapping is LoadMapping from memory.
func ParseMapping(content []byte) (*Mapping, error) {
	var m Mapping
	if err := yaml.UnmarshalWithOptions(content, &m, yaml.Strict()); err != nil {
		return nil, fault.Refuse(fault.Invalid, "mapping", fault.Field{Field: "yaml", Description: yaml.FormatError(err, false, true)})
	}
	return &m, m.check()
}

func (m *Mapping) check() error {
	var l fault.List
	if len(m.Name) > maxName || !validName.MatchString(m.Name) {
		l.Add("name", "%.40q: expected 1 to %d of a-z 0-9 . _ -", m.Name, maxName)
	}
	if m.Format != "csv" && m.Format != "jsonl" {
		l.Add("format", "%.40q: expected csv or jsonl", m.Format)
	}
	if len(m.Columns) == 0 {
		l.Add("columns", "is missing: expected the names of the columns")
	}
	m.column = make(map[string]int, len(m.Columns))
	for i, c := range m.Columns {
		if _, twice := m.column[c]; twice || c == "" || c == "hash" {
			l.Add(fmt.Sprintf("columns[%d]", i), "%q: expected a name, given once, and not hash", c)
		}
		m.column[c] = i
	}
	var err error
	if m.zone, err = time.LoadLocation(m.Zone); err != nil || m.Zone == "" || m.Zone == "Local" {
		l.Add("zone", "%.40q: expected a zone such as Asia/Shanghai", m.Zone)
		m.zone = time.UTC
	}
	if m.Time == "" {
		l.Add("time", `is missing: expected the layout of times, such as "2006-01-02"`)
	}
	c := &m.Case
	for _, f := range []struct {
		name string
		v    *Value
	}{{"id", &c.ID}, {"number", &c.Number}, {"agency", &c.Agency}, {"procedure", &c.Procedure}, {"occurred", &c.Occurred}} {
		if *f.v == (Value{}) {
			l.Add("case."+f.name, "is missing")
		}
	}
	for path, v := range c.values() {
		m.checkValue(&l, "case."+path, *v)
	}
	if !strings.Contains(c.ID.Template, "{hash}") {
		l.Add("case.id", "expected {hash} in it: two rows that differ are two cases, whatever their numbers")
	}
	seen := map[string]bool{}
	for i, s := range m.Stages {
		at := fmt.Sprintf("stages[%d].", i)
		if s.Stage == "" || seen[s.Stage] || len(s.Stage) > 32 || !validName.MatchString(s.Stage) {
			l.Add(at+"stage", "%.40q: expected a stage of the profile, each once", s.Stage)
		}
		seen[s.Stage] = true
		if _, ok := m.column[s.If]; s.If != "" && !ok {
			l.Add(at+"if", "%q: expected one of the columns %s", s.If, strings.Join(m.Columns, ", "))
		}
		if s.Completed == (Value{}) {
			l.Add(at+"completed", "is missing")
		}
		for path, v := range s.values() {
			m.checkValue(&l, at+path, *v)
		}
	}
	slices.SortStableFunc(l, func(a, b fault.Field) int { return strings.Compare(a.Field, b.Field) })
	return l.Err(fault.Invalid, "mapping")
}

func (m *Mapping) checkValue(l *fault.List, path string, v Value) {
	columns := strings.Join(m.Columns, ", ")
	for _, p := range placeholder.FindAllStringSubmatch(v.Template, -1) {
		if _, ok := m.column[p[1]]; !ok && p[1] != "hash" {
			l.Add(path, "{%s}: expected {hash} or one of the columns %s", p[1], columns)
		}
	}
	if _, ok := m.column[v.Column]; v.Column != "" && !ok {
		l.Add(path+".column", "%q: expected one of the columns %s", v.Column, columns)
	}
	if v.Column == "" && (v.Table != "" || v.Required) {
		l.Add(path+".column", "is missing: a table or required is about a column")
	}
	if _, ok := m.Tables[v.Table]; v.Table != "" && !ok {
		l.Add(path+".table", "%q: expected one of the tables %s", v.Table, strings.Join(slices.Sorted(maps.Keys(m.Tables)), ", "))
	}
}

func (c *CaseMapping) values() map[string]*Value {
	all := map[string]*Value{
		"id": &c.ID, "number": &c.Number, "agency": &c.Agency, "item": &c.Item, "procedure": &c.Procedure, "source": &c.Source,
		"summary": &c.Summary, "handler": &c.Handler, "division": &c.Division, "occurred": &c.Occurred,
		"party.name": &c.Party.Name, "party.kind": &c.Party.Kind, "party.credit_code": &c.Party.CreditCode,
	}
	for name, v := range c.Fields {
		all["fields."+name] = &v
	}
	return all
}

func (s *StageMapping) values() map[string]*Value {
	all := map[string]*Value{"completed": &s.Completed, "handler": &s.Handler, "result": &s.Result, "reason": &s.Reason, "late_reason": &s.LateReason}
	for i := range s.Officers {
		all[fmt.Sprintf("officers[%d]", i)] = &s.Officers[i]
	}
	for name, v := range s.Fields {
		all["fields."+name] = &v
	}
	return all
}
