// Package registry keeps the base information (基础信息) that a node needs to judge what comes in: which jurisdiction a
// journal stands for, its agencies, officers and offices, the profiles and calendars that it adopted, the keys of
// journals below, and what people accepted of its clock.
//
// What it promises: every answer is folded from the journal that it is about and from nothing else, so a district judges a
// street's entry by what the street had adopted, at that entry. Profiles and calendars are content-addressed: their bytes
// are checked against the address when they are folded, and each is compiled once.
//
// What it doesn't do yet: applications and approvals of the legal office for changes of base information (T12, Z17); what
// is registered counts from its entry on. Items, bases and discretion tiers have no tables of their own.
package registry

import (
	"encoding/hex"

	"duban.internal/node/store"
)

// The tables. Times are microseconds of UTC, booleans 0 or 1.
var (
	// Jurisdiction is which jurisdiction a journal stands for: one row, whose id is 0.
	Jurisdiction = &store.Table{
		Name: "jurisdiction", Key: 1,
		Columns: []store.Column{
			{Name: "id", Type: store.Int},
			{Name: "code", Type: store.Text},
			{Name: "name", Type: store.Text},
			{Name: "tier", Type: store.Text},
			{Name: "parent", Type: store.Text},
			{Name: "number", Type: store.Int}, // of the entry that named it
		},
	}
	// Agency is an agency as last registered; payload is its dubanv1.Agency.
	Agency = &store.Table{
		Name: "agency", Key: 1,
		Columns: []store.Column{
			{Name: "id", Type: store.Text},
			{Name: "number", Type: store.Int},
			{Name: "payload", Type: store.Blob},
		},
	}
	// Officer is an officer as last registered; payload is its dubanv1.Officer.
	Officer = &store.Table{
		Name: "officer", Key: 1,
		Columns: []store.Column{
			{Name: "id", Type: store.Text},
			{Name: "number", Type: store.Int},
			{Name: "payload", Type: store.Blob},
		},
	}
	// Office is a receiving office as last registered; payload is its dubanv1.Office.
	Office = &store.Table{
		Name: "office", Key: 2,
		Columns: []store.Column{
			{Name: "role", Type: store.Text},
			{Name: "jurisdiction", Type: store.Text},
			{Name: "number", Type: store.Int},
			{Name: "payload", Type: store.Blob},
		},
	}
	// Adoption is every profile and calendar that a journal adopted; kind is an EntryKind, content the entry's payload.
	Adoption = &store.Table{
		Name: "adoption", Key: 2,
		Columns: []store.Column{
			{Name: "kind", Type: store.Int},
			{Name: "number", Type: store.Int},
			{Name: "hash", Type: store.Blob},
			{Name: "name", Type: store.Text},
			{Name: "content", Type: store.Blob},
		},
	}
	// Adopted is the last adoption of each kind, so that the present is one look away.
	Adopted = &store.Table{
		Name: "adopted", Key: 1,
		Columns: []store.Column{
			{Name: "kind", Type: store.Int},
			{Name: "number", Type: store.Int},
			{Name: "hash", Type: store.Blob},
		},
	}
	// JournalKey is the key of a journal below, as recorded at its ancestor.
	JournalKey = &store.Table{
		Name: "journal_key", Key: 1,
		Columns: []store.Column{
			{Name: "id", Type: store.Blob}, // of that journal
			{Name: "code", Type: store.Text},
			{Name: "verifier_key", Type: store.Text},
			{Name: "number", Type: store.Int},
		},
	}
	// Clock is what people accepted last of the node's clock: one row, whose id is 0.
	Clock = &store.Table{
		Name: "clock_accepted", Key: 1,
		Columns: []store.Column{
			{Name: "id", Type: store.Int},
			{Name: "expected_us", Type: store.Int},
			{Name: "shown_us", Type: store.Int},
			{Name: "number", Type: store.Int},
		},
	}
)

// NodeStream is the stream of what the node itself is and judges by.
const NodeStream = "node"

// AgencyStream is the stream of an agency's versions.
func AgencyStream(id string) string { return "agency/" + id }

// OfficerStream is the stream of an officer's versions.
func OfficerStream(id string) string { return "officer/" + id }

// OfficeStream is the stream of an office's versions.
func OfficeStream(role, code string) string { return "office/" + role + "@" + code }

// KeyStream is the stream of a journal's keys.
func KeyStream(journal []byte) string { return "key/" + hex.EncodeToString(journal) }
