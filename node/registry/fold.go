package registry

import (
	"bytes"
	"crypto/sha256"
	"fmt"

	"google.golang.org/protobuf/proto"

	"duban.internal/node/clock"
	"duban.internal/node/journal"
	"duban.internal/node/profile"
	"duban.internal/node/store"
	dubanv1 "duban.internal/proto/duban/v1"
)

// Fold folds base information.
func Fold() store.Fold {
	return store.Fold{
		Name: "registry", Version: 2,
		Tables: []*store.Table{Jurisdiction, Agency, Officer, Office, Adoption, Adopted, JournalKey, Clock},
		Kinds: []uint32{
			uint32(dubanv1.EntryKind_ENTRY_KIND_JURISDICTION_NAMED),
			uint32(dubanv1.EntryKind_ENTRY_KIND_PROFILE_ADOPTED),
			uint32(dubanv1.EntryKind_ENTRY_KIND_CALENDAR_ADOPTED),
			uint32(dubanv1.EntryKind_ENTRY_KIND_JOURNAL_KEY_RECORDED),
			uint32(dubanv1.EntryKind_ENTRY_KIND_CLOCK_ACCEPTED),
			uint32(dubanv1.EntryKind_ENTRY_KIND_AGENCY_REGISTERED),
			uint32(dubanv1.EntryKind_ENTRY_KIND_OFFICER_REGISTERED),
			uint32(dubanv1.EntryKind_ENTRY_KIND_OFFICE_REGISTERED),
		},
		Apply: apply,
	}
}

func apply(tx store.Tx, e *journal.Entry) error {
	if e.Erased {
		return nil // base information is not erased; an entry that was leaves no row
	}
	switch number := int64(e.Number); dubanv1.EntryKind(e.Kind) {
	case dubanv1.EntryKind_ENTRY_KIND_JURISDICTION_NAMED:
		var m dubanv1.JurisdictionNamed
		if err := decode(e, &m); err != nil {
			return err
		}
		tx.Put(Jurisdiction, store.Row{int64(0), m.GetCode(), m.GetName(), m.GetTier(), m.GetParent(), number})
	case dubanv1.EntryKind_ENTRY_KIND_PROFILE_ADOPTED:
		var m dubanv1.ProfileAdopted
		if err := decode(e, &m); err != nil {
			return err
		}
		// The address is checked where the profile is compiled: a profile that this version can't read must not be lost.
		adopt(tx, e, m.GetHash(), m.GetName())
	case dubanv1.EntryKind_ENTRY_KIND_CALENDAR_ADOPTED:
		var m dubanv1.CalendarAdopted
		if err := decode(e, &m); err != nil {
			return err
		}
		if sum := sha256.Sum256(m.GetContent()); !bytes.Equal(sum[:], m.GetHash()) {
			return fmt.Errorf("entry %d: calendar %.40q is not what its address says", e.Number, m.GetName())
		}
		adopt(tx, e, m.GetHash(), m.GetName())
	case dubanv1.EntryKind_ENTRY_KIND_JOURNAL_KEY_RECORDED:
		var m dubanv1.JournalKeyRecorded
		if err := decode(e, &m); err != nil {
			return err
		}
		tx.Put(JournalKey, store.Row{nonNil(m.GetJournal()), m.GetCode(), m.GetVerifierKey(), number})
	case dubanv1.EntryKind_ENTRY_KIND_CLOCK_ACCEPTED:
		var m dubanv1.ClockAccepted
		if err := decode(e, &m); err != nil {
			return err
		}
		a := clock.AcceptedAt(clock.Alarm{Expected: m.GetExpectedUs(), Shown: m.GetShownUs()}, e.RecordedAt)
		tx.Put(Clock, store.Row{int64(0), a.Expected, a.Shown, number})
	case dubanv1.EntryKind_ENTRY_KIND_AGENCY_REGISTERED:
		var m dubanv1.AgencyRegistered
		if err := decode(e, &m); err != nil {
			return err
		}
		return put(tx, Agency, m.GetAgency(), m.GetAgency().GetId(), number)
	case dubanv1.EntryKind_ENTRY_KIND_OFFICER_REGISTERED:
		var m dubanv1.OfficerRegistered
		if err := decode(e, &m); err != nil {
			return err
		}
		return put(tx, Officer, m.GetOfficer(), m.GetOfficer().GetId(), number)
	case dubanv1.EntryKind_ENTRY_KIND_OFFICE_REGISTERED:
		var m dubanv1.OfficeRegistered
		if err := decode(e, &m); err != nil {
			return err
		}
		return put(tx, Office, m.GetOffice(), m.GetOffice().GetRole(), m.GetOffice().GetJurisdiction(), number)
	}
	return nil
}

func adopt(tx store.Tx, e *journal.Entry, hash []byte, name string) {
	kind, number := int64(e.Kind), int64(e.Number)
	tx.Put(Adoption, store.Row{kind, number, nonNil(hash), name, nonNil(e.Payload)})
	tx.Put(Adopted, store.Row{kind, number, nonNil(hash)})
}

// put writes a row of the key (and number) given, followed by m.
func put(tx store.Tx, t *store.Table, m proto.Message, values ...any) error {
	payload, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		return fmt.Errorf("%s: %w", t.Name, err)
	}
	tx.Put(t, append(append(make(store.Row, 0, len(values)+1), values...), nonNil(payload)))
	return nil
}

func decode(e *journal.Entry, m proto.Message) error {
	if err := proto.Unmarshal(e.Payload, m); err != nil {
		return fmt.Errorf("entry %d: %s: %w", e.Number, m.ProtoReflect().Descriptor().Name(), err)
	}
	return nil
}

// nonNil keeps an empty value apart from a missing one.
func nonNil(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

// profileFiles are the files of an adopted profile.
func profileFiles(m *dubanv1.ProfileAdopted) []profile.File {
	files := make([]profile.File, len(m.GetFiles()))
	for i, f := range m.GetFiles() {
		files[i] = profile.File{Path: f.GetPath(), Content: f.GetContent()}
	}
	return files
}
