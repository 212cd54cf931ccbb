package app

import (
	"context"

	"google.golang.org/grpc"

	"duban.internal/escalation/alertservice"
	"duban.internal/federation/downlink"
	dubanv1 "duban.internal/proto/duban/v1"
)

// Streams that stay open for as long as the other end likes would hold up a node that is stopped: these two end with it.

type endingSync struct {
	*downlink.Downlink
	ending context.Context
}

// Sync is the downlink's.
func (s endingSync) Sync(stream grpc.BidiStreamingServer[dubanv1.SyncRequest, dubanv1.SyncResponse]) error {
	ctx, cancel := until(stream.Context(), s.ending)
	defer cancel()
	return s.Downlink.Sync(&endingBidi{stream, ctx})
}

type endingBidi struct {
	grpc.BidiStreamingServer[dubanv1.SyncRequest, dubanv1.SyncResponse]
	ctx context.Context
}

// Context ends with the node as well.
func (s *endingBidi) Context() context.Context { return s.ctx }

type endingAlerts struct {
	*alertservice.Service
	ending context.Context
}

// WatchAlerts is the alert service's.
func (s endingAlerts) WatchAlerts(req *dubanv1.WatchAlertsRequest, stream grpc.ServerStreamingServer[dubanv1.WatchAlertsResponse]) error {
	ctx, cancel := until(stream.Context(), s.ending)
	defer cancel()
	return s.Service.WatchAlerts(req, &endingWatch{stream, ctx})
}

type endingWatch struct {
	grpc.ServerStreamingServer[dubanv1.WatchAlertsResponse]
	ctx context.Context
}

// Context ends with the node as well.
func (s *endingWatch) Context() context.Context { return s.ctx }

// until ends with either.
func until(ctx, ending context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(ending, cancel)
	return ctx, func() {
		stop()
		cancel()
	}
}
