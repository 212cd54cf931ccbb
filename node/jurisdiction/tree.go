package jurisdiction

import (
	"cmp"
	"iter"
	"slices"
)

// Tree is a set of divisions whose parents are all in it. It is never changed after loading and is safe for concurrent
// use. It may hold several cities. The zero value is an empty tree.
type Tree struct {
	byCode   map[Code]Division
	children map[Code][]Division // by parent, "" for the cities; sorted by code
	ordered  []Division          // by tier (city first), then code
}

func newTree(divisions []Division) *Tree {
	t := &Tree{
		byCode:   make(map[Code]Division, len(divisions)),
		children: make(map[Code][]Division),
		ordered:  slices.Clone(divisions),
	}
	// Tier names happen to sort from city to street.
	slices.SortFunc(t.ordered, func(a, b Division) int {
		return cmp.Or(cmp.Compare(a.Tier, b.Tier), cmp.Compare(a.Code, b.Code))
	})
	for _, d := range t.ordered {
		t.byCode[d.Code] = d
		t.children[d.Parent] = append(t.children[d.Parent], d)
	}
	return t
}

// Len is the number of divisions.
func (t *Tree) Len() int { return len(t.ordered) }

// All yields every division, cities first, then districts, then streets, each by code.
func (t *Tree) All() iter.Seq[Division] { return slices.Values(t.ordered) }

// Get returns the division of a code; ok is false where the tree does not have it.
func (t *Tree) Get(c Code) (d Division, ok bool) {
	d, ok = t.byCode[c]
	return d, ok
}

// Children returns the divisions directly in c, by code; those of "" are the cities.
func (t *Tree) Children(c Code) []Division { return slices.Clone(t.children[c]) }

// Parent returns the division that c lies in; ok is false for a city and for an unknown code.
func (t *Tree) Parent(c Code) (d Division, ok bool) { return t.Get(t.byCode[c].Parent) }

// Ancestors returns the divisions that c lies in, nearest first, the city last; none for a city or an unknown code.
func (t *Tree) Ancestors(c Code) []Division {
	var path []Division
	for d, ok := t.Parent(c); ok; d, ok = t.Parent(d.Code) {
		path = append(path, d)
	}
	return path
}

// Within says whether c is ancestor itself or lies anywhere in it. It is false when the tree lacks either.
func (t *Tree) Within(c, ancestor Code) bool {
	for d, ok := t.Get(c); ok; d, ok = t.Get(d.Parent) {
		if d.Code == ancestor {
			return true
		}
	}
	return false
}
