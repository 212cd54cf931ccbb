package demo

import (
	"fmt"

	"duban.internal/federation/topology"
	"duban.internal/node/identity"
	"duban.internal/node/jurisdiction"
	dubanv1 "duban.internal/proto/duban/v1"
)

// The tree: Tianjin, three districts, and so many streets in each of them.
const (
	city   = jurisdiction.Code("120000")
	item   = "DEMO-0001"
	system = "urban-management"
)

var streets = []int{3, 3, 1}

// office is the role of a government's legal office by the profile's name; the ladder of the demo's profile names it.
const office = "legal_office"

// cast is who acts in the demo.
type cast struct {
	members []topology.Member
	clients []identity.Identity
	// Those that the stories are about. No node is cut, stopped or tampered with in two of them.
	street, district jurisdiction.Code // (a) and (b)
	forged           jurisdiction.Code // (d): the street whose journal is copied and tampered with
	cut              jurisdiction.Code // (e): the street that is cut off
	dead, orphan     jurisdiction.Code // (f): the district that is off, and its street
	gone             jurisdiction.Code // (g): the street that goes off
	turned           jurisdiction.Code // (h): the street whose clock is turned back
	mute             jurisdiction.Code // (i): the street that raises no alerts
}

// newCast picks the demo's nodes from the official divisions.
func newCast(divisions *jurisdiction.Tree) (*cast, error) {
	root, ok := divisions.Get(city)
	if !ok {
		return nil, fmt.Errorf("the divisions lack %s", city)
	}
	c := &cast{}
	c.add(root)
	var below [][]jurisdiction.Code // by district: itself, then its streets
	for i, d := range first(divisions.Children(city), len(streets)) {
		c.add(d)
		codes := []jurisdiction.Code{d.Code}
		for _, s := range first(divisions.Children(d.Code), streets[i]) {
			c.add(s)
			codes = append(codes, s.Code)
		}
		if len(codes) != 1+streets[i] {
			return nil, fmt.Errorf("the divisions have too few streets under %s", d.Code)
		}
		below = append(below, codes)
	}
	if len(below) != len(streets) {
		return nil, fmt.Errorf("the divisions have too few districts under %s", city)
	}
	c.district, c.street, c.cut, c.gone = below[0][0], below[0][1], below[0][2], below[0][3]
	c.forged, c.turned, c.mute = below[1][1], below[1][2], below[1][3]
	c.dead, c.orphan = below[2][0], below[2][1]
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
