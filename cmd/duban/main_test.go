package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"

	"duban.internal/cmd/duban/exit"
	"duban.internal/cmd/duban/show"
	"duban.internal/node/clock"
)

// asProgram makes the test binary be duban, so that nodes and imports can be killed like the real ones.
const asProgram = "TEST_RUN_AS_DUBAN"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
		stop()
		os.Exit(code)
	}
	os.Exit(m.Run())
}

type outcome struct {
	code           int
	stdout, stderr string
}

// duban runs a command in this process.
func duban(t *testing.T, args ...string) outcome {
	t.Helper()
	var stdout, stderr bytes.Buffer
	code := run(t.Context(), args, &stdout, &stderr)
	return outcome{code, stdout.String(), stderr.String()}
}

// must runs a command that has to end well and returns what it wrote.
func must(t *testing.T, args ...string) string {
	t.Helper()
	o := duban(t, args...)
	require.Equal(t, exit.OK, o.code, "duban %s\n%s%s", strings.Join(args, " "), o.stdout, o.stderr)
	return o.stdout
}

func decode[T any](t *testing.T, text string) T {
	t.Helper()
	var v T
	require.NoError(t, json.Unmarshal([]byte(text), &v), text)
	return v
}

// program starts a command as a process.
func program(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	c := exec.Command(os.Args[0], args...)
	c.Env = append(os.Environ(), asProgram+"=1")
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return c
}

// served is a node that runs as a process.
type served struct {
	cmd     *exec.Cmd
	address string
	metrics string
	log     string
}

// startNode starts `duban serve` and waits until it says where it listens.
func startNode(t *testing.T, args ...string) *served {
	t.Helper()
	n := &served{cmd: program(t, append([]string{"serve", "--json"}, args...)...), log: filepath.Join(t.TempDir(), "log")}
	log, err := os.Create(n.log)
	require.NoError(t, err)
	defer log.Close()
	n.cmd.Stderr = log
	stdout, err := n.cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, n.cmd.Start())
	t.Cleanup(func() {
		_ = n.cmd.Process.Kill() // most have ended by then
		_ = n.cmd.Wait()
	})
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		content, _ := os.ReadFile(n.log)
		require.NoError(t, err, string(content))
	}
	ready := decode[struct{ Address, Metrics string }](t, line)
	n.address, n.metrics = ready.Address, ready.Metrics
	return n
}

// kill ends the node as a failure of power would.
func (n *served) kill(t *testing.T) {
	t.Helper()
	require.NoError(t, n.cmd.Process.Kill())
	_ = n.cmd.Wait() // says "killed": that was asked for
}

// stop ends the node in good order.
func (n *served) stop(t *testing.T) {
	t.Helper()
	require.NoError(t, n.cmd.Process.Signal(syscall.SIGTERM))
	err := n.cmd.Wait()
	content, _ := os.ReadFile(n.log)
	require.NoError(t, err, string(content))
}

func TestEveryCommandExplainsItself(t *testing.T) {
	eachCommand(newRoot(), func(c *cobra.Command) {
		require.NotEmpty(t, c.Short, c.CommandPath())
		if c.RunE == nil || c.Hidden {
			return
		}
		require.NotEmpty(t, c.Example, c.CommandPath())
		for _, line := range strings.Split(c.Example, "\n") {
			if strings.HasPrefix(line, "  duban ") {
				return
			}
		}
		t.Errorf("%s: no example begins with duban", c.CommandPath())
	})
}

// Wrong usage is told apart from everything else, and said in full.
func TestWrongUsage(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"lst"}, exit.Usage, `unknown command "lst"`},
		{[]string{"case", "lits"}, exit.Usage, "expected correct, decide-correction, evidence, explain, list"},
		{[]string{"status", "--nod", "x"}, exit.Usage, "unknown flag"},
		{[]string{"case", "show"}, exit.Usage, "arg"},
		{[]string{"import"}, exit.Usage, `"input", "mapping"`},
		{[]string{"status"}, exit.Usage, "--identity: expected a folder that duban keygen wrote"},
		{[]string{"status", "--identity", dir}, exit.Usage, "client.crt"},
		{[]string{"serve", "--config", filepath.Join(dir, "none.yaml")}, exit.Usage, "no such file"},
		{[]string{"serve", "--code", "1", "--log-level", "loud"}, exit.Usage, "log.level"},
		{[]string{"keygen", dir}, exit.Usage, "city"},
		{[]string{"keygen", dir, "--city", "120116", "--office", "x", "--node", "1"}, exit.Usage, "--office"},
	} {
		o := duban(t, c.args...)
		require.Equal(t, c.code, o.code, "%v: %s", c.args, o.stderr)
		require.Contains(t, o.stderr, c.says, "%v", c.args)
		require.Empty(t, o.stdout)
		asJSON := duban(t, append(c.args, "--json")...)
		require.Equal(t, float64(c.code), decode[map[string]any](t, asJSON.stderr)["code"])
	}
	require.Contains(t, must(t, "help", "exit-codes"), "unreachable")
	require.Contains(t, must(t, "alert"), "handle")
	require.NotEmpty(t, decode[map[string]string](t, must(t, "version", "--json"))["version"])
}

