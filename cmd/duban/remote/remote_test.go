package remote_test

import (
	"bytes"
	"context"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"duban.internal/cmd/duban/exit"
	"duban.internal/cmd/duban/remote"
	"duban.internal/federation/topology"
	"duban.internal/node/clock"
	"duban.internal/node/identity"
	"duban.internal/node/jurisdiction"
	dubanv1 "duban.internal/proto/duban/v1"
)

// node answers what a test wants; its commits are durable and its answers get lost.
type node struct {
	dubanv1.UnimplementedCaseServiceServer
	address string
	keys    string

	mu     sync.Mutex
	opened []*dubanv1.OpenCaseRequest
	staged []*dubanv1.RecordStageRequest
	fail   error
	hang   bool
}

// does says what the node does from now on.
func (n *node) does(hang bool, fail error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.hang, n.fail = hang, fail
}

func (n *node) openings() []*dubanv1.OpenCaseRequest {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.opened)
}

func (n *node) stages() []*dubanv1.RecordStageRequest {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.staged)
}

func (n *node) OpenCase(ctx context.Context, r *dubanv1.OpenCaseRequest) (*dubanv1.OpenCaseResponse, error) {
	n.mu.Lock()
	n.opened = append(n.opened, r)
	hang, fail := n.hang, n.fail
	n.mu.Unlock()
	if hang {
		<-ctx.Done()
	}
	return &dubanv1.OpenCaseResponse{Receipt: &dubanv1.Receipt{Number: 7}}, fail
}

func (n *node) RecordStage(_ context.Context, r *dubanv1.RecordStageRequest) (*dubanv1.RecordStageResponse, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.staged = append(n.staged, r)
	return &dubanv1.RecordStageResponse{Receipt: &dubanv1.Receipt{Number: 7}}, n.fail
}

func generate(t *testing.T) string {
	dir := filepath.Join(t.TempDir(), "keys")
	_, err := topology.Generate(dir, topology.Spec{
		City: "120000", Now: clock.System().Now(),
		Members: []topology.Member{{Code: "120000", Name: "天津市", Tier: jurisdiction.City}},
		Clients: []identity.Identity{{City: "120000", Kind: identity.Agency, ID: "a1"}},
	})
	require.NoError(t, err)
	return dir
}

func newNode(t *testing.T) *node {
	n := &node{keys: generate(t)}
	pair, err := topology.NodeFiles(topology.NodeFolder(n.keys, "120000")).Load()
	require.NoError(t, err)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s := grpc.NewServer(grpc.Creds(credentials.NewTLS(pair.Server())))
	dubanv1.RegisterCaseServiceServer(s, n)
	go func() { _ = s.Serve(l) }() // ends with Stop
	t.Cleanup(s.Stop)
	n.address = l.Addr().String()
	return n
}

// run is a command as the program runs it: its code, and what it says where it fails.
func (n *node) run(t *testing.T, args ...string) (code int, said string) {
	t.Helper()
	root := &cobra.Command{Use: "duban", SilenceUsage: true, SilenceErrors: true}
	root.PersistentFlags().Bool("json", false, "")
	root.AddCommand(remote.Commands()...)
	root.SetArgs(append(args, "--node", n.address, "--identity", filepath.Join(n.keys, "clients", "agency-a1")))
	root.SetOut(&bytes.Buffer{})
	err := root.ExecuteContext(t.Context())
	if err == nil {
		return exit.OK, ""
	}
	var out bytes.Buffer
	exit.Tell(&out, err, false)
	return exit.Code(err), out.String()
}

// flag finds what an error tells to give for a flag.
func flag(t *testing.T, said, name string) string {
	t.Helper()
	_, rest, ok := strings.Cut(said, " "+name+" ")
	require.True(t, ok, said)
	return strings.TrimRight(strings.Fields(rest)[0], ",")
}

