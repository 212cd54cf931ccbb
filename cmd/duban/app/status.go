package app

import (
	"context"
	"encoding/hex"
	"fmt"

	"golang.org/x/mod/sumdb/tlog"

	"duban.internal/escalation/alertview"
	"duban.internal/federation"
	"duban.internal/federation/downlink"
	"duban.internal/federation/topology"
	"duban.internal/federation/uplink"
	"duban.internal/node/clock"
	"duban.internal/node/fault"
	"duban.internal/node/journal"
	"duban.internal/node/store"
	dubanv1 "duban.internal/proto/duban/v1"
)

// nodeService tells how the node stands, and takes what its operator decides about it. It is here because it joins what
// escalation and federation know.
type nodeService struct {
	dubanv1.UnimplementedNodeServiceServer
	n *Node
}

// GetStatus returns the node's state.
func (s nodeService) GetStatus(ctx context.Context, _ *dubanv1.GetStatusRequest) (*dubanv1.GetStatusResponse, error) {
	n := s.n
	now := n.clock.Now()
	_, leads := n.store.Leader()
	out := &dubanv1.GetStatusResponse{
		Code: n.cfg.Code, Name: n.division.Name, Tier: string(n.division.Tier), Version: Version(),
		NowUs: clock.Micros(now), Parent: n.cfg.Parent, Leader: leads,
	}
	if alarm := n.recorder.stopped(); alarm != nil {
		out.ClockStopped = alarm.Reason
	}
	profile, calendar, err := n.registry.Present(ctx)
	if err != nil {
		return nil, fmt.Errorf("status: %w", err)
	}
	p, c := profile.Hash(), calendar.Hash()
	out.Profile = profile.Name + " " + hex.EncodeToString(p[:6])
	out.Calendar = calendar.Name() + " " + hex.EncodeToString(c[:6])
	if year, _ := calendar.Missing(now); year != 0 {
		out.CalendarMissingYear = uint32(year)
	}
	if n.uplink != nil {
		u := n.uplink.Status()
		out.ParentConnected, out.ParentSkewUs, out.ParentProblem = u.Connected, u.Skew, u.Problem
	}
	if out.Ancestors, err = n.above(ctx); err != nil {
		return nil, fmt.Errorf("status: %w", err)
	}
	if out.Journals, err = n.journals(ctx, out.NowUs); err != nil {
		return nil, fmt.Errorf("status: %w", err)
	}
	if out.Cases, err = n.cases.Figures(ctx); err != nil {
		return nil, fmt.Errorf("status: %w", err)
	}
	if err := n.store.View(ctx, func(q store.Queryer) (err error) {
		out.Alerts, err = alertview.Figures(ctx, q, alertview.PlaceOf(n.store.Journals()), out.NowUs)
		return err
	}); err != nil {
		return nil, fmt.Errorf("status: %w", err)
	}
	return out, nil
}

// journals tells of each journal held, and of those expected from below that never came: the own one first, then down the
// tree, each before what lies below it.
func (n *Node) journals(ctx context.Context, now int64) ([]*dubanv1.JournalStatus, error) {
	var below map[journal.ID]downlink.Status
	if n.downlink != nil {
		below = n.downlink.Status()
	}
	var above uplink.Status
	if n.uplink != nil {
		above = n.uplink.Status()
	}
	held := map[journal.ID]*dubanv1.JournalStatus{}
	var strangers []*dubanv1.JournalStatus // held, and in the topology no more
	for _, info := range n.store.Journals() {
		j, err := n.heldJournal(ctx, info)
		if err != nil {
			return nil, err
		}
		if n.uplink != nil {
			j.Acknowledged, j.Refused = above.Acknowledged[info.ID], above.Refused[info.ID]
		}
		held[info.ID] = j
		if _, ok := n.tree.Journal(info.ID); !ok {
			strangers = append(strangers, j)
		}
	}
	var out []*dubanv1.JournalStatus
	var down func(m topology.Node)
	down = func(m topology.Node) {
		j := held[m.Journal]
		if j == nil {
			j = &dubanv1.JournalStatus{Journal: m.Journal[:]}
		}
		j.Code, j.Name, j.Parent = string(m.Code), m.Name, string(m.Parent)
		if s := below[m.Journal]; !j.Own {
			j.CheckpointUs, j.HeardUs, j.SkewUs, j.SilentUs = s.Checkpoint, s.Heard, s.Skew, n.silentSince(m.Journal, now)
			if s.Refused != "" {
				j.Refused = s.Refused
			}
		}
		out = append(out, j)
		for _, child := range n.tree.Children(m.Code) {
			down(child)
		}
	}
	down(n.self)
	return append(out, strangers...), nil
}

// mostShown bounds what status counts of what should not be there at all.
const mostShown = 1000

// heldJournal is what the store knows of a journal.
func (n *Node) heldJournal(ctx context.Context, info store.Info) (*dubanv1.JournalStatus, error) {
	hashes, err := n.store.Hashes(info.ID)
	if err != nil {
		return nil, err
	}
	root, err := tlog.TreeHash(int64(info.Size), hashes)
	if err != nil {
		return nil, fault.New(fault.Corrupt, "journal %s: root of %d entries: %w", info.ID, info.Size, err)
	}
	hidden, err := n.store.Scan(ctx, info.ID, federation.Unapproved, nil, mostShown)
	if err != nil {
		return nil, err
	}
	return &dubanv1.JournalStatus{
		Journal: info.ID[:], Own: info.Own, Size: info.Size, Root: root[:], FoldStopped: info.Stopped, UnapprovedErasures: uint64(len(hidden)),
	}, nil
}
