package profile

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"duban.internal/node/jurisdiction"
)

// What a profile may say where it chooses from a list.
var (
	events     = []string{"case", "stage", "evidence", "explanation", "correction"}
	fieldTypes = []string{"text", "date", "number", "yesno"}
	grades     = []string{"red", "yellow"}
	bodies     = []string{"agency", "jurisdiction"}
	judged     = []string{"timer", "arrival"}
	counted    = []string{"completed", "recorded"}
	tiers      = []string{string(jurisdiction.City), string(jurisdiction.District), string(jurisdiction.Street)} // highest first
	blanks     = []string{"case", "stage", "limit", "due"}                                                       // of a point's text
	happens    = []string{"silent", "stopped", "refused"}
	nodeBlanks = []string{"node", "since"}
)

var (
	nameForm  = regexp.MustCompile(`^[a-z][a-z0-9_]{0,63}$`)
	blankForm = regexp.MustCompile(`\{[^}]*\}?`)
)

// checker finds what is wrong with a profile whose files could be read.
type checker struct {
	p        *Profile
	problems Problems
}

func (c *checker) add(path, format string, args ...any) {
	c.problems = append(c.problems, c.p.Problem(path, format, args...))
}

func at(format string, args ...any) string { return fmt.Sprintf(format, args...) }

// needText says what is missing; pairs are key, value.
func (c *checker) needText(path string, keysAndValues ...string) {
	for i := 0; i < len(keysAndValues); i += 2 {
		if keysAndValues[i+1] == "" {
			c.add(join(path, keysAndValues[i]), "missing")
		}
	}
}

func (c *checker) oneOf(path, value string, allowed []string) {
	if !slices.Contains(allowed, value) {
		c.add(path, "%q is not known; allowed are %s", value, strings.Join(allowed, ", "))
	}
}

// name checks an element's name and that it stands once in its list.
func (c *checker) name(path, name string, seen map[string]bool) {
	switch {
	case !nameForm.MatchString(name):
		c.add(join(path, "name"), "%q: want a lower-case letter, then letters, digits and _, at most 64", name)
	case seen[name]:
		c.add(join(path, "name"), "%s is there twice", name)
	}
	seen[name] = true
}

func (c *checker) profile() {
	p := c.p
	c.needText("", "name", p.Name, "title", p.Title, "source", p.Source)
	if p.Name != "" && !nameForm.MatchString(p.Name) {
		c.add("name", "%q: want a lower-case letter, then letters, digits and _, at most 64", p.Name)
	}
	seen := map[string]bool{}
	for i, r := range p.Roles {
		path := at("roles[%d]", i)
		c.name(path, r.Name, seen)
		c.needText(path, "title", r.Title)
		c.oneOf(join(path, "of"), r.Of, bodies)
	}
	seen = map[string]bool{}
	for i, a := range p.Actions {
		path := at("actions[%d]", i)
		c.name(path, a.Name, seen)
		c.needText(path, "title", a.Title)
	}
	seen = map[string]bool{}
	for i, s := range p.Subjects {
		path := at("subjects[%d]", i)
		c.name(path, s.Name, seen)
		c.needText(path, "title", s.Title, "article", s.Article)
	}
	if p.Corrections != (Corrections{}) {
		c.needText("corrections", "article", p.Corrections.Article)
		c.role("corrections.role", p.Corrections.Role)
	}
	seen = map[string]bool{}
	if len(p.Procedures) == 0 {
		c.add("procedures", "missing: without a procedure no case can be opened")
	}
	for i := range p.Procedures {
		c.procedure(at("procedures[%d]", i), &p.Procedures[i], seen)
	}
	seen = map[string]bool{}
	for i := range p.Points {
		c.point(at("points[%d]", i), &p.Points[i], seen)
	}
	seen = map[string]bool{}
	for i := range p.Ladders {
		c.ladder(at("ladders[%d]", i), &p.Ladders[i], seen)
	}
	seen = map[string]bool{}
	for i := range p.Nodes {
		c.nodePoint(at("nodes[%d]", i), &p.Nodes[i], seen)
	}
	if len(p.Ladders) > 0 && len(p.Actions) == 0 {
		c.add("actions", "missing: without an action no level of the ladders can be handled")
	}
}

func (c *checker) role(path, name string) *Role {
	r := c.p.Role(name)
	if r == nil {
		names := make([]string, len(c.p.Roles))
		for i := range c.p.Roles {
			names[i] = c.p.Roles[i].Name
		}
		c.add(path, "role %q is not known; there are %s", name, strings.Join(names, ", "))
	}
	return r
}

