package federation_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"duban.internal/federation"
	"duban.internal/federation/federationtest"
	"duban.internal/federation/topology"
	"duban.internal/node/identity"
	"duban.internal/node/journal"
	"duban.internal/node/jurisdiction"
	dubanv1 "duban.internal/proto/duban/v1"
)

// dial speaks the protocol by hand.
func dial(t *testing.T, address string, pair *identity.Pair) dubanv1.SyncService_SyncClient {
	t.Helper()
	stream, err := tryDial(t, address, pair)
	if err != nil {
		t.Fatal(err)
	}
	return stream
}

func tryDial(t *testing.T, address string, pair *identity.Pair) (dubanv1.SyncService_SyncClient, error) {
	t.Helper()
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(credentials.NewTLS(pair.Client(identity.Identity{}))),
		grpc.WithDefaultCallOptions(grpc.MaxCallSendMsgSize(64<<20)))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	t.Cleanup(func() {
		cancel()
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	})
	return dubanv1.NewSyncServiceClient(conn).Sync(ctx)
}

func hello(code jurisdiction.Code, journals ...journal.ID) *dubanv1.SyncRequest {
	h := &dubanv1.SyncHello{Code: string(code), NowUs: 1}
	for _, id := range journals {
		h.Journals = append(h.Journals, id[:])
	}
	return &dubanv1.SyncRequest{Message: &dubanv1.SyncRequest_Hello{Hello: h}}
}

func batch(b *dubanv1.SyncBatch) *dubanv1.SyncRequest {
	return &dubanv1.SyncRequest{Message: &dubanv1.SyncRequest_Batch{Batch: b}}
}

// refusedWith sends messages and wants the stream to end with an error that says so.
func refusedWith(t *testing.T, s dubanv1.SyncService_SyncClient, want string, messages ...*dubanv1.SyncRequest) {
	t.Helper()
	for _, m := range messages {
		_ = s.Send(m) // what is wrong is told to the reader
	}
	for {
		if m, err := s.Recv(); err != nil {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("ended with %v, want %q", err, want)
			}
			return
		} else if m.GetWelcome() == nil {
			t.Errorf("answered %v", m)
		}
	}
}

