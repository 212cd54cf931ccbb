package app

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"

	"google.golang.org/grpc"

	"duban.internal/escalation"
	"duban.internal/escalation/alertservice"
	"duban.internal/escalation/alertview"
	"duban.internal/federation"
	"duban.internal/federation/fetch"
	"duban.internal/federation/letters"
	"duban.internal/node/access"
	"duban.internal/node/attachment"
	"duban.internal/node/caseview"
	"duban.internal/node/clock"
	"duban.internal/node/intake"
	"duban.internal/node/journal"
	"duban.internal/node/registry"
	"duban.internal/node/rpc"
	"duban.internal/node/service"
	"duban.internal/node/store"
	"duban.internal/node/store/embedded"
	dubanv1 "duban.internal/proto/duban/v1"
)

// Folds are all tables that are folded from journals; a node, verify and rebuild have the same.
func folds() []*store.Fold {
	registered, cases, alerts, peers, sent := registry.Fold(), caseview.Fold(), alertview.Fold(), federation.Fold(), letters.Fold()
	return []*store.Fold{&registered, &cases, &alerts, &peers, &sent}
}

// tables are those that followers keep beside the folds.
func tables() []*store.Table {
	return slices.Concat(federation.Tables(), letters.Tables(), fetch.Tables(), escalation.Tables())
}

// Inside the data folder: what the store keeps, and attachments by their address.
func storeDir(data string) string       { return filepath.Join(data, "store") }
func attachmentsDir(data string) string { return filepath.Join(data, "attachments") }

// storeConfig is what every opening of a data folder has in common.
func storeConfig(data string) embedded.Config {
	return embedded.Config{Dir: storeDir(data), Folds: folds(), Tables: tables(), Known: federation.Kinds()}
}

// openStore opens the data folder and what reads it.
func (n *Node) openStore(ctx context.Context) error {
	if err := os.MkdirAll(n.cfg.Data, 0o700); err != nil {
		return refused("data", "%v", err)
	}
	c := storeConfig(n.cfg.Data)
	c.Journal, c.Clock, c.Logger = n.self.Journal, n.clock, n.log.With(slog.String("part", "store"))
	c.SegmentBytes, c.MarkerBytes = int64(n.cfg.Store.Segment), int64(n.cfg.Store.Marker)
	s, err := embedded.Open(ctx, c)
	if err != nil {
		return fmt.Errorf("data folder %s: %w", n.cfg.Data, err)
	}
	n.defers(s.Close)
	n.registry = registry.New(s)
	n.cases = caseview.New(s, n.registry, n.divisions)
	if n.recorder, err = newRecorder(ctx, n, s); err != nil {
		return err
	}
	n.store = n.recorder
	n.files, err = attachment.Open(attachment.Config{Dir: attachmentsDir(n.cfg.Data), Max: uint64(n.cfg.Attachments.Max)})
	return err
}

// listen makes the services and opens the addresses.
func (n *Node) listen(context.Context) error {
	in, err := intake.New(intake.Config{
		Store: n.store, Registry: n.registry, Cases: n.cases, Files: n.files, Tree: n.divisions, Clock: n.clock, Ahead: n.cfg.Intervals.Skew,
	})
	if err != nil {
		return err
	}
	alerts := alertservice.New(alertservice.Config{
		Store: n.store, Registry: n.registry, Tree: n.divisions, Code: n.self.Code, Clock: n.clock, Caller: access.CallerFrom,
	})
	services := []rpc.Service{
		service.Config{Own: n.self.Journal, Intake: in, Cases: n.cases, Registry: n.registry, Files: n.files, Bring: n.bring()}.Register,
		func(r grpc.ServiceRegistrar) { dubanv1.RegisterAlertServiceServer(r, endingAlerts{alerts, n.ending}) },
		func(r grpc.ServiceRegistrar) { dubanv1.RegisterNodeServiceServer(r, nodeService{n: n}) },
	}
	if n.downlink != nil {
		services = append(services, func(r grpc.ServiceRegistrar) { dubanv1.RegisterSyncServiceServer(r, endingSync{n.downlink, n.ending}) })
	}
	n.server, err = rpc.New(rpc.Config{
		TLS: n.pair.Server(), Guard: &access.Guard{Tree: n.divisions, Code: n.self.Code}, Leader: n.store.Leader,
		Logger: n.log.With(slog.String("part", "rpc")), Metrics: n.metrics, MaxMessage: federation.MaxMessage + 1<<20,
	}, services...)
	if err != nil {
		return err
	}
	n.metrics.MustRegister(collector{n})
	if n.listener, err = net.Listen("tcp", n.cfg.Listen); err != nil {
		return refused("listen", "%v", err)
	}
	n.defers(func() error { _ = n.listener.Close(); return nil }) // a second time is nothing
	if n.cfg.Metrics.Listen == "" {
		return nil
	}
	if n.pages, err = openPages(n.cfg.Metrics.Listen, n.metrics, n.ready); err != nil {
		return err
	}
	n.defers(n.pages.close)
	return nil
}

// serve takes calls until ctx ends; those under way have grace to end.
func (n *Node) serve(ctx context.Context) error {
	ended := make(chan error, 1)
	go func() { ended <- n.server.Serve(n.listener) }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	n.end()
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer cancel()
	n.server.Stop(last)
	return <-ended
}

// readBytes are read at once.
const readBytes = 4 << 20

// ReadJournal reads the own journal of a data folder that no node uses.
func ReadJournal(ctx context.Context, data string) (entries []journal.Entry, err error) {
	c := storeConfig(data)
	c.Clock = clock.System()
	s, err := embedded.Open(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("data folder %s: %w", data, err)
	}
	defer func() {
		if e := s.Close(); err == nil {
			err = e
		}
	}()
	info, _ := s.Journal(s.Own())
	for uint64(len(entries)) < info.Size {
		some, err := s.Read(ctx, s.Own(), uint64(len(entries)), readBytes)
		if err != nil {
			return nil, err
		}
		entries = append(entries, some...)
	}
	return entries, nil
}
