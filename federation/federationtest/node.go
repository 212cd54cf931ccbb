package federationtest

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"duban.internal/federation"
	"duban.internal/federation/downlink"
	"duban.internal/federation/topology"
	"duban.internal/federation/uplink"
	"duban.internal/node/clock"
	"duban.internal/node/identity"
	"duban.internal/node/jurisdiction"
	dubanv1 "duban.internal/proto/duban/v1"
)

// EngineStore is what both ends need of a store.
type EngineStore interface {
	downlink.Store
	uplink.Store
}

// Node is one node's two ends over real sockets and TLS.
type Node struct {
	Tree     *Tree
	Code     jurisdiction.Code
	Store    EngineStore
	Downlink *downlink.Downlink
	Uplink   *uplink.Uplink
	Address  string

	server *grpc.Server
	cancel context.CancelFunc
	done   sync.WaitGroup
}

// Options of a node.
type Options struct {
	Parent   string        // address of the parent; empty for none
	Listen   string        // a free port of loopback where empty
	Interval time.Duration // between heartbeats; 50 ms where 0
	Log      *slog.Logger
	Clock    clock.Clock // the machine's where nil
	MaxBatch int         // what the downlink takes
	Batch    int         // what the uplink sends
	Window   int         // of the downlink, for each child
	Memory   int         // of the downlink, for all

	Ancestors map[jurisdiction.Code]string // nodes above the parent that are dialed past it, and where
	Around    time.Duration
	Silence   time.Duration // how long an answer is waited for
	Above     federation.Above
	Below     federation.Below
	Files     federation.Files
}

// Pair is the TLS pair of a node.
func (t *Tree) Pair(tb testing.TB, code jurisdiction.Code) *identity.Pair {
	tb.Helper()
	p, err := topology.NodeFiles(topology.NodeFolder(t.Dir, code)).Load()
	if err != nil {
		tb.Fatal(err)
	}
	return p
}

// Start runs a node until Stop or the end of the test.
func (t *Tree) Start(tb testing.TB, code jurisdiction.Code, st EngineStore, o Options) *Node {
	tb.Helper()
	if o.Clock == nil {
		o.Clock = clock.System()
	}
	if o.Interval == 0 {
		o.Interval = 50 * time.Millisecond
	}
	if o.Listen == "" {
		o.Listen = "127.0.0.1:0"
	}
	n := &Node{Tree: t, Code: code, Store: st}
	ctx, cancel := context.WithCancel(context.Background())
	n.cancel = cancel
	tb.Cleanup(n.Stop)
	pair := t.Pair(tb, code)
	var err error
	if n.Downlink, err = downlink.New(ctx, downlink.Config{Code: code, Tree: t.Tree, Key: t.Keys[code], Store: st, Clock: o.Clock, Log: o.Log,
		MaxBatch: o.MaxBatch, Window: o.Window, Memory: o.Memory, Letters: o.Below, Version: "test"}); err != nil {
		tb.Fatal(err)
	}
	n.done.Go(func() {
		if err := n.Downlink.Run(ctx); !errors.Is(err, context.Canceled) {
			tb.Errorf("downlink of %s: %v", code, err)
		}
	})
	listener, err := net.Listen("tcp", o.Listen)
	if err != nil {
		tb.Fatal(err)
	}
	n.Address = listener.Addr().String()
	n.server = grpc.NewServer(grpc.Creds(credentials.NewTLS(pair.Server())), grpc.MaxRecvMsgSize(federation.MaxMessage),
		grpc.InitialWindowSize(4<<20), grpc.InitialConnWindowSize(8<<20))
	dubanv1.RegisterSyncServiceServer(n.server, n.Downlink)
	n.done.Go(func() { _ = n.server.Serve(listener) }) // ends with Stop
	if o.Parent == "" {
		return n
	}
	self, _ := t.Node(code)
	client := func(of jurisdiction.Code) *tls.Config {
		return pair.Client(identity.Identity{City: t.City(), Kind: identity.Node, Code: of})
	}
	var ancestors []uplink.Ancestor
	for of, address := range o.Ancestors {
		ancestors = append(ancestors, uplink.Ancestor{Code: of, Address: address, TLS: client(of)})
	}
	if n.Uplink, err = uplink.New(uplink.Config{Code: code, Tree: t.Tree, Key: t.Keys[code], Store: st, Clock: o.Clock, Log: o.Log,
		Parent: o.Parent, Interval: o.Interval, Batch: o.Batch, Version: "test",
		Ancestors: ancestors, Around: o.Around, Silence: o.Silence, Letters: o.Above, Files: o.Files, TLS: client(self.Parent)}); err != nil {
		tb.Fatal(err)
	}
	n.done.Go(func() {
		if err := n.Uplink.Run(ctx); !errors.Is(err, context.Canceled) {
			tb.Errorf("uplink of %s: %v", code, err)
		}
	})
	return n
}

// Stop ends the node as a crash would: streams break. It may be called more than once.
func (n *Node) Stop() {
	n.cancel()
	if n.server != nil {
		n.server.Stop()
	}
	n.done.Wait()
}

// Until waits until a condition holds, for at most 20 seconds.
func Until(tb testing.TB, what string, holds func() bool) {
	tb.Helper()
	every, late := time.NewTicker(2*time.Millisecond), time.NewTimer(20*time.Second)
	defer every.Stop()
	defer late.Stop()
	for !holds() {
		select {
		case <-every.C:
		case <-late.C:
			tb.Fatalf("waited 20 s for: %s", what)
		}
	}
}