// Where nobody knows whether a request was recorded, the error says how to ask again so that it is recorded once.
func TestUnsureRequestsAreAskedAgainAsTheSame(t *testing.T) {
	n := newNode(t)
	n.does(true, nil)
	code, said := n.run(t, "case", "open", "c1", "--timeout", "300ms")
	require.Equal(t, exit.Unreachable, code, said)
	id := flag(t, said, "--request-id")
	require.Equal(t, n.openings()[0].RequestId, id)
	n.does(false, nil)
	code, said = n.run(t, "case", "open", "c1", "--request-id", id)
	require.Equal(t, exit.OK, code, said)
	require.True(t, equal(n.openings()[0], n.openings()[1]))

	n.does(false, unavailable)
	code, said = n.run(t, "case", "stage", "c1", "filing")
	require.Equal(t, exit.Unreachable, code)
	n.does(false, nil)
	code, again := n.run(t, "case", "stage", "c1", "filing", "--request-id", flag(t, said, "--request-id"), "--completed", flag(t, said, "--completed"))
	require.Equal(t, exit.OK, code, again)
	require.True(t, equal(n.stages()[0], n.stages()[1]), "%v", n.stages())

	n.does(false, refusal)
	_, said = n.run(t, "case", "open", "c1")
	require.NotContains(t, said, "--request-id", "what was refused was not recorded")
	n.address = "127.0.0.1:1"
	code, said = n.run(t, "case", "open", "c1")
	require.Equal(t, exit.Unreachable, code)
	require.NotContains(t, said, "--request-id", "what was never sent was not recorded")
}

// Fields of messages are said as the flags and arguments that they came from, times as people write them here.
func TestErrorsNameFlags(t *testing.T) {
	n := newNode(t)
	n.does(false, refusal)
	_, said := n.run(t, "case", "open", "c1")
	for _, want := range []string{
		"\n  CASE: there", "\n  --number: missing", "\n  --party-name: missing", "\n  --field cause: missing", "\n  --occurred: 2026-03-02 15:00:00 is before",
	} {
		require.Contains(t, said, want)
	}
	n.does(false, stageRefusal)
	_, said = n.run(t, "case", "stage", "c1", "filing")
	for _, want := range []string{"\n  STAGE: not now", "\n  --document (2nd code): missing", "\n  --officer (1st): unknown", "\n  --result: missing", "\n  --completed: 2026"} {
		require.Contains(t, said, want)
	}
}

// A certificate of another tree is one clear sentence, whoever notices it.
func TestCertificateOfAnotherTree(t *testing.T) {
	n := newNode(t)
	own := n.keys
	n.keys = generate(t)
	code, said := n.run(t, "case", "open", "c1")
	require.Equal(t, exit.Unreachable, code)
	require.Contains(t, said, "--ca")
	require.Contains(t, said, "another tree")
	require.Equal(t, 2, strings.Count(said, "\n"), said)

	// What the own folder already shows is said without asking anybody.
	other := n.keys
	n.keys = own
	code, said = n.run(t, "case", "open", "c1", "--cert", filepath.Join(other, "clients", "agency-a1", "client.crt"), "--key", filepath.Join(other, "clients", "agency-a1", "client.key"))
	require.Equal(t, exit.Usage, code)
	require.Contains(t, said, "cert: the certificate of agency:a1 was not made by the authority in ca: it is of another tree")

	_, err := topology.Extend(own, topology.Extension{
		Renew: true, Now: clock.System().Now().Add(-time.Hour), Valid: time.Minute, Clients: []identity.Identity{{City: "120000", Kind: identity.Agency, ID: "a1"}},
	})
	require.NoError(t, err)
	code, said = n.run(t, "case", "open", "c1")
	require.Equal(t, exit.Usage, code)
	require.Contains(t, said, "cert: the certificate of agency:a1 ended on ")
	require.Contains(t, said, "keygen issue")
	require.Empty(t, n.openings())
}
