package main

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"duban.internal/cmd/duban/app"
	"duban.internal/cmd/duban/show"
	"duban.internal/federation/topology"
	"duban.internal/node/clock"
	"duban.internal/node/fault"
	"duban.internal/node/identity"
	"duban.internal/node/jurisdiction"
	"duban.internal/node/profile"
)

type keygenFlags struct {
	city              string
	divisions, nodes  []string
	addresses, hosts  []string
	nearest           bool
	agencies, offices []string
	operators         []string
	profile           string
	validDays, caDays int
}

func keygen() *cobra.Command {
	var f keygenFlags
	c := &cobra.Command{
		Use: "keygen DIR", Short: "Write the keys and certificates of a tree of nodes", Args: folder("duban keygen keys --city 120000 --node 120116"),
		Long: `Write the keys and certificates of a tree of nodes into a new folder: topology.yaml for every node, one folder a node
(TLS certificate, journal key), one a client in clients/, and the authority's key in ca/, which belongs on no node.
An operator is added for each node. Nothing is ever overwritten. Certificates are renewed, and nodes and clients added
later, with duban keygen issue.`,
		Example: "  duban keygen keys --city 120000 --node 120116 --node 120116013 \\\n" +
			"      --address 120000=city.example:7443 --address 120116=district.example:7443 \\\n" +
			"      --agency binhai-market --office legal_office@120116 --office legal_office@120000\n" +
			"  duban keygen issue keys --agency another-agency",
		RunE: func(cmd *cobra.Command, args []string) error {
			spec, err := f.spec()
			if err != nil {
				return err
			}
			tree, err := topology.Generate(args[0], spec)
			if err != nil {
				return err
			}
			return tellKeys(cmd, args[0], tree, spec)
		},
	}
	c.Flags().StringVar(&f.city, "city", "", "code of the city: the root of the tree")
	c.Flags().IntVar(&f.caDays, "ca-days", int(topology.Lifetime/day), "how long the authority is valid, in days; no certificate outlives it")
	keyFlags(c, &f, "code of a jurisdiction that has a node, several times; all divisions of the city by default")
	if err := c.MarkFlagRequired("city"); err != nil {
		panic(err) // no such flag: a defect
	}
	c.AddCommand(issue())
	return c
}

const day = 24 * time.Hour

// folder asks for one DIR, and shows how it is given.
func folder(example string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) != 1 {
			return fmt.Errorf("DIR: expected one folder for the keys, %d are given; such as: %s", len(args), example)
		}
		return nil
	}
}

func keyFlags(c *cobra.Command, f *keygenFlags, nodes string) {
	flags := c.Flags()
	flags.StringSliceVar(&f.nodes, "node", nil, nodes)
	flags.StringSliceVar(&f.divisions, "divisions", []string{"divisions"}, "divisions: shipped lists' names, or files")
	flags.StringSliceVar(&f.addresses, "address", nil, "CODE=HOST:PORT where a node's children dial it; its host goes into the certificate")
	flags.StringSliceVar(&f.hosts, "host", nil, "CODE=NAME, a further name or address for a node's certificate")
	flags.BoolVar(&f.nearest, "nearest-parent", false, "where the division above a node has none, put the node under the nearest one above that has")
	flags.StringSliceVar(&f.agencies, "agency", nil, "id of an agency (行政执法机关) that gets a certificate, several times")
	flags.StringSliceVar(&f.offices, "office", nil, "ROLE@CODE of an office that gets one, such as legal_office@120116, several times")
	flags.StringVar(&f.profile, "profile", "", "profile whose roles offices may have: a shipped one's name, or a folder; all that ship by default")
	flags.IntVar(&f.validDays, "days", int(topology.Year/day), "how long the certificates are valid, in days")
}

func (f *keygenFlags) valid() time.Duration { return time.Duration(f.validDays) * day }

