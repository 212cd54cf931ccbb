package sim

import (
	"context"
	"crypto/sha256"
	"fmt"
	"time"

	"duban.internal/node/fault"
	"duban.internal/node/identity"
	"duban.internal/node/jurisdiction"
	dubanv1 "duban.internal/proto/duban/v1"
)

// crowd is who uses the nodes: agencies with their cases, and offices that handle alerts.
type crowd struct {
	closed bool
	asked  int
}

func agencyID(code jurisdiction.Code) string { return "cg-" + string(code) }

func agencyOf(code jurisdiction.Code) identity.Identity {
	return identity.Identity{City: cityCode, Kind: identity.Agency, ID: agencyID(code)}
}

func officeOf(code jurisdiction.Code) identity.Identity {
	return identity.Identity{City: cityCode, Kind: identity.Office, Role: office, Code: code}
}

// hands are the officers of an agency: two who handle, one who reviews, one who decides.
func hand(code jurisdiction.Code, i int) string { return fmt.Sprintf("%s-%d", agencyID(code), i+1) }

// bootstrap puts a node and its agency on record.
func (n *node) bootstrap(ctx context.Context) error {
	if err := n.adopt(ctx); err != nil {
		return err
	}
	by := identity.Identity{City: cityCode, Kind: identity.Operator, Code: n.code}
	_, err := n.intake.RegisterAgency(ctx, by, &dubanv1.RegisterAgencyRequest{Agency: &dubanv1.Agency{
		Id: agencyID(n.code), Name: "agency of " + string(n.code), Jurisdiction: string(n.code), System: "simulated", Items: []string{item},
	}})
	for i := range 4 {
		if err != nil {
			return err
		}
		id := hand(n.code, i)
		_, err = n.intake.RegisterOfficer(ctx, by, &dubanv1.RegisterOfficerRequest{Officer: &dubanv1.Officer{
			Id: id, Name: "officer " + id, Agency: agencyID(n.code), Certificate: "SIM-" + id,
		}})
	}
	return err
}

// ask is what somebody wants of a node: it is asked again, with the same id, until there is an answer.
type ask struct {
	n    *node
	what string
	do   func(ctx context.Context, id string) (*dubanv1.Receipt, error)
	then func(ok bool)
	must bool // it is in order: a refusal is wrong
	from int64
	id   string
	left int
}

// patient is how long somebody asks with the same id: the keys of requests are kept for a day.
const patient = 14 * time.Hour

// asks sends a request to a node. Who gets no answer asks again.
func (h *history) asks(a *ask) {
	if a.id == "" {
		h.crowd.asked++
		a.id = fmt.Sprintf("r%d", h.crowd.asked)
		a.left, a.from = 12, h.now
	}
	a.left--
	again := func() {
		if a.left <= 0 || h.crowd.closed || h.now-a.from > patient.Microseconds() {
			a.then(false)
			return
		}
		h.at(h.now+between(h.rng, time.Minute, 6*time.Hour).Microseconds(), func() { h.asks(a) })
	}
	n := a.n
	if !n.up {
		again()
		return
	}
	r, err := a.do(context.Background(), a.id)
	if err != nil && n.disbelieved() {
		n.trace("fails", a.what, 0, 0)
		n.after()
		again()
		return
	}
	if err != nil && (a.must || !refused(err)) {
		h.fail(n, "what is in order is taken", "%s: %v", a.what, err)
		return
	}
	if err != nil {
		h.sight.refusals++
		n.trace("refuses", a.what+": "+err.Error(), int64(fault.Of(err)), 0)
		n.after()
		a.then(false)
		return
	}
	life, answered := n.life, false
	n.out(func() {
		answered = true
		n.answered(r)
		if h.rng.IntN(8) == 0 && a.left > 1 {
			n.trace("is not heard", a.what, 0, 0)
			again() // the answer is lost
			return
		}
		h.at(h.now+1, func() { a.then(true) })
	})
	n.after()
	if !answered {
		// Whoever waits too long asks again: the node may be gone.
		h.at(h.now+2*h.plan.slowSync.Microseconds()+1, func() {
			if !answered && (!n.up || n.life != life) {
				again()
			}
		})
	}
}

// load has cases opened all over the tree.
func (h *history) load() {
	for i := range h.plan.cases {
		n := h.anyone(h.rng.IntN(4) > 0)
		c := &enforcement{h: h, n: n, id: fmt.Sprintf("c%d", i)}
		h.at(h.plan.start+h.rng.Int64N(h.plan.end-h.plan.start), c.begin)
	}
}

// document is one of a stage, uploaded.
func document(name string) *dubanv1.Document {
	sum := sha256.Sum256([]byte(name))
	return &dubanv1.Document{Name: name, Code: "SIM-" + name, Sha256: sum[:]}
}

// enforcement is one case as it goes on.
type enforcement struct {
	h    *history
	n    *node
	id   string
	last int64 // when the last stage was completed, as stated
	lag  time.Duration
	todo []func()
}

