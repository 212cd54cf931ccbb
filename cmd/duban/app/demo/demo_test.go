package demo_test

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
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
	v, err := run(t, demo.Options{})
	require.NoError(t, err, "%+v", v)
	requireStories(t, v)
}

func TestStoriesAsProcesses(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "duban")
	build := exec.Command("go", "build", "-o", binary, "duban.internal/cmd/duban")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := build.CombinedOutput()
	require.NoError(t, err, string(out))
	v, err := run(t, demo.Options{Binary: binary})
	require.NoError(t, err, "%+v", v)
	requireStories(t, v)
}

// requireStories: all were told, and went as far up as T27 lets their agencies' alerts go.
func requireStories(t *testing.T, v demo.Verdict) {
	t.Helper()
	require.True(t, v.Passed)
	highest := map[string]uint32{"a": 3, "b": 2, "c": 2, "d": 0, "e": 2, "f": 3, "g": 2, "h": 2, "i": 2}
	require.Len(t, v.Outcomes, len(highest))
	for _, o := range v.Outcomes {
		require.True(t, o.Passed, "story (%s)", o.Story)
		top := uint32(0)
		for _, l := range o.Levels {
			top = max(top, l.Level)
		}
		require.GreaterOrEqual(t, top, highest[o.Story], "story (%s)", o.Story)
	}
}

// A story without its cause must turn the verdict, and no other story's.
func TestEachCauseIsNeeded(t *testing.T) {
	for _, omit := range []string{"acegi", "bdfh"} {
		t.Run(omit, func(t *testing.T) {
			v, err := run(t, demo.Options{Omit: omit})
			require.ErrorIs(t, err, demo.ErrVerdict)
			require.False(t, v.Passed)
			for _, o := range v.Outcomes {
				require.Equal(t, !strings.Contains(omit, o.Story), o.Passed, "story (%s): %v", o.Story, o.Problems)
				require.Equal(t, o.Passed, len(o.Problems) == 0)
			}
		})
	}
}