// clients reads the flags that name clients of a tree in which the jurisdictions that has knows have a node.
func (f *keygenFlags) clients(city jurisdiction.Code, has func(jurisdiction.Code) bool) (ids []identity.Identity, wrong fault.List) {
	add := func(flag, given string, id identity.Identity) {
		switch err := id.Validate(); {
		case err != nil:
			wrong.Add(flag, "%v", err)
		case slices.Contains(ids, id):
			wrong.Add(flag, "%s is given twice", given)
		case id.Code != "" && !has(id.Code):
			wrong.Add(flag, "%s: %s has no node in this tree", given, id.Code)
		default:
			ids = append(ids, id)
		}
	}
	for _, a := range f.agencies {
		add("--agency", a, identity.Identity{City: city, Kind: identity.Agency, ID: a})
	}
	roles := f.roles(&wrong)
	for _, o := range f.offices {
		role, code, ok := strings.Cut(o, "@")
		if !ok {
			wrong.Add("--office", "%q: expected ROLE@CODE", o)
			continue
		}
		roles.check(o, role, &wrong)
		add("--office", o, identity.Identity{City: city, Kind: identity.Office, Role: role, Code: jurisdiction.Code(code)})
	}
	for _, o := range f.operators {
		add("--operator", o, identity.Identity{City: city, Kind: identity.Operator, Code: jurisdiction.Code(o)})
	}
	if f.validDays < 1 || f.validDays > 36500 {
		wrong.Add("--days", "%d: expected 1 to 36500", f.validDays)
	}
	return ids, wrong
}

// offices are the roles that profiles know.
type offices struct {
	profiles []string
	roles    []profile.Role
}

func (f *keygenFlags) roles(wrong *fault.List) (known offices) {
	if len(f.offices) == 0 {
		return known
	}
	var err error
	if known.profiles = []string{f.profile}; f.profile == "" {
		if known.profiles, err = app.ShippedProfiles(); err != nil {
			wrong.Add("--profile", "%v", err)
		}
	}
	for _, name := range known.profiles {
		p, err := app.LoadProfile(name)
		if err != nil {
			wrong.Add("--profile", "%v", err)
			continue
		}
		known.roles = append(known.roles, p.Roles...)
	}
	return known
}

// check refuses a role that no office of a jurisdiction has.
func (o offices) check(given, role string, wrong *fault.List) {
	var allowed []string
	agencies := ""
	for _, r := range o.roles {
		switch {
		case r.Of == "jurisdiction" && r.Name == role:
			return
		case r.Of == "jurisdiction":
			allowed = append(allowed, r.Name+" ("+r.Title+")")
		case r.Name == role:
			agencies = r.Title
		}
	}
	if agencies != "" {
		wrong.Add("--office", "%s: %s (%s) is a role of agencies, not of a jurisdiction: it acts with its agency's certificate, --agency ID", given, role, agencies)
		return
	}
	wrong.Add("--office", "%s: no role %q in %s; expected %s, or a profile of your own with --profile", given, role,
		strings.Join(o.profiles, ", "), strings.Join(allowed, ", "))
}

// spec reads the flags; everything that is wrong is said at once.
func (f *keygenFlags) spec() (topology.Spec, error) {
	tree, err := app.LoadDivisions(f.divisions)
	if err != nil {
		return topology.Spec{}, err
	}
	city := jurisdiction.Code(f.city)
	chosen := map[jurisdiction.Code]bool{city: true}
	for _, n := range f.nodes {
		chosen[jurisdiction.Code(n)] = true
	}
	has := func(code jurisdiction.Code) bool {
		return tree.Within(code, city) && (len(f.nodes) == 0 || chosen[code])
	}
	clients, wrong := f.clients(city, has)
	if d, ok := tree.Get(city); !ok || d.Tier != jurisdiction.City {
		wrong.Add("--city", "%q: expected the code of a city in %s", f.city, strings.Join(f.divisions, ", "))
	}
	if f.caDays < f.validDays || f.caDays > 36500 {
		wrong.Add("--ca-days", "%d: expected --days (%d) to 36500", f.caDays, f.validDays)
	}
	var codes []jurisdiction.Code
	for d := range tree.All() {
		if has(d.Code) {
			codes = append(codes, d.Code)
		}
	}
	for _, n := range f.nodes {
		if !tree.Within(jurisdiction.Code(n), city) {
			wrong.Add("--node", "%q: expected the code of a division of %s", n, f.city)
		}
	}
	return topology.Spec{
		City: city, Clients: clients, Now: clock.System().Now(), Valid: f.valid(), Authority: time.Duration(f.caDays) * day,
		Members: f.members(tree, codes, has, &wrong),
	}, wrong.Err(fault.Invalid, "the keys can't be made")
}

