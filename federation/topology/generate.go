package topology

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"duban.internal/node/fault"
	"duban.internal/node/identity"
	"duban.internal/node/journal"
	"duban.internal/node/jurisdiction"
)

// How long what is made is valid by default. The authority outlives many renewals of the certificates that it issues.
const (
	Year     = 365 * 24 * time.Hour // certificates of nodes and clients
	Lifetime = 15 * Year            // the authority's own
)

// Member is a node for which keys are to be made.
type Member struct {
	Code    jurisdiction.Code
	Name    string
	Tier    jurisdiction.Tier
	Parent  jurisdiction.Code
	Address string   // where its children dial it; may be empty
	Hosts   []string // names and addresses for its certificate, beside 127.0.0.1, ::1 and localhost
}

// Spec says for whom keys are to be made.
type Spec struct {
	City    jurisdiction.Code
	Members []Member
	// Clients get a certificate each: agencies, offices, operators. An operator for every node is added.
	Clients []identity.Identity
	Now     time.Time
	Valid   time.Duration // of certificates; Year where 0
	// Authority is how long the authority is valid; Lifetime where 0. Certificates never outlive it.
	Authority time.Duration
}

// Generate makes the keys and certificates of a tree in dir, which must not exist or be empty: nothing is overwritten, and
// what fails leaves nothing behind. It returns the tree that it wrote.
func Generate(dir string, spec Spec) (*Tree, error) {
	if spec.Valid == 0 {
		spec.Valid = Year
	}
	if spec.Authority == 0 {
		spec.Authority = Lifetime
	}
	if entries, err := os.ReadDir(dir); err == nil && len(entries) > 0 {
		return nil, fault.New(fault.Exists, "%s is not empty: keys are never overwritten; name a new folder", dir)
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	dir = filepath.Clean(dir)
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return nil, err
	}
	part, err := os.MkdirTemp(filepath.Dir(dir), "."+filepath.Base(dir)+".part-")
	if err != nil {
		return nil, err
	}
	tree, err := generate(part, spec)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(part))
	}
	if err := os.Rename(part, dir); err != nil { // dir may be there, empty
		return nil, errors.Join(err, os.RemoveAll(part))
	}
	return tree, nil
}

func generate(dir string, spec Spec) (*Tree, error) {
	authority, err := identity.NewAuthority(spec.City, spec.Now, spec.Authority)
	if err != nil {
		return nil, err
	}
	w := writer{dir: dir, authority: authority, now: spec.Now, valid: spec.Valid}
	caKey, err := authority.Key()
	if err != nil {
		return nil, err
	}
	if err := w.folder("ca", item{"ca.key", caKey, secret}, item{"ca.crt", authority.Certificate(), shown}); err != nil {
		return nil, err
	}
	nodes := make([]Node, len(spec.Members))
	var bad fault.List
	for i, m := range spec.Members {
		if _, err := jurisdiction.ParseCode(string(m.Code)); err != nil {
			bad.Add(fmt.Sprintf("members[%d].code", i), "%v", err)
			continue
		}
		if nodes[i], err = w.node(m); err != nil {
			return nil, err
		}
		operator := identity.Identity{City: spec.City, Kind: identity.Operator, Code: m.Code}
		if !slices.Contains(spec.Clients, operator) {
			spec.Clients = append(spec.Clients[:len(spec.Clients):len(spec.Clients)], operator)
		}
	}
	tree, err := build(spec.City, nodes, bad)
	if err != nil {
		return nil, err
	}
	for _, c := range spec.Clients {
		if err := w.client(c); err != nil {
			return nil, err
		}
	}
	return tree, os.WriteFile(filepath.Join(dir, "topology.yaml"), tree.Format(), 0o644)
}

// NodeFolder is where Generate puts what the node of a jurisdiction needs.
func NodeFolder(dir string, code jurisdiction.Code) string { return filepath.Join(dir, string(code)) }

