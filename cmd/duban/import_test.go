package main

import (
	"encoding/csv"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"duban.internal/cmd/duban/bulk"
	"duban.internal/cmd/duban/exit"
)

const (
	chicagoMapping = "../../configs/import/chicago.yaml"
	chicagoRows    = "testdata/chicago-sanitation-2000-2014.csv.gz"
)

// chicago is a district node for the real data: 74,401 sanitation cases of 2000 to 2014.
type chicago struct {
	keys, data string
	node       *served
}

func newChicago(t *testing.T) *chicago {
	dir := t.TempDir()
	c := &chicago{keys: filepath.Join(dir, "keys"), data: filepath.Join(dir, "data")}
	must(t, "keygen", c.keys, "--city", "990000", "--divisions", "chicago", "--node", "990100")
	c.start(t)
	must(t, c.flags("operator-990100", "agency", "register", "sanitation", "--name", "Streets and Sanitation", "--jurisdiction", "990100")...)
	return c
}

func (c *chicago) start(t *testing.T) {
	c.node = startNode(t, "--code", "990100", "--data", c.data, "--listen", "127.0.0.1:0", "--identity", filepath.Join(c.keys, "990100"),
		"--divisions", "chicago", "--profile", "chicago", "--calendar", "plain-2000-2015", "--history", "--log-level", "warn")
}

func (c *chicago) flags(client string, args ...string) []string {
	return append(args, "--node", c.node.address, "--identity", filepath.Join(c.keys, "clients", client))
}

func (c *chicago) importing(input, refused string) []string {
	return c.flags("operator-990100", "import", "--mapping", chicagoMapping, "--input", input, "--refused", refused, "--json")
}

// entries is how many the node's journal has.
func (c *chicago) entries(t *testing.T) int {
	return decode[struct{ Journals []struct{ Size int } }](t, must(t, c.flags("operator-990100", "status", "--json")...)).Journals[0].Size
}

type figures struct {
	Total, Open, Closed, Imported int
	Overdue                       []struct {
		Limit     string
		EndedLate int `json:"ended_late"`
		Never     int `json:"never_ended"`
	}
}

// figures are what the node counts.
func (c *chicago) figures(t *testing.T) figures {
	t.Helper()
	status := decode[struct {
		Cases  figures
		Alerts []json.RawMessage
	}](t, must(t, c.flags("operator-990100", "status", "--json")...))
	require.Empty(t, status.Alerts, "imported history opens no levels")
	require.Len(t, status.Cases.Overdue, 1)
	require.Equal(t, "90d", status.Cases.Overdue[0].Limit)
	return status.Cases
}

// All of the real data, twice. It is the longest test here: -short leaves it out.
func TestImportOfRealCases(t *testing.T) {
	if testing.Short() {
		t.Skip("imports 74,401 rows twice")
	}
	c := newChicago(t)
	refused := filepath.Join(t.TempDir(), "refused.csv")

	o := duban(t, c.importing(chicagoRows, refused)...)
	require.Equal(t, exit.Partly, o.code, o.stderr)
	require.Equal(t, bulk.Summary{
		Rows: 74401, Taken: 74394, AlreadyThere: 3, Refused: 4, Records: 3*74394 - 325, Ended: true, RefusedFile: refused,
	}, summary(t, o))
	got := c.figures(t)
	require.Equal(t, [4]int{74394, 74394, 74394 - 325, 325}, [4]int{got.Total, got.Imported, got.Closed, got.Open})
	require.Equal(t, 109, got.Overdue[0].EndedLate)
	require.Equal(t, 325, got.Overdue[0].Never)

	f, err := os.Open(refused)
	require.NoError(t, err)
	defer f.Close()
	rows, err := csv.NewReader(f).ReadAll()
	require.NoError(t, err)
	require.Len(t, rows, 5)
	require.Equal(t, []string{"number", "type", "created", "status", "completed", "ward", "police_district", "community_area", "line", "reason"}, rows[0])
	for _, row := range rows[1:] {
		require.Empty(t, row[5])
		require.Contains(t, row[9], "ward: is empty")
	}

	before := c.entries(t)
	o = duban(t, c.importing(chicagoRows, refused)...)
	require.Equal(t, exit.Partly, o.code, o.stderr)
	require.Equal(t, bulk.Summary{Rows: 74401, AlreadyThere: 74397, Refused: 4, Ended: true, RefusedFile: refused}, summary(t, o))
	require.Equal(t, before, c.entries(t))

	list := decode[struct {
		Cases []struct{ Number, Division string }
	}](t, must(t, c.flags("operator-990100", "case", "list", "--in", "990100000", "--json")...))
	require.Len(t, list.Cases, 3, "ward 0 is in the data")
	c.node.stop(t)
}