// Nobody speaks for another, and nothing that is out of bounds or out of order changes anything.
func TestCallers(t *testing.T) {
	tree := newTree(t)
	parent := newStore(t, tree, district)
	record(t, parent, 1)
	mid := tree.Start(t, district, parent, federationtest.Options{MaxBatch: 1 << 20})
	node := func(code jurisdiction.Code) *identity.Pair { return tree.Pair(t, code) }
	operator, err := topology.ClientFiles(topology.ClientFolder(tree.Dir,
		identity.Identity{City: city, Kind: identity.Operator, Code: street})).Load()
	if err != nil {
		t.Fatal(err)
	}
	chain := federationtest.NewChain(tree.Keys[street])
	for i := range 10 {
		chain.Add(int64(i), "payload")
	}
	foreign := federationtest.NewChain(tree.Keys[second])
	foreign.Add(1, "payload")
	other := chain.Batch(0, 1)
	other.Journal = make([]byte, 16)
	short := chain.Batch(0, 1)
	short.Journal = short.Journal[:3]
	big := chain.Batch(0, 10)
	big.Entries[0].Payload = make([]byte, 2<<20)
	huge := chain.Batch(0, 10)
	huge.Entries[0].Payload = make([]byte, federation.MaxMessage+1)

	for _, c := range []struct {
		name     string
		pair     *identity.Pair
		want     string
		messages []*dubanv1.SyncRequest
	}{
		{"the name of another", node(second), `the certificate is of node:120116014, which can't speak for "120116013"`,
			[]*dubanv1.SyncRequest{hello(street, tree.ID(street))}},
		{"an operator as a node", operator, `the certificate is of operator:120116013`, []*dubanv1.SyncRequest{hello(street, tree.ID(street))}},
		{"another's journal", node(street), "is not known as a journal of 120116013 or below", []*dubanv1.SyncRequest{hello(street, tree.ID(street), tree.ID(second))}},
		{"its parent's journal", node(street), "is not known as a journal of", []*dubanv1.SyncRequest{hello(street, tree.ID(district))}},
		{"a journal of nobody", node(street), "is not known as a journal of", []*dubanv1.SyncRequest{hello(street, journal.ID{1})}},
		{"no child", node("120101"), `"120101" is no child of 120116`, []*dubanv1.SyncRequest{hello("120101", tree.ID("120101"))}},
		{"the parent itself", node(district), `is no child of`, []*dubanv1.SyncRequest{hello(district, tree.ID(district))}},
		{"no hello", node(street), "has to be a hello", []*dubanv1.SyncRequest{batch(chain.Batch(0, 1))}},
		{"two hellos", node(street), "expected a batch or a heartbeat", []*dubanv1.SyncRequest{hello(street, tree.ID(street)), hello(street)}},
		{"nothing", node(street), "expected a batch or a heartbeat", []*dubanv1.SyncRequest{hello(street, tree.ID(street)), {}}},
		{"unnamed journal", node(street), "was not named in the hello", []*dubanv1.SyncRequest{hello(street, tree.ID(street)), batch(foreign.Batch(0, 1))}},
		{"journal of zeros", node(street), "was not named in the hello", []*dubanv1.SyncRequest{hello(street, tree.ID(street)), batch(other)}},
		{"half an id", node(street), "expected 16 bytes, got 3", []*dubanv1.SyncRequest{hello(street, tree.ID(street)), batch(short)}},
		{"gap", node(street), "batch from 5, expected 0", []*dubanv1.SyncRequest{hello(street, tree.ID(street)), batch(chain.Batch(5, 10))}},
		{"oversized", node(street), "at most 1048576 are allowed", []*dubanv1.SyncRequest{hello(street, tree.ID(street)), batch(big)}},
		{"beyond gRPC's limit", node(street), codes.ResourceExhausted.String(), []*dubanv1.SyncRequest{hello(street, tree.ID(street)), batch(huge)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			refusedWith(t, dial(t, mid.Address, c.pair), c.want, c.messages...)
		})
	}
	if got := len(parent.Journals()); got != 1 {
		t.Errorf("%d journals are stored", got)
	}
	if n := len(all(t, parent, parent.Own())); n != 1 {
		t.Errorf("%d entries in the own journal: being out of order is no evidence", n)
	}

	bare := node(street)
	bare.Cert.Certificate = nil
	s, err := tryDial(t, mid.Address, bare)
	if err == nil {
		_, err = s.Recv()
	}
	if status.Code(err) != codes.Unavailable {
		t.Errorf("without a certificate: %v", err)
	}

	// The budget was given back by all of them: an honest child is served.
	child := newStore(t, tree, street)
	record(t, child, 100)
	tree.Start(t, street, child, federationtest.Options{Parent: mid.Address})
	federationtest.Until(t, "all is there", func() bool { return size(parent, tree.ID(street)) == 100 })
}

// What nobody signed is refused on the spot but is no evidence: the journal may do better with the next stream.
func TestUnsignedIsNoEvidence(t *testing.T) {
	tree := newTree(t)
	parent := newStore(t, tree, district)
	mid := tree.Start(t, district, parent, federationtest.Options{})
	chain := federationtest.NewChain(tree.Keys[street])
	chain.Add(1, "payload")
	unsigned := chain.Batch(0, 1)
	unsigned.Checkpoint = federationtest.NewChain(tree.Keys[second]).Note(0, 5)
	s := dial(t, mid.Address, tree.Pair(t, street))
	for _, m := range []*dubanv1.SyncRequest{hello(street, tree.ID(street)), batch(unsigned), batch(chain.Batch(0, 1))} {
		if err := s.Send(m); err != nil {
			t.Fatal(err)
		}
	}
	if m, err := s.Recv(); err != nil || m.GetWelcome() == nil {
		t.Fatal(m, err)
	}
	if m, err := s.Recv(); err != nil || m.GetRefusal() == nil {
		t.Fatal(m, err)
	}
	if len(evidence(t, parent)) != 0 || size(parent, tree.ID(street)) != 0 {
		t.Error("taken, or kept as evidence")
	}
	child := newStore(t, tree, street)
	record(t, child, 10)
	tree.Start(t, street, child, federationtest.Options{Parent: mid.Address})
	federationtest.Until(t, "the next stream is served, and ended this one", func() bool { return size(parent, tree.ID(street)) == 10 })
	if m, err := s.Recv(); err == nil || !strings.Contains(err.Error(), "took over") {
		t.Error(m, err)
	}
	if st := mid.Downlink.Status()[tree.ID(street)]; st.Refused != "" {
		t.Errorf("%+v", st)
	}
}
