package rpc_test

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"

	"duban.internal/node/access"
	"duban.internal/node/fault"
	"duban.internal/node/identity"
	"duban.internal/node/jurisdiction"
	"duban.internal/node/rpc"
	dubanv1 "duban.internal/proto/duban/v1"
)

// status is a service whose one method does what a test wants.
type status struct {
	dubanv1.UnimplementedNodeServiceServer
	do func(context.Context) error
}

func (s *status) GetStatus(ctx context.Context, _ *dubanv1.GetStatusRequest) (*dubanv1.GetStatusResponse, error) {
	return &dubanv1.GetStatusResponse{}, s.do(ctx)
}

func (s *status) register(r grpc.ServiceRegistrar) { dubanv1.RegisterNodeServiceServer(r, s) }

type bed struct {
	*status
	metrics *prometheus.Registry
	pair    func(identity.Identity) *identity.Pair
	address string
}

func newBed(t *testing.T, c rpc.Config) *bed {
	t.Helper()
	tree, err := jurisdiction.Load(strings.NewReader("code,name,tier,parent\n120000,天津市,city,\n"))
	require.NoError(t, err)
	ca, err := identity.NewAuthority("120000", time.Now(), time.Hour)
	require.NoError(t, err)
	b := &bed{status: &status{}, metrics: prometheus.NewRegistry()}
	b.pair = func(id identity.Identity) *identity.Pair {
		cert, key, err := ca.Issue(id, []string{"127.0.0.1"}, time.Now(), time.Hour)
		require.NoError(t, err)
		pair, err := identity.NewPair(cert, key, ca.Certificate())
		require.NoError(t, err)
		return pair
	}
	c.TLS = b.pair(identity.Identity{City: "120000", Kind: identity.Node, Code: "120000"}).Server()
	c.Guard, c.Metrics = &access.Guard{Tree: tree, Code: "120000"}, b.metrics
	server, err := rpc.New(c, b.register)
	require.NoError(t, err)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		server.Stop(ctx)
		require.NoError(t, <-served)
	})
	b.address = listener.Addr().String()
	return b
}

func (b *bed) dial(t *testing.T) *grpc.ClientConn {
	t.Helper()
	pair := b.pair(identity.Identity{City: "120000", Kind: identity.Operator, Code: "120000"})
	conn, err := rpc.Dial(b.address, pair.Client(identity.Identity{}))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, conn.Close()) })
	return conn
}

func TestCalls(t *testing.T) {
	b := newBed(t, rpc.Config{Timeout: 7 * time.Second, Leader: func() (string, bool) { return "10.0.0.2:7443", false }})
	client := dubanv1.NewNodeServiceClient(b.dial(t))
	call := func(ctx context.Context, options ...grpc.CallOption) error {
		_, err := client.GetStatus(ctx, &dubanv1.GetStatusRequest{}, options...)
		return err
	}
	var caller identity.Identity
	var until time.Time
	b.do = func(ctx context.Context) error {
		caller, _ = access.CallerFrom(ctx)
		until, _ = ctx.Deadline()
		return nil
	}
	var header metadata.MD
	ctx := metadata.AppendToOutgoingContext(t.Context(), "x-request-id", "my-request")
	require.NoError(t, call(ctx, grpc.Header(&header)))
	require.Equal(t, "operator:120000", caller.Actor())
	require.InDelta(t, 7, time.Until(until).Seconds(), 2, "a call without a deadline is given one")
	require.Equal(t, []string{"my-request"}, header.Get("x-request-id"))
	require.NoError(t, call(t.Context(), grpc.Header(&header)))
	require.Len(t, header.Get("x-request-id")[0], 16, "an id is made up where none was given")

	b.do = func(context.Context) error { panic("a defect") }
	err := call(t.Context())
	require.Equal(t, fault.Internal, fault.Of(err))
	require.NotContains(t, err.Error(), "defect")

	b.do = func(context.Context) error { return fault.New(fault.NotLeader, "this replica does not write") }
	err = call(t.Context())
	require.Equal(t, fault.NotLeader, fault.Of(err))
	var leader *rpc.LeaderError
	require.ErrorAs(t, err, &leader)
	require.Equal(t, "10.0.0.2:7443", leader.Address)

	b.do = func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	err = call(ctx)
	require.Equal(t, fault.Unavailable, fault.Of(err))
	require.ErrorIs(t, err, context.DeadlineExceeded)

	counted := map[string]float64{}
	families, err := b.metrics.Gather()
	require.NoError(t, err)
	for _, f := range families {
		if f.GetName() != "duban_rpc_calls_total" {
			continue
		}
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if l.GetName() == "code" {
					counted[l.GetValue()] += m.GetCounter().GetValue()
				}
			}
		}
	}
	require.EqualValues(t, 2, counted["OK"])
	require.EqualValues(t, 1, counted["Internal"])
	require.EqualValues(t, 1, counted["Unavailable"])
}

// Health is for everybody, reflection for those who are known.
func TestHealthAndReflection(t *testing.T) {
	b := newBed(t, rpc.Config{})
	config := b.pair(identity.Identity{City: "120000", Kind: identity.Operator, Code: "120000"}).Client(identity.Identity{})
	config.Certificates = nil
	stranger, err := rpc.Dial(b.address, config)
	require.NoError(t, err)
	defer stranger.Close()
	h, err := healthpb.NewHealthClient(stranger).Check(t.Context(), &healthpb.HealthCheckRequest{})
	require.NoError(t, err)
	require.Equal(t, healthpb.HealthCheckResponse_SERVING, h.GetStatus())
	list := func(conn *grpc.ClientConn) (*reflectionpb.ServerReflectionResponse, error) {
		s, err := reflectionpb.NewServerReflectionClient(conn).ServerReflectionInfo(t.Context())
		require.NoError(t, err)
		_ = s.Send(&reflectionpb.ServerReflectionRequest{MessageRequest: &reflectionpb.ServerReflectionRequest_ListServices{}}) // Recv says why
		return s.Recv()
	}
	_, err = list(stranger)
	require.Equal(t, fault.Unauthenticated, fault.Of(err))
	got, err := list(b.dial(t))
	require.NoError(t, err)
	require.NotEmpty(t, got.GetListServicesResponse().GetService())
}

func TestConfig(t *testing.T) {
	_, err := rpc.New(rpc.Config{})
	require.Equal(t, fault.Invalid, fault.Of(err))
	require.Len(t, fault.Fields(err), 2)
}
