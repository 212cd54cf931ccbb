package app

import (
	"context"
	"encoding/hex"
	"fmt"

	"golang.org/x/mod/sumdb/tlog"

	"duban.internal/escalation/alertview"
	"duban.internal/federation/downlink"
	"duban.internal/federation/uplink"
	"duban.internal/node/clock"
	"duban.internal/node/fault"
	"duban.internal/node/journal"
	"duban.internal/node/store"
	dubanv1 "duban.internal/proto/duban/v1"
)

// statusService tells how the node stands. It is here because it joins what escalation and federation know.
type statusService struct {
	dubanv1.UnimplementedNodeServiceServer
	n *Node
}

// GetStatus returns the node's state.
func (s statusService) GetStatus(ctx context.Context, _ *dubanv1.GetStatusRequest) (*dubanv1.GetStatusResponse, error) {
	n := s.n
	now := n.clock.Now()
	_, leads := n.store.Leader()
	out := &dubanv1.GetStatusResponse{
		Code: n.cfg.Code, Name: n.division.Name, Tier: string(n.division.Tier), Version: Version(),
		NowUs: clock.Micros(now), Parent: n.cfg.Parent, Leader: leads,
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
		out.ParentConnected, out.ParentSkewUs = u.Connected, u.Skew
	}
	if out.Journals, err = n.journals(); err != nil {
		return nil, fmt.Errorf("status: %w", err)
	}
	if out.Cases, err = n.cases.Figures(ctx); err != nil {
		return nil, fmt.Errorf("status: %w", err)
	}
	if err := n.store.View(ctx, func(q store.Queryer) (err error) {
		out.Alerts, err = alertview.Figures(ctx, q, out.NowUs)
		return err
	}); err != nil {
		return nil, fmt.Errorf("status: %w", err)
	}
	return out, nil
}

// journals tells of each journal held, the own one first; also of those expected from below that never came.
func (n *Node) journals() ([]*dubanv1.JournalStatus, error) {
	var below map[journal.ID]downlink.Status
	if n.downlink != nil {
		below = n.downlink.Status()
	}
	var above uplink.Status
	if n.uplink != nil {
		above = n.uplink.Status()
	}
	var out []*dubanv1.JournalStatus
	held := map[journal.ID]bool{}
	for _, info := range n.store.Journals() {
		held[info.ID] = true
		j := &dubanv1.JournalStatus{Journal: info.ID[:], Own: info.Own, Size: info.Size, FoldStopped: info.Stopped}
		hashes, err := n.store.Hashes(info.ID)
		if err != nil {
			return nil, err
		}
		root, err := tlog.TreeHash(int64(info.Size), hashes)
		if err != nil {
			return nil, fault.New(fault.Corrupt, "journal %s: root of %d entries: %w", info.ID, info.Size, err)
		}
		j.Root = root[:]
		if n.uplink != nil {
			j.Acknowledged, j.Refused = above.Acknowledged[info.ID], above.Refused[info.ID]
		}
		n.fromBelow(j, below[info.ID])
		n.named(j, info.ID)
		out = append(out, j)
	}
	for _, m := range n.tree.All() {
		if m.Code == n.self.Code || held[m.Journal] || !n.tree.Within(m.Code, n.self.Code) {
			continue
		}
		j := &dubanv1.JournalStatus{Journal: m.Journal[:], Code: string(m.Code), Name: m.Name}
		n.fromBelow(j, below[m.Journal])
		out = append(out, j)
	}
	return out, nil
}

func (n *Node) fromBelow(j *dubanv1.JournalStatus, s downlink.Status) {
	if j.Own {
		return
	}
	j.CheckpointUs, j.HeardUs, j.SkewUs = s.Checkpoint, s.Heard, s.Skew
	if s.Refused != "" {
		j.Refused = s.Refused
	}
}

// named gives a journal's jurisdiction, as the tree of nodes has it.
func (n *Node) named(j *dubanv1.JournalStatus, id journal.ID) {
	if m, ok := n.tree.Journal(id); ok {
		j.Code, j.Name = string(m.Code), m.Name
	}
}
