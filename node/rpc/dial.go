package rpc

import (
	"context"
	"crypto/tls"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"

	"duban.internal/node/fault"
)

// Dial makes a connection to a node that shows the certificate of config (identity.Pair.Client) and gives the node's faults
// back. Nothing is sent before the first call.
func Dial(address string, config *tls.Config, more ...grpc.DialOption) (*grpc.ClientConn, error) {
	options := append(DialOptions(), grpc.WithTransportCredentials(credentials.NewTLS(config)))
	conn, err := grpc.NewClient(address, append(options, more...)...)
	if err != nil {
		return nil, fault.New(fault.Invalid, "address %.200q: expected HOST:PORT: %w", address, err)
	}
	return conn, nil
}

// DialOptions are those that every client of a node needs, whatever its credentials.
func DialOptions() []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithUnaryInterceptor(unaryTwin), grpc.WithStreamInterceptor(streamTwin),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(MaxAnswer)),
		grpc.WithInitialWindowSize(window), grpc.WithInitialConnWindowSize(2 * window),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 30 * time.Second, Timeout: 20 * time.Second, PermitWithoutStream: true}),
	}
}

func unaryTwin(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	return FromStatus(invoke(ctx, method, req, reply, cc, opts...))
}

func streamTwin(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	s, err := open(ctx, desc, cc, method, opts...)
	if err != nil {
		return nil, FromStatus(err)
	}
	return twin{s}, nil
}

// twin is a stream that gives faults.
type twin struct{ grpc.ClientStream }

// SendMsg sends one message.
func (t twin) SendMsg(m any) error { return FromStatus(t.ClientStream.SendMsg(m)) }

// RecvMsg receives one message.
func (t twin) RecvMsg(m any) error { return FromStatus(t.ClientStream.RecvMsg(m)) }