// An import that was killed, and one whose node was killed, are run again and end as if nothing had happened.
func TestImportKilledAndRunAgain(t *testing.T) {
	const rows = 24_000
	input, want := firstRows(t, rows)
	c := newChicago(t)
	refused := filepath.Join(t.TempDir(), "refused.csv")
	at := c.entries(t)

	importer := program(t, c.importing(input, refused)...)
	require.NoError(t, importer.Start())
	at = c.until(t, at+rows/2)
	require.NoError(t, importer.Process.Kill())
	_ = importer.Wait() // says "killed": that was asked for
	_, err := os.Stat(refused)
	require.ErrorIs(t, err, os.ErrNotExist, "an import that did not end leaves no list of refused rows that looks whole")

	importer = program(t, c.importing(input, refused)...)
	var stderr strings.Builder
	importer.Stderr = &stderr
	require.NoError(t, importer.Start())
	c.until(t, at+rows/2)
	c.node.kill(t)
	_ = importer.Wait() // its code is looked at
	require.Equal(t, exit.Unreachable, importer.ProcessState.ExitCode(), stderr.String())

	c.start(t)
	s := summary(t, duban(t, c.importing(input, refused)...))
	require.True(t, s.Ended)
	require.Equal(t, rows, s.Rows)
	require.Equal(t, rows, s.Taken+s.AlreadyThere+s.Refused)
	require.Greater(t, s.AlreadyThere, rows/8)
	require.Greater(t, s.Taken, rows/8)
	got := c.figures(t)
	require.Equal(t, want, [3]int{got.Total, got.Closed, got.Open})
	c.node.stop(t)
}

// firstRows is a file of the first rows, and how many cases they make: all, closed, open.
func firstRows(t *testing.T, n int) (file string, want [3]int) {
	t.Helper()
	m, err := bulk.LoadMapping(chicagoMapping)
	require.NoError(t, err)
	source, err := m.Open(chicagoRows)
	require.NoError(t, err)
	defer source.Close()
	rows := [][]string{m.Columns}
	seen := map[string]bool{}
	for range n {
		row, err := source.Next()
		require.NoError(t, err)
		rows = append(rows, row.Values)
		whole := strings.Join(row.Values, ",")
		if seen[whole] || row.Values[5] == "" {
			continue
		}
		seen[whole] = true
		want[0]++
		if row.Values[4] != "" {
			want[1]++
		} else {
			want[2]++
		}
	}
	file = filepath.Join(t.TempDir(), "rows.csv")
	f, err := os.Create(file)
	require.NoError(t, err)
	require.NoError(t, csv.NewWriter(f).WriteAll(rows))
	require.NoError(t, f.Close())
	return file, want
}

// until waits until the journal has so many entries.
func (c *chicago) until(t *testing.T, size int) int {
	for {
		if n := c.entries(t); n >= size {
			return n
		}
		require.NoError(t, t.Context().Err())
	}
}

func summary(t *testing.T, o outcome) bulk.Summary { return decode[bulk.Summary](t, o.stdout) }
