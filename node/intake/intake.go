// Package intake decides commands: what may be recorded of a case, and of base information, and what of it is an entry.
//
// What it promises: a refusal names every field at fault and changes nothing; what was answered is durable; the same request
// sent again is answered as before, and the same request id with other content is refused (fault.Exists). A record is decided
// on the version of its case's stream that was seen before the case was read, so of two at once one is decided again.
// Evidence and documents are durable before the entry that names them. Records of a collection are decided in the order of
// each case, many cases at a time, and answered in the order in which they came.
//
// It judges by the profile in force (node/casefile) and knows no regulation. Who may call at all is decided before
// (node/access); that an agency acts in its own cases only is decided here, by the caller's certificate.
package intake

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"duban.internal/node/access"
	"duban.internal/node/casefile"
	"duban.internal/node/clock"
	"duban.internal/node/fault"
	"duban.internal/node/identity"
	"duban.internal/node/journal"
	"duban.internal/node/jurisdiction"
	"duban.internal/node/planted"
	"duban.internal/node/profile"
	"duban.internal/node/store"
	"duban.internal/node/workday"
	dubanv1 "duban.internal/proto/duban/v1"
)

// Bounds.
const (
	DefaultAhead = time.Minute // how far a stated time may be ahead of the node's clock
	attempts     = 16          // to decide on a case that keeps moving on
	maxRequestID = 64          // bytes
	maxRecordID  = 128         // bytes
)

// Ledger is what intake needs of a store.
type Ledger interface {
	Own() journal.ID
	Append(ctx context.Context, commands ...store.Command) ([]store.Result, []error)
	Version(ctx context.Context, stream string) (uint64, error)
	Get(ctx context.Context, id journal.ID, t *store.Table, key ...any) (store.Row, bool, error)
	Read(ctx context.Context, id journal.ID, from uint64, max int) ([]journal.Entry, error)
}

// Registry is what intake asks of the base information.
type Registry interface {
	Present(ctx context.Context) (*profile.Profile, *workday.Calendar, error)
	Jurisdiction(ctx context.Context, id journal.ID) (jurisdiction.Division, bool, error)
	Agency(ctx context.Context, id journal.ID, agency string) (*dubanv1.Agency, bool, error)
	Officer(ctx context.Context, id journal.ID, officer string) (*dubanv1.Officer, bool, error)
}

// Cases is what intake asks of the case view.
type Cases interface {
	// State is how a case stands, nil where there is none, and how many entries it has.
	State(ctx context.Context, id journal.ID, caseID string) (st *casefile.State, version uint64, err error)
	Record(ctx context.Context, id journal.ID, caseID string, number uint64) (proto.Message, error)
	// OpeningEntry is the entry that opened a case.
	OpeningEntry(ctx context.Context, id journal.ID, caseID string) (e journal.Entry, ok bool, err error)
}

// Files says which attachments are durable.
type Files interface {
	Has(sha256 []byte) (size uint64, ok bool)
}

// Config of an Intake. Ahead is how far a stated time may be ahead of the clock: 0 for DefaultAhead. Window is how many
// records of one collection are under way at once: 0 for DefaultWindow. The others are needed.
type Config struct {
	Store    Ledger
	Registry Registry
	Cases    Cases
	Files    Files
	Tree     *jurisdiction.Tree
	Clock    clock.Clock
	Ahead    time.Duration
	Window   int
}

// Intake takes commands. It is safe for concurrent use.
type Intake struct {
	Config
	own   journal.ID
	known *known
}

// New makes an Intake (fault.Invalid where something is missing).
func New(c Config) (*Intake, error) {
	var bad fault.List
	for _, f := range []struct {
		name    string
		missing bool
	}{
		{"Store", c.Store == nil}, {"Registry", c.Registry == nil}, {"Cases", c.Cases == nil}, {"Files", c.Files == nil},
		{"Tree", c.Tree == nil}, {"Clock", c.Clock == nil},
	} {
		if f.missing {
			bad.Add(f.name, "is missing")
		}
	}
	if err := bad.Err(fault.Invalid, "intake"); err != nil {
		return nil, err
	}
	if c.Ahead == 0 {
		c.Ahead = DefaultAhead
	}
	if c.Window == 0 {
		c.Window = DefaultWindow
	}
	return &Intake{Config: c, own: c.Store.Own(), known: newKnown()}, nil
}

