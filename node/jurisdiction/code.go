package jurisdiction

import "fmt"

// Code is a division's code: six digits for a city or district (GB/T 2260), nine for a street or town (街道, 镇).
// A Code that came through ParseCode or out of a Tree is well formed.
type Code string

// ParseCode checks the form of a code. It does not know whether the division exists: Tree.Get does.
func ParseCode(s string) (Code, error) {
	if len(s) != 6 && len(s) != 9 {
		return "", fmt.Errorf("code %.20q: want 6 digits (city, district) or 9 digits (street)", s)
	}
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return "", fmt.Errorf("code %q: want digits 0-9 only", s)
		}
	}
	if s[0] == '0' {
		return "", fmt.Errorf("code %q: must not begin with 0", s)
	}
	return Code(s), nil
}

// Tier is the rank of a jurisdiction.
type Tier string

// The three tiers. A district is also 县 or a development zone, a street also 镇 or 乡.
const (
	City     Tier = "city"     // 市
	District Tier = "district" // 区
	Street   Tier = "street"   // 街道
)

// digits is how long a code of the tier is; 0 for an unknown tier.
func (t Tier) digits() int {
	switch t {
	case City, District:
		return 6
	case Street:
		return 9
	}
	return 0
}

// under says whether a division of tier t may lie directly in one of tier parent. Every step leads to a higher tier, so
// a tree whose steps are all allowed has no cycle.
func (t Tier) under(parent Tier) bool {
	return t == District && parent == City || t == Street && (parent == District || parent == City)
}

// Division is one area. Parent is empty for a city.
type Division struct {
	Code   Code
	Name   string
	Tier   Tier
	Parent Code
}
