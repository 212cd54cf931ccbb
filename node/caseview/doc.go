// Package caseview shows cases: the fold of case entries into tables, and the queries over them.
//
// What it promises: the tables hold what finding, listing, counting and judging the next record need, and nothing else. What
// was said (parties, summaries, explanations) stays in the journal alone and is read from there, so that an erased payload is
// gone. What was collected is never changed: an approved correction (T14) moves the typed columns to the new version, and
// Case gives the versions beside each other. A stage costs the fold one look and two puts, whatever the case's length.
//
// What it doesn't do: it judges no record (node/casefile) and no limit (escalation/rule).
package caseview

import "duban.internal/node/store"

// The tables. Times are microseconds of UTC, booleans 0 or 1.
var (
	// CaseRow is what is fixed when a case is opened, and when it was closed. It is written at opening, closing and
	// correction of the opening only, for its indexes make it dear.
	CaseRow = &store.Table{
		Name: "case_row", Key: 1,
		Columns: []store.Column{
			{Name: "case_id", Type: store.Text},
			{Name: "number", Type: store.Text}, // for people (案号)
			{Name: "agency", Type: store.Text},
			{Name: "item", Type: store.Text},
			{Name: "procedure", Type: store.Text},
			{Name: "division", Type: store.Text}, // "" but for imported cases
			{Name: "generated", Type: store.Int},
			{Name: "imported", Type: store.Int},
			{Name: "opened_us", Type: store.Int}, // as stated
			{Name: "closed_us", Type: store.Int}, // as stated; 0 while open
			{Name: "entry", Type: store.Int},     // number of the opening
		},
		Indexes: []store.Index{
			{Name: "case_by_time", Columns: []string{"journal", "opened_us", "case_id"}},
			{Name: "case_by_agency", Columns: []string{"journal", "agency", "opened_us", "case_id"}},
			{Name: "case_open", Columns: []string{"journal", "opened_us", "case_id"}, Where: "closed_us = 0"},
			{Name: "case_open_by_agency", Columns: []string{"journal", "agency", "opened_us", "case_id"}, Where: "closed_us = 0"},
			{Name: "case_by_division", Columns: []string{"journal", "division", "opened_us", "case_id"}, Where: "division <> ''"},
		},
	}
	// CaseState is how a case stands: what the next record is judged by. It changes with every entry of the case.
	CaseState = &store.Table{
		Name: "case_state", Key: 1,
		Columns: []store.Column{
			{Name: "case_id", Type: store.Text},
			{Name: "version", Type: store.Int}, // entries about the case
			{Name: "stage", Type: store.Text},  // the last; "" before the first
			{Name: "progress", Type: store.Blob},
		},
	}
	// CaseEntry is every entry of a case. The last four columns are of stages, with approved corrections.
	CaseEntry = &store.Table{
		Name: "case_entry", Key: 2,
		Columns: []store.Column{
			{Name: "case_id", Type: store.Text},
			{Name: "number", Type: store.Int},
			{Name: "kind", Type: store.Int},
			{Name: "recorded_us", Type: store.Int},
			{Name: "stage", Type: store.Text, Null: true},
			{Name: "result", Type: store.Text, Null: true},
			{Name: "completed_us", Type: store.Int, Null: true},
		},
	}
	// CaseCorrection is an application for a correction; changes are its CorrectionRequested.
	CaseCorrection = &store.Table{
		Name: "case_correction", Key: 2,
		Columns: []store.Column{
			{Name: "case_id", Type: store.Text},
			{Name: "correction_id", Type: store.Text},
			{Name: "changes", Type: store.Blob},
		},
	}
	// AttachmentUse says in which cases an attachment is evidence or a document.
	AttachmentUse = &store.Table{
		Name: "attachment_use", Key: 3,
		Columns: []store.Column{
			{Name: "sha256", Type: store.Blob},
			{Name: "case_id", Type: store.Text},
			{Name: "number", Type: store.Int},
			{Name: "agency", Type: store.Text},
		},
	}
	// CaseCount counts a journal's cases: one row, whose id is 0.
	CaseCount = &store.Table{
		Name: "case_count", Key: 1,
		Columns: []store.Column{
			{Name: "id", Type: store.Int},
			{Name: "total", Type: store.Int},
			{Name: "closed", Type: store.Int},
			{Name: "imported", Type: store.Int},
		},
	}
	// ClosingStage says which stages end a procedure, by the profile last adopted: names between commas, as ",a,b,".
	ClosingStage = &store.Table{
		Name: "closing_stage", Key: 1,
		Columns: []store.Column{
			{Name: "procedure", Type: store.Text},
			{Name: "stages", Type: store.Text},
		},
	}
)

// Stream is the stream of a case's entries.
func Stream(caseID string) string { return "case/" + caseID }
