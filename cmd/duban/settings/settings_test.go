package settings_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"

	"duban.internal/cmd/duban/app"
	"duban.internal/cmd/duban/settings"
	"duban.internal/node/fault"
)

func write(t *testing.T, content string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "node.yaml")
	require.NoError(t, os.WriteFile(file, []byte(content), 0o600))
	return file
}

// Every configuration that ships can be read, and explains every key.
func TestShippedConfigurations(t *testing.T) {
	files, err := filepath.Glob("../../../configs/*.yaml")
	require.NoError(t, err)
	require.GreaterOrEqual(t, len(files), 3)
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			c, err := settings.Load(file, nil, nil)
			require.NoError(t, err)
			require.Contains(t, c.Data, c.Code)
			require.Equal(t, file == "../../../configs/city.yaml", c.Parent == "")
			content, err := os.ReadFile(file)
			require.NoError(t, err)
			for _, k := range settings.Keys() {
				if strings.HasPrefix(k.Name, "clock.") {
					continue // for demonstrations, not for a real node's file
				}
				last := k.Name[strings.LastIndexByte(k.Name, '.')+1:]
				require.Regexp(t, `(?m)#.*\n\s*`+last+`: `, string(content), "%s is not explained", k.Name)
			}
		})
	}
}

func TestFileThenEnvironmentThenFlags(t *testing.T) {
	file := write(t, "code: 120116\ndata: a\nidentity: keys/120116\nintervals: {grace: 1m, skew: 2m, checkpoint: 3m}\ndivisions: [divisions, own.csv]\nhistory: true\n")
	flags := pflag.NewFlagSet("serve", pflag.ContinueOnError)
	settings.Flags(flags)
	require.NoError(t, flags.Parse([]string{"--intervals-grace=5s", "--store-segment", "8MiB", "--sync-window=1MiB"}))
	c, err := settings.Load(file, []string{"DUBAN_INTERVALS_GRACE=4s", "DUBAN_INTERVALS_SKEW=4s", "DUBAN_INTERVALS_SILENCE=7m", "DUBAN_ANCESTORS=120000=a:1,120100=b:2", "DUBAN_NODE=x:1", "HOME=/"}, flags)
	require.NoError(t, err)
	require.Equal(t, "120116", c.Code)
	require.Equal(t, app.Intervals{
		Checkpoint: 3 * time.Minute, Grace: 5 * time.Second, Skew: 4 * time.Second, Silence: 7 * time.Minute, Around: 15 * time.Minute, Retry: 30 * time.Second,
	}, c.Intervals)
	require.Equal(t, []string{"120000=a:1", "120100=b:2"}, c.Ancestors)
	require.Equal(t, app.Sync{Window: app.MiB, Memory: 256 * app.MiB}, c.Sync)
	require.Equal(t, 8*app.MiB, c.Store.Segment)
	require.Equal(t, []string{"divisions", "own.csv"}, c.Divisions)
	require.Equal(t, filepath.Join("keys", "topology.yaml"), c.Topology)
	require.True(t, c.History)
	require.Equal(t, "tianjin", c.Profile)
}

func TestEverythingThatIsWrongIsSaidAtOnce(t *testing.T) {
	file := write(t, `
code: "12"
listn: ":1"
parent: nowhere
intervals: {grase: 1m, checkpoint: fast, skew: 100h, silence: 1s, around: 1000h}
ancestors: ["120000", "120000=x:1", "120000=y:1", "1=z:1", "120100=w"]
sync: {window: 1KiB, memory: 1MiB}
log: loud
store: {segment: 64MB}
attachments: {max: 1MiB}
history: perhaps
`)
	_, err := settings.Load(file, []string{"DUBAN_INTERVALS_GRASE=1s", "DUBAN_IDENTITY=x"}, nil)
	require.True(t, fault.Is(err, fault.Invalid))
	var got []string
	for _, f := range fault.Fields(err) {
		got = append(got, f.Field+": "+f.Description)
	}
	slices.Sort(got)
	want := []string{
		`DUBAN_INTERVALS_GRASE: unknown variable in the environment; the nearest one is DUBAN_INTERVALS_GRACE`,
		`ancestors: "120000": expected CODE=HOST:PORT, each code once`,
		`ancestors: "120000=y:1": expected CODE=HOST:PORT, each code once`,
		`ancestors: "1=z:1": expected CODE=HOST:PORT, each code once`,
		`ancestors: "w": expected HOST:PORT`,
		`attachments.max: 1MiB: expected 200MiB to 1024GiB`,
		`code: code "12": want 6 digits (city, district) or 9 digits (street)`,
		`data: is missing: expected a folder`,
		`history: "perhaps": expected true or false`,
		`intervals.around: 1000h0m0s: expected 1m0s to 720h0m0s`,
		`intervals.checkpoint: "fast": expected a time such as 500ms, 30s, 10m or 2h`,
		`intervals.grase: unknown key in FILE; the nearest one is intervals.grace`,
		`intervals.silence: 1s: expected 1m0s to 720h0m0s`,
		`intervals.skew: 100h0m0s: expected 1ms to 24h0m0s`,
		`listn: unknown key in FILE; the nearest one is listen`,
		`log: unknown key in FILE; the nearest one is log.level`,
		`parent: "nowhere": expected HOST:PORT`,
		`store.segment: "64MB": expected a size such as 512, 64KiB, 64MiB or 1GiB`,
		`sync.memory: 1MiB: expected 16MiB to 64GiB`,
		`sync.window: 1KiB: expected 64KiB to 1GiB`,
	}
	for i := range got {
		got[i] = strings.ReplaceAll(got[i], file, "FILE")
	}
	require.Equal(t, want, got)
}

func TestFilesThatCannotBeRead(t *testing.T) {
	for name, file := range map[string]string{
		"absent":   filepath.Join(t.TempDir(), "none.yaml"),
		"not yaml": write(t, "code: [\n"),
		"twice":    write(t, "code: 120000\ncode: 120101\n"),
		"a list":   write(t, "- code\n"),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := settings.Load(file, nil, nil)
			require.True(t, fault.Is(err, fault.Invalid), "%v", err)
		})
	}
}

func TestNearest(t *testing.T) {
	candidates := []string{"code", "listen", "intervals.grace", "metrics.listen", "log.level"}
	for name, want := range map[string]string{
		"cod": "code", "grace": "intervals.grace", "interval.grace": "intervals.grace", "log": "log.level", "levl": "log.level",
	} {
		require.Equal(t, want, settings.Nearest(name, candidates), name)
	}
}

func TestEnvironmentAndFlagNames(t *testing.T) {
	seen := map[string]bool{}
	for _, k := range settings.Keys() {
		require.False(t, seen[k.Env()] || seen[k.Flag()], k.Name)
		seen[k.Env()], seen[k.Flag()] = true, true
		require.NotEmpty(t, k.Help)
	}
	require.True(t, seen["DUBAN_METRICS_LISTEN"] && seen["metrics-listen"])
}
