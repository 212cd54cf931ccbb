package topology

import (
	"bytes"
	"cmp"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"

	"duban.internal/node/fault"
	"duban.internal/node/journal"
	"duban.internal/node/jurisdiction"
)

// Node is one node of the tree.
type Node struct {
	Code    jurisdiction.Code
	Name    string
	Tier    jurisdiction.Tier
	Parent  jurisdiction.Code // empty for the city
	Journal journal.ID
	Key     *journal.PublicKey // verifies the journal's checkpoints
	Address string             // where children dial it; may be empty
}

// Tree is every node under one city. It is never changed and may be used by many goroutines.
type Tree struct {
	city      jurisdiction.Code
	nodes     []Node // by tier, then code
	byCode    map[jurisdiction.Code]int
	byJournal map[journal.ID]int
}

// City is the code of the root.
func (t *Tree) City() jurisdiction.Code { return t.city }

// All lists the nodes, the city first, then by tier and code.
func (t *Tree) All() []Node { return slices.Clone(t.nodes) }

// Node finds a node by its jurisdiction's code.
func (t *Tree) Node(code jurisdiction.Code) (Node, bool) {
	i, ok := t.byCode[code]
	if !ok {
		return Node{}, false
	}
	return t.nodes[i], true
}

// Journal finds the node that writes a journal.
func (t *Tree) Journal(id journal.ID) (Node, bool) {
	i, ok := t.byJournal[id]
	if !ok {
		return Node{}, false
	}
	return t.nodes[i], true
}

// Children lists the nodes whose parent is code.
func (t *Tree) Children(code jurisdiction.Code) []Node {
	var out []Node
	for _, n := range t.nodes {
		if n.Parent == code {
			out = append(out, n)
		}
	}
	return out
}

// Within says whether code is ancestor itself or lies below it; false where the tree lacks either.
func (t *Tree) Within(code, ancestor jurisdiction.Code) bool {
	for n, ok := t.Node(code); ok; n, ok = t.Node(n.Parent) {
		if n.Code == ancestor {
			return true
		}
	}
	return false
}

const maxFile = 16 << 20 // bytes; 300 nodes take 100 KB

type file struct {
	City  string `yaml:"city"`
	Nodes []row  `yaml:"nodes"`
}

type row struct {
	Code    string `yaml:"code"`
	Name    string `yaml:"name"`
	Tier    string `yaml:"tier"`
	Parent  string `yaml:"parent"`
	Journal string `yaml:"journal"`
	Key     string `yaml:"key"`
	Address string `yaml:"address"`
}

// Load reads a topology.yaml. Everything that is wrong in it is said at once (fault.Invalid), unless it is no YAML or has
// an unknown key.
func Load(path string) (*Tree, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, &fault.Error{Kind: fault.Invalid, Msg: "topology: " + err.Error(), Err: err}
	}
	t, err := Parse(content)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return t, nil
}

// Parse reads what a topology.yaml holds. See Load.
func Parse(content []byte) (*Tree, error) {
	if len(content) > maxFile {
		return nil, fault.New(fault.Invalid, "topology: %d bytes, at most %d are allowed", len(content), maxFile)
	}
	var f file
	if err := yaml.UnmarshalWithOptions(content, &f, yaml.Strict()); err != nil {
		return nil, fault.New(fault.Invalid, "topology: %s", yaml.FormatError(err, false, true))
	}
	nodes := make([]Node, len(f.Nodes))
	var bad fault.List
	for i, r := range f.Nodes {
		nodes[i] = r.node(&bad, fmt.Sprintf("nodes[%d]", i))
	}
	return build(jurisdiction.Code(f.City), nodes, bad)
}

func (r row) node(bad *fault.List, at string) Node {
	n := Node{Name: r.Name, Tier: jurisdiction.Tier(r.Tier), Parent: jurisdiction.Code(r.Parent), Address: r.Address}
	var err error
	if n.Code, err = jurisdiction.ParseCode(r.Code); err != nil {
		bad.Add(at+".code", "%v", err)
	}
	if n.Journal, err = journal.ParseID(r.Journal); err != nil {
		bad.Add(at+".journal", "%v", err)
	}
	if n.Key, err = journal.ParsePublicKey(r.Key); err != nil {
		bad.Add(at+".key", "%v", err)
	}
	return n
}

