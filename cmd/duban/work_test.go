package main

import (
	"bufio"
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"duban.internal/cmd/duban/exit"
)

// tianjin is a city's and a district's node, worked on from a terminal.
type tianjin struct {
	keys, dir      string
	city, district *served
}

func newTianjin(t *testing.T) *tianjin {
	dir := t.TempDir()
	w := &tianjin{dir: dir, keys: filepath.Join(dir, "keys")}
	must(t, "keygen", w.keys, "--city", "120000", "--node", "120116", "--agency", "binhai", "--agency", "other",
		"--office", "legal_office@120116", "--office", "legal_office@120000")
	w.start(t)
	return w
}

func (w *tianjin) start(t *testing.T) {
	w.city = startNode(t, w.config("120000")...)
	w.district = startNode(t, append(w.config("120116"), "--parent", w.city.address, "--metrics-listen", "127.0.0.1:0")...)
}

func (w *tianjin) config(code string) []string {
	return []string{
		"--code", code, "--data", w.data(code), "--listen", "127.0.0.1:0", "--identity", filepath.Join(w.keys, code),
		"--intervals-checkpoint", "100ms", "--log-level", "warn",
	}
}

func (w *tianjin) data(code string) string { return filepath.Join(w.dir, "data-"+code) }

func (w *tianjin) stop(t *testing.T) {
	w.district.stop(t)
	w.city.stop(t)
}

// at gives a command's flags for a node and an identity.
func at(n *served, w *tianjin, client string, args ...string) []string {
	return append(args, "--node", n.address, "--identity", filepath.Join(w.keys, "clients", client))
}

// eventually repeats a question until it is answered well.
func eventually(t *testing.T, holds func() bool, what string) {
	t.Helper()
	require.Eventually(t, holds, 30*time.Second, 20*time.Millisecond, what)
}

type alertJSON struct {
	ID     string `json:"alert_id"`
	Point  string
	Closed bool
	Levels []struct {
		Round, Level int
		State        string
		Action       string
	}
}

