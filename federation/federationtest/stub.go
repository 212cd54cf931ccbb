package federationtest

import (
	"context"
	"fmt"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"duban.internal/federation"
	"duban.internal/node/identity"
	"duban.internal/node/journal"
	"duban.internal/node/jurisdiction"
	"duban.internal/node/store"
	dubanv1 "duban.internal/proto/duban/v1"
)

// Stub is a child without a store: it makes entries, signs their checkpoints and sends them, by hand.
type Stub struct {
	Stream grpc.BidiStreamingClient[dubanv1.SyncRequest, dubanv1.SyncResponse]
	Window int
	key    *journal.Key
	id     journal.ID
	edge   journal.Frontier
	conn   *grpc.ClientConn
}

// Stub dials a parent as a child and is welcomed.
func (t *Tree) Stub(ctx context.Context, tb testing.TB, code jurisdiction.Code, parent string) (*Stub, error) {
	self, _ := t.Node(code)
	config := t.Pair(tb, code).Client(identity.Identity{City: t.City(), Kind: identity.Node, Code: self.Parent})
	conn, err := grpc.NewClient(parent, grpc.WithTransportCredentials(credentials.NewTLS(config)),
		grpc.WithDefaultCallOptions(grpc.MaxCallSendMsgSize(federation.MaxMessage)))
	if err != nil {
		return nil, err
	}
	s := &Stub{key: t.Keys[code], id: self.Journal, conn: conn}
	if s.Stream, err = dubanv1.NewSyncServiceClient(conn).Sync(ctx, grpc.UseCompressor(federation.Compression)); err != nil {
		return nil, err
	}
	if err := s.Stream.Send(&dubanv1.SyncRequest{Message: &dubanv1.SyncRequest_Hello{Hello: &dubanv1.SyncHello{
		Code: string(code), Journals: [][]byte{s.id[:]}, NowUs: 1}}}); err != nil {
		return nil, err
	}
	m, err := s.Stream.Recv()
	if err != nil {
		return nil, err
	}
	if m.GetWelcome() == nil || m.GetWelcome().GetPositions()[0].GetSize() != 0 {
		return nil, fmt.Errorf("welcomed with %v", m)
	}
	s.Window = int(m.GetWelcome().GetWindow())
	return s, nil
}

// Batch makes the next n entries, recorded at a time, and the message that carries them.
func (s *Stub) Batch(n int, at int64, payload []byte) (*dubanv1.SyncRequest, error) {
	from := s.edge.Size()
	entries := make([]journal.Entry, n)
	for i := range entries {
		entries[i] = Entry(s.id, from+uint64(i), at, store.Proposal{Stream: "case/1", Kind: 23, Actor: "agency:x", Payload: payload})
		s.edge.Append(journal.LeafHash(entries[i].Raw))
	}
	note, err := s.key.Sign(journal.Checkpoint{Journal: s.id, Size: s.edge.Size(), Root: s.edge.Root(), Time: at})
	if err != nil {
		return nil, err
	}
	return &dubanv1.SyncRequest{Message: &dubanv1.SyncRequest_Batch{Batch: &dubanv1.SyncBatch{
		Journal: s.id[:], From: from, Entries: federation.ToWire(entries), Checkpoint: note}}}, nil
}

// Ack waits until a size is acknowledged.
func (s *Stub) Ack(size uint64) error {
	for {
		m, err := s.Stream.Recv()
		if err != nil {
			return err
		}
		if m.GetAck().GetSize() >= size {
			return nil
		}
		if m.GetRefusal() != nil {
			return fmt.Errorf("refused: %s", m.GetRefusal().GetReason())
		}
	}
}

// Size is how many entries were made.
func (s *Stub) Size() uint64 { return s.edge.Size() }

// Close ends the stream and its connection.
func (s *Stub) Close() error { return s.conn.Close() }
