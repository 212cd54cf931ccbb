// Package alertservice serves alerts (预警) over gRPC: lists and shows them, and takes what the receiving offices do.
//
// A handling, dispute or reopening is decided by escalation/alert on what this node knows and appended on the version of the alert's
// stream that was seen before, so of two at once one is decided again. The same request sent twice is answered twice and
// recorded once. Errors are fault errors; the server's interceptor turns them into codes. Who may read is decided before
// (node/access); who may handle a level is decided here, for it depends on the level.
package alertservice

import (
	"context"
	"crypto/sha256"
	"fmt"

	"google.golang.org/protobuf/proto"

	"duban.internal/escalation/alert"
	"duban.internal/escalation/alertview"
	"duban.internal/node/clock"
	"duban.internal/node/fault"
	"duban.internal/node/identity"
	"duban.internal/node/journal"
	"duban.internal/node/jurisdiction"
	"duban.internal/node/profile"
	"duban.internal/node/store"
	"duban.internal/node/workday"
	dubanv1 "duban.internal/proto/duban/v1"
)

// Bounds.
const (
	defaultPage = 100
	maxPage     = 1000
	maxID       = 64 // of a request, in bytes
	maxWatchers = 64
	attempts    = 16 // to decide on a state that keeps moving on
)

// Store is what the service needs of a store.
type Store interface {
	Own() journal.ID
	Append(ctx context.Context, commands ...store.Command) ([]store.Result, []error)
	Read(ctx context.Context, id journal.ID, from uint64, max int) ([]journal.Entry, error)
	Version(ctx context.Context, stream string) (uint64, error)
	View(ctx context.Context, fn func(q store.Queryer) error) error
	Journals() []store.Info
	Watch() <-chan struct{}
}

// Registry is what the service needs of the base information.
type Registry interface {
	// Present is what the own journal judges by.
	Present(ctx context.Context) (*profile.Profile, *workday.Calendar, error)
	// Jurisdiction is what a journal stands for.
	Jurisdiction(ctx context.Context, id journal.ID) (jurisdiction.Division, bool, error)
}

// Config of a Service. Every field is needed.
type Config struct {
	Store    Store
	Registry Registry
	Tree     *jurisdiction.Tree
	Code     jurisdiction.Code // of this node
	Clock    clock.Clock
	Caller   func(ctx context.Context) (identity.Identity, bool) // who calls, by the certificate
}

// Service is dubanv1.AlertServiceServer.
type Service struct {
	dubanv1.UnimplementedAlertServiceServer
	Config
	watchers chan struct{}
}

// New makes a Service.
func New(c Config) *Service {
	return &Service{Config: c, watchers: make(chan struct{}, maxWatchers)}
}

