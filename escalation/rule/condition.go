package rule

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"

	"duban.internal/node/profile"
)

// compiler compiles the triggers of one profile.
type compiler struct {
	p        *profile.Profile
	envs     map[string]*cel.Env
	problems *profile.Problems
	total    uint64 // cost of all conditions, in CEL's units
}

func (c *compiler) add(path, format string, args ...any) {
	*c.problems = append(*c.problems, c.p.Problem(path, format, args...))
}

func (c *compiler) trigger(path string, t *profile.Trigger) *trigger {
	out := &trigger{Trigger: t, name: c.p.Problem(path, "").Field}
	path += ".when"
	if t.When == "" {
		return out
	}
	defer func() {
		if r := recover(); r != nil { // the library has panicked on strange conditions, and a profile may come from elsewhere
			c.add(path, "cannot be compiled: %v", r)
		}
	}()
	env := c.envs[t.On]
	compiled, issues := env.Compile(t.When)
	if issues != nil && issues.Err() != nil {
		for _, e := range issues.Errors() {
			c.add(path, "at character %d: %s%s", e.Location.Column()+1, e.Message, hint(env, e.Message))
		}
		return out
	}
	if !compiled.OutputType().IsExactType(cel.BoolType) {
		c.add(path, "gives %s, want true or false", compiled.OutputType())
		return out
	}
	before := len(*c.problems)
	c.names(path, t, compiled.NativeRep())
	if len(*c.problems) > before {
		return out
	}
	cost, err := env.EstimateCost(compiled, sizes{})
	switch {
	case err != nil:
		c.add(path, "its cost cannot be bounded: %v", err)
		return out
	case cost.Max > maxCost:
		c.add(path, "may cost %d, at most %d is allowed", cost.Max, maxCost)
		return out
	}
	c.total += cost.Max
	if out.program, err = env.Program(compiled, cel.EvalOptions(cel.OptOptimize)); err != nil {
		c.add(path, "%v", err)
	}
	return out
}

// hint lists what may be asked, for a condition that asks for something else.
func hint(env *cel.Env, message string) string {
	if !strings.Contains(message, "undeclared reference") {
		return ""
	}
	var names []string
	for _, v := range env.Variables() {
		if strings.Contains(v.Name(), ".") && !strings.Contains(v.Name(), "google") {
			names = append(names, v.Name())
		}
	}
	slices.Sort(names)
	return "; what may be asked is " + strings.Join(names, ", ")
}

// names holds the names that a condition compares with against the profile's, so that a slip of the pen is found when the
// profile is loaded, and not by an alert that never fires.
func (c *compiler) names(path string, t *profile.Trigger, a *ast.AST) {
	ast.PreOrderVisit(a.Expr(), ast.NewExprVisitor(func(e ast.Expr) {
		switch e.Kind() {
		case ast.SelectKind:
			if s := e.AsSelect(); !s.IsTestOnly() {
				c.notIndexed(path, s.Operand())
			}
		case ast.CallKind:
			call := e.AsCall()
			args := call.Args()
			switch call.FunctionName() {
			case operators.Index:
				c.notIndexed(path, args[0])
			case "matches":
				c.add(path, "regular expressions are not allowed: use ==, in, contains, startsWith or endsWith")
			case "get":
				c.known(path, t, variable(call.Target()), args[0])
			case operators.Equals, operators.NotEquals:
				c.known(path, t, variable(args[0]), args[1])
				c.known(path, t, variable(args[1]), args[0])
			case operators.In:
				if args[1].Kind() == ast.ListKind {
					for _, element := range args[1].AsList().Elements() {
						c.known(path, t, variable(args[0]), element)
					}
				}
			}
		}
	}))
}

// notIndexed refuses what fails where a record lacks the field.
func (c *compiler) notIndexed(path string, of ast.Expr) {
	if v := variable(of); strings.HasSuffix(v, ".fields") {
		c.add(path, "ask for a field with %s.get('name'), which is empty where the record has none", v)
	}
}

// variable is the name of a variable, empty for any other expression.
func variable(e ast.Expr) string {
	if e.Kind() == ast.IdentKind {
		return e.AsIdent()
	}
	return ""
}

// known refuses a literal that the profile has nothing by the name of.
func (c *compiler) known(path string, t *profile.Trigger, variable string, e ast.Expr) {
	if e.Kind() != ast.LiteralKind {
		return
	}
	name, ok := e.AsLiteral().(types.String)
	if !ok || name == "" {
		return
	}
	allowed, checked := c.allowed(variable, t)
	if checked && !slices.Contains(allowed, string(name)) {
		c.add(path, "%s is never %q; there are %s", variable, string(name), strings.Join(allowed, ", "))
	}
}

// allowed gives what a variable may be by the profile, as far as the trigger's acts and stages leave it open.
func (c *compiler) allowed(variable string, t *profile.Trigger) (names []string, checked bool) {
	note := func(name string) {
		if name != "" && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	for i := range c.p.Procedures {
		pr := &c.p.Procedures[i]
		if len(t.Acts) > 0 && !slices.Contains(t.Acts, pr.Act) {
			continue
		}
		switch variable {
		case "case.procedure":
			note(pr.Name)
		case "case.act":
			note(pr.Act)
		case "case.source":
			for _, s := range pr.Opening.Sources {
				note(s.Name)
			}
		case "case.fields":
			for _, f := range pr.Opening.Fields {
				note(f.Name)
			}
		case "stage.name", "evidence.stage", "explanation.stage", "stage.result", "stage.fields":
			for k := range pr.Stages {
				if s := &pr.Stages[k]; len(t.Stages) == 0 || slices.Contains(t.Stages, s.Name) {
					noteStage(variable, s, note)
				}
			}
		case "explanation.subject":
			for _, s := range c.p.Subjects {
				note(s.Name)
			}
		default:
			return nil, false
		}
	}
	return names, true
}

func noteStage(variable string, s *profile.Stage, note func(string)) {
	switch variable {
	case "stage.result":
		for _, r := range s.Results {
			note(r.Name)
		}
	case "stage.fields":
		for _, f := range s.Require.Fields {
			note(f.Name)
		}
	default:
		note(s.Name)
	}
}

// failures joins what failed on one event.
func failures(number uint64, failed []error) error {
	return fmt.Errorf("rule: entry %d: %w", number, errors.Join(failed...))
}