// ClientFolder is where Generate puts what an agency, office or operator needs.
func ClientFolder(dir string, id identity.Identity) string {
	name := string(id.Kind) + "-" + string(id.Code)
	switch id.Kind {
	case identity.Agency:
		name = "agency-" + id.ID
	case identity.Office:
		name = "office-" + id.Role + "-" + string(id.Code)
	}
	return filepath.Join(dir, "clients", name)
}

// NodeFiles are the TLS files in a node's folder.
func NodeFiles(folder string) identity.Files { return files(folder, "node") }

// ClientFiles are the TLS files in the folder of an agency, office or operator.
func ClientFiles(folder string) identity.Files { return files(folder, "client") }

func files(folder, name string) identity.Files {
	return identity.Files{Cert: filepath.Join(folder, name+".crt"), Key: filepath.Join(folder, name+".key"), CA: filepath.Join(folder, "ca.crt")}
}

// JournalKey reads the key that signs a node's journal from its folder.
func JournalKey(folder string) (*journal.Key, error) {
	name := filepath.Join(folder, "journal.key")
	content, err := os.ReadFile(name)
	if err != nil {
		return nil, &fault.Error{Kind: fault.Invalid, Msg: "journal key: " + err.Error(), Err: err}
	}
	key, err := journal.ParseKey(string(content))
	if err != nil {
		return nil, fault.New(fault.Invalid, "%s: %w", name, err)
	}
	return key, nil
}

type writer struct {
	dir       string
	authority *identity.Authority
	now       time.Time
	valid     time.Duration
}

type item struct {
	name    string
	content []byte
	mode    fs.FileMode
}

const (
	secret = 0o600
	shown  = 0o644
)

// folder writes a new folder.
func (w *writer) folder(name string, items ...item) error {
	dir := filepath.Join(w.dir, name)
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); errors.Is(err, fs.ErrExist) {
		return fault.New(fault.Exists, "%s is there already: keys are never overwritten", dir)
	} else if err != nil {
		return err
	}
	for _, i := range items {
		if err := os.WriteFile(filepath.Join(dir, i.name), i.content, i.mode); err != nil {
			return err
		}
	}
	return nil
}

func (w *writer) node(m Member) (Node, error) {
	id := journal.NewID()
	private, verifier, err := journal.GenerateKey(id)
	if err != nil {
		return Node{}, err
	}
	key, err := journal.ParsePublicKey(verifier)
	if err != nil {
		return Node{}, err
	}
	items, err := w.issued(w.nodeIdentity(m.Code), append([]string{"127.0.0.1", "::1", "localhost"}, m.Hosts...))
	if err != nil {
		return Node{}, err
	}
	err = w.folder(string(m.Code), append(items, item{"journal.key", []byte(private + "\n"), secret}, w.ca())...)
	return Node{Code: m.Code, Name: m.Name, Tier: m.Tier, Parent: m.Parent, Journal: id, Key: key, Address: m.Address}, err
}

func (w *writer) client(id identity.Identity) error {
	if id.Kind == identity.Node {
		return fault.New(fault.Invalid, "%s: a node's certificate is made with its journal's key", id)
	}
	items, err := w.issued(id, nil)
	if err != nil {
		return err
	}
	folder, err := filepath.Rel(w.dir, ClientFolder(w.dir, id))
	if err != nil {
		return err
	}
	return w.folder(folder, append(items, w.ca())...)
}

func (w *writer) nodeIdentity(code jurisdiction.Code) identity.Identity {
	return identity.Identity{City: w.authority.City, Kind: identity.Node, Code: code}
}

// issued is a new key and certificate, as files.
func (w *writer) issued(id identity.Identity, hosts []string) ([]item, error) {
	cert, key, err := w.authority.Issue(id, hosts, w.now, w.valid)
	name := "client"
	if id.Kind == identity.Node {
		name = "node"
	}
	return []item{{name + ".key", key, secret}, {name + ".crt", cert, shown}}, err
}

func (w *writer) ca() item { return item{"ca.crt", w.authority.Certificate(), shown} }
