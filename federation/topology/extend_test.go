package topology_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"duban.internal/federation/topology"
	"duban.internal/node/fault"
	"duban.internal/node/identity"
	"duban.internal/node/jurisdiction"
)

var fire = identity.Identity{City: "120000", Kind: identity.Agency, ID: "fire"}

func generated(t *testing.T, s topology.Spec) (dir string, tree *topology.Tree) {
	dir = filepath.Join(t.TempDir(), "keys")
	tree, err := topology.Generate(dir, s)
	require.NoError(t, err)
	return dir, tree
}

func content(t *testing.T, path ...string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(path...))
	require.NoError(t, err)
	return b
}

func TestExtendAddsClientsOnce(t *testing.T) {
	dir, _ := generated(t, spec())
	folders, err := topology.Extend(dir, topology.Extension{Clients: []identity.Identity{fire}, Now: now, Valid: time.Hour})
	require.NoError(t, err)
	require.Equal(t, []string{topology.ClientFolder(dir, fire)}, folders)
	pair, err := topology.ClientFiles(folders[0]).Load()
	require.NoError(t, err)
	require.Equal(t, fire, pair.Own)
	require.Equal(t, now.Add(time.Hour), pair.NotAfter())

	_, err = topology.Extend(dir, topology.Extension{Clients: []identity.Identity{fire}, Now: now})
	require.True(t, fault.Is(err, fault.Exists), "%v", err)
	require.ErrorContains(t, err, "--renew")
	_, err = topology.Extend(dir, topology.Extension{Clients: []identity.Identity{{City: "330200", Kind: identity.Agency, ID: "x"}}, Now: now})
	require.True(t, fault.Is(err, fault.Invalid), "%v", err)
	require.NoDirExists(t, filepath.Join(dir, "clients", "agency-x"))

	clients, err := topology.Clients(dir)
	require.NoError(t, err)
	require.Len(t, clients, 6) // two of the spec, three operators, fire
	require.Contains(t, clients, fire)
}

func TestExtendAddsANode(t *testing.T) {
	dir, before := generated(t, spec())
	hedong := topology.Member{Code: "120102", Name: "河东区", Tier: jurisdiction.District, Parent: "120000", Address: "hedong.example:7443"}
	folders, err := topology.Extend(dir, topology.Extension{Nodes: []topology.Member{hedong}, Now: now})
	require.NoError(t, err)
	require.Len(t, folders, 2) // and its operator's
	after, err := topology.Load(filepath.Join(dir, "topology.yaml"))
	require.NoError(t, err)
	require.Len(t, after.All(), 4)
	for _, n := range before.All() {
		kept, ok := after.Node(n.Code)
		require.True(t, ok)
		require.Equal(t, n.Key.String(), kept.Key.String())
	}
	n, ok := after.Node("120102")
	require.True(t, ok)
	key, err := topology.JournalKey(topology.NodeFolder(dir, "120102"))
	require.NoError(t, err)
	require.Equal(t, n.Key.String(), key.Public().String())

	// What fails leaves nothing behind, and the tree as it was.
	was := content(t, dir, "topology.yaml")
	lost := topology.Member{Code: "120103", Name: "河西区", Tier: jurisdiction.District, Parent: "330200"}
	_, err = topology.Extend(dir, topology.Extension{Nodes: []topology.Member{lost}, Now: now})
	require.True(t, fault.Is(err, fault.Invalid), "%v", err)
	require.NoDirExists(t, topology.NodeFolder(dir, "120103"))
	require.NoDirExists(t, filepath.Join(dir, "clients", "operator-120103"))
	_, err = topology.Extend(dir, topology.Extension{Nodes: []topology.Member{hedong}, Now: now})
	require.True(t, fault.Is(err, fault.Exists), "%v", err)
	require.Equal(t, was, content(t, dir, "topology.yaml"))
}

// A certificate is renewed under its names; the journal stays, and so does who is believed.
func TestExtendRenews(t *testing.T) {
	dir, tree := generated(t, spec())
	city := topology.NodeFolder(dir, "120000")
	market := spec().Clients[0]
	journalKey, wasKey, topologyWas := content(t, city, "journal.key"), content(t, city, "node.key"), content(t, dir, "topology.yaml")
	later := now.Add(300 * 24 * time.Hour)
	folders, err := topology.Extend(dir, topology.Extension{
		Nodes:   []topology.Member{{Code: "120000", Hosts: []string{"new.example"}}},
		Clients: []identity.Identity{market}, Renew: true, Now: later,
	})
	require.NoError(t, err)
	require.Equal(t, []string{city, topology.ClientFolder(dir, market)}, folders)
	pair, err := topology.NodeFiles(city).Load()
	require.NoError(t, err)
	require.Equal(t, later.Add(topology.Year), pair.NotAfter())
	for _, host := range []string{"localhost", "127.0.0.1", "::1", "city.example", "192.0.2.7", "new.example"} {
		require.NoError(t, pair.Cert.Leaf.VerifyHostname(host))
	}
	require.False(t, bytes.Equal(wasKey, content(t, city, "node.key")))
	require.Equal(t, journalKey, content(t, city, "journal.key"))
	require.Equal(t, topologyWas, content(t, dir, "topology.yaml"))
	n, _ := tree.Node("120000")
	key, err := topology.JournalKey(city)
	require.NoError(t, err)
	require.Equal(t, n.Key.String(), key.Public().String())
	left, err := filepath.Glob(filepath.Join(city, ".*"))
	require.NoError(t, err)
	require.Empty(t, left)

	_, err = topology.Extend(dir, topology.Extension{Clients: []identity.Identity{fire}, Renew: true, Now: now})
	require.True(t, fault.Is(err, fault.NotFound), "%v", err)
}

// No certificate outlives the authority; an authority that has ended makes none.
func TestTheAuthorityOutlivesWhatItIssues(t *testing.T) {
	dir, _ := generated(t, spec())
	last := now.Add(topology.Lifetime)
	folders, err := topology.Extend(dir, topology.Extension{Clients: []identity.Identity{fire}, Now: last.Add(-time.Hour)})
	require.NoError(t, err)
	pair, err := topology.ClientFiles(folders[0]).Load()
	require.NoError(t, err)
	require.Equal(t, last, pair.NotAfter())
	_, err = topology.Extend(dir, topology.Extension{Clients: []identity.Identity{fire}, Renew: true, Now: last})
	require.True(t, fault.Is(err, fault.Precondition), "%v", err)
	require.ErrorContains(t, err, "ended on 2041-02-26")
}