// members are the nodes of the given codes; has says which jurisdictions have a node, those among them.
func (f *keygenFlags) members(tree *jurisdiction.Tree, codes []jurisdiction.Code, has func(jurisdiction.Code) bool, wrong *fault.List) (members []topology.Member) {
	addresses := byCode(f.addresses, "--address", wrong)
	hosts := byCode(f.hosts, "--host", wrong)
	for _, code := range codes {
		d, _ := tree.Get(code)
		m := topology.Member{Code: code, Name: d.Name, Tier: d.Tier, Hosts: hosts[code]}
		var passed []string
		for _, above := range tree.Ancestors(code) {
			if has(above.Code) {
				m.Parent = above.Code
				break
			}
			passed = append(passed, fmt.Sprintf("%s (%s)", above.Code, above.Name))
		}
		if len(passed) > 0 && m.Parent != "" && !f.nearest {
			wrong.Add("--node", "%s (%s) lies in %s, which has no node: add --node for it, or --nearest-parent to put it under %s",
				code, d.Name, strings.Join(passed, " and "), m.Parent)
		}
		if a := addresses[code]; len(a) > 0 {
			m.Address = a[0]
			if i := strings.LastIndexByte(a[0], ':'); i > 0 {
				m.Hosts = append(slices.Clone(m.Hosts), strings.Trim(a[0][:i], "[]"))
			}
		}
		members = append(members, m)
		delete(addresses, code)
		delete(hosts, code)
	}
	for code := range addresses {
		wrong.Add("--address", "%s: no node of that code is asked for", code)
	}
	for code := range hosts {
		wrong.Add("--host", "%s: no node of that code is asked for", code)
	}
	return members
}

func byCode(pairs []string, flag string, wrong *fault.List) map[jurisdiction.Code][]string {
	out := map[jurisdiction.Code][]string{}
	for _, p := range pairs {
		code, value, ok := strings.Cut(p, "=")
		if !ok || value == "" {
			wrong.Add(flag, "%q: expected CODE=HOST", p)
			continue
		}
		out[jurisdiction.Code(code)] = append(out[jurisdiction.Code(code)], value)
	}
	return out
}

func tellKeys(cmd *cobra.Command, dir string, tree *topology.Tree, spec topology.Spec) error {
	type row struct {
		Code    string `json:"code"`
		Name    string `json:"name"`
		Parent  string `json:"parent"`
		Journal string `json:"journal"`
		Folder  string `json:"folder"`
	}
	var rows []row
	table := show.NewTable("code", "name", "parent", "journal", "folder")
	for _, n := range tree.All() {
		r := row{string(n.Code), n.Name, string(n.Parent), n.Journal.String(), topology.NodeFolder(dir, n.Code)}
		rows = append(rows, r)
		table.Row(r.Code, r.Name, r.Parent, r.Journal, r.Folder)
	}
	clients := []string{}
	for _, id := range spec.Clients {
		clients = append(clients, topology.ClientFolder(dir, id))
	}
	if asJSON(cmd) {
		return show.JSON(cmd.OutOrStdout(), map[string]any{"topology": filepath.Join(dir, "topology.yaml"), "nodes": rows, "clients": clients})
	}
	if err := table.Write(cmd.OutOrStdout()); err != nil {
		return err
	}
	for _, folder := range clients {
		fmt.Fprintln(cmd.OutOrStdout(), folder)
	}
	_, err := fmt.Fprintf(cmd.OutOrStdout(), "certificates end %s: renew them before with duban keygen issue %s --renew --all\n"+
		"operators: %s; keep %s away from every node\n", show.Date(spec.Now.Add(spec.Valid)), dir, filepath.Join(dir, "clients", "operator-CODE"), filepath.Join(dir, "ca", "ca.key"))
	return err
}