func (c *enforcement) begin() {
	if c.h.crowd.closed {
		return
	}
	r := c.h.rng
	if r.IntN(2) == 0 { // collected late
		c.lag = between(r, 0, 9*24*time.Hour)
	}
	c.last = c.n.micros() - c.lag.Microseconds() - time.Hour.Microseconds()
	if r.IntN(4) == 0 {
		c.inspection()
	} else {
		c.penalty()
	}
	c.next(true)
}

// next does what comes next, some time later.
func (c *enforcement) next(ok bool) {
	if !ok || len(c.todo) == 0 || c.h.crowd.closed {
		return
	}
	do := c.todo[0]
	c.todo = c.todo[1:]
	c.h.at(c.h.now+between(c.h.rng, time.Minute, 20*time.Hour).Microseconds(), func() {
		if !c.h.crowd.closed {
			do()
		}
	})
}

func (c *enforcement) then(do func()) { c.todo = append(c.todo, do) }

// pause lets a time pass.
func (c *enforcement) pause(most time.Duration) {
	c.then(func() { c.h.at(c.h.now+between(c.h.rng, 0, most).Microseconds(), func() { c.next(true) }) })
}

func (c *enforcement) opens(procedure, source string) {
	m := &dubanv1.CaseOpened{
		CaseId: c.id, Number: "SIM-" + c.id, Agency: agencyID(c.n.code), Item: item, Procedure: procedure, Source: source,
		Summary: "simulated", Handler: hand(c.n.code, 0), Generated: true, Party: &dubanv1.Party{Name: "nobody", Kind: "citizen"},
	}
	at := c.last
	c.then(func() {
		c.asks("open", func(ctx context.Context, id string) (*dubanv1.Receipt, error) {
			return c.n.intake.OpenCase(ctx, agencyOf(c.n.code), &dubanv1.OpenCaseRequest{RequestId: id, OccurredUs: at, Case: m})
		})
	})
}

func (c *enforcement) asks(what string, do func(ctx context.Context, id string) (*dubanv1.Receipt, error)) {
	if c.h.rng.IntN(6) == 0 {
		c.probe()
	}
	// A clock that was put right makes times of before look like the future.
	c.h.asks(&ask{n: c.n, what: c.id + " " + what, do: do, then: c.next, must: c.h.plan.jumps == 0})
}

// probe asks for what has to be refused.
func (c *enforcement) probe() {
	n, other := c.n, c.h.nodes[0]
	if n == other {
		other = c.h.nodes[1]
	}
	if !n.up || n.disbelieved() {
		return
	}
	now := n.micros()
	closing := &dubanv1.StageRecorded{CaseId: c.id, Stage: "service", CompletedUs: now, Handler: hand(n.code, 0),
		Documents: []*dubanv1.Document{document("service_receipt")}, Fields: map[string]string{"served_on": "2026-01-05", "service_method": "direct"}}
	var what string
	who := agencyOf(n.code)
	do := func() (*dubanv1.Receipt, error) {
		return n.intake.RecordStage(ctx, who, &dubanv1.RecordStageRequest{Stage: closing})
	}
	switch c.h.rng.IntN(4) {
	case 0:
		what = "a stage that can't come now"
		closing.Stage, closing.Documents, closing.Fields = "acceptance", nil, map[string]string{"no": "field"}
	case 1:
		what, who = "another agency's word", agencyOf(other.code)
		do = func() (*dubanv1.Receipt, error) {
			sum := sha256.Sum256([]byte("probe"))
			return n.intake.AttachEvidence(ctx, who, &dubanv1.AttachEvidenceRequest{
				Evidence: &dubanv1.EvidenceAttached{CaseId: c.id, Name: "probe", Sha256: sum[:], Size: 1, MediaType: "image/jpeg"}})
		}
	case 2:
		what = "a stage of the future"
		closing.CompletedUs = now + week.Microseconds()
	default:
		what = "another case by the same id"
		if st, _, _ := n.cases.State(ctx, n.own, c.id); st == nil {
			return
		}
		do = func() (*dubanv1.Receipt, error) {
			return n.intake.OpenCase(ctx, who, &dubanv1.OpenCaseRequest{OccurredUs: now - 1e9, Case: &dubanv1.CaseOpened{
				CaseId: c.id, Number: "SIM-again", Agency: agencyID(n.code), Item: item, Procedure: "inspection", Source: "plan",
				Handler: hand(n.code, 0), Party: &dubanv1.Party{Name: "nobody", Kind: "citizen"}}})
		}
	}
	_, err := do()
	n.trace("is asked for", what, 0, 0)
	if err == nil {
		c.h.fail(n, "what is not in order is refused", "case %s: %s was taken", c.id, what)
	} else if !refused(err) {
		c.h.fail(n, "what is not in order is refused", "case %s: %s: %v", c.id, what, err)
	}
	n.after()
}

