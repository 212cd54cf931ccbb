package federation

import (
	"duban.internal/federation/topology"
	"duban.internal/node/fault"
	"duban.internal/node/journal"
	"duban.internal/node/jurisdiction"
)

// PeerStream is the stream of the entries about a journal that was refused.
func PeerStream(id journal.ID) string { return "peer/" + id.String() }

// CheckKey says whether a node's signing key is the one by which the tree believes its journal (fault.Invalid).
func CheckKey(tree *topology.Tree, code jurisdiction.Code, key *journal.Key) error {
	n, ok := tree.Node(code)
	if !ok {
		return fault.New(fault.Invalid, "topology: no node %s in the tree of %s", code, tree.City())
	}
	if n.Key.String() != key.Public().String() {
		return fault.New(fault.Invalid, "topology: the journal of %s is signed by another key than the one in journal.key", code)
	}
	return nil
}
