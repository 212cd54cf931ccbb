package demo

import (
	"fmt"

	"duban.internal/federation/topology"
	"duban.internal/node/identity"
	"duban.internal/node/jurisdiction"
	dubanv1 "duban.internal/proto/duban/v1"
)

// The tree: Tianjin, two districts, two streets in each.
const (
	city      = jurisdiction.Code("120000")
	districts = 2
	streets   = 2 // in each district
	item      = "DEMO-0001"
	system    = "urban-management"
)

// office is the role of a government's legal office by the profile's name; the ladder of the demo's profile names it.
const office = "legal_office"

// cast is who acts in the demo.
type cast struct {
	members []topology.Member
	clients []identity.Identity
	// By tier, those that the stories are about: the first of each.
	street, district jurisdiction.Code
	forged           jurisdiction.Code // the street whose journal is copied and tampered with
}

// newCast picks the demo's nodes from the official divisions.
func newCast(divisions *jurisdiction.Tree) (*cast, error) {
	root, ok := divisions.Get(city)
	if !ok {
		return nil, fmt.Errorf("the divisions lack %s", city)
	}
	c := &cast{}
	c.add(root)
	for _, d := range first(divisions.Children(city), districts) {
		c.add(d)
		for _, s := range first(divisions.Children(d.Code), streets) {
			c.add(s)
			if c.street == "" {
				c.district, c.street = d.Code, s.Code
			}
			c.forged = s.Code
		}
	}
	if len(c.members) != 1+districts*(1+streets) {
		return nil, fmt.Errorf("the divisions have too few districts or streets under %s", city)
	}
	return c, nil
}

func first(ds []jurisdiction.Division, n int) []jurisdiction.Division { return ds[:min(n, len(ds))] }

// add gives a jurisdiction a node and an agency, and all but streets a legal office.
func (c *cast) add(d jurisdiction.Division) {
	c.members = append(c.members, topology.Member{Code: d.Code, Name: d.Name, Tier: d.Tier, Parent: d.Parent})
	c.clients = append(c.clients, agencyOf(d.Code))
	if d.Tier != jurisdiction.Street {
		c.clients = append(c.clients, officeOf(d.Code))
	}
}

func agencyOf(code jurisdiction.Code) identity.Identity {
	return identity.Identity{City: city, Kind: identity.Agency, ID: agencyID(code)}
}

func officeOf(code jurisdiction.Code) identity.Identity {
	return identity.Identity{City: city, Kind: identity.Office, Role: office, Code: code}
}

func agencyID(code jurisdiction.Code) string { return "cg-" + string(code) }

// hands are the officers of an agency: two who handle, one who reviews, one who decides.
func hands(code jurisdiction.Code) []string {
	names := make([]string, 4)
	for i := range names {
		names[i] = fmt.Sprintf("%s-%d", agencyID(code), i+1)
	}
	return names
}

// agencyRecord is a jurisdiction's agency as the registry has it.
func agencyRecord(m topology.Member) *dubanv1.Agency {
	return &dubanv1.Agency{
		Id: agencyID(m.Code), Name: m.Name + "综合行政执法机关(演示)", Jurisdiction: string(m.Code), System: system,
		Items: []string{item},
	}
}

// officerRecord is one of its officers; names are marked as made up.
func officerRecord(code jurisdiction.Code, id string) *dubanv1.Officer {
	return &dubanv1.Officer{Id: id, Name: "演示执法人员 " + id, Agency: agencyID(code), Certificate: "DEMO-" + id}
}
