package app

import (
	"context"
	"log/slog"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"duban.internal/federation/topology"
	"duban.internal/node/clock"
	"duban.internal/node/jurisdiction"
)

// A part that fails brings the node down, and the error says which part it was.
func TestPartThatFailsBringsTheNodeDown(t *testing.T) {
	keys := filepath.Join(t.TempDir(), "keys")
	_, err := topology.Generate(keys, topology.Spec{City: "120000", Now: clock.System().Now(), Members: []topology.Member{
		{Code: "120000", Name: "天津市", Tier: jurisdiction.City},
	}})
	require.NoError(t, err)
	n, err := New(t.Context(), Config{
		Code: "120000", Data: t.TempDir(), Listen: "127.0.0.1:0", Identity: topology.NodeFolder(keys, "120000"), Logger: slog.New(slog.DiscardHandler),
	})
	require.NoError(t, err)
	require.NoError(t, n.ready(t.Context()))
	require.NoError(t, n.listener.Close())
	require.ErrorContains(t, n.Run(context.Background()), "server: ")
	require.NoError(t, n.Close())
	require.Error(t, n.ready(t.Context()), "a closed node takes no work")
	require.NoError(t, n.Close(), "a second time is nothing")
}
