package app

import (
	"context"
	"errors"

	"google.golang.org/protobuf/proto"

	"duban.internal/node/access"
	"duban.internal/node/fault"
	"duban.internal/node/journal"
	"duban.internal/node/registry"
	"duban.internal/node/store"
	dubanv1 "duban.internal/proto/duban/v1"
)

// AcceptClock puts on record that the clock is right as it is.
func (s nodeService) AcceptClock(ctx context.Context, req *dubanv1.AcceptClockRequest) (*dubanv1.AcceptClockResponse, error) {
	if err := reasoned(req.GetReason(), "accepted_by", req.GetAcceptedBy()); err != nil {
		return nil, err
	}
	now, err := s.n.recorder.accept(ctx, caller(ctx), req.GetReason(), req.GetAcceptedBy())
	if err != nil {
		return nil, err
	}
	return &dubanv1.AcceptClockResponse{NowUs: now}, nil
}

// ReadmitJournal puts on record that the refusal of a journal is settled; the downlink takes it again where it extends what
// is held.
func (s nodeService) ReadmitJournal(ctx context.Context, req *dubanv1.ReadmitJournalRequest) (*dubanv1.ReadmitJournalResponse, error) {
	var bad fault.List
	bad = append(bad, fault.Fields(reasoned(req.GetReason(), "decided_by", req.GetDecidedBy()))...)
	id, err := journal.IDFrom(req.GetJournal())
	if err != nil {
		bad.Add("journal", "%v", err)
	}
	if err := bad.Err(fault.Invalid, "the journal can't be readmitted"); err != nil {
		return nil, err
	}
	n := s.n
	code, err := n.settles(ctx, id)
	if err != nil {
		return nil, err
	}
	payload, err := proto.Marshal(&dubanv1.JournalReadmitted{Journal: id[:], Code: string(code), Reason: req.GetReason(), DecidedBy: req.GetDecidedBy()})
	if err != nil {
		return nil, err
	}
	_, errs := n.store.Append(ctx, store.Command{Entries: []store.Proposal{{
		Stream: registry.NodeStream, Kind: uint32(dubanv1.EntryKind_ENTRY_KIND_JOURNAL_READMITTED), Actor: caller(ctx), Payload: payload,
	}}})
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	info, _ := n.store.Journal(id)
	return &dubanv1.ReadmitJournalResponse{Size: info.Size}, nil
}

// reasoned wants a decision of people to say why and whose it is.
func reasoned(reason, field, who string) error {
	var bad fault.List
	if reason == "" {
		bad.Add("reason", "is missing: expected why")
	}
	if who == "" {
		bad.Add(field, "is missing: expected who decides it")
	}
	return bad.Err(fault.Invalid, "a decision says why and whose it is")
}

func caller(ctx context.Context) string {
	who, _ := access.CallerFrom(ctx) // the guard lets nobody through unknown
	return who.Actor()
}