// A case from its opening to an alert that is handled and disputed, with nothing but the command line.
func TestWorkFromATerminal(t *testing.T) {
	w := newTianjin(t)
	agency := func(args ...string) []string { return at(w.district, w, "agency-binhai", args...) }
	operator := func(args ...string) []string { return at(w.district, w, "operator-120116", args...) }
	office := func(args ...string) []string { return at(w.district, w, "office-legal_office-120116", args...) }

	must(t, operator("agency", "register", "binhai", "--name", "滨海新区城管委", "--jurisdiction", "120116", "--system", "urban")...)
	for _, id := range []string{"o1", "o2"} {
		must(t, operator("officer", "register", id, "--name", "执法人员"+id, "--agency", "binhai", "--certificate", "C-"+id, "--valid-until", "2099-01-01")...)
	}
	must(t, operator("office", "register", "legal_office", "120116", "--name", "滨海新区司法局")...)
	require.Contains(t, must(t, operator("agency", "list")...), "滨海新区城管委")

	// Opening: who may not is refused, what is missing is said at once, the same request is recorded once.
	opening := []string{
		"case", "open", "c1", "--number", "津滨罚〔2026〕1号", "--agency", "binhai", "--item", "330231001000", "--procedure", "penalty_general",
		"--source", "patrol", "--party-name", "某某商店", "--party-kind", "citizen", "--summary", "占道经营", "--handler", "o1", "--generated",
		"--request-id", "r1",
	}
	require.Equal(t, exit.Refused, duban(t, operator(opening...)...).code, "an operator opens no case")
	refused := duban(t, agency("case", "open", "c0", "--agency", "binhai", "--procedure", "penalty_general", "--handler", "nobody")...)
	require.Equal(t, exit.Refused, refused.code)
	for _, field := range []string{"--number", "--item", "--party-name", "--handler"} {
		require.Contains(t, refused.stderr, "  "+field, refused.stderr)
	}
	require.Contains(t, must(t, agency(opening...)...), "recorded: entry")
	require.Contains(t, must(t, agency(opening...)...), "already recorded: entry")

	// The gate.
	early := duban(t, agency("case", "stage", "c1", "investigation", "--handler", "o1", "--json")...)
	require.Equal(t, exit.Refused, early.code)
	require.NotEmpty(t, decode[struct{ Fields []struct{ Field string } }](t, early.stderr).Fields)
	filing := decode[struct{ Number uint64 }](t, must(t, agency("case", "stage", "c1", "filing", "--handler", "o1", "--officer", "o1", "--officer", "o2",
		"--result", "filed", "--document", "filing_approval=A-1", "--field", "cause=占道经营", "--json")...)).Number

	// Evidence, then an investigation by one officer only: an alert point (P42).
	photo := filepath.Join(w.dir, "photo.jpg")
	require.NoError(t, os.WriteFile(photo, bytes.Repeat([]byte("照片"), 200_000), 0o600))
	must(t, agency("case", "evidence", "c1", photo, "--stage", "filing")...)
	must(t, agency("case", "stage", "c1", "investigation", "--handler", "o1", "--officer", "o1",
		"--document", "investigation_report=R-1@"+photo, "--field", "certificate_shown=yes")...)
	shown := must(t, agency("case", "show", "c1")...)
	for _, want := range []string{"津滨罚〔2026〕1号", "generated", "某某商店", "photo.jpg", "1200000", "image/jpeg", "filing_approval A-1", "cause=占道经营"} {
		require.Contains(t, shown, want)
	}
	require.Equal(t, exit.Refused, duban(t, at(w.district, w, "agency-other", "case", "show", "c1")...).code, "another agency's case")

	// Correction and explanation.
	must(t, agency("case", "explain", "c1", "--subject", "other", "--text", "人手\x1b[31m不足", "--officer", "o1")...)
	numbers := decode[struct {
		Opening     uint64   `json:"opening_entry"`
		Evidence    []uint64 `json:"evidence_entries"`
		Explanation []uint64 `json:"explanation_entries"`
	}](t, must(t, agency("case", "show", "c1", "--json")...))
	require.Equal(t, []uint64{filing - 1, filing + 1}, []uint64{numbers.Opening, numbers.Evidence[0]})
	require.Greater(t, numbers.Explanation[0], filing+2)
	shown = must(t, agency("case", "show", "c1")...)
	require.Contains(t, shown, "opening       entry "+strconv.FormatUint(filing-1, 10)+" of journal ")
	require.Regexp(t, `\n +`+strconv.FormatUint(filing+1, 10)+`  photo.jpg`, shown)
	require.Contains(t, shown, "人手\ufffd[31m不足")
	must(t, agency("case", "correct", "c1", "--id", "k1", "--entry", strconv.FormatUint(filing, 10), "--change", "fields.cause=无照经营",
		"--reason", "笔误", "--officer", "o1")...)
	require.Equal(t, exit.Usage, duban(t, office("case", "decide-correction", "c1", "k1")...).code)
	must(t, office("case", "decide-correction", "c1", "k1", "--approve", "--by", "法制科", "--reason", "属实")...)
	require.Contains(t, must(t, agency("case", "show", "c1")...), "cause=无照经营")

	// The alert: level 1 is the agency's legal unit's; the district's legal office disputes its handling.
	var list struct{ Alerts []alertJSON }
	eventually(t, func() bool {
		list = decode[struct{ Alerts []alertJSON }](t, must(t, operator("alert", "list", "--open", "--json")...))
		return len(list.Alerts) == 1
	}, "an alert")
	require.Equal(t, "too_few_officers", list.Alerts[0].Point)
	id := list.Alerts[0].ID[:20]
	require.Contains(t, must(t, operator("alert", "list")...), "legal_unit@120116")

	watch := program(t, operator("alert", "watch", "--json")...)
	stdout, err := watch.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, watch.Start())
	lines := bufio.NewReader(stdout)
	line, err := lines.ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, list.Alerts[0].ID, decode[alertJSON](t, line).ID)

	wrong := duban(t, agency("alert", "handle", id, "--action", "nothing", "--by", "法制科")...)
	require.Equal(t, exit.Refused, wrong.code)
	require.Contains(t, wrong.stderr, "action")
	require.Contains(t, wrong.stderr, "explanation")
	handled := must(t, agency("alert", "handle", id, "--action", "explained", "--explanation", "已补派执法人员", "--by", "法制科")...)
	require.Contains(t, handled, "handled")
	line, err = lines.ReadString('\n')
	require.NoError(t, err)
	require.Contains(t, line, "LEVEL_STATE_HANDLED")
	require.NoError(t, watch.Process.Signal(syscall.SIGINT))
	require.NoError(t, watch.Wait(), "a watch that is interrupted has ended well")

	must(t, office("alert", "dispute", id, "--reason", "说明不足", "--by", "区法制机构")...)
	eventually(t, func() bool {
		a := decode[alertJSON](t, must(t, office("alert", "show", id, "--json")...))
		last := a.Levels[len(a.Levels)-1]
		return last.Round == 2 && last.Level == 1 && last.State == "LEVEL_STATE_OPEN"
	}, "a second round")

	// The city has it all from its copy.
	eventually(t, func() bool {
		out := must(t, at(w.city, w, "operator-120000", "case", "list", "--in", "120116")...)
		return strings.Contains(out, "津滨罚〔2026〕1号")
	}, "the case at the city")
	status := must(t, operator("status")...)
	for _, want := range []string{"滨海新区", "leads", "tianjin ", "connected", "1 open", "disputed"} {
		require.Contains(t, status, want)
	}
	t.Setenv("DUBAN_NODE", w.district.address)
	t.Setenv("DUBAN_IDENTITY", filepath.Join(w.keys, "clients", "operator-120116"))
	require.Contains(t, must(t, "status"), "滨海新区", "node and identity may come from the environment")
	t.Setenv("DUBAN_TIMEOUT", "soon")
	require.Equal(t, exit.Usage, duban(t, "status").code)
	require.Equal(t, exit.OK, duban(t, "status", "--timeout", "5s").code, "a flag goes before the environment")
	t.Setenv("DUBAN_TIMEOUT", "10s")

	tree := must(t, at(w.city, w, "operator-120000", "status")...)
	require.Contains(t, tree, "\n120000")
	require.Contains(t, tree, "\n· 120116", "the district below the city")
	w.stop(t)
	w.verified(t)
}