// command is what one caller wants recorded.
type command struct {
	caller  identity.Identity
	stream  string
	field   string // the request's field that holds record
	kind    dubanv1.EntryKind
	record  proto.Message // the payload
	more    []further     // recorded after it in the same stream, in the same commit
	key     string        // idempotency; "" for none
	request [sha256.Size]byte
	natural string // "" for none
	// decide says what keeps the record out, on the state as it is now.
	decide func(ctx context.Context, l *look, now time.Time) (decision, error)
}

// further is another record of a command.
type further struct {
	kind       dubanv1.EntryKind
	record     proto.Message
	occurredAt int64 // as stated
}

// decision is on which version of the stream a record may be added, and when it happened, as stated (0 for now).
type decision struct {
	version    uint64
	occurredAt int64
}

// do decides a command until it is committed or refused. Kinds of errors: those of decide, fault.Exists for a request id
// that was used for something else, Conflict where the stream moved on too often, and what the store gives.
func (in *Intake) do(ctx context.Context, c *command) (*dubanv1.Receipt, error) {
	if number, ok := unknown(c.record.ProtoReflect()); ok {
		return nil, fault.Refuse(fault.Invalid, "the record holds what this node doesn't know", fault.Field{
			Field: c.field, Description: fmt.Sprintf("a field of number %d: expected only fields of this version", number),
		})
	}
	proposals, err := c.proposals()
	if err != nil {
		return nil, err
	}
	for attempt := 1; ; attempt++ {
		l := look{in: in}
		d, err := c.decide(ctx, &l, in.Clock.Now())
		if err != nil {
			receipt, err := in.before(ctx, c, err)
			if same, ok := errors.AsType[*recorded](err); ok {
				return &dubanv1.Receipt{Journal: in.own[:], Number: same.number, RecordedUs: same.at, Duplicate: true}, nil
			}
			if err == nil || !refused(err) || !l.remembered || attempt == attempts {
				return receipt, err
			}
			in.known.forget() // perhaps the base information has changed
			continue
		}
		proposals[0].OccurredAt = d.occurredAt
		results, errs := in.Store.Append(ctx, store.Command{
			Expect: append(l.expect, store.Expect{Stream: c.stream, Version: d.version}), Entries: proposals,
			Client: c.client(), Key: c.key, Request: c.request, Natural: c.natural,
		})
		switch err := errs[0]; {
		case err == nil:
			return in.receipt(results[0]), nil
		case !fault.Is(err, fault.Conflict):
			return nil, c.named(err)
		case attempt == attempts:
			return nil, fault.New(fault.Unavailable, "%s is written by too many at once: try again: %w", c.stream, err)
		}
		in.known.forget() // which of the streams moved on is not known
	}
}

// proposals are what is to be appended: the record, then what goes with it.
func (c *command) proposals() ([]store.Proposal, error) {
	var out []store.Proposal
	for _, r := range append([]further{{kind: c.kind, record: c.record}}, c.more...) {
		payload, err := proto.MarshalOptions{Deterministic: true}.Marshal(r.record)
		if err != nil {
			return nil, fmt.Errorf("encode: %w", err)
		}
		p := store.Proposal{Stream: c.stream, Kind: uint32(r.kind), Actor: c.caller.Actor(), Payload: payload, OccurredAt: r.occurredAt}
		p.Seal()
		out = append(out, p)
	}
	return out, nil
}

// recorded is the cause of a refusal where the very same is on record already, although nobody said that it is the same
// request: that is its answer then.
type recorded struct {
	number uint64
	at     int64
}

// Error says where.
func (r *recorded) Error() string { return fmt.Sprintf("the same is on record as entry %d", r.number) }

