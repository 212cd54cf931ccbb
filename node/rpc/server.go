package rpc

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"

	"duban.internal/node/access"
	"duban.internal/node/clock"
	"duban.internal/node/fault"
)

// Bounds that hold where a Config does not say otherwise.
const (
	MaxMessage = 8 << 20          // bytes of one message: an entry's payload and a batch of the sync have room
	MaxAnswer  = 32 << 20         // bytes of one message of an answer: a case with all its versions
	Timeout    = 30 * time.Second // of a unary call that states no deadline
	window     = 4 << 20          // bytes under way on one stream; twice as much on a connection
	maxStreams = 4096             // calls at once on one connection
)

// Config of a Server.
type Config struct {
	TLS        *tls.Config                        // identity.Pair.Server
	Guard      *access.Guard                      // who may call what
	Clock      clock.Clock                        // for durations; nil for the machine's
	Leader     func() (address string, self bool) // store.Leader; nil where there is one replica
	Logger     *slog.Logger                       // nil for none
	Metrics    prometheus.Registerer              // nil for none
	MaxMessage int                                // bytes; 0 for MaxMessage
	Timeout    time.Duration                      // 0 for Timeout
}

// Service registers a service, such as func(r grpc.ServiceRegistrar) { dubanv1.RegisterCaseServiceServer(r, s) }.
type Service = func(grpc.ServiceRegistrar)

// Server serves gRPC over mutual TLS, with health and reflection beside the services given.
type Server struct {
	grpc   *grpc.Server
	health *health.Server
}

// New makes a server of services. Kinds of errors: fault.Invalid.
func New(c Config, services ...Service) (*Server, error) {
	var bad fault.List
	if c.TLS == nil {
		bad.Add("TLS", "is missing: expected the configuration of a listener")
	}
	if c.Guard == nil {
		bad.Add("Guard", "is missing: expected who may call what")
	}
	if err := bad.Err(fault.Invalid, "the server can't be made"); err != nil {
		return nil, err
	}
	if c.Clock == nil {
		c.Clock = clock.System()
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.MaxMessage == 0 {
		c.MaxMessage = MaxMessage
	}
	if c.Timeout == 0 {
		c.Timeout = Timeout
	}
	m, err := newMeter(c.Metrics)
	if err != nil {
		return nil, fmt.Errorf("metrics: %w", err)
	}
	codec := &codec{CodecV2: encoding.GetCodecV2(proto.Name)}
	g := gate{Config: c, meter: m, codec: codec}
	s := &Server{health: health.NewServer()}
	s.grpc = grpc.NewServer(
		grpc.Creds(credentials.NewTLS(admitting(c.TLS))), grpc.ForceServerCodecV2(codec),
		grpc.MaxRecvMsgSize(c.MaxMessage), grpc.MaxSendMsgSize(MaxAnswer),
		grpc.InitialWindowSize(window), grpc.InitialConnWindowSize(2*window),
		grpc.MaxConcurrentStreams(maxStreams), grpc.ConnectionTimeout(20*time.Second),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: time.Minute, Timeout: 20 * time.Second}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 10 * time.Second, PermitWithoutStream: true}),
		grpc.UnaryInterceptor(g.unary), grpc.StreamInterceptor(g.stream),
	)
	for _, register := range services {
		register(s.grpc)
	}
	healthpb.RegisterHealthServer(s.grpc, s.health)
	reflection.Register(s.grpc)
	return s, nil
}

// Serve takes calls until Stop; it returns nil then.
func (s *Server) Serve(listener net.Listener) error {
	if err := s.grpc.Serve(listener); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
		return fmt.Errorf("serve: %w", err)
	}
	return nil
}

// SetServing says through gRPC's health service whether the node takes work; a new server says that it does.
func (s *Server) SetServing(serving bool) {
	status := healthpb.HealthCheckResponse_NOT_SERVING
	if serving {
		status = healthpb.HealthCheckResponse_SERVING
	}
	s.health.SetServingStatus("", status)
}

// Stop takes no more calls and lets those under way end, until ctx ends: then they are broken off.
func (s *Server) Stop(ctx context.Context) {
	s.health.Shutdown()
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.grpc.GracefulStop()
	}()
	select {
	case <-done:
	case <-ctx.Done():
		s.grpc.Stop()
		<-done
	}
}

// admitting lets those in who show no certificate, so that they are told why they are refused (and may ask for the node's
// health): the gate lets them do nothing else. A certificate that is shown must be right.
func admitting(c *tls.Config) *tls.Config {
	c = c.Clone()
	verify := c.VerifyConnection
	c.ClientAuth = tls.VerifyClientCertIfGiven
	c.VerifyConnection = func(s tls.ConnectionState) error {
		if len(s.PeerCertificates) == 0 || verify == nil {
			return nil
		}
		return verify(s)
	}
	return c
}
