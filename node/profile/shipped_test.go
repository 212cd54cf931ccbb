package profile_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"duban.internal/configs"
	"duban.internal/node/profile"
)

func TestShippedProfiles(t *testing.T) {
	for _, name := range []string{"tianjin", "chicago"} {
		p, err := profile.Load(configs.FS, "profiles/"+name)
		require.NoError(t, err)
		require.Equal(t, name, p.Name)
		again, err := profile.Parse(p.Files())
		require.NoError(t, err)
		require.Equal(t, p.Hash(), again.Hash())
		require.Equal(t, p.Procedures, again.Procedures)
	}
}
