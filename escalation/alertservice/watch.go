package alertservice

import (
	"context"
	"fmt"

	"google.golang.org/grpc"

	"duban.internal/escalation/alert"
	"duban.internal/escalation/alertview"
	"duban.internal/node/fault"
	"duban.internal/node/journal"
	"duban.internal/node/jurisdiction"
	"duban.internal/node/store"
	dubanv1 "duban.internal/proto/duban/v1"
)

// scope is the jurisdiction whose cases, and those below it, a request is about; empty for all.
type scope struct {
	*Service
	code jurisdiction.Code
}

func (s *Service) wide(code string, bad *fault.List) (scope, error) {
	if code != "" {
		if _, ok := s.Tree.Get(jurisdiction.Code(code)); !ok {
			bad.Add("jurisdiction", "%.20q: want a code of the divisions that this node knows, or none for all", code)
		}
	}
	return scope{s, jurisdiction.Code(code)}, bad.Err(fault.Invalid, "the question can't be answered")
}

// cases are the journals in the scope; nil for all.
func (w scope) cases(ctx context.Context, journals []store.Info) ([]journal.ID, error) {
	if w.code == "" {
		return nil, nil
	}
	in, all := []journal.ID{}, true
	for _, info := range journals {
		d, ok, err := w.Registry.Jurisdiction(ctx, info.ID)
		if err != nil {
			return nil, err
		}
		if ok && w.Tree.Within(d.Code, w.code) {
			in = append(in, info.ID)
		} else {
			all = false
		}
	}
	if all {
		return nil, nil
	}
	return in, nil
}

// readBytes is how much of a journal a watcher reads at once.
const readBytes = 1 << 20

// WatchAlerts sends the open alerts and then every alert that changes, in any journal that this node holds, until the
// caller has enough. An alert that changes often is sent less often than it changes, and last as it stands. Kinds:
// fault.Invalid; Exhausted where too many watch.
func (s *Service) WatchAlerts(req *dubanv1.WatchAlertsRequest, stream grpc.ServerStreamingServer[dubanv1.WatchAlertsResponse]) error {
	ctx := stream.Context()
	var bad fault.List
	w, err := s.wide(req.GetJurisdiction(), &bad)
	if err != nil {
		return err
	}
	select {
	case s.watchers <- struct{}{}:
		defer func() { <-s.watchers }()
	default:
		return fault.New(fault.Exhausted, "%d calls watch alerts already: try again later", maxWatchers)
	}
	at := make(map[journal.ID]uint64)
	for _, info := range s.Store.Journals() {
		at[info.ID] = info.Folded
	}
	if err := w.sendOpen(ctx, stream); err != nil {
		return err
	}
	for ctx.Err() == nil {
		changed := s.Store.Watch()
		more, err := w.sendChanged(ctx, stream, at)
		if err != nil {
			return err
		}
		if more {
			continue
		}
		select {
		case <-changed:
		case <-ctx.Done():
		}
	}
	return nil
}

func (w scope) sendOpen(ctx context.Context, stream grpc.ServerStreamingServer[dubanv1.WatchAlertsResponse]) error {
	for token := ""; ; {
		page, err := w.ListAlerts(ctx, &dubanv1.ListAlertsRequest{Jurisdiction: string(w.code), OpenOnly: true, PageToken: token})
		if err != nil {
			return err
		}
		if err := send(stream, page.GetAlerts()); err != nil {
			return err
		}
		if token = page.GetNextPageToken(); token == "" {
			return nil
		}
	}
}

// sendChanged sends the alerts that the next entries of each journal are about, and says whether there may be more.
func (w scope) sendChanged(ctx context.Context, stream grpc.ServerStreamingServer[dubanv1.WatchAlertsResponse], at map[journal.ID]uint64) (more bool, err error) {
	seen := make(map[string]bool)
	var ids []string
	for _, info := range w.Store.Journals() {
		from := at[info.ID]
		if from >= info.Folded {
			continue
		}
		entries, err := w.Store.Read(ctx, info.ID, from, readBytes)
		if err != nil {
			return false, fmt.Errorf("read journal %s: %w", info.ID, err)
		}
		for i := range entries {
			e := &entries[i]
			if e.Number >= info.Folded {
				break
			}
			at[info.ID] = e.Number + 1
			for _, stream := range about(info.Own, e) {
				if id, ok := alert.FromStream(stream); ok && !seen[id] {
					seen[id] = true
					ids = append(ids, id)
				}
			}
		}
		more = more || at[info.ID] < info.Folded
	}
	for len(ids) > 0 {
		n := min(len(ids), defaultPage)
		if err := w.sendSome(ctx, stream, ids[:n]); err != nil {
			return false, err
		}
		ids = ids[n:]
	}
	return more, nil
}

// about are the streams that an entry is about: its own, and in the own journal those that a letter from above tells of.
func about(own bool, e *journal.Entry) []string {
	if !own || e.Erased || e.Kind != uint32(dubanv1.EntryKind_ENTRY_KIND_RECEIVED_FROM_ABOVE) {
		return []string{e.Stream}
	}
	said, err := alertview.FromAbove(e)
	if err != nil {
		return nil // its fold shows it
	}
	streams := make([]string, len(said))
	for i := range said {
		streams[i] = said[i].Stream
	}
	return streams
}

func (w scope) sendSome(ctx context.Context, stream grpc.ServerStreamingServer[dubanv1.WatchAlertsResponse], ids []string) error {
	var alerts []*dubanv1.Alert
	err := w.Store.View(ctx, func(q store.Queryer) (err error) {
		alerts, err = w.messages(ctx, q, ids...)
		return err
	})
	if err != nil {
		return err
	}
	in := alerts[:0]
	for _, a := range alerts {
		if w.code == "" || w.Tree.Within(jurisdiction.Code(a.GetJurisdiction()), w.code) {
			in = append(in, a)
		}
	}
	return send(stream, in)
}

func send(stream grpc.ServerStreamingServer[dubanv1.WatchAlertsResponse], alerts []*dubanv1.Alert) error {
	for _, a := range alerts {
		if err := stream.Send(&dubanv1.WatchAlertsResponse{Alert: a}); err != nil {
			return err
		}
	}
	return nil
}
