package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"

	"duban.internal/node/fault"
	"duban.internal/node/journal"
	"duban.internal/node/jurisdiction"
	"duban.internal/node/profile"
	"duban.internal/node/store"
	"duban.internal/node/workday"
	dubanv1 "duban.internal/proto/duban/v1"
)

// Ledger is what Bootstrap needs of a store.
type Ledger interface {
	Reader
	Version(ctx context.Context, stream string) (uint64, error)
	Append(ctx context.Context, commands ...store.Command) ([]store.Result, []error)
}

// Start is what a node was configured with and what its journal should say from now on.
type Start struct {
	Division jurisdiction.Division
	Profile  *profile.Profile
	Calendar *workday.Calendar
	Offices  []*dubanv1.Office             // put on record where they are not yet, and changed where they differ
	Keys     []*dubanv1.JournalKeyRecorded // keys of journals below, at the root of the tree
}

// attempts bounds how often a change of base information is decided again after a conflict.
const attempts = 16

// Bootstrap brings a journal up to what its node was configured with: the first entries of a new journal, and later only
// what differs. Called again with the same, it appends nothing. Kinds of errors: fault.Precondition where the journal stands
// for another jurisdiction, and what Append gives.
func Bootstrap(ctx context.Context, s Ledger, start Start) error {
	b := bootstrap{Registry: New(s), ledger: s, start: start, actor: "node:" + string(start.Division.Code)}
	if err := b.repeat(ctx, NodeStream, b.node); err != nil {
		return err
	}
	for _, o := range start.Offices {
		err := b.repeat(ctx, OfficeStream(o.GetRole(), o.GetJurisdiction()), func(ctx context.Context) ([]store.Proposal, error) {
			had, ok, err := b.Office(ctx, o.GetRole(), o.GetJurisdiction())
			if err != nil || ok && proto.Equal(had, o) {
				return nil, err
			}
			return b.entries(OfficeStream(o.GetRole(), o.GetJurisdiction()),
				dubanv1.EntryKind_ENTRY_KIND_OFFICE_REGISTERED, &dubanv1.OfficeRegistered{Office: o})
		})
		if err != nil {
			return err
		}
	}
	for _, k := range start.Keys {
		err := b.repeat(ctx, KeyStream(k.GetJournal()), func(ctx context.Context) ([]store.Proposal, error) {
			of, err := journal.IDFrom(k.GetJournal())
			if err != nil {
				return nil, err
			}
			code, key, ok, err := b.VerifierKey(ctx, s.Own(), of)
			if err != nil || ok && code == k.GetCode() && key == k.GetVerifierKey() {
				return nil, err
			}
			return b.entries(KeyStream(k.GetJournal()), dubanv1.EntryKind_ENTRY_KIND_JOURNAL_KEY_RECORDED, k)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

type bootstrap struct {
	*Registry
	ledger Ledger
	start  Start
	actor  string
}

// repeat decides on a stream's present version until what was decided is committed.
func (b *bootstrap) repeat(ctx context.Context, stream string, decide func(context.Context) ([]store.Proposal, error)) error {
	for attempt := 1; ; attempt++ {
		version, err := b.ledger.Version(ctx, stream)
		if err != nil {
			return fmt.Errorf("version of %s: %w", stream, err)
		}
		entries, err := decide(ctx)
		if err != nil || len(entries) == 0 {
			return err
		}
		_, errs := b.ledger.Append(ctx, store.Command{Expect: []store.Expect{{Stream: stream, Version: version}}, Entries: entries})
		if err = errs[0]; err == nil {
			return nil
		}
		if !fault.Is(err, fault.Conflict) || attempt == attempts {
			return fmt.Errorf("record %s: %w", stream, err)
		}
	}
}

// node decides the stream of the node itself: who it is and what it judges by.
func (b *bootstrap) node(ctx context.Context) ([]store.Proposal, error) {
	var all []store.Proposal
	add := func(kind dubanv1.EntryKind, m proto.Message) error {
		entries, err := b.entries(NodeStream, kind, m)
		all = append(all, entries...)
		return err
	}
	own, d := b.store.Own(), b.start.Division
	had, ok, err := b.Jurisdiction(ctx, own)
	if err != nil {
		return nil, err
	}
	if ok && had.Code != d.Code {
		return nil, fault.Refuse(fault.Precondition, "this folder holds the journal of another jurisdiction", fault.Field{
			Field: "code", Description: fmt.Sprintf("the configuration says %s, the journal %s (%s)", d.Code, had.Code, had.Name),
		})
	}
	var errs []error
	if had != d {
		errs = append(errs, add(dubanv1.EntryKind_ENTRY_KIND_JURISDICTION_NAMED, &dubanv1.JurisdictionNamed{
			Code: string(d.Code), Name: d.Name, Tier: string(d.Tier), Parent: string(d.Parent),
		}))
	}
	if p := b.start.Profile; p != nil {
		hash := p.Hash()
		same, err := b.adopted(ctx, dubanv1.EntryKind_ENTRY_KIND_PROFILE_ADOPTED, hash[:])
		if err != nil {
			return nil, err
		}
		if !same {
			m := &dubanv1.ProfileAdopted{Name: p.Name, Hash: hash[:]}
			for _, f := range p.Files() {
				m.Files = append(m.Files, &dubanv1.File{Path: f.Path, Content: f.Content})
			}
			errs = append(errs, add(dubanv1.EntryKind_ENTRY_KIND_PROFILE_ADOPTED, m))
		}
	}
	if c := b.start.Calendar; c != nil {
		hash := c.Hash()
		same, err := b.adopted(ctx, dubanv1.EntryKind_ENTRY_KIND_CALENDAR_ADOPTED, hash[:])
		if err != nil {
			return nil, err
		}
		if !same {
			errs = append(errs, add(dubanv1.EntryKind_ENTRY_KIND_CALENDAR_ADOPTED,
				&dubanv1.CalendarAdopted{Name: c.Name(), Hash: hash[:], Content: c.Bytes()}))
		}
	}
	return all, errors.Join(errs...)
}

// adopted reports whether the own journal's last adoption of a kind has this address.
func (b *bootstrap) adopted(ctx context.Context, kind dubanv1.EntryKind, hash []byte) (bool, error) {
	row, ok, err := b.store.Get(ctx, b.store.Own(), Adopted, int64(kind))
	return err == nil && ok && bytes.Equal(row[2].([]byte), hash), err
}

func (b *bootstrap) entries(stream string, kind dubanv1.EntryKind, m proto.Message) ([]store.Proposal, error) {
	payload, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", kind, err)
	}
	return []store.Proposal{{Stream: stream, Kind: uint32(kind), Actor: b.actor, Payload: payload}}, nil
}
