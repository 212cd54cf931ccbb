package intake

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"duban.internal/node/fault"
	"duban.internal/node/identity"
	"duban.internal/node/registry"
	"duban.internal/node/store"
	dubanv1 "duban.internal/proto/duban/v1"
)

// Bounds of base information, in bytes and numbers.
const (
	maxName  = 400
	maxItems = 10_000
)

var (
	idForm     = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`) // as certificates name agencies
	idExpected = "expected 1 to 64 of A-Z a-z 0-9 - _ ., a letter or digit first"
)

// RegisterAgency puts an agency (执法主体) on record, or a new version of it. The same again adds nothing.
func (in *Intake) RegisterAgency(ctx context.Context, caller identity.Identity, req *dubanv1.RegisterAgencyRequest) (*dubanv1.Receipt, error) {
	a := req.GetAgency()
	if a == nil {
		return nil, missing("agency")
	}
	var bad fault.List
	if !idForm.MatchString(a.GetId()) {
		bad.Add("agency.id", "%.80q: %s", a.GetId(), idExpected)
	}
	named(&bad, "agency.name", a.GetName())
	bounded(&bad, "agency.system", a.GetSystem())
	if n := len(a.GetItems()); n > maxItems {
		bad.Add("agency.items", "%d items, at most %d are allowed", n, maxItems)
	}
	for i, item := range a.GetItems() {
		if field := fmt.Sprintf("agency.items[%d]", i); item == "" || len(item) > 64 {
			bad.Add(field, "%.80q: expected an item code (事项编码) of 1 to 64 bytes", item)
		}
	}
	if err := in.ownJurisdiction(ctx, &bad, "agency.jurisdiction", a.GetJurisdiction()); err != nil {
		return nil, err
	}
	return in.register(ctx, &base{
		method: "RegisterAgency", requestID: req.GetRequestId(), request: req, field: "agency", bad: bad,
		command: command{
			caller: caller, stream: registry.AgencyStream(a.GetId()), kind: dubanv1.EntryKind_ENTRY_KIND_AGENCY_REGISTERED,
			record: &dubanv1.AgencyRegistered{Agency: a},
		},
		table: registry.Agency, key: []any{a.GetId()}, now: a, had: new(dubanv1.Agency),
	})
}

// RegisterOfficer puts an officer (执法人员) and the certificate on record, or a new version.
func (in *Intake) RegisterOfficer(ctx context.Context, caller identity.Identity, req *dubanv1.RegisterOfficerRequest) (*dubanv1.Receipt, error) {
	o := req.GetOfficer()
	if o == nil {
		return nil, missing("officer")
	}
	var bad fault.List
	if !idForm.MatchString(o.GetId()) {
		bad.Add("officer.id", "%.80q: %s", o.GetId(), idExpected)
	}
	named(&bad, "officer.name", o.GetName())
	named(&bad, "officer.certificate", o.GetCertificate())
	if o.GetValidFromUs() < 0 {
		bad.Add("officer.valid_from_us", "%d: expected microseconds since 1970, or 0 for always", o.GetValidFromUs())
	}
	if until := o.GetValidUntilUs(); until < 0 || until != 0 && until <= o.GetValidFromUs() {
		bad.Add("officer.valid_until_us", "%d: expected a time after valid_from_us, or 0 for never", until)
	}
	if o.GetAgency() == "" {
		bad.Add("officer.agency", "is missing: expected the id of a registered agency")
	} else if _, ok, err := in.Registry.Agency(ctx, in.own, o.GetAgency()); err != nil {
		return nil, fmt.Errorf("agency: %w", err)
	} else if !ok {
		bad.Add("officer.agency", "agency %.80q is not registered here: register it first", o.GetAgency())
	}
	return in.register(ctx, &base{
		method: "RegisterOfficer", requestID: req.GetRequestId(), request: req, field: "officer", bad: bad,
		command: command{
			caller: caller, stream: registry.OfficerStream(o.GetId()), kind: dubanv1.EntryKind_ENTRY_KIND_OFFICER_REGISTERED,
			record: &dubanv1.OfficerRegistered{Officer: o},
		},
		table: registry.Officer, key: []any{o.GetId()}, now: o, had: new(dubanv1.Officer),
	})
}

// RegisterOffice says whether the body that receives a level exists and is staffed.
func (in *Intake) RegisterOffice(ctx context.Context, caller identity.Identity, req *dubanv1.RegisterOfficeRequest) (*dubanv1.Receipt, error) {
	o := req.GetOffice()
	if o == nil {
		return nil, missing("office")
	}
	p, _, err := in.Registry.Present(ctx)
	if err != nil {
		return nil, err
	}
	var bad fault.List
	var offices []string
	for _, r := range p.Roles {
		if r.Of == "jurisdiction" {
			offices = append(offices, r.Name)
		}
	}
	if !slices.Contains(offices, o.GetRole()) {
		bad.Add("office.role", "%.80q is not an office of profile %s; there are: %s", o.GetRole(), p.Name, strings.Join(offices, ", "))
	}
	named(&bad, "office.name", o.GetName())
	if err := in.ownJurisdiction(ctx, &bad, "office.jurisdiction", o.GetJurisdiction()); err != nil {
		return nil, err
	}
	return in.register(ctx, &base{
		method: "RegisterOffice", requestID: req.GetRequestId(), request: req, field: "office", bad: bad,
		command: command{
			caller: caller, stream: registry.OfficeStream(o.GetRole(), o.GetJurisdiction()),
			kind: dubanv1.EntryKind_ENTRY_KIND_OFFICE_REGISTERED, record: &dubanv1.OfficeRegistered{Office: o},
		},
		table: registry.Office, key: []any{o.GetRole(), o.GetJurisdiction()}, now: o, had: new(dubanv1.Office),
	})
}

// base is a change of base information.
type base struct {
	command
	method, requestID, field string
	request                  proto.Message
	bad                      fault.List
	table                    *store.Table
	key                      []any
	now, had                 proto.Message // as asked for, and of the same type
}

func (in *Intake) register(ctx context.Context, b *base) (*dubanv1.Receipt, error) {
	b.command.field = b.field
	if err := b.keyed(b.method, b.requestID, b.request); err != nil {
		return nil, err
	}
	if err := b.bad.Err(fault.Invalid, "it can't be registered"); err != nil {
		return in.before(ctx, &b.command, err)
	}
	row, ok, err := in.Store.Get(ctx, in.own, b.table, b.key...)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", b.table.Name, err)
	}
	// Key columns, number, payload: the form of every table of base information.
	if n := len(b.key); ok && proto.Unmarshal(row[n+1].([]byte), b.had) == nil && proto.Equal(b.had, b.now) {
		return in.standing(ctx, uint64(row[n].(int64)))
	}
	b.decide = func(ctx context.Context, _ *look, _ time.Time) (decision, error) {
		version, err := in.Store.Version(ctx, b.stream)
		return decision{version: version}, err
	}
	receipt, err := in.do(ctx, &b.command)
	in.known.forget()
	return receipt, err
}

// standing is the receipt of what is on record already.
func (in *Intake) standing(ctx context.Context, number uint64) (*dubanv1.Receipt, error) {
	entries, err := in.Store.Read(ctx, in.own, number, 1)
	if err != nil {
		return nil, fmt.Errorf("entry %d: %w", number, err)
	}
	if len(entries) == 0 {
		return nil, fault.New(fault.Internal, "entry %d is not there", number)
	}
	return &dubanv1.Receipt{Journal: in.own[:], Number: number, RecordedUs: entries[0].RecordedAt, Duplicate: true}, nil
}

func (in *Intake) ownJurisdiction(ctx context.Context, bad *fault.List, field, code string) error {
	d, _, err := in.Registry.Jurisdiction(ctx, in.own)
	if err != nil {
		return fmt.Errorf("jurisdiction: %w", err)
	}
	if code != string(d.Code) {
		bad.Add(field, "%.20q: this is the node of %s (%s), and registers for it only", code, d.Code, d.Name)
	}
	return nil
}

func named(bad *fault.List, field, value string) {
	if strings.TrimSpace(value) == "" {
		bad.Add(field, "is missing")
	}
	bounded(bad, field, value)
}

func bounded(bad *fault.List, field, value string) {
	if len(value) > maxName {
		bad.Add(field, "%d bytes, at most %d are allowed", len(value), maxName)
	}
}
