package profile

// The lookups give nil where the profile has nothing by that name. What they give is not to be changed.

// Role by its name.
func (p *Profile) Role(name string) *Role {
	return find(p.Roles, name, func(r *Role) string { return r.Name })
}

// Procedure by its name.
func (p *Profile) Procedure(name string) *Procedure {
	return find(p.Procedures, name, func(r *Procedure) string { return r.Name })
}

// Point by its name.
func (p *Profile) Point(name string) *Point {
	return find(p.Points, name, func(r *Point) string { return r.Name })
}

// Ladder of agencies of a tier.
func (p *Profile) Ladder(tier string) *Ladder {
	return find(p.Ladders, tier, func(r *Ladder) string { return r.Tier })
}

// LadderOf is the ladder of a point's alerts: its own, where it is about nodes, and the profile's for any other.
func (p *Profile) LadderOf(point, tier string) *Ladder {
	n := find(p.Nodes, point, func(n *NodePoint) string { return n.Name })
	if n == nil {
		return p.Ladder(tier)
	}
	return find(n.Ladders, tier, func(l *Ladder) string { return l.Tier })
}

// NodePoint about what happens to nodes.
func (p *Profile) NodePoint(on string) *NodePoint {
	return find(p.Nodes, on, func(n *NodePoint) string { return n.On })
}

// Action by its name.
func (p *Profile) Action(name string) *Action {
	return find(p.Actions, name, func(r *Action) string { return r.Name })
}

// Subject of explanations by its name.
func (p *Profile) Subject(name string) *Subject {
	return find(p.Subjects, name, func(s *Subject) string { return s.Name })
}

// Stage of the procedure by its name.
func (p *Procedure) Stage(name string) *Stage {
	return find(p.Stages, name, func(s *Stage) string { return s.Name })
}

// Result of the stage by its name.
func (s *Stage) Result(name string) *Result {
	return find(s.Results, name, func(r *Result) string { return r.Name })
}

// Field that the stage asks for, by its name.
func (s *Stage) Field(name string) *Field {
	return find(s.Require.Fields, name, func(f *Field) string { return f.Name })
}

// Document that the stage asks for, by its name.
func (s *Stage) Document(name string) *Document {
	return find(s.Require.Documents, name, func(d *Document) string { return d.Name })
}

func find[T any](list []T, name string, of func(*T) string) *T {
	for i := range list {
		if of(&list[i]) == name {
			return &list[i]
		}
	}
	return nil
}
