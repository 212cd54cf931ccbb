package topology

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"duban.internal/node/fault"
	"duban.internal/node/identity"
	"duban.internal/node/jurisdiction"
)

// Extension is what a generated tree is to be given.
type Extension struct {
	// Nodes are new ones, each with a journal and a key of its own; an operator for each is added. With Renew they are nodes
	// of the tree, of which Code and further Hosts are read, and only their certificates are made anew.
	Nodes []Member
	// Clients get a certificate each, with Renew a new one.
	Clients []identity.Identity
	Renew   bool
	Now     time.Time
	Valid   time.Duration // of certificates; Year where 0
}

// Extend adds nodes and clients to what Generate wrote in dir, or renews their certificates, and returns the folders that it
// wrote. Journals and the keys that sign them are never touched: who was believed stays so, and nobody else has to
// change anything. What is there is refused without Renew (fault.Exists), what is not there with it (fault.NotFound); both
// are looked at before anything is written. Where nodes are added, topology.yaml is replaced as a whole, after their
// folders are there: every node of the tree needs the new copy.
func Extend(dir string, e Extension) (folders []string, err error) {
	if e.Valid == 0 {
		e.Valid = Year
	}
	tree, err := Load(filepath.Join(dir, "topology.yaml"))
	if err != nil {
		return nil, err
	}
	authority, err := loadAuthority(dir, tree.City())
	if err != nil {
		return nil, err
	}
	w := &writer{dir: dir, authority: authority, now: e.Now, valid: e.Valid}
	if !e.Renew {
		for _, m := range e.Nodes {
			e.Clients = append(e.Clients[:len(e.Clients):len(e.Clients)], identity.Identity{City: tree.City(), Kind: identity.Operator, Code: m.Code})
		}
	}
	if err := e.look(dir, tree); err != nil {
		return nil, err
	}
	if e.Renew {
		return w.renew(e)
	}
	return w.add(tree, e)
}

func loadAuthority(dir string, city jurisdiction.Code) (*identity.Authority, error) {
	cert, certErr := os.ReadFile(filepath.Join(dir, "ca", "ca.crt"))
	key, keyErr := os.ReadFile(filepath.Join(dir, "ca", "ca.key"))
	if err := errors.Join(certErr, keyErr); err != nil {
		return nil, &fault.Error{Kind: fault.Invalid, Msg: "the authority's key: " + err.Error(), Err: err}
	}
	return identity.ParseAuthority(city, cert, key)
}

// look says what is there and must not be, or the other way round.
func (e Extension) look(dir string, tree *Tree) error {
	var wrong fault.List
	kind := fault.Exists
	check := func(who, folder string, there bool) {
		switch {
		case e.Renew && !there:
			kind = fault.NotFound
			wrong.Add(who, "%s is not there: nothing to renew", folder)
		case !e.Renew && there:
			wrong.Add(who, "%s is there already: keys are never overwritten; a certificate is renewed with --renew", folder)
		}
	}
	for _, m := range e.Nodes {
		folder := NodeFolder(dir, m.Code)
		_, known := tree.Node(m.Code)
		check("node:"+string(m.Code), folder, isThere(folder) || known && !e.Renew)
	}
	for _, id := range e.Clients {
		folder := ClientFolder(dir, id)
		check(id.Actor(), folder, isThere(folder))
	}
	return wrong.Err(kind, "nothing was written")
}

func isThere(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

func (w *writer) add(tree *Tree, e Extension) (folders []string, err error) {
	defer func() {
		if err != nil { // none of them was there before
			for _, f := range folders {
				err = errors.Join(err, os.RemoveAll(f))
			}
			folders = nil
		}
	}()
	nodes := tree.All()
	for _, m := range e.Nodes {
		folders = append(folders, NodeFolder(w.dir, m.Code))
		n, err := w.node(m)
		if err != nil {
			return folders, err
		}
		nodes = append(nodes, n)
	}
	for _, id := range e.Clients {
		folders = append(folders, ClientFolder(w.dir, id))
		if err := w.client(id); err != nil {
			return folders, err
		}
	}
	if len(e.Nodes) == 0 {
		return folders, nil
	}
	larger, err := build(tree.City(), nodes, nil)
	if err != nil {
		return folders, err
	}
	return folders, replace(w.dir, item{"topology.yaml", larger.Format(), shown})
}

func (w *writer) renew(e Extension) (folders []string, err error) {
	for _, m := range e.Nodes {
		folder := NodeFolder(w.dir, m.Code)
		pair, err := NodeFiles(folder).Load()
		if err != nil {
			return folders, fmt.Errorf("%s: %w", folder, err)
		}
		// The names under which it is dialed are kept; nothing else knows them.
		hosts := append(append([]string{}, pair.Cert.Leaf.DNSNames...), m.Hosts...)
		for _, ip := range pair.Cert.Leaf.IPAddresses {
			hosts = append(hosts, ip.String())
		}
		if err := w.renewed(folder, w.nodeIdentity(m.Code), unique(hosts)); err != nil {
			return folders, err
		}
		folders = append(folders, folder)
	}
	for _, id := range e.Clients {
		folder := ClientFolder(w.dir, id)
		if err := w.renewed(folder, id, nil); err != nil {
			return folders, err
		}
		folders = append(folders, folder)
	}
	return folders, nil
}

// renewed replaces key and certificate. A crash between the two leaves a pair that does not match and is refused by whoever
// reads it; to renew again mends it.
func (w *writer) renewed(folder string, id identity.Identity, hosts []string) error {
	items, err := w.issued(id, hosts)
	if err != nil {
		return err
	}
	return replace(folder, items...)
}

func unique(all []string) (out []string) {
	seen := map[string]bool{}
	for _, s := range all {
		if !seen[s] {
			seen[s] = true
			out = append(out, s)
		}
	}
	return out
}

// replace writes files beside their places, durably, and then moves them there.
func replace(folder string, items ...item) (err error) {
	parts := make([]string, 0, len(items))
	defer func() {
		for _, p := range parts {
			if rmErr := os.Remove(p); rmErr != nil && !errors.Is(rmErr, os.ErrNotExist) {
				err = errors.Join(err, rmErr)
			}
		}
	}()
	for _, i := range items {
		part := filepath.Join(folder, "."+i.name+".part")
		parts = append(parts, part)
		if err := write(part, i); err != nil {
			return err
		}
	}
	for n, i := range items {
		if err := os.Rename(parts[n], filepath.Join(folder, i.name)); err != nil {
			return err
		}
	}
	d, err := os.Open(folder)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func write(name string, i item) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, i.mode)
	if err != nil {
		return err
	}
	_, err = f.Write(i.content)
	return errors.Join(err, f.Chmod(i.mode), f.Sync(), f.Close())
}

// Clients lists whom the certificates in dir/clients name, in the order of their folders.
func Clients(dir string) (ids []identity.Identity, err error) {
	folders, err := filepath.Glob(filepath.Join(dir, "clients", "*"))
	if err != nil {
		return nil, err
	}
	for _, folder := range folders {
		pair, err := ClientFiles(folder).Load()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", folder, err)
		}
		ids = append(ids, pair.Own)
	}
	return ids, nil
}
