package rpc

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"log/slog"
	"runtime/debug"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"duban.internal/node/access"
	"duban.internal/node/fault"
	"duban.internal/node/identity"
)

// requestID is the metadata key of a request's id: given by the caller, else made up; it comes back in the header.
const requestID = "x-request-id"

// gate is what every call passes.
type gate struct {
	Config
	meter *meter
	codec *codec
}

func (g *gate) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (answer any, err error) {
	broken := g.codec.check(req)
	c := g.begin(ctx, info.FullMethod)
	defer func() { err = c.end(err) }()
	defer c.recover(&err)
	if err := grpc.SetHeader(ctx, metadata.Pairs(requestID, c.id)); err != nil {
		return nil, err
	}
	if ctx, err = c.admit(ctx); err != nil {
		return nil, err
	}
	if broken != nil {
		return nil, broken
	}
	if _, stated := ctx.Deadline(); !stated {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, g.Timeout)
		defer cancel()
	}
	return handler(ctx, req)
}

func (g *gate) stream(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) (err error) {
	c := g.begin(stream.Context(), info.FullMethod)
	defer func() { err = c.end(err) }()
	defer c.recover(&err)
	if err := stream.SetHeader(metadata.Pairs(requestID, c.id)); err != nil {
		return err
	}
	ctx, err := c.admit(stream.Context())
	if err != nil {
		return err
	}
	return handler(srv, &gated{ServerStream: stream, ctx: ctx, codec: g.codec})
}

// gated is a stream whose context knows the caller.
type gated struct {
	grpc.ServerStream
	ctx   context.Context
	codec *codec
}

// RecvMsg receives one message.
func (s *gated) RecvMsg(m any) error {
	if err := s.ServerStream.RecvMsg(m); err != nil {
		return err
	}
	return s.codec.check(m)
}

// Context is the call's.
func (s *gated) Context() context.Context { return s.ctx }

// call is one call on its way through.
type call struct {
	*gate
	method, id string
	caller     string
	begun      time.Time
	ctx        context.Context
}

func (g *gate) begin(ctx context.Context, method string) *call {
	c := &call{gate: g, method: method, begun: g.Clock.Now(), ctx: ctx, caller: "nobody"}
	if ids := metadata.ValueFromIncomingContext(ctx, requestID); len(ids) == 1 && printable(ids[0]) {
		c.id = ids[0]
	} else {
		var b [8]byte
		_, _ = rand.Read(b[:]) // never fails on supported systems
		c.id = hex.EncodeToString(b[:])
	}
	return c
}

func printable(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return len(s) > 0 && len(s) <= 64
}

// admit finds out who calls and whether that is allowed.
func (c *call) admit(ctx context.Context) (context.Context, error) {
	caller, known, err := callerOf(ctx)
	if err != nil {
		return ctx, err
	}
	if known {
		c.caller = caller.Actor()
	}
	if err := c.Guard.Check(caller, known, c.method); err != nil {
		return ctx, err
	}
	if !known {
		return ctx, nil
	}
	return access.WithCaller(ctx, caller), nil
}

func callerOf(ctx context.Context) (identity.Identity, bool, error) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return identity.Identity{}, false, nil
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok || len(info.State.PeerCertificates) == 0 {
		return identity.Identity{}, false, nil
	}
	caller, err := identity.FromState(info.State)
	return caller, err == nil, err
}

func (c *call) recover(err *error) {
	if r := recover(); r != nil {
		c.Logger.Error("panic in a call", slog.String("method", c.method), slog.String("request", c.id),
			slog.Any("panic", r), slog.String("stack", string(debug.Stack())))
		*err = fault.New(fault.Internal, "panic")
	}
}

// end logs and counts a call, and makes its error one for the wire.
func (c *call) end(err error) error {
	wire := toStatus(err, c.Leader)
	code := status.Code(wire)
	took := c.Clock.Now().Sub(c.begun)
	c.meter.observe(c.method, code, took)
	level := slog.LevelDebug
	if code == codes.Internal || code == codes.DataLoss || errors.Is(err, context.DeadlineExceeded) {
		level = slog.LevelError
	}
	if c.Logger.Enabled(c.ctx, level) {
		attrs := []slog.Attr{
			slog.String("method", c.method), slog.String("caller", c.caller), slog.String("request", c.id),
			slog.String("code", code.String()), slog.Duration("took", took),
		}
		if err != nil {
			attrs = append(attrs, slog.String("error", err.Error()))
		}
		c.Logger.LogAttrs(c.ctx, level, "call", attrs...)
	}
	return wire
}

// meter counts calls.
type meter struct {
	calls *prometheus.CounterVec
	took  *prometheus.HistogramVec
}

func newMeter(r prometheus.Registerer) (*meter, error) {
	m := &meter{
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "duban_rpc_calls_total", Help: "Calls that ended, by method and code.",
		}, []string{"method", "code"}),
		took: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "duban_rpc_seconds", Help: "How long calls took, by method; streams from opening to end.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
		}, []string{"method"}),
	}
	if r == nil {
		return m, nil
	}
	if err := r.Register(m.calls); err != nil {
		return nil, err
	}
	return m, r.Register(m.took)
}

// observe counts a call. Methods are those that are registered: no other reaches an interceptor.
func (m *meter) observe(method string, code codes.Code, took time.Duration) {
	m.calls.WithLabelValues(method, code.String()).Inc()
	m.took.WithLabelValues(method).Observe(took.Seconds())
}