// build checks that nodes are one tree under city.
func build(city jurisdiction.Code, nodes []Node, bad fault.List) (*Tree, error) {
	t := &Tree{city: city, byCode: map[jurisdiction.Code]int{}, byJournal: map[journal.ID]int{}}
	t.nodes = slices.Clone(nodes)
	slices.SortStableFunc(t.nodes, func(a, b Node) int {
		return cmp.Or(cmp.Compare(a.Tier, b.Tier), cmp.Compare(a.Code, b.Code)) // the tiers' names sort from city to street
	})
	for i, n := range t.nodes {
		at := fmt.Sprintf("nodes[%d]", slices.IndexFunc(nodes, func(m Node) bool { return m == n }))
		if n.Code != "" {
			if _, twice := t.byCode[n.Code]; twice {
				bad.Add(at+".code", "%s is given twice", n.Code)
			}
			t.byCode[n.Code] = i
		}
		if !n.Journal.IsZero() {
			if other, twice := t.byJournal[n.Journal]; twice {
				bad.Add(at+".journal", "%s is also the journal of %s", n.Journal, t.nodes[other].Code)
			}
			t.byJournal[n.Journal] = i
			if n.Key != nil && n.Key.Journal() != n.Journal {
				bad.Add(at+".key", "is the key of journal %s, expected one of %s", n.Key.Journal(), n.Journal)
			}
		}
		if n.Name == "" {
			bad.Add(at+".name", "is missing")
		}
	}
	for _, n := range t.nodes {
		at := fmt.Sprintf("nodes[%d]", slices.IndexFunc(nodes, func(m Node) bool { return m == n }))
		parent, ok := t.Node(n.Parent)
		switch {
		case n.Tier != jurisdiction.City && n.Tier != jurisdiction.District && n.Tier != jurisdiction.Street:
			bad.Add(at+".tier", "%.20q: want %s, %s or %s", string(n.Tier), jurisdiction.City, jurisdiction.District, jurisdiction.Street)
		case n.Tier == jurisdiction.City && n.Code != city:
			bad.Add(at+".tier", "%s is a city: the tree's only one is %q", n.Code, city)
		case n.Tier == jurisdiction.City && n.Parent != "":
			bad.Add(at+".parent", "%.20q: a city has none", string(n.Parent))
		case n.Tier == jurisdiction.City:
		case n.Parent == "":
			bad.Add(at+".parent", "is missing: a %s needs one", n.Tier)
		case !ok:
			bad.Add(at+".parent", "%.20q: no such node", string(n.Parent))
		case parent.Tier >= n.Tier:
			bad.Add(at+".parent", "%s is a %s: a %s can't lie in it", parent.Code, parent.Tier, n.Tier)
		}
	}
	if root, ok := t.byCode[city]; !ok || t.nodes[root].Tier != jurisdiction.City {
		bad.Add("city", "%.20q: want the code of a node of tier city", string(city))
	}
	if err := bad.Err(fault.Invalid, "topology"); err != nil {
		return nil, err
	}
	return t, nil
}

// Format writes the tree as Parse reads it.
func (t *Tree) Format() []byte {
	var b bytes.Buffer
	b.WriteString("# The nodes of the tree, and the public keys by which their journals are believed. Every node has the same copy.\n")
	fmt.Fprintf(&b, "city: %q\nnodes:\n", string(t.city))
	for _, n := range t.nodes {
		fmt.Fprintf(&b, "  - code: %q\n    name: %s\n    tier: %s\n    parent: %q\n    journal: %q\n    key: %q\n    address: %q\n",
			string(n.Code), quote(n.Name), n.Tier, string(n.Parent), n.Journal, n.Key, n.Address)
	}
	return b.Bytes()
}

// quote writes a string as YAML; names in Chinese stay readable.
func quote(s string) string {
	if strings.ContainsFunc(s, func(r rune) bool { return r < 0x20 || r == '"' || r == '\\' }) {
		return strconv.QuoteToASCII(s)
	}
	return `"` + s + `"`
}
