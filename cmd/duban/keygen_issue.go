package main

import (
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"duban.internal/cmd/duban/app"
	"duban.internal/cmd/duban/show"
	"duban.internal/federation/topology"
	"duban.internal/node/clock"
	"duban.internal/node/fault"
	"duban.internal/node/jurisdiction"
)

func issue() *cobra.Command {
	var f keygenFlags
	var renew, all bool
	c := &cobra.Command{
		Use: "issue DIR", Short: "Add nodes and clients to a tree of keys, or renew certificates",
		Args: folder("duban keygen issue keys --agency hedong-culture"),
		Long: `Add nodes, agencies, offices and operators to what duban keygen wrote, or renew their certificates with --renew.

A new node gets a journal with a key of its own, an operator, and a row in topology.yaml, whose new copy every node of
the tree needs at its next start. What is renewed gets a new TLS key and certificate, under the names it was dialed by;
journals, and the keys that sign them, stay as they are, so that nobody else has to change anything. Copy the folder to
where it is used and start the node again.`,
		Example: "  duban keygen issue keys --node 120102 --address 120102=hedong.example:7443\n" +
			"  duban keygen issue keys --agency hedong-culture --office legal_office@120102\n" +
			"  duban keygen issue keys --renew --node 120116 --agency binhai-market\n" +
			"  duban keygen issue keys --renew --all",
		RunE: func(cmd *cobra.Command, args []string) error {
			e, err := f.extension(args[0], renew, all)
			if err != nil {
				return err
			}
			folders, err := topology.Extend(args[0], e)
			if err != nil {
				return err
			}
			return tellIssued(cmd, args[0], e, folders)
		},
	}
	keyFlags(c, &f, "code of a jurisdiction that gets a node, or with --renew of one that has one, several times")
	c.Flags().StringSliceVar(&f.operators, "operator", nil, "CODE of the jurisdiction whose node an operator runs, several times")
	c.Flags().BoolVar(&renew, "renew", false, "give what is there a new certificate; journals and their keys stay")
	c.Flags().BoolVar(&all, "all", false, "with --renew: every node and client of the tree")
	return c
}

// extension reads the flags; everything that is wrong is said at once.
func (f *keygenFlags) extension(dir string, renew, all bool) (topology.Extension, error) {
	tree, err := topology.Load(filepath.Join(dir, "topology.yaml"))
	if err != nil {
		return topology.Extension{}, err
	}
	if renew && all {
		return f.everything(dir, tree)
	}
	divisions, err := app.LoadDivisions(f.divisions)
	if err != nil {
		return topology.Extension{}, err
	}
	codes, asked := []jurisdiction.Code{}, map[jurisdiction.Code]bool{}
	var wrong fault.List
	for _, n := range f.nodes {
		code := jurisdiction.Code(n)
		switch {
		case asked[code]:
			wrong.Add("--node", "%s is given twice", n)
		case !divisions.Within(code, tree.City()):
			wrong.Add("--node", "%q: expected the code of a division of %s", n, tree.City())
		default:
			codes = append(codes, code)
		}
		asked[code] = true
	}
	has := func(code jurisdiction.Code) bool {
		_, ok := tree.Node(code)
		return ok || asked[code]
	}
	clients, more := f.clients(tree.City(), has)
	wrong = append(wrong, more...)
	f.nearest = f.nearest || renew // where a node is in the tree is not changed
	e := topology.Extension{Clients: clients, Renew: renew, Now: clock.System().Now(), Valid: f.valid(), Nodes: f.members(divisions, codes, has, &wrong)}
	if len(f.nodes)+len(f.agencies)+len(f.offices)+len(f.operators) == 0 {
		wrong.Add("--agency", "expected at least one --node, --agency, --office or --operator, or --renew --all")
	}
	if all {
		wrong.Add("--all", "goes with --renew only")
	}
	return e, wrong.Err(fault.Invalid, "flags")
}

// everything is the renewal of a whole tree.
func (f *keygenFlags) everything(dir string, tree *topology.Tree) (topology.Extension, error) {
	var wrong fault.List
	if len(f.nodes)+len(f.agencies)+len(f.offices)+len(f.operators)+len(f.addresses)+len(f.hosts) > 0 {
		wrong.Add("--all", "is everything: expected no names beside it")
	}
	if f.validDays < 1 || f.validDays > 36500 {
		wrong.Add("--days", "%d: expected 1 to 36500", f.validDays)
	}
	clients, err := topology.Clients(dir)
	if err != nil {
		return topology.Extension{}, err
	}
	e := topology.Extension{Clients: clients, Renew: true, Now: clock.System().Now(), Valid: f.valid()}
	for _, n := range tree.All() {
		e.Nodes = append(e.Nodes, topology.Member{Code: n.Code})
	}
	return e, wrong.Err(fault.Invalid, "flags")
}

func tellIssued(cmd *cobra.Command, dir string, e topology.Extension, folders []string) error {
	type row struct {
		Folder string `json:"folder"`
		Ends   string `json:"ends"`
	}
	rows := []row{}
	for i, folder := range folders {
		files := topology.ClientFiles(folder)
		if i < len(e.Nodes) {
			files = topology.NodeFiles(folder)
		}
		pair, err := files.Load()
		if err != nil {
			return err
		}
		rows = append(rows, row{folder, show.Date(pair.NotAfter())})
	}
	if asJSON(cmd) {
		return show.JSON(cmd.OutOrStdout(), map[string]any{"folders": folders, "certificates": rows})
	}
	table := show.NewTable("folder", "certificate ends")
	for _, r := range rows {
		table.Row(r.Folder, r.Ends)
	}
	err := table.Write(cmd.OutOrStdout())
	if err == nil && len(e.Nodes) > 0 && !e.Renew {
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s is new: every node of the tree needs this copy at its next start\n", filepath.Join(dir, "topology.yaml"))
	}
	return err
}
