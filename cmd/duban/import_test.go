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
	must(t, "keygen", c.keys, "--city", "990000", "--divisions", "chicago", "--node", "990100", "--agency", "sanitation")
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

func (c *chicago) importing(refused string) []string {
	return c.flags("agency-sanitation", "import", "--mapping", chicagoMapping, "--input", chicagoRows, "--refused", refused, "--json")
}

// entries is how many the node's journal has.
func (c *chicago) entries(t *testing.T) int {
	return decode[struct{ Journals []struct{ Size int } }](t, must(t, c.flags("operator-990100", "status", "--json")...)).Journals[0].Size
}

// complete checks what the node tells of the whole history.
func (c *chicago) complete(t *testing.T) {
	t.Helper()
	status := decode[struct {
		Cases struct {
			Total, Open, Closed, Imported int
			Overdue                       []struct {
				Limit     string
				EndedLate int `json:"ended_late"`
				Never     int `json:"never_ended"`
			}
		}
		Alerts []json.RawMessage
	}](t, must(t, c.flags("operator-990100", "status", "--json")...))
	require.Equal(t, 74394, status.Cases.Total)
	require.Equal(t, 74394, status.Cases.Imported)
	require.Equal(t, 74394-325, status.Cases.Closed)
	require.Equal(t, 325, status.Cases.Open)
	require.Len(t, status.Cases.Overdue, 1)
	require.Equal(t, "90d", status.Cases.Overdue[0].Limit)
	require.Equal(t, 109, status.Cases.Overdue[0].EndedLate)
	require.Equal(t, 325, status.Cases.Overdue[0].Never)
	require.Empty(t, status.Alerts, "imported history opens no levels")
}

func TestImportOfRealCases(t *testing.T) {
	c := newChicago(t)
	refused := filepath.Join(t.TempDir(), "refused.csv")

	o := duban(t, c.importing(refused)...)
	require.Equal(t, exit.Partly, o.code, o.stderr)
	require.Equal(t, bulk.Summary{
		Rows: 74401, Taken: 74394, AlreadyThere: 3, Refused: 4, Records: 3*74394 - 325, Ended: true, RefusedFile: refused,
	}, summary(t, o))
	c.complete(t)

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
	o = duban(t, c.importing(refused)...)
	require.Equal(t, exit.Partly, o.code, o.stderr)
	require.Equal(t, bulk.Summary{Rows: 74401, AlreadyThere: 74397, Refused: 4, Ended: true, RefusedFile: refused}, summary(t, o))
	require.Equal(t, before, c.entries(t))

	list := decode[struct{ Cases []struct{ Number, Division string } }](t, must(t, c.flags("operator-990100", "case", "list", "--in", "990100000", "--json")...))
	require.Len(t, list.Cases, 3, "ward 0 is in the data")
	c.node.stop(t)
}

// An import that was killed, and one whose node was killed, are run again and end as if nothing had happened.
func TestImportKilledAndRunAgain(t *testing.T) {
	c := newChicago(t)
	refused := filepath.Join(t.TempDir(), "refused.csv")
	at := c.entries(t)

	importer := program(t, c.importing(refused)...)
	require.NoError(t, importer.Start())
	at = c.until(t, at+20_000)
	require.NoError(t, importer.Process.Kill())
	_ = importer.Wait() // says "killed": that was asked for

	importer = program(t, c.importing(refused)...)
	var stderr strings.Builder
	importer.Stderr = &stderr
	require.NoError(t, importer.Start())
	c.until(t, at+20_000)
	c.node.kill(t)
	_ = importer.Wait() // its code is looked at
	require.Equal(t, exit.Unreachable, importer.ProcessState.ExitCode(), stderr.String())

	c.start(t)
	o := duban(t, c.importing(refused)...)
	require.Equal(t, exit.Partly, o.code, o.stderr)
	s := summary(t, o)
	require.True(t, s.Ended)
	require.Equal(t, 74401, s.Rows)
	require.Equal(t, 74397, s.Taken+s.AlreadyThere)
	require.Greater(t, s.AlreadyThere, 10_000)
	require.Greater(t, s.Taken, 10_000)
	require.Equal(t, 4, s.Refused)
	c.complete(t)
	c.node.stop(t)
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
