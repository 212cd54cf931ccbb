package rule

import (
	"fmt"
	"slices"
	"sync"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/checker"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"

	"duban.internal/node/casefile"
	"duban.internal/node/profile"
)

// Bounds of a profile's conditions: it may come from another node.
const (
	maxPoints    = 256
	maxCondition = 4000    // characters
	maxCost      = 200_000 // CEL's units, at the largest record: some milliseconds at worst
	maxTotal     = 2_000_000
)

// Set is a profile's points and ladders, compiled. It is safe for concurrent use.
type Set struct {
	profile *profile.Profile
	titles  map[string]string // of stages, by procedure/stage

	others map[string][]watch // by kind of event, those that name no stage
	stages map[string][]watch // by kind/stage, with those that name none
}

// watch is one trigger of one point.
type watch struct {
	point   *point
	trigger *trigger
	ends    bool
}

type point struct {
	*profile.Point
	text text
}

type trigger struct {
	*profile.Trigger
	name    string      // for errors
	program cel.Program // nil for always
}

// Compile checks and compiles every condition of p. The error is a profile.Problems that names each that is wrong.
func Compile(p *profile.Profile) (*Set, error) {
	s := &Set{profile: p, titles: make(map[string]string), others: make(map[string][]watch), stages: make(map[string][]watch)}
	var problems profile.Problems
	if len(p.Points) > maxPoints {
		return nil, append(problems, p.Problem("points", "%d points, at most %d are allowed", len(p.Points), maxPoints))
	}
	envs, err := environments()
	if err != nil {
		return nil, fmt.Errorf("rule: %w", err)
	}
	var ends, starts []watch
	c := compiler{p: p, envs: envs, problems: &problems}
	for i := range p.Points {
		pt := &point{Point: &p.Points[i], text: textOf(&p.Points[i])}
		path := fmt.Sprintf("points[%d]", i)
		for k := range pt.End {
			ends = append(ends, watch{point: pt, trigger: c.trigger(fmt.Sprintf("%s.end[%d]", path, k), &pt.End[k]), ends: true})
		}
		starts = append(starts, watch{point: pt, trigger: c.trigger(path+".start", &pt.Start)})
	}
	if c.total > maxTotal {
		c.add("points", "all conditions together may cost %d, at most %d is allowed", c.total, maxTotal)
	}
	if len(problems) > 0 {
		return nil, problems
	}
	s.index(append(ends, starts...))
	return s, nil
}

// index sorts triggers so that a step looks only at those that may match.
func (s *Set) index(all []watch) {
	for _, pr := range s.profile.Procedures {
		for _, st := range pr.Stages {
			s.titles[pr.Name+"/"+st.Name] = st.Name + " " + st.Title
			for _, w := range all {
				on := w.trigger.On
				key := on + "/" + st.Name
				if (len(w.trigger.Stages) == 0 || slices.Contains(w.trigger.Stages, st.Name)) && !slices.Contains(s.stages[key], w) {
					s.stages[key] = append(s.stages[key], w)
				}
			}
		}
	}
	for _, w := range all {
		if len(w.trigger.Stages) == 0 {
			s.others[w.trigger.On] = append(s.others[w.trigger.On], w)
		}
	}
}

// watching gives the triggers that may match an event.
func (s *Set) watching(ev *event) []watch {
	if ev.stage != "" {
		if list, ok := s.stages[ev.kind+"/"+ev.stage]; ok {
			return list
		}
	}
	return s.others[ev.kind]
}

// matches says whether an event is what the trigger waits for.
func (t *trigger) matches(ev *event) (bool, error) {
	if len(t.Acts) > 0 && !slices.Contains(t.Acts, ev.c.Act) ||
		len(t.Stages) > 0 && !slices.Contains(t.Stages, ev.stage) ||
		len(t.Subjects) > 0 && !slices.Contains(t.Subjects, ev.subject) {
		return false, nil
	}
	if t.program == nil {
		return true, nil
	}
	if ev.oversized() {
		return false, fmt.Errorf("%s: the record is larger than any gate lets pass", t.name)
	}
	value, _, err := t.program.Eval(ev)
	if err != nil {
		return false, fmt.Errorf("%s: %w", t.name, err)
	}
	return value == types.True, nil
}

// environments are what conditions on each kind of event may ask.
var environments = sync.OnceValues(func() (map[string]*cel.Env, error) {
	envs := make(map[string]*cel.Env)
	for _, kind := range []string{onCase, onStage, onEvidence, onExplanation, onCorrection} {
		env, err := cel.NewEnv(append(variables(kind),
			cel.Function("get", cel.MemberOverload("fields_get_string",
				[]*cel.Type{cel.MapType(cel.StringType, cel.StringType), cel.StringType}, cel.StringType, cel.BinaryBinding(get))),
			cel.DefaultUTCTimeZone(true),
			cel.ParserExpressionSizeLimit(maxCondition),
			cel.ParserRecursionLimit(50),
			cel.ExpressionNodeLimit(2000),
		)...)
		if err != nil {
			return nil, err
		}
		envs[kind] = env
	}
	return envs, nil
})

// get is a field by its name; empty text where the record has none.
func get(fields, name ref.Val) ref.Val {
	m, ok := fields.(traits.Mapper)
	if !ok {
		return types.MaybeNoSuchOverloadErr(fields)
	}
	value, found := m.Find(name)
	if !found {
		return types.String("")
	}
	return value
}

// sizes bounds what a condition may cost, by the bounds of a record.
type sizes struct{}

// EstimateSize is for CEL's estimate of costs.
func (sizes) EstimateSize(n checker.AstNode) *checker.SizeEstimate {
	most := uint64(casefile.MaxText)
	if path := n.Path(); len(path) == 1 {
		switch path[0] {
		case "stage.officers":
			most = casefile.MaxOfficers
		case "stage.documents":
			most = casefile.MaxDocuments
		case "stage.fields", "case.fields":
			most = casefile.MaxFields
		case "stage.name", "stage.result", "case.id", "case.procedure", "case.act", "case.tier", "explanation.subject":
			most = 64 // names by a profile
		}
	} else if len(path) > 1 {
		most = casefile.MaxValue
	}
	return &checker.SizeEstimate{Min: 0, Max: most}
}

// EstimateCallCost is for CEL's estimate of costs.
func (sizes) EstimateCallCost(function, _ string, _ *checker.AstNode, _ []checker.AstNode) *checker.CallEstimate {
	if function != "get" {
		return nil
	}
	return &checker.CallEstimate{
		CostEstimate: checker.CostEstimate{Min: 1, Max: 2},
		ResultSize:   &checker.SizeEstimate{Min: 0, Max: casefile.MaxValue},
	}
}
