package app

import (
	"context"
	"log/slog"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"duban.internal/federation/topology"
	"duban.internal/node/access"
	"duban.internal/node/clock"
	"duban.internal/node/fault"
	"duban.internal/node/identity"
	"duban.internal/node/journal"
	"duban.internal/node/jurisdiction"
	"duban.internal/node/store"
	dubanv1 "duban.internal/proto/duban/v1"
)

// A refused journal, below or above, is readmitted once, with a reason, and on record.
func TestReadmit(t *testing.T) {
	keys := filepath.Join(t.TempDir(), "keys")
	tree, err := topology.Generate(keys, topology.Spec{City: "120000", Now: clock.System().Now(), Members: []topology.Member{
		{Code: "120000", Name: "天津市", Tier: jurisdiction.City},
		{Code: "120116", Name: "滨海新区", Tier: jurisdiction.District, Parent: "120000"},
	}})
	require.NoError(t, err)
	n, err := New(t.Context(), Config{
		Code: "120000", Data: t.TempDir(), Listen: "127.0.0.1:0", Identity: topology.NodeFolder(keys, "120000"), Logger: slog.New(slog.DiscardHandler),
	})
	require.NoError(t, err)
	defer func() { require.NoError(t, n.Close()) }()
	below, _ := tree.Node("120116")
	refuse := func() {
		payload, err := proto.Marshal(&dubanv1.PeerRefused{Journal: below.Journal[:], Code: "120116", Reason: "a fork"})
		require.NoError(t, err)
		_, errs := n.store.Append(t.Context(), store.Command{Entries: []store.Proposal{{
			Stream: "node", Kind: uint32(dubanv1.EntryKind_ENTRY_KIND_PEER_REFUSED), Actor: "node:120000", Payload: payload}}})
		require.NoError(t, errs[0])
	}
	ctx := access.WithCaller(t.Context(), identity.Identity{City: "120000", Kind: identity.Operator, Code: "120000"})
	readmit := func(id []byte, reason string) error {
		_, err := nodeService{n: n}.ReadmitJournal(ctx, &dubanv1.ReadmitJournalRequest{Journal: id, Reason: reason, DecidedBy: "somebody"})
		return err
	}
	require.True(t, fault.Is(readmit(below.Journal[:], "settled"), fault.Precondition), "it is not refused")
	refuse()
	invalid := readmit([]byte{1}, "")
	require.True(t, fault.Is(invalid, fault.Invalid))
	require.Len(t, fault.Fields(invalid), 2)
	stranger := journal.NewID()
	require.True(t, fault.Is(readmit(stranger[:], "settled"), fault.NotFound))
	own := n.store.Own()
	require.True(t, fault.Is(readmit(own[:], "settled"), fault.NotFound), "nobody readmits itself")
	require.NoError(t, readmit(below.Journal[:], "restored from what was witnessed"))
	require.True(t, fault.Is(readmit(below.Journal[:], "again"), fault.Precondition))
	refuse()
	require.NoError(t, readmit(below.Journal[:], "restored once more"))
	info, _ := n.store.Journal(own)
	entries, err := n.store.Read(t.Context(), own, info.Size-1, 1<<20)
	require.NoError(t, err)
	var last dubanv1.JournalReadmitted
	require.NoError(t, proto.Unmarshal(entries[0].Payload, &last))
	require.Equal(t, "restored once more", last.Reason)
	require.Equal(t, "operator:120000", entries[0].Actor)
}

// A patched node is for demonstrations: nothing that goes by the machine's clock can be one.
func TestPatchedNodes(t *testing.T) {
	for _, p := range []Patch{{}, {Mute: true}} {
		require.Equal(t, p, PatchOf(p.Environ()))
	}
	require.Equal(t, Patch{}, PatchOf([]string{"DEMO_PATCH=", "PATH=/bin", "DUBAN_CODE=1"}))
	_, err := New(t.Context(), Config{Code: "120000", Data: t.TempDir(), Identity: "keys/120000", Patch: Patch{Mute: true}})
	require.True(t, fault.Is(err, fault.Invalid))
	require.ErrorContains(t, err, "fast clock only")
	require.NoError(t, Patch{Mute: true}.allowed(Config{Clock: Clock{Rate: 10}}))
}

// Ancestors are dialed where the configuration says, else where the topology does; none that is not above the parent.
func TestAncestorsThatAreNotAbove(t *testing.T) {
	keys := filepath.Join(t.TempDir(), "keys")
	_, err := topology.Generate(keys, topology.Spec{City: "120000", Now: clock.System().Now(), Members: []topology.Member{
		{Code: "120000", Name: "天津市", Tier: jurisdiction.City, Address: "127.0.0.1:1"},
		{Code: "120116", Name: "滨海新区", Tier: jurisdiction.District, Parent: "120000", Address: "127.0.0.1:2"},
		{Code: "120116013", Name: "新村街道", Tier: jurisdiction.Street, Parent: "120116"},
	}})
	require.NoError(t, err)
	for name, c := range map[string]struct {
		ancestors []string
		says      string
		want      string
	}{
		"the topology's": {want: "127.0.0.1:1"},
		"configured":     {ancestors: []string{"120000=city.example:7443"}, want: "city.example:7443"},
		"the parent":     {ancestors: []string{"120116=x:1"}, says: "120116 does not lie above the parent 120116"},
		"a stranger":     {ancestors: []string{"120117=x:1"}, says: "120117 does not lie above"},
		"no address":     {ancestors: []string{"120000"}, says: "expected CODE=HOST:PORT"},
	} {
		t.Run(name, func(t *testing.T) {
			n, err := New(t.Context(), Config{
				Code: "120116013", Data: t.TempDir(), Listen: "127.0.0.1:0", Identity: topology.NodeFolder(keys, "120116013"),
				Logger: slog.New(slog.DiscardHandler), Parent: "127.0.0.1:2", Ancestors: c.ancestors,
			})
			if c.says != "" {
				require.True(t, fault.Is(err, fault.Invalid), "%v", err)
				require.ErrorContains(t, err, c.says)
				return
			}
			require.NoError(t, err)
			found, err := n.ancestors()
			require.NoError(t, err)
			require.Len(t, found, 1)
			require.Equal(t, c.want, found[0].Address)
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			require.NoError(t, n.Run(ctx)) // takes what was dialed down again
			require.NoError(t, n.Close())
		})
	}
}