// ListAlerts lists alerts, soonest due first. Kinds: fault.Invalid.
func (s *Service) ListAlerts(ctx context.Context, req *dubanv1.ListAlertsRequest) (*dubanv1.ListAlertsResponse, error) {
	var bad fault.List
	size := int(req.GetPageSize())
	switch {
	case size == 0:
		size = defaultPage
	case size < 0 || size > maxPage:
		bad.Add("page_size", "%d: want 1 to %d, or 0 for %d", size, maxPage, defaultPage)
	}
	w, err := s.wide(req.GetJurisdiction(), &bad)
	if err != nil {
		return nil, err
	}
	cases, err := w.cases(ctx, s.Store.Journals())
	if err != nil {
		return nil, err
	}
	out := new(dubanv1.ListAlertsResponse)
	err = s.Store.View(ctx, func(q store.Queryer) error {
		ids, next, err := alertview.List(ctx, q, s.place(), alertview.Query{
			Cases: cases, OpenOnly: req.GetOpenOnly(), Claimed: req.GetClaimedOnly(), Level: req.GetLevel(), Size: size, Token: req.GetPageToken(),
		})
		if err != nil {
			return err
		}
		out.NextPageToken = next
		out.Alerts, err = s.messages(ctx, q, ids...)
		return err
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// GetAlert returns one alert. Kinds: fault.Invalid, NotFound.
func (s *Service) GetAlert(ctx context.Context, req *dubanv1.GetAlertRequest) (*dubanv1.GetAlertResponse, error) {
	m, err := s.get(ctx, req.GetAlertId())
	if err != nil {
		return nil, err
	}
	return &dubanv1.GetAlertResponse{Alert: m}, nil
}

func (s *Service) get(ctx context.Context, prefix string) (m *dubanv1.Alert, err error) {
	err = s.Store.View(ctx, func(q store.Queryer) error {
		id, err := alertview.Resolve(ctx, q, s.place(), prefix)
		if err != nil {
			return err
		}
		all, err := s.messages(ctx, q, id)
		if err == nil && len(all) == 0 {
			err = fault.New(fault.NotFound, "alert %s: not known here", id)
		}
		if err != nil {
			return err
		}
		m = all[0]
		return nil
	})
	return m, err
}

// HandleAlert records what the receiving office did. Kinds: as alert.DecideHandling, and what Append gives.
func (s *Service) HandleAlert(ctx context.Context, req *dubanv1.HandleAlertRequest) (*dubanv1.HandleAlertResponse, error) {
	m, err := s.decide(ctx, req.GetAlertId(), req.GetRequestId(), req, func(a *alert.Alert, by identity.Identity, p *profile.Profile) (*proposal, error) {
		h := alert.Handling{
			Round: req.GetRound(), Level: req.GetLevel(),
			Action: req.GetAction(), Explanation: req.GetExplanation(), HandledBy: req.GetHandledBy(),
		}
		d, err := a.DecideHandling(h, by, s.desk(p), clock.Micros(s.Clock.Now()))
		if fault.Is(err, fault.Precondition) && saidBefore(a, h) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		return &proposal{dubanv1.EntryKind_ENTRY_KIND_LEVEL_HANDLED, d}, nil
	})
	if err != nil {
		return nil, err
	}
	return &dubanv1.HandleAlertResponse{Alert: m}, nil
}

// DisputeAlert disputes the handling of the level below: a new round starts. Kinds: as alert.DecideDispute, and what
// Append gives.
func (s *Service) DisputeAlert(ctx context.Context, req *dubanv1.DisputeAlertRequest) (*dubanv1.DisputeAlertResponse, error) {
	m, err := s.decide(ctx, req.GetAlertId(), req.GetRequestId(), req, func(a *alert.Alert, by identity.Identity, p *profile.Profile) (*proposal, error) {
		if d := a.Top().Dispute; d != nil && d.GetReason() == req.GetReason() && d.GetDisputedBy() == req.GetDisputedBy() {
			return nil, nil
		}
		d, err := a.DecideDispute(req.GetReason(), req.GetDisputedBy(), by, s.desk(p), s.above(p, a.Top().Opening))
		if err != nil {
			return nil, err
		}
		return &proposal{dubanv1.EntryKind_ENTRY_KIND_LEVEL_DISPUTED, d}, nil
	})
	if err != nil {
		return nil, err
	}
	return &dubanv1.DisputeAlertResponse{Alert: m}, nil
}

// ReopenAlert opens a level again that was withdrawn as claimed; its limit counts from now. Kinds: as alert.DecideReopen,
// and what Append gives.
func (s *Service) ReopenAlert(ctx context.Context, req *dubanv1.ReopenAlertRequest) (*dubanv1.ReopenAlertResponse, error) {
	m, err := s.decide(ctx, req.GetAlertId(), req.GetRequestId(), req, func(a *alert.Alert, by identity.Identity, p *profile.Profile) (*proposal, error) {
		for i := range a.Levels {
			if r := a.Levels[i].Reopening; r != nil && r.GetReason() == req.GetReason() && r.GetReopenedBy() == req.GetReopenedBy() {
				return nil, nil
			}
		}
		_, cal, err := s.Registry.Present(ctx)
		if err != nil {
			return nil, err
		}
		now := s.Clock.Now()
		limit := func(o *dubanv1.LevelOpened) (alert.Rung, bool) {
			l := p.LadderOf(o.GetPoint(), o.GetTier())
			if l == nil || int(o.GetLevel()) > len(l.Levels) {
				return alert.Rung{}, false
			}
			due := cal.Due(now, l.Levels[o.GetLevel()-1].Limit)
			if due.Open {
				return alert.Rung{OpenEndedYear: uint32(due.MissingYear)}, true
			}
			return alert.Rung{DueAt: clock.Micros(due.At)}, true
		}
		d, err := a.DecideReopen(req.GetReason(), req.GetReopenedBy(), by, s.desk(p), limit, clock.Micros(now))
		if err != nil {
			return nil, err
		}
		return &proposal{dubanv1.EntryKind_ENTRY_KIND_LEVEL_REOPENED, d}, nil
	})
	if err != nil {
		return nil, err
	}
	return &dubanv1.ReopenAlertResponse{Alert: m}, nil
}

// proposal is what was decided.
type proposal struct {
	kind    dubanv1.EntryKind
	payload proto.Message
}

// saidBefore says whether a level has just this handling already: the answer to the first request was lost.
func saidBefore(a *alert.Alert, h alert.Handling) bool {
	for i := range a.Levels {
		l := &a.Levels[i]
		if (h.Round == 0 || l.Round() == h.Round) && (h.Level == 0 || l.Step() == h.Level) && l.HandledAt != 0 &&
			l.Action == h.Action && l.Explanation == h.Explanation && l.HandledBy == h.HandledBy {
			return true
		}
	}
	return false
}

func (s *Service) desk(p *profile.Profile) alert.Desk {
	return alert.Desk{Code: string(s.Code), Profile: p}
}

// above is the level after o, where this node's office receives it; nil otherwise.
func (s *Service) above(p *profile.Profile, o *dubanv1.LevelOpened) *dubanv1.LevelOpened {
	site := alert.Site{
		Code:     string(s.Code),
		Receiver: alert.In(s.Tree),
		Vacant:   func(alert.Rung, string) bool { return false },
		Rung: func(tier string, level uint32, _ int64) (alert.Rung, bool) {
			l := p.LadderOf(o.GetPoint(), tier)
			if l == nil || int(level) > len(l.Levels) {
				return alert.Rung{}, false
			}
			at := l.Levels[level-1]
			return alert.Rung{Role: at.Role, At: at.At, Last: int(level) == len(l.Levels)}, true
		},
	}
	next := site.Next(o, 0)
	if len(next) == 0 {
		return nil
	}
	return next[len(next)-1]
}

// decide appends what fn decides on an alert, nothing where it decides nothing, and answers the alert as it then stands.
func (s *Service) decide(ctx context.Context, prefix, requestID string, req proto.Message,
	fn func(*alert.Alert, identity.Identity, *profile.Profile) (*proposal, error),
) (*dubanv1.Alert, error) {
	by, ok := s.Caller(ctx)
	if !ok {
		return nil, fault.New(fault.Unauthenticated, "who calls is not known: connect with a certificate of this tree")
	}
	if len(requestID) > maxID {
		return nil, fault.Refuse(fault.Invalid, "the request can't be taken", fault.Field{
			Field: "request_id", Description: fmt.Sprintf("%d bytes: want at most %d", len(requestID), maxID),
		})
	}
	p, _, err := s.Registry.Present(ctx)
	if err != nil {
		return nil, err
	}
	for range attempts {
		a, version, err := s.load(ctx, prefix)
		if err != nil {
			return nil, err
		}
		what, err := fn(a, by, p)
		if err != nil {
			return nil, err
		}
		if what == nil {
			return s.get(ctx, a.ID)
		}
		cmd, err := command(by, requestID, req, alert.Stream(a.ID), version, what)
		if err != nil {
			return nil, err
		}
		_, errs := s.Store.Append(ctx, cmd)
		if errs[0] == nil {
			return s.get(ctx, a.ID)
		}
		if !fault.Is(errs[0], fault.Conflict) {
			return nil, errs[0]
		}
	}
	return nil, fault.New(fault.Unavailable, "alert %s keeps changing: try again", prefix)
}

// load reads an alert, and before it the version of its stream, so that a change in between shows as a conflict.
func (s *Service) load(ctx context.Context, prefix string) (*alert.Alert, uint64, error) {
	var id string
	err := s.Store.View(ctx, func(q store.Queryer) (err error) {
		id, err = alertview.Resolve(ctx, q, s.place(), prefix)
		return err
	})
	if err != nil {
		return nil, 0, err
	}
	version, err := s.Store.Version(ctx, alert.Stream(id))
	if err != nil {
		return nil, 0, err
	}
	var found []*alert.Alert
	err = s.Store.View(ctx, func(q store.Queryer) (err error) {
		found, err = alertview.Load(ctx, q, s.place(), id)
		return err
	})
	if err == nil && len(found) == 0 {
		err = fault.New(fault.NotFound, "alert %s: not known here", id)
	}
	if err != nil {
		return nil, 0, err
	}
	return found[0], version, nil
}

func command(by identity.Identity, requestID string, req proto.Message, stream string, version uint64, what *proposal) (store.Command, error) {
	payload, err := proto.Marshal(what.payload)
	if err != nil {
		return store.Command{}, fmt.Errorf("%s: %w", stream, err)
	}
	cmd := store.Command{
		Expect:  []store.Expect{{Stream: stream, Version: version}},
		Entries: []store.Proposal{{Stream: stream, Kind: uint32(what.kind), Actor: by.Actor(), Payload: payload}},
	}
	cmd.Entries[0].Seal()
	if requestID != "" {
		same, err := proto.MarshalOptions{Deterministic: true}.Marshal(req)
		if err != nil {
			return store.Command{}, fmt.Errorf("%s: %w", stream, err)
		}
		cmd.Client, cmd.Key, cmd.Request = by.Actor(), requestID, sha256.Sum256(same)
	}
	return cmd, nil
}

// messages are alerts for the wire, as they stand now.
func (s *Service) messages(ctx context.Context, q store.Queryer, ids ...string) ([]*dubanv1.Alert, error) {
	alerts, err := alertview.Load(ctx, q, s.place(), ids...)
	if err != nil {
		return nil, err
	}
	var failed error
	code := func(id journal.ID) string {
		d, _, err := s.Registry.Jurisdiction(ctx, id)
		if err != nil {
			failed = err
		}
		return string(d.Code)
	}
	now := clock.Micros(s.Clock.Now())
	out := make([]*dubanv1.Alert, 0, len(alerts))
	for _, a := range alerts {
		if m := alertview.Message(a, now, code); s.mayRead(ctx, m) {
			out = append(out, m)
		}
	}
	return out, failed
}

// mayRead narrows an agency to the alerts of its own cases (T22); a page of a list that it asks for may be shorter for it.
func (s *Service) mayRead(ctx context.Context, m *dubanv1.Alert) bool {
	by, ok := s.Caller(ctx)
	return !ok || by.Kind != identity.Agency || by.ID == m.GetAgency()
}

func (s *Service) place() alertview.Place { return alertview.PlaceOf(s.Store.Journals()) }