func TestKeygen(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	out := must(t, "keygen", dir, "--city", "120000", "--node", "120116", "--node", "120116013", "--agency", "a1",
		"--office", "legal_office@120116", "--address", "120116=district.example:7443", "--json")
	keys := decode[struct {
		Topology string
		Nodes    []struct{ Code, Parent, Folder string }
		Clients  []string
	}](t, out)
	require.Len(t, keys.Nodes, 3)
	require.Equal(t, "120116", keys.Nodes[2].Parent)
	for _, f := range append(keys.Clients, keys.Nodes[0].Folder, keys.Topology) {
		_, err := os.Stat(f)
		require.NoError(t, err)
	}
	again := duban(t, "keygen", dir, "--city", "120000")
	require.Equal(t, exit.Refused, again.code)
	require.Contains(t, again.stderr, "never overwritten")

	o := duban(t, "status", "--node", "127.0.0.1:1", "--identity", filepath.Join(dir, "clients", "agency-a1"), "--timeout", "2s")
	require.Equal(t, exit.Unreachable, o.code, o.stderr)
}

// Years later: more clients, another node, certificates about to end.
func TestKeygenIssue(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	must(t, "keygen", dir, "--city", "120000", "--node", "120116", "--agency", "a1")
	must(t, "keygen", "issue", dir, "--agency", "a2", "--office", "legal_office@120116")
	there := duban(t, "keygen", "issue", dir, "--agency", "a2", "--node", "120116")
	require.Equal(t, exit.Refused, there.code)
	require.Contains(t, there.stderr, "agency:a2")
	require.Contains(t, there.stderr, "node:120116")
	require.Equal(t, exit.Usage, duban(t, "keygen", "issue", dir).code)

	out := must(t, "keygen", "issue", dir, "--node", "120116013", "--node", "120102", "--address", "120102=hedong.example:7443", "--days", "30")
	require.Contains(t, out, "topology.yaml is new")
	topology, err := os.ReadFile(filepath.Join(dir, "topology.yaml"))
	require.NoError(t, err)
	require.Contains(t, string(topology), `parent: "120116"`)
	require.Contains(t, string(topology), "hedong.example:7443")
	key, err := os.ReadFile(filepath.Join(dir, "120102", "journal.key"))
	require.NoError(t, err)

	renewed := decode[struct {
		Certificates []struct{ Folder, Ends string }
	}](t, must(t, "keygen", "issue", dir, "--renew", "--node", "120102", "--agency", "a1", "--days", "700", "--json"))
	require.Len(t, renewed.Certificates, 2)
	require.Equal(t, show.Date(clock.System().Now().Add(700*24*time.Hour)), renewed.Certificates[0].Ends)
	same, err := os.ReadFile(filepath.Join(dir, "120102", "journal.key"))
	require.NoError(t, err)
	require.Equal(t, key, same)
	require.Equal(t, 11, strings.Count(must(t, "keygen", "issue", dir, "--renew", "--all"), dir)) // 4 nodes, 4 operators, 3 clients
}

// Whatever is wrong with the flags is said in their words, and nothing is written.
func TestKeygenRefusals(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	base := []string{"keygen", dir, "--city", "120000"}
	for _, c := range []struct {
		args []string
		says string
	}{
		{[]string{"keygen"}, "DIR: expected one folder for the keys, 0 are given; such as: duban keygen keys --city 120000"},
		{[]string{"keygen", "issue"}, "DIR: expected one folder"},
		{append(base, "--agency", "a", "--agency", "a"), "--agency: a is given twice"},
		{append(base, "--node", "120116013"), "lies in 120116 (滨海新区), which has no node: add --node for it, or --nearest-parent to put it under 120000"},
		{append(base, "--node", "120116", "--office", "legal_office@120101"), "--office: legal_office@120101: 120101 has no node in this tree"},
		{append(base, "--office", "foo@120116"), `foo@120116: no role "foo" in`},
		{append(base, "--office", "foo@120116"), "expected legal_office (政府法制机构)"},
		{append(base, "--office", "legal_unit@120116"), "is a role of agencies, not of a jurisdiction: it acts with its agency's certificate, --agency ID"},
		{append(base, "--days", "365", "--ca-days", "300"), "--ca-days: 300: expected --days (365) to 36500"},
	} {
		o := duban(t, c.args...)
		require.Equal(t, exit.Usage, o.code, "%v: %s", c.args, o.stderr)
		require.Contains(t, o.stderr, c.says)
		require.NotContains(t, o.stderr, ".part-")
		require.NoDirExists(t, dir)
	}
	// A street whose district has no node lies under the city, for who says so.
	require.Contains(t, must(t, append(base, "--node", "120116013", "--nearest-parent", "--json")...), `"parent": "120000"`)
}
