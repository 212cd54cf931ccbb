package federation

import (
	"duban.internal/node/journal"
	dubanv1 "duban.internal/proto/duban/v1"
)

// MaxMessage bounds one message of the stream, in bytes: a batch with one entry of the largest payload has room. Servers
// and clients of SyncService must allow as much (gRPC's own limit is 4 MiB).
const MaxMessage = 8 << 20

// EntryOverhead is about how many bytes an entry takes on the wire beside its payload.
const EntryOverhead = 256

// ToWire writes entries as they travel: the bytes that were hashed. Slices are shared, not copied.
func ToWire(entries []journal.Entry) []*dubanv1.WireEntry {
	block := make([]dubanv1.WireEntry, len(entries))
	out := make([]*dubanv1.WireEntry, len(entries))
	for i := range entries {
		e := &entries[i]
		block[i].Header, block[i].Salt, block[i].Payload, block[i].Erased = e.Raw, e.Salt, e.Payload, e.Erased
		out[i] = &block[i]
	}
	return out
}

// Bytes is about how many bytes entries take on the wire.
func Bytes(entries []journal.Entry) int {
	n := 0
	for i := range entries {
		n += len(entries[i].Raw) + len(entries[i].Payload) + 32
	}
	return n
}

// Kinds are the entry kinds that this version knows.
func Kinds() []uint32 {
	values := dubanv1.EntryKind(0).Descriptor().Values()
	out := make([]uint32, 0, values.Len())
	for i := range values.Len() {
		if n := values.Get(i).Number(); n != 0 {
			out = append(out, uint32(n))
		}
	}
	return out
}

// Erasable says whether the payload of an entry of a kind may be gone: only where it can hold personal data whose time is
// over. Who could send anything else as erased would keep levels, refusals and adoptions from those above.
func Erasable(kind uint32) bool {
	switch dubanv1.EntryKind(kind) {
	case dubanv1.EntryKind_ENTRY_KIND_OFFICER_REGISTERED,
		dubanv1.EntryKind_ENTRY_KIND_CASE_OPENED, dubanv1.EntryKind_ENTRY_KIND_STAGE_RECORDED,
		dubanv1.EntryKind_ENTRY_KIND_EVIDENCE_ATTACHED, dubanv1.EntryKind_ENTRY_KIND_EXPLANATION_GIVEN,
		dubanv1.EntryKind_ENTRY_KIND_CORRECTION_REQUESTED, dubanv1.EntryKind_ENTRY_KIND_CORRECTION_DECIDED:
		return true
	}
	return false
}
