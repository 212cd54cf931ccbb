package federationtest

import (
	"context"
	"math/rand/v2"
	"net"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"duban.internal/federation"
	"duban.internal/node/identity"
	"duban.internal/node/jurisdiction"
	dubanv1 "duban.internal/proto/duban/v1"
)

// Relay stands between a child and its parent with a certificate of each: it reads every message, and sends some of them
// twice and some after the next.
type Relay struct {
	dubanv1.UnimplementedSyncServiceServer
	Address string
	client  dubanv1.SyncServiceClient

	mu    sync.Mutex
	rand  *rand.Rand
	odds  float64 // that a message is sent twice, and that it is held back
	twice int
	late  int
}

// NewRelay dials a parent as a child and listens as that parent. It ends with the test.
func (t *Tree) NewRelay(tb testing.TB, child jurisdiction.Code, address string, odds float64) *Relay {
	tb.Helper()
	self, _ := t.Node(child)
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(credentials.NewTLS(
		t.Pair(tb, child).Client(identity.Identity{City: t.City(), Kind: identity.Node, Code: self.Parent}))),
		grpc.WithDefaultCallOptions(grpc.MaxCallSendMsgSize(federation.MaxMessage), grpc.MaxCallRecvMsgSize(federation.MaxMessage)))
	if err != nil {
		tb.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	r := &Relay{Address: listener.Addr().String(), client: dubanv1.NewSyncServiceClient(conn), rand: rand.New(rand.NewPCG(1, 1)), odds: odds}
	server := grpc.NewServer(grpc.Creds(credentials.NewTLS(t.Pair(tb, self.Parent).Server())), grpc.MaxRecvMsgSize(federation.MaxMessage))
	dubanv1.RegisterSyncServiceServer(server, r)
	var done sync.WaitGroup
	done.Go(func() { _ = server.Serve(listener) }) // ends with Stop
	tb.Cleanup(func() {
		server.Stop()
		done.Wait()
		if err := conn.Close(); err != nil {
			tb.Error(err)
		}
	})
	return r
}

// Done says how many messages went twice, and how many late.
func (r *Relay) Done() (twice, late int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.twice, r.late
}

func (r *Relay) chance() (twice, late bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	twice, late = r.rand.Float64() < r.odds, r.rand.Float64() < r.odds
	if twice {
		r.twice++
	}
	if late {
		r.late++
	}
	return twice, late
}

// Sync carries one stream.
func (r *Relay) Sync(server grpc.BidiStreamingServer[dubanv1.SyncRequest, dubanv1.SyncResponse]) error {
	ctx, cancel := context.WithCancel(server.Context())
	defer cancel()
	client, err := r.client.Sync(ctx)
	if err != nil {
		return err
	}
	go func() {
		_ = carry(r, server.Recv, client.Send) // the stream ends below
		cancel()
	}()
	return carry(r, client.Recv, server.Send)
}

func carry[M any](r *Relay, recv func() (*M, error), send func(*M) error) error {
	var held *M
	for {
		m, err := recv()
		if err != nil {
			return err
		}
		twice, late := r.chance()
		if late && held == nil {
			held = m
			continue
		}
		out := []*M{m}
		if twice {
			out = append(out, m)
		}
		if held != nil {
			out = append(out, held)
			held = nil
		}
		for _, m := range out {
			if err := send(m); err != nil {
				return err
			}
		}
	}
}