func (c *checker) point(path string, pt *Point, seen map[string]bool) {
	c.name(path, pt.Name, seen)
	c.needText(path, "title", pt.Title, "article", pt.Article, "text", pt.Text)
	c.oneOf(join(path, "grade"), pt.Grade, grades)
	c.trigger(join(path, "start"), &pt.Start)
	for i := range pt.End {
		c.trigger(at("%s.end[%d]", path, i), &pt.End[i])
	}
	if pt.From != "" {
		c.oneOf(join(path, "from"), pt.From, counted)
	}
	c.blanks(path, pt.Text, blanks)
	switch {
	case pt.Limit.IsZero():
		for key, given := range map[string]bool{
			"judged": pt.Judged != "", "from": pt.From != "", "end": len(pt.End) > 0, "own_choice": pt.Own,
		} {
			if given {
				c.add(join(path, key), "without a limit the point fires at once: leave it out, or give a limit")
			}
		}
	default:
		c.oneOf(join(path, "judged"), pt.Judged, judged)
		if pt.Judged == "timer" && len(pt.End) == 0 {
			c.add(join(path, "end"), "missing: a limit that nothing ends always runs out")
		}
		if pt.Judged == "arrival" && len(pt.End) > 0 {
			c.add(join(path, "end"), "a point judged on arrival has no running limit to end")
		}
		if pt.Judged == "arrival" && pt.From == "recorded" {
			c.add(join(path, "from"), "what is judged on arrival cannot count from its own recording")
		}
	}
	switch {
	case pt.Warn.IsZero() && (pt.WarnArticle != "" || pt.WarnOwn):
		c.add(path, "an article or own choice of a card, and no warn")
	case pt.Warn.IsZero():
	case pt.Judged != "timer":
		c.add(join(path, "warn"), "only a limit that runs by timer comes near")
	case pt.WarnArticle == "":
		c.add(join(path, "warn_article"), "missing: where the card comes from")
	}
}

func (c *checker) blanks(path, text string, allowed []string) {
	for _, blank := range blankForm.FindAllString(text, -1) {
		if !slices.Contains(allowed, strings.Trim(blank, "{}")) {
			c.add(join(path, "text"), "%s cannot be filled in; allowed are {%s}", blank, strings.Join(allowed, "}, {"))
		}
	}
}

func (c *checker) nodePoint(path string, n *NodePoint, seen map[string]bool) {
	c.name(path, n.Name, seen)
	c.needText(path, "title", n.Title, "article", n.Article, "text", n.Text)
	c.oneOf(join(path, "grade"), n.Grade, grades)
	c.oneOf(join(path, "on"), n.On, happens)
	c.blanks(path, n.Text, nodeBlanks)
	if c.p.Point(n.Name) != nil {
		c.add(join(path, "name"), "%s is the name of a point about cases as well", n.Name)
	}
	if other := c.p.NodePoint(n.On); other != nil && other != n {
		c.add(join(path, "on"), "%s is watched by %s already", n.On, other.Name)
	}
	if len(n.Ladders) == 0 {
		c.add(join(path, "ladders"), "missing: who handles it")
	}
	tiersSeen := map[string]bool{}
	for i := range n.Ladders {
		path, l := at("%s.ladders[%d]", path, i), &n.Ladders[i]
		c.ladder(path, l, tiersSeen)
		for k, level := range l.Levels {
			if level.At == l.Tier {
				c.add(at("%s.levels[%d].at", path, k), "%s is the node's own tier: who handles it is above it", l.Tier)
			}
		}
	}
}

func (c *checker) trigger(path string, t *Trigger) {
	c.oneOf(join(path, "on"), t.On, events)
	for i, act := range t.Acts {
		if !slices.ContainsFunc(c.p.Procedures, func(pr Procedure) bool { return pr.Act == act }) {
			c.add(at("%s.acts[%d]", path, i), "no procedure is of the act %q", act)
		}
	}
	if len(t.Stages) > 0 && !slices.Contains([]string{"stage", "evidence", "explanation"}, t.On) {
		c.add(join(path, "stages"), "an event of %q names no stage", t.On)
	}
	if len(t.Subjects) > 0 && t.On != "explanation" {
		c.add(join(path, "subjects"), "only an explanation has a subject")
	}
	for i, subject := range t.Subjects {
		if c.p.Subject(subject) == nil {
			c.add(at("%s.subjects[%d]", path, i), "there is no subject %q", subject)
		}
	}
	for i, stage := range t.Stages {
		if !slices.ContainsFunc(c.p.Procedures, func(pr Procedure) bool { return pr.Stage(stage) != nil }) {
			c.add(at("%s.stages[%d]", path, i), "no procedure has the stage %q", stage)
		}
	}
}

func (c *checker) ladder(path string, l *Ladder, seen map[string]bool) {
	c.oneOf(join(path, "tier"), l.Tier, tiers)
	if seen[l.Tier] {
		c.add(join(path, "tier"), "%s has two ladders", l.Tier)
	}
	seen[l.Tier] = true
	c.needText(path, "article", l.Article)
	if len(l.Levels) == 0 {
		c.add(join(path, "levels"), "missing: want level 1 at least")
	}
	below := slices.Index(tiers, l.Tier)
	for i, level := range l.Levels {
		path := at("%s.levels[%d]", path, i)
		if level.Role == "" {
			c.add(join(path, "role"), "missing: a ladder has no hole; level %d needs a receiver", i+1)
		} else if r := c.role(join(path, "role"), level.Role); r != nil && r.Of == "agency" && level.At != l.Tier {
			c.add(join(path, "at"), "%s belongs to the acting agency: want %s", level.Role, l.Tier)
		}
		c.oneOf(join(path, "at"), level.At, tiers)
		if tier := slices.Index(tiers, level.At); tier >= 0 && below >= 0 {
			if tier > below {
				c.add(join(path, "at"), "%s is below %s: a level never goes down", level.At, tiers[below])
			}
			below = min(below, tier)
		}
		if level.Limit.IsZero() {
			c.add(join(path, "limit"), "missing: time to handle level %d, such as 3wd", i+1)
		}
		if (level.Article == "") == !level.Own {
			c.add(path, "want either the article that states the limit or own_choice: true")
		}
	}
}