func (c *enforcement) stage(m *dubanv1.StageRecorded) {
	m.CaseId = c.id
	c.then(func() {
		m.CompletedUs = max(c.last, c.n.micros()-c.lag.Microseconds())
		c.asks(m.Stage, func(ctx context.Context, id string) (*dubanv1.Receipt, error) {
			r, err := c.n.intake.RecordStage(ctx, agencyOf(c.n.code), &dubanv1.RecordStageRequest{RequestId: id, Stage: m})
			if err == nil {
				c.last = max(c.last, m.CompletedUs)
			}
			return r, err
		})
	})
}

func (c *enforcement) evidence() {
	sum := sha256.Sum256([]byte(c.id))
	c.then(func() {
		c.asks("evidence", func(ctx context.Context, id string) (*dubanv1.Receipt, error) {
			return c.n.intake.AttachEvidence(ctx, agencyOf(c.n.code), &dubanv1.AttachEvidenceRequest{RequestId: id,
				Evidence: &dubanv1.EvidenceAttached{CaseId: c.id, Name: "photo", Sha256: sum[:], Size: 1, MediaType: "image/jpeg"}})
		})
	})
}

func (c *enforcement) explains(subject string) {
	c.then(func() {
		c.asks("explanation", func(ctx context.Context, id string) (*dubanv1.Receipt, error) {
			return c.n.intake.GiveExplanation(ctx, agencyOf(c.n.code), &dubanv1.GiveExplanationRequest{RequestId: id,
				Explanation: &dubanv1.ExplanationGiven{CaseId: c.id, Subject: subject, Officer: hand(c.n.code, 0), Text: "simulated"}})
		})
	})
}

func (c *enforcement) inspection() {
	code := c.n.code
	c.opens("inspection", "plan")
	c.stage(&dubanv1.StageRecorded{Stage: "inspection", Handler: hand(code, 0), Officers: []string{hand(code, 0), hand(code, 1)},
		Documents: []*dubanv1.Document{document("inspection_record")},
		Fields:    map[string]string{"basis": "simulated", "inspected_on": "2026-01-05", "certificate_shown": "yes"}})
	c.stage(&dubanv1.StageRecorded{Stage: "outcome", Handler: hand(code, 0), Opinion: &dubanv1.Opinion{Result: "no_problem"},
		Fields: map[string]string{"findings": "none"}})
	c.stage(&dubanv1.StageRecorded{Stage: "closing", Handler: hand(code, 0)})
}

const week = 7 * 24 * time.Hour

func (c *enforcement) penalty() {
	code, r := c.n.code, c.h.rng
	c.opens("penalty_general", "patrol")
	c.stage(&dubanv1.StageRecorded{Stage: "filing", Handler: hand(code, 0), Opinion: &dubanv1.Opinion{Result: "filed"},
		Documents: []*dubanv1.Document{document("filing_approval")}, Fields: map[string]string{"cause": "simulated"}})
	if r.IntN(5) == 0 {
		return
	}
	c.evidence()
	officers := []string{hand(code, 0), hand(code, 1)}[:1+r.IntN(2)]
	c.stage(&dubanv1.StageRecorded{Stage: "investigation", Handler: hand(code, 0), Officers: officers,
		Documents: []*dubanv1.Document{document("investigation_report")}, Fields: map[string]string{"certificate_shown": "yes"}})
	if r.IntN(2) == 0 {
		c.stage(&dubanv1.StageRecorded{Stage: "withdrawal", Handler: hand(code, 0), Opinion: &dubanv1.Opinion{Result: "withdrawn"},
			Documents: []*dubanv1.Document{document("withdrawal_approval")}})
		if r.IntN(3) > 0 {
			c.pause(week)
			c.explains("filing_withdrawn")
		}
		return
	}
	c.stage(&dubanv1.StageRecorded{Stage: "legal_review", Handler: hand(code, 2), Opinion: &dubanv1.Opinion{Result: "agree"},
		Documents: []*dubanv1.Document{document("review_opinion")}})
	decision := &dubanv1.StageRecorded{Stage: "decision", Handler: hand(code, 3), Opinion: &dubanv1.Opinion{Result: "no_penalty"},
		Documents: []*dubanv1.Document{document("no_penalty_decision")},
		Fields:    map[string]string{"decided_on": "2026-01-05", "no_penalty_ground": "minor", "transfer_due": []string{"yes", "no"}[r.IntN(2)]}}
	c.stage(decision)
	c.pause(2 * week)
	c.stage(&dubanv1.StageRecorded{Stage: "service", Handler: hand(code, 0), Documents: []*dubanv1.Document{document("service_receipt")},
		Fields: map[string]string{"served_on": "2026-01-05", "service_method": "direct"}})
	c.stage(&dubanv1.StageRecorded{Stage: "closing", Handler: hand(code, 0), Opinion: &dubanv1.Opinion{Result: "no_penalty"},
		Documents: []*dubanv1.Document{document("closing_report")}})
}
