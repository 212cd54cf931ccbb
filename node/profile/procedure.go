package profile

import (
	"slices"
	"strings"
)

func (c *checker) procedure(path string, pr *Procedure, seen map[string]bool) {
	c.name(path, pr.Name, seen)
	c.needText(path, "title", pr.Title, "article", pr.Article)
	if !nameForm.MatchString(pr.Act) {
		c.add(join(path, "act"), "%q: want the kind of act, such as penalty", pr.Act)
	}
	sources := map[string]bool{}
	for i, s := range pr.Opening.Sources {
		source := at("%s.opening.sources[%d]", path, i)
		c.name(source, s.Name, sources)
		c.needText(source, "title", s.Title)
	}
	c.fields(join(path, "opening"), pr.Opening.Fields, nil)
	stages := map[string]bool{}
	for i := range pr.Stages {
		c.stage(at("%s.stages[%d]", path, i), pr, &pr.Stages[i], stages)
	}
	c.ways(path, pr)
	for i, set := range pr.Separate {
		path := at("%s.separate[%d]", path, i)
		if len(set) < 2 {
			c.add(path, "want two hands or more that must be different")
		}
		for _, hand := range set {
			if !slices.ContainsFunc(pr.Stages, func(s Stage) bool { return s.Hand == hand }) {
				c.add(path, "no stage is in the hand %q", hand)
			}
		}
	}
}

func (c *checker) stage(path string, pr *Procedure, s *Stage, seen map[string]bool) {
	c.name(path, s.Name, seen)
	c.needText(path, "title", s.Title, "article", s.Article)
	for i, after := range s.After {
		where := at("%s.after[%d]", path, i)
		switch before := pr.Stage(after); {
		case before == nil:
			c.add(where, "stage %q is not known; there are %s", after, strings.Join(stageNames(pr), ", "))
		case before.Closes:
			c.add(where, "nothing follows %s: it closes the case", after)
		case after == s.Name && !s.Repeat:
			c.add(where, "%s follows itself and may not be repeated", after)
		}
	}
	c.needs(join(path, "needs"), pr, s.Needs)
	results := map[string]bool{}
	for i, r := range s.Results {
		path := at("%s.results[%d]", path, i)
		c.name(path, r.Name, results)
		c.needText(path, "title", r.Title)
		c.needs(join(path, "needs"), pr, r.Needs)
		if r.Next == "" {
			continue
		}
		if next := pr.Stage(r.Next); next == nil {
			c.add(join(path, "next"), "stage %q is not known; there are %s", r.Next, strings.Join(stageNames(pr), ", "))
		} else if !slices.Contains(next.After, s.Name) {
			c.add(join(path, "next"), "%s does not come after %s", r.Next, s.Name)
		}
	}
	require := join(path, "require")
	c.fields(require, s.Require.Fields, s)
	if s.Require.Evidence < 0 {
		c.add(join(require, "evidence"), "want 0 or more")
	}
	documents := map[string]bool{}
	for i, d := range s.Require.Documents {
		path := at("%s.documents[%d]", require, i)
		c.name(path, d.Name, documents)
		c.needText(path, "title", d.Title)
		c.with(join(path, "with"), s, d.With)
	}
}

func (c *checker) fields(path string, fields []Field, s *Stage) {
	seen := map[string]bool{}
	for i, f := range fields {
		path := at("%s.fields[%d]", path, i)
		c.name(path, f.Name, seen)
		c.needText(path, "title", f.Title)
		c.oneOf(join(path, "type"), f.Type, fieldTypes)
		if len(f.Values) > 0 && f.Type != "text" {
			c.add(join(path, "values"), "only a text is chosen from values")
		}
		c.with(join(path, "with"), s, f.With)
	}
}

func (c *checker) with(path string, s *Stage, results []string) {
	for _, result := range results {
		if s == nil || s.Result(result) == nil {
			c.add(path, "there is no result %q", result)
		}
	}
}

func (c *checker) needs(path string, pr *Procedure, needs []string) {
	for _, text := range needs {
		need := ParseNeed(text)
		stage := pr.Stage(need.Stage)
		if stage == nil {
			c.add(path, "stage %q is not known; there are %s", need.Stage, strings.Join(stageNames(pr), ", "))
		} else if strings.Contains(text, "/") && stage.Result(need.Result) == nil {
			c.add(path, "%s has no result %q", need.Stage, need.Result)
		}
	}
}

func stageNames(pr *Procedure) []string {
	names := make([]string, len(pr.Stages))
	for i := range pr.Stages {
		names[i] = pr.Stages[i].Name
	}
	return names
}

// Follows says whether the procedure lets stage next follow stage s with this result.
func (s *Stage) Follows(result string, next *Stage) bool {
	if s.Closes || !slices.Contains(next.After, s.Name) {
		return false
	}
	r := s.Result(result)
	return r == nil || r.Next == "" || r.Next == next.Name
}

// ways checks that a case can begin, come to every stage, and go on to its end.
func (c *checker) ways(path string, pr *Procedure) {
	reached := map[string]bool{}
	var queue []*Stage
	closes := false
	for i := range pr.Stages {
		s := &pr.Stages[i]
		closes = closes || s.Closes
		if s.First {
			reached[s.Name] = true
			queue = append(queue, s)
		}
	}
	if len(queue) == 0 {
		c.add(join(path, "stages"), "no stage is the first: a case could not begin")
	}
	if !closes {
		c.add(join(path, "stages"), "no stage closes: a case could not end")
	}
	leads := func(s, next *Stage) bool {
		if len(s.Results) == 0 {
			return s.Follows("", next)
		}
		return slices.ContainsFunc(s.Results, func(r Result) bool { return s.Follows(r.Name, next) })
	}
	for len(queue) > 0 {
		s := queue[0]
		queue = queue[1:]
		for i := range pr.Stages {
			if next := &pr.Stages[i]; !reached[next.Name] && leads(s, next) {
				reached[next.Name] = true
				queue = append(queue, next)
			}
		}
	}
	for i := range pr.Stages {
		s := &pr.Stages[i]
		for k, after := range s.After {
			if before := pr.Stage(after); before != nil && !before.Closes && !leads(before, s) {
				c.add(at("%s.stages[%d].after[%d]", path, i, k), "every result of %s leads elsewhere", after)
			}
		}
		if !reached[s.Name] {
			c.add(at("%s.stages[%d]", path, i), "no way leads to it: neither first nor after a stage that can be reached")
		}
		if !s.Closes && !slices.ContainsFunc(pr.Stages, func(next Stage) bool { return leads(s, &next) }) {
			c.add(at("%s.stages[%d]", path, i), "nothing can follow it, and it does not close the case")
		}
	}
}