// verified checks both folders, changes one byte of a copy, and folds the district's tables anew.
func (w *tianjin) verified(t *testing.T) {
	topology := filepath.Join(w.keys, "topology.yaml")
	type verdict struct {
		Sound                          bool
		Checkpoints, Countersignatures int
		Findings                       []struct {
			Entry *int64
			What  string
		}
	}
	city := decode[verdict](t, must(t, "verify", w.data("120000"), "--topology", topology, "--json"))
	require.True(t, city.Sound)
	require.Positive(t, city.Checkpoints, "the district's")
	district := decode[verdict](t, must(t, "verify", w.data("120116"), "--topology", topology, "--json"))
	require.True(t, district.Sound)
	require.Positive(t, district.Countersignatures, "the city's")
	require.Contains(t, must(t, "verify", w.data("120116")), "sound")

	changed := filepath.Join(w.dir, "changed")
	require.NoError(t, os.CopyFS(changed, os.DirFS(w.data("120116"))))
	segments, err := filepath.Glob(filepath.Join(changed, "store", "journals", "*", "*.seg"))
	require.NoError(t, err)
	require.NotEmpty(t, segments)
	for _, s := range segments {
		content, err := os.ReadFile(s)
		require.NoError(t, err)
		if i := bytes.Index(content, []byte("某某商店")); i >= 0 {
			content[i] ^= 1
			require.NoError(t, os.WriteFile(s, content, 0o600))
		}
	}
	o := duban(t, "verify", changed, "--topology", topology, "--json")
	require.Equal(t, exit.Refused, o.code, o.stderr)
	broken := decode[verdict](t, o.stdout)
	require.False(t, broken.Sound)
	require.NotEmpty(t, broken.Findings)
	require.NotNil(t, broken.Findings[0].Entry, o.stdout)
	require.Contains(t, duban(t, "verify", changed).stderr, "entry "+strconv.FormatInt(*broken.Findings[0].Entry, 10))
	require.Equal(t, exit.Usage, duban(t, "verify", w.keys).code)

	w.attachmentsVerified(t)
	require.Regexp(t, `: folded [1-9][0-9]* entries of all journals\n$`, must(t, "rebuild", w.data("120116")))
	require.True(t, decode[verdict](t, must(t, "verify", w.data("120116"), "--topology", topology, "--json")).Sound)
	w.start(t)
	require.Equal(t, exit.Refused, duban(t, "verify", w.data("120116")).code, "the folder is in use")
	require.Contains(t, must(t, at(w.district, w, "operator-120116", "case", "list")...), "津滨罚〔2026〕1号")
	w.stop(t)
}

// attachmentsVerified looks at a file of evidence that was changed, and at one that is gone.
func (w *tianjin) attachmentsVerified(t *testing.T) {
	type verdict struct {
		Attachments int
		Findings    []struct {
			Entry       *int64
			Where, What string
		}
	}
	require.Equal(t, 1, decode[verdict](t, must(t, "verify", w.data("120116"), "--json")).Attachments)
	changed := filepath.Join(w.dir, "changed-files")
	require.NoError(t, os.CopyFS(changed, os.DirFS(w.data("120116"))))
	files, err := filepath.Glob(filepath.Join(changed, "attachments", "??", "*"))
	require.NoError(t, err)
	require.Len(t, files, 1)
	require.NoError(t, os.Chmod(files[0], 0o600))
	require.NoError(t, os.WriteFile(files[0], []byte("other bytes"), 0o600))
	for _, what := range []string{"which is damaged", "which is not there"} {
		o := duban(t, "verify", changed, "--json")
		require.Equal(t, exit.Refused, o.code)
		found := decode[verdict](t, o.stdout)
		require.Zero(t, found.Attachments)
		var entries int
		for _, f := range found.Findings {
			if strings.Contains(f.What, what) {
				require.NotNil(t, f.Entry)
				require.Equal(t, "case c1", f.Where)
				entries++
			}
		}
		require.Equal(t, 2, entries, "the evidence and the document: %s", o.stdout)
		require.Contains(t, duban(t, "verify", changed).stdout, "NOT sound: "+strconv.Itoa(len(found.Findings))+" findings")
		require.NoError(t, os.RemoveAll(files[0]))
	}
}