// before answers a command that can't be taken: it may be one that was taken before. The probe can't be committed, for no
// stream has that version; but keys are looked at first.
func (in *Intake) before(ctx context.Context, c *command, refusal error) (*dubanv1.Receipt, error) {
	if c.key == "" && c.natural == "" || !refused(refusal) {
		return nil, refusal
	}
	results, errs := in.Store.Append(ctx, store.Command{
		Expect: []store.Expect{{Stream: c.stream, Version: math.MaxInt64}},
		Client: c.client(), Key: c.key, Request: c.request, Natural: c.natural,
	})
	switch err := errs[0]; {
	case err == nil && results[0].Duplicate:
		return in.receipt(results[0]), nil
	case err == nil, fault.Is(err, fault.Conflict):
		return nil, refusal
	default:
		return nil, c.named(err)
	}
}

func (c *command) client() string {
	if c.key == "" {
		return ""
	}
	return c.caller.Actor()
}

// named puts a store's refusal into the request's terms.
func (c *command) named(err error) error {
	if fault.Is(err, fault.Exists) {
		return fault.Refuse(fault.Exists, "this id was used for another request", fault.Field{
			Field: c.idField(), Description: "was used before with other content: a new request takes a new id",
		})
	}
	return err
}

func (c *command) idField() string {
	if c.natural != "" {
		return "record_id"
	}
	return "request_id"
}

// refused says whether an error is about the record, not about the node.
func refused(err error) bool {
	switch fault.Of(err) {
	case fault.Invalid, fault.NotFound, fault.Exists, fault.Precondition, fault.Denied, fault.Exhausted:
		return true
	}
	return false
}

func (in *Intake) receipt(r store.Result) *dubanv1.Receipt {
	if planted.On("intake.wrong-number") {
		r.First++
	}
	return &dubanv1.Receipt{Journal: in.own[:], Number: r.First, RecordedUs: r.RecordedAt, Duplicate: r.Duplicate}
}

// unknown finds a field that this version doesn't know: it would be recorded without having been judged.
func unknown(m protoreflect.Message) (number int32, found bool) {
	if raw := m.GetUnknown(); len(raw) > 0 {
		return firstField(raw), true
	}
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case f.IsMap() || f.Message() == nil:
		case f.IsList():
			for i := 0; i < v.List().Len() && !found; i++ {
				number, found = unknown(v.List().Get(i).Message())
			}
		default:
			number, found = unknown(v.Message())
		}
		return !found
	})
	return number, found
}

// keyed fills in what makes a unary request idempotent.
func (c *command) keyed(method, id string, request proto.Message) error {
	if id == "" {
		return nil
	}
	if len(id) > maxRequestID {
		return fault.Refuse(fault.Invalid, "the request can't be taken", fault.Field{
			Field: "request_id", Description: fmt.Sprintf("%d bytes, at most %d are allowed", len(id), maxRequestID),
		})
	}
	sum, err := digest(method, request)
	c.key, c.request = id, sum
	if planted.On("intake.no-key") {
		c.key = ""
	}
	return err
}

// digest is over what is asked for and the whole request.
func digest(method string, request proto.Message) (sum [sha256.Size]byte, err error) {
	b, err := proto.MarshalOptions{Deterministic: true}.MarshalAppend(append([]byte(method), 0), request)
	if err != nil {
		return sum, fmt.Errorf("encode: %w", err)
	}
	return sha256.Sum256(b), nil
}

// mayWrite keeps callers to their own: agencies to their cases, operators to imported history.
func mayWrite(caller identity.Identity, agency, field string, imported bool) error {
	if planted.On("intake.any-agency") {
		return nil
	}
	switch {
	case caller.Kind == identity.Operator && !imported:
		return fault.Refuse(fault.Denied, "the operator brings imported history only", fault.Field{
			Field: field, Description: "is not imported: agencies record their own cases",
		})
	case caller.Kind == identity.Agency && imported:
		return fault.Refuse(fault.Denied, "imported history is the operator's", fault.Field{
			Field: field, Description: "is imported history: only the node's operator adds to it",
		})
	}
	return access.OwnAgency(caller, agency, field)
}
