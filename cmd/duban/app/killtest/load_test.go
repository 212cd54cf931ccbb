package killtest

import (
	"context"
	"fmt"
	"sync"
	"time"

	"google.golang.org/grpc"

	"duban.internal/cmd/duban/app/fleet"
	"duban.internal/federation/topology"
	"duban.internal/node/clock"
	"duban.internal/node/fault"
	"duban.internal/node/jurisdiction"
	dubanv1 "duban.internal/proto/duban/v1"
)

// load is what agencies do while processes die, and every answer that they got.
type load struct {
	fleet   *fleet.Fleet
	members []topology.Member
	mu      sync.Mutex
	answers []answer
}

// answer is one write that a node answered: it has to be in the journal for ever.
type answer struct {
	node    jurisdiction.Code
	receipt *dubanv1.Receipt
	caseID  string
	kind    dubanv1.EntryKind
}

const (
	attemptFor = 5 * time.Second
	late       = 14 * 24 * time.Hour
)

func (l *load) add(a answer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.answers = append(l.answers, a)
}

// keysKept is how long, in the tree's time, a node knows a request again. On a machine so busy that a node takes longer to
// come up, what was recorded before it died is refused as being on record already.
const keysKept = 72 * time.Hour

// insist repeats one request, the same request id each time, until it is answered. A refusal ends the test; nil and no error
// is a request that was repeated too late to be known again.
func insist(ctx context.Context, do func(context.Context) (*dubanv1.Receipt, error)) (*dubanv1.Receipt, error) {
	begun := clock.System().Steady()
	for {
		attempt, cancel := context.WithTimeout(ctx, attemptFor)
		receipt, err := do(attempt)
		cancel()
		switch {
		case err == nil:
			return receipt, nil
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case fault.Is(err, fault.Invalid), fault.Is(err, fault.Denied), fault.Is(err, fault.Exists),
			fault.Is(err, fault.Precondition):
			if waited := clock.System().Steady() - begun; waited*rate > keysKept {
				return nil, nil
			}
			return nil, fmt.Errorf("refused: %w", err)
		}
		if err := clock.Pause(ctx, clock.System(), 10*time.Millisecond); err != nil {
			return nil, err
		}
	}
}

// collect opens cases and files them, every third one long after the time.
func (l *load) collect(ctx context.Context, code jurisdiction.Code) error {
	conn, err := l.fleet.Dial(code, agency(code))
	if err != nil {
		return err
	}
	defer conn.Close()
	client := dubanv1.NewCaseServiceClient(conn)
	now := clock.Scaled{Epoch: l.fleet.Config(code).Clock.Epoch, Base: base, Rate: rate}
	for i := 0; ; i++ {
		if err := clock.Pause(ctx, clock.System(), 20*time.Millisecond); err != nil {
			return nil //nolint:nilerr // the load ends with its context
		}
		id := fmt.Sprintf("kill-%s-%d", code, i)
		at := now.Now()
		if i%3 == 0 {
			at = at.Add(-late)
		}
		open := &dubanv1.OpenCaseRequest{RequestId: "open-" + id, OccurredUs: clock.Micros(at), Case: opening(code, id)}
		file := &dubanv1.RecordStageRequest{RequestId: "file-" + id, Stage: filing(code, id, at)}
		if err := l.write(ctx, code, id, dubanv1.EntryKind_ENTRY_KIND_CASE_OPENED, func(ctx context.Context) (*dubanv1.Receipt, error) {
			r, err := client.OpenCase(ctx, open)
			return r.GetReceipt(), err
		}); err != nil {
			return quiet(ctx, err)
		}
		if err := l.write(ctx, code, id, dubanv1.EntryKind_ENTRY_KIND_STAGE_RECORDED, func(ctx context.Context) (*dubanv1.Receipt, error) {
			r, err := client.RecordStage(ctx, file)
			return r.GetReceipt(), err
		}); err != nil {
			return quiet(ctx, err)
		}
	}
}

func quiet(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

func (l *load) write(ctx context.Context, code jurisdiction.Code, id string, kind dubanv1.EntryKind,
	do func(context.Context) (*dubanv1.Receipt, error),
) error {
	receipt, err := insist(ctx, do)
	if err != nil || receipt == nil {
		return err
	}
	l.add(answer{node: code, receipt: receipt, caseID: id, kind: kind})
	return nil
}

// handle handles every second level 1 that the agency's legal unit receives.
func (l *load) handle(ctx context.Context, code jurisdiction.Code) error {
	conn, err := l.fleet.Dial(code, agency(code))
	if err != nil {
		return err
	}
	defer conn.Close()
	client := dubanv1.NewAlertServiceClient(conn)
	for clock.Pause(ctx, clock.System(), 200*time.Millisecond) == nil {
		list, err := client.ListAlerts(ctx, &dubanv1.ListAlertsRequest{Jurisdiction: string(code), OpenOnly: true, Level: 1}, grpc.WaitForReady(true))
		if err != nil {
			continue // the node is down, or coming up
		}
		for _, a := range list.Alerts {
			if a.AlertId[len(a.AlertId)-1]%2 == 0 {
				// An answer may get lost, or the next level be open already: the journals are asked in the end.
				_, _ = client.HandleAlert(ctx, &dubanv1.HandleAlertRequest{
					AlertId: a.AlertId, Level: 1, Action: "explained", Explanation: "killtest", HandledBy: "killtest",
				})
			}
		}
	}
	return nil
}

func opening(code jurisdiction.Code, id string) *dubanv1.CaseOpened {
	return &dubanv1.CaseOpened{
		CaseId: id, Number: id, Agency: agency(code).ID, Item: "KILL-1", Procedure: "penalty_general", Source: "patrol",
		Summary: "killtest", Handler: agency(code).ID + "-1", Generated: true,
		Party: &dubanv1.Party{Name: "killtest", Kind: "citizen"},
	}
}

func filing(code jurisdiction.Code, id string, at time.Time) *dubanv1.StageRecorded {
	return &dubanv1.StageRecorded{
		CaseId: id, Stage: "filing", CompletedUs: clock.Micros(at), Handler: agency(code).ID + "-1",
		Opinion:   &dubanv1.Opinion{Result: "filed"},
		Documents: []*dubanv1.Document{{Name: "filing_approval", Code: "K-" + id}},
		Fields:    map[string]string{"cause": "killtest"},
	}
}
