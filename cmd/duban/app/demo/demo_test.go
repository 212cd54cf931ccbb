package demo_test

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"duban.internal/cmd/duban/app/demo"
)

func run(t *testing.T, o demo.Options) (demo.Verdict, error) {
	t.Helper()
	var out bytes.Buffer
	o.Once, o.JSON, o.Out, o.Dir = true, true, &out, t.TempDir()
	err := demo.Run(t.Context(), o)
	var v demo.Verdict
	require.NoError(t, json.Unmarshal(out.Bytes(), &v), "%v: %s", err, out.String())
	return v, err
}

func TestStoriesInOneProcess(t *testing.T) {
	t.Parallel()
	v, err := run(t, demo.Options{})
	require.NoError(t, err, "%+v", v)
	requireStories(t, v)
}

func TestStoriesAsProcesses(t *testing.T) {
	t.Parallel()
	binary := filepath.Join(t.TempDir(), "duban")
	build := exec.Command("go", "build", "-o", binary, "duban.internal/cmd/duban")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := build.CombinedOutput()
	require.NoError(t, err, string(out))
	v, err := run(t, demo.Options{Binary: binary})
	require.NoError(t, err, "%+v", v)
	requireStories(t, v)
}

// requireStories: all four were told, each with the levels that T27 gives its agency.
func requireStories(t *testing.T, v demo.Verdict) {
	t.Helper()
	require.True(t, v.Passed)
	require.Len(t, v.Outcomes, 4)
	for i, levels := range []int{3, 2, 2, 0} {
		require.Len(t, v.Outcomes[i].Levels, levels, "story (%s)", v.Outcomes[i].Story)
		require.True(t, v.Outcomes[i].Passed, "story (%s)", v.Outcomes[i].Story)
	}
}

// A story without its cause must turn the verdict, and no other story's.
func TestEachCauseIsNeeded(t *testing.T) {
	t.Parallel()
	for _, omit := range []string{"a", "b", "c", "d"} {
		t.Run(omit, func(t *testing.T) {
			t.Parallel()
			v, err := run(t, demo.Options{Omit: omit})
			require.ErrorIs(t, err, demo.ErrVerdict)
			require.False(t, v.Passed)
			for _, o := range v.Outcomes {
				require.Equal(t, o.Story != omit, o.Passed, "story (%s): %v", o.Story, o.Problems)
				if o.Story == omit {
					require.NotEmpty(t, o.Problems)
				}
			}
		})
	}
}
