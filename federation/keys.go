package federation

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"

	"duban.internal/federation/topology"
	"duban.internal/node/fault"
	"duban.internal/node/journal"
	"duban.internal/node/jurisdiction"
	"duban.internal/node/store"
	dubanv1 "duban.internal/proto/duban/v1"
)

// Appender is what RecordKeys needs of a store.
type Appender interface {
	Append(ctx context.Context, commands ...store.Command) ([]store.Result, []error)
}

// KeyStream is the stream of the entries about a journal's key.
func KeyStream(id journal.ID) string { return "key/" + id.String() }

// PeerStream is the stream of the entries about a journal that was refused.
func PeerStream(id journal.ID) string { return "peer/" + id.String() }

// RecordKeys puts the keys of every journal below code on record in code's own journal, where they are not on record yet.
// A leader does so at its start.
func RecordKeys(ctx context.Context, s Appender, tree *topology.Tree, code jurisdiction.Code) error {
	var commands []store.Command
	for _, n := range tree.All() {
		if n.Code == code || !tree.Within(n.Code, code) {
			continue
		}
		payload, err := proto.Marshal(&dubanv1.JournalKeyRecorded{Journal: n.Journal[:], Code: string(n.Code), VerifierKey: n.Key.String()})
		if err != nil {
			return err
		}
		hash := sha256.Sum256(payload)
		p := store.Proposal{
			Stream:  KeyStream(n.Journal),
			Kind:    uint32(dubanv1.EntryKind_ENTRY_KIND_JOURNAL_KEY_RECORDED),
			Actor:   "node:" + string(code),
			Payload: payload,
		}
		p.Seal()
		commands = append(commands, store.Command{
			Natural: fmt.Sprintf("key/%s/%x", n.Journal, hash[:8]),
			Entries: []store.Proposal{p},
		})
	}
	if len(commands) == 0 {
		return nil
	}
	_, errs := s.Append(ctx, commands...)
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("recording the keys of journals: %w", err)
	}
	return nil
}

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
