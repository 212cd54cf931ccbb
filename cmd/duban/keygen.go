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
)

type keygenFlags struct {
	city              string
	divisions, nodes  []string
	addresses, hosts  []string
	agencies, offices []string
	operators         []string
	validDays         int
}

func keygen() *cobra.Command {
	var f keygenFlags
	c := &cobra.Command{
		Use: "keygen DIR", Short: "Write the keys and certificates of a tree of nodes", Args: cobra.ExactArgs(1),
		Long: `Write the keys and certificates of a tree of nodes into a new folder: topology.yaml for every node, one folder a node
(TLS certificate, journal key), one a client in clients/, and the authority's key in ca/, which belongs on no node.
An operator is added for each node. Nothing is ever overwritten.`,
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
	flags := c.Flags()
	flags.StringVar(&f.city, "city", "", "code of the city: the root of the tree")
	flags.StringSliceVar(&f.divisions, "divisions", []string{"divisions"}, "divisions: shipped lists' names, or files")
	flags.StringSliceVar(&f.nodes, "node", nil, "code of a jurisdiction that has a node, several times; all divisions of the city by default")
	flags.StringSliceVar(&f.addresses, "address", nil, "CODE=HOST:PORT where a node's children dial it; its host goes into the certificate")
	flags.StringSliceVar(&f.hosts, "host", nil, "CODE=NAME, a further name or address for a node's certificate")
	clientFlags(c, &f)
	if err := c.MarkFlagRequired("city"); err != nil {
		panic(err) // no such flag: a defect
	}
	c.AddCommand(issue())
	return c
}

func clientFlags(c *cobra.Command, f *keygenFlags) {
	c.Flags().StringSliceVar(&f.agencies, "agency", nil, "id of an agency (行政执法机关) that gets a certificate, several times")
	c.Flags().StringSliceVar(&f.offices, "office", nil, "ROLE@CODE of an office that gets one, such as legal_office@120116, several times")
	c.Flags().IntVar(&f.validDays, "days", 365, "how long the certificates are valid, in days")
}

func issue() *cobra.Command {
	var f keygenFlags
	c := &cobra.Command{
		Use: "issue DIR", Short: "Write certificates for further clients of a tree", Args: cobra.ExactArgs(1),
		Example: "  duban keygen issue keys --agency hedong-culture --office legal_office@120102\n  duban keygen issue keys --operator 120102",
		RunE: func(cmd *cobra.Command, args []string) error {
			tree, err := topology.Load(filepath.Join(args[0], "topology.yaml"))
			if err != nil {
				return err
			}
			clients, wrong := f.clients(tree.City())
			if len(clients) == 0 && len(wrong) == 0 {
				wrong.Add("--agency", "expected at least one --agency, --office or --operator")
			}
			if err := wrong.Err(fault.Invalid, "flags"); err != nil {
				return err
			}
			var folders []string
			for _, id := range clients {
				folder, err := topology.IssueClient(args[0], id, clock.System().Now(), f.valid())
				if err != nil {
					return err
				}
				folders = append(folders, folder)
			}
			if asJSON(cmd) {
				return show.JSON(cmd.OutOrStdout(), map[string]any{"folders": folders})
			}
			for _, folder := range folders {
				fmt.Fprintln(cmd.OutOrStdout(), folder)
			}
			return nil
		},
	}
	clientFlags(c, &f)
	c.Flags().StringSliceVar(&f.operators, "operator", nil, "CODE of the jurisdiction whose node an operator runs, several times")
	return c
}

func (f *keygenFlags) valid() time.Duration { return time.Duration(f.validDays) * 24 * time.Hour }

func (f *keygenFlags) clients(city jurisdiction.Code) (ids []identity.Identity, wrong fault.List) {
	for _, a := range f.agencies {
		ids = append(ids, identity.Identity{City: city, Kind: identity.Agency, ID: a})
	}
	for _, o := range f.offices {
		role, code, ok := strings.Cut(o, "@")
		if !ok {
			wrong.Add("--office", "%q: expected ROLE@CODE", o)
			continue
		}
		ids = append(ids, identity.Identity{City: city, Kind: identity.Office, Role: role, Code: jurisdiction.Code(code)})
	}
	for _, o := range f.operators {
		ids = append(ids, identity.Identity{City: city, Kind: identity.Operator, Code: jurisdiction.Code(o)})
	}
	for _, id := range ids {
		if err := id.Validate(); err != nil {
			wrong.Add("--"+string(id.Kind), "%v", err)
		}
	}
	if f.validDays < 1 || f.validDays > 36500 {
		wrong.Add("--days", "%d: expected 1 to 36500", f.validDays)
	}
	return ids, wrong
}

// spec reads the flags; everything that is wrong is said at once.
func (f *keygenFlags) spec() (topology.Spec, error) {
	tree, err := app.LoadDivisions(f.divisions)
	if err != nil {
		return topology.Spec{}, err
	}
	city := jurisdiction.Code(f.city)
	clients, wrong := f.clients(city)
	if d, ok := tree.Get(city); !ok || d.Tier != jurisdiction.City {
		wrong.Add("--city", "%q: expected the code of a city in %s", f.city, strings.Join(f.divisions, ", "))
	}
	chosen := map[jurisdiction.Code]bool{city: true}
	for _, n := range f.nodes {
		if !tree.Within(jurisdiction.Code(n), city) {
			wrong.Add("--node", "%q: expected the code of a division of %s", n, f.city)
		}
		chosen[jurisdiction.Code(n)] = true
	}
	addresses := byCode(f.addresses, "--address", &wrong)
	hosts := byCode(f.hosts, "--host", &wrong)
	spec := topology.Spec{City: city, Clients: clients, Now: clock.System().Now(), Valid: f.valid()}
	for d := range tree.All() {
		if !tree.Within(d.Code, city) || len(f.nodes) > 0 && !chosen[d.Code] {
			continue
		}
		m := topology.Member{Code: d.Code, Name: d.Name, Tier: d.Tier, Hosts: hosts[d.Code]}
		// A division without a node of its own is passed over: its parent's is the parent then.
		for _, above := range tree.Ancestors(d.Code) {
			if len(f.nodes) == 0 || chosen[above.Code] {
				m.Parent = above.Code
				break
			}
		}
		if a := addresses[d.Code]; len(a) > 0 {
			m.Address = a[0]
			if i := strings.LastIndexByte(a[0], ':'); i > 0 {
				m.Hosts = append(slices.Clone(m.Hosts), strings.Trim(a[0][:i], "[]"))
			}
		}
		spec.Members = append(spec.Members, m)
		delete(addresses, d.Code)
		delete(hosts, d.Code)
	}
	for code := range addresses {
		wrong.Add("--address", "%s: no node of that code is asked for", code)
	}
	for code := range hosts {
		wrong.Add("--host", "%s: no node of that code is asked for", code)
	}
	return spec, wrong.Err(fault.Invalid, "the keys can't be made")
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
	_, err := fmt.Fprintf(cmd.OutOrStdout(), "operators: %s; keep %s away from every node\n", filepath.Join(dir, "clients", "operator-CODE"), filepath.Join(dir, "ca", "ca.key"))
	return err
}
