package downlink

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"duban.internal/federation"
	"duban.internal/node/clock"
	"duban.internal/node/journal"
	"duban.internal/node/store"
	dubanv1 "duban.internal/proto/duban/v1"
)

// together bounds what is stored in one commit, in bytes.
const together = 4 << 20

// commit stores what the receiver verified and answers, until the receiver ends. What waits is stored together.
func (s *session) commit(stream grpc.BidiStreamingServer[dubanv1.SyncRequest, dubanv1.SyncResponse]) (err error) {
	defer func() {
		s.cancel(err)
		// The receiver stops when the stream does, after this returns; what it still hands over is let go.
		go func() {
			for it := range s.queue {
				s.d.budget.Release(it.bytes)
			}
			close(s.done)
		}()
	}()
	for {
		var group []item
		select {
		case it, ok := <-s.queue:
			if !ok {
				return context.Cause(s.ctx)
			}
			group = append(group, it)
		case <-s.ctx.Done():
			return context.Cause(s.ctx)
		}
		bytes := group[0].bytes
	more:
		for bytes < together {
			select {
			case it, ok := <-s.queue:
				if !ok {
					break more
				}
				group, bytes = append(group, it), bytes+it.bytes
			default:
				break more
			}
		}
		err := s.store(group, stream)
		s.d.budget.Release(bytes)
		if err != nil {
			return err
		}
	}
}

// store makes a group durable, then acknowledges each journal once, then says what was refused.
func (s *session) store(group []item, stream grpc.BidiStreamingServer[dubanv1.SyncRequest, dubanv1.SyncResponse]) error {
	var replicas []store.Replica
	var order []journal.ID // to be acknowledged
	at := map[journal.ID]int{}
	last := map[journal.ID]*Taken{}
	for _, it := range group {
		t := it.taken
		if t == nil || it.refusal != nil {
			continue
		}
		if last[t.Journal] == nil {
			order = append(order, t.Journal)
		} else if t.Stale {
			continue
		}
		last[t.Journal] = t
		i, ok := at[t.Journal]
		switch {
		case ok && len(t.Entries) == 0: // a heartbeat after its journal's batches
			replicas[i].Changes = append(replicas[i].Changes, t.Changes()...)
		case len(t.Entries) > 0:
			at[t.Journal] = len(replicas)
			replicas = append(replicas, store.Replica{Journal: t.Journal, From: t.From, Entries: t.Entries, Changes: t.Changes()})
		}
	}
	if len(replicas) > 0 {
		if err := errors.Join(s.d.cfg.Store.AppendReplica(s.ctx, replicas...)...); err != nil {
			return fmt.Errorf("storing entries from %s: %w", s.code, err)
		}
	}
	var beats []store.Change
	for _, id := range order {
		if _, ok := at[id]; !ok {
			beats = append(beats, last[id].Changes()...)
		}
	}
	if len(beats) > 0 {
		if _, errs := s.d.cfg.Store.Append(s.ctx, store.Command{Changes: beats}); errors.Join(errs...) != nil {
			return fmt.Errorf("storing checkpoints from %s: %w", s.code, errors.Join(errs...))
		}
	}
	for _, id := range order {
		if err := s.acknowledge(last[id], stream); err != nil {
			return err
		}
	}
	for _, it := range group {
		switch {
		case it.flush != nil:
			close(it.flush)
		case it.refusal != nil:
			if err := s.refuse(it.refusal, stream); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *session) acknowledge(t *Taken, stream grpc.BidiStreamingServer[dubanv1.SyncRequest, dubanv1.SyncResponse]) error {
	now := clock.Micros(s.d.cfg.Clock.Now())
	if !t.Stale {
		s.d.update(t.Journal, func(st *Status) { st.Size, st.Checkpoint = t.Checkpoint.Size, t.Checkpoint.Time })
	}
	note, err := s.d.cfg.Key.Countersign(t.Note, now)
	if err != nil {
		return err
	}
	return stream.Send(&dubanv1.SyncResponse{Message: &dubanv1.SyncResponse_Ack{Ack: &dubanv1.SyncAck{
		Journal: t.Journal[:], Size: t.Checkpoint.Size, Countersigned: note, NowUs: now}}})
}

// refuse keeps the evidence, where there is any, and tells the child.
func (s *session) refuse(r *Refusal, stream grpc.BidiStreamingServer[dubanv1.SyncRequest, dubanv1.SyncResponse]) error {
	s.d.cfg.Log.Error("journal refused", "journal", r.Journal.String(), "presented_by", s.caller.Actor(), "from", r.From,
		"proven", r.Proven, "reason", r.Reason)
	if r.Proven {
		if err := s.keep(r); err != nil {
			return err
		}
	}
	s.d.update(r.Journal, func(st *Status) { st.Refused = r.Reason })
	return stream.Send(&dubanv1.SyncResponse{Message: &dubanv1.SyncResponse_Refusal{Refusal: &dubanv1.SyncRefusal{
		Journal: r.Journal[:], Reason: r.Reason}}})
}

// keep writes the evidence into the own journal; the same evidence is there once.
func (s *session) keep(r *Refusal) error {
	payload, err := proto.Marshal(&dubanv1.PeerRefused{
		Journal: r.Journal[:], Code: string(s.lanes[r.Journal].code), Reason: "presented by " + s.caller.Actor() + ": " + r.Reason,
		AcceptedCheckpoint: r.Accepted, RefusedCheckpoint: r.Refused, From: r.From,
	})
	if err != nil {
		return err
	}
	p := store.Proposal{
		Stream: federation.PeerStream(r.Journal), Kind: uint32(dubanv1.EntryKind_ENTRY_KIND_PEER_REFUSED),
		Actor: "node:" + string(s.d.cfg.Code), Payload: payload,
	}
	p.Seal()
	evidence := sha256.Sum256(r.Refused)
	_, errs := s.d.cfg.Store.Append(s.ctx, store.Command{
		Natural: fmt.Sprintf("peer/%s/%x", r.Journal, evidence[:8]),
		Entries: []store.Proposal{p},
	})
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("keeping the evidence against journal %s: %w", r.Journal, err)
	}
	return nil
}
