package fetch

import (
	"bytes"
	"context"
	"fmt"

	"google.golang.org/protobuf/proto"

	"duban.internal/node/caseview"
	"duban.internal/node/fault"
	"duban.internal/node/journal"
	"duban.internal/node/store"
	dubanv1 "duban.internal/proto/duban/v1"
)

// Wanted has a row for every attachment that is to be copied here and isn't yet. Its rows belong to the own journal.
var Wanted = &store.Table{
	Name: "attachment_wanted",
	Columns: []store.Column{
		{Name: "next_us", Type: store.Int}, // when it is tried next; the key begins with it, so that what is due lies together
		{Name: "journal_id", Type: store.Blob},
		{Name: "sha256", Type: store.Blob},
		{Name: "attempts", Type: store.Int}, // that failed
		{Name: "since_us", Type: store.Int}, // when it was first wanted
		{Name: "problem", Type: store.Text}, // of the last attempt
	},
	Key: 3,
}

// Tables are those that are kept beside the folds.
func Tables() []*store.Table { return []*store.Table{Wanted} }

// Reader is what the questions below need of a store.
type Reader interface {
	Read(ctx context.Context, id journal.ID, from uint64, max int) ([]journal.Entry, error)
	Scan(ctx context.Context, id journal.ID, t *store.Table, from []any, most int) ([]store.Row, error)
}

// Names answers, from the tables of caseview, whether an entry of a journal names an attachment: for Config.Named.
func Names(r Reader) func(ctx context.Context, id journal.ID, sha256 []byte) (bool, error) {
	return func(ctx context.Context, id journal.ID, sha256 []byte) (bool, error) {
		rows, err := r.Scan(ctx, id, caseview.AttachmentUse, []any{sha256}, 1)
		if fault.Is(err, fault.NotFound) {
			return false, nil // no entry of that journal has come yet
		}
		if err != nil || len(rows) == 0 {
			return false, err
		}
		named, _ := rows[0][0].([]byte)
		return bytes.Equal(named, sha256), nil
	}
}

// OfCase lists, from the tables of caseview, the attachments that a case's evidence and documents name: for
// EvidenceConfig.OfCase.
func OfCase(r Reader) func(ctx context.Context, id journal.ID, caseID string) ([][]byte, error) {
	return func(ctx context.Context, id journal.ID, caseID string) (out [][]byte, err error) {
		for from := int64(0); ; {
			rows, err := r.Scan(ctx, id, caseview.CaseEntry, []any{caseID, from}, 256)
			if err != nil {
				return nil, err
			}
			for _, row := range rows {
				if row[0].(string) != caseID {
					return out, nil
				}
				from = row[1].(int64) + 1
				some, err := named(ctx, r, id, uint64(row[1].(int64)), dubanv1.EntryKind(row[2].(int64)))
				if err != nil {
					return nil, fmt.Errorf("journal %s entry %d: %w", id, row[1], err)
				}
				out = append(out, some...)
			}
			if len(rows) == 0 {
				return out, nil
			}
		}
	}
}

// named lists the attachments that one entry names; none where it can't be read, which the folds have said.
func named(ctx context.Context, r Reader, id journal.ID, number uint64, kind dubanv1.EntryKind) ([][]byte, error) {
	if kind != dubanv1.EntryKind_ENTRY_KIND_EVIDENCE_ATTACHED && kind != dubanv1.EntryKind_ENTRY_KIND_STAGE_RECORDED {
		return nil, nil
	}
	entries, err := r.Read(ctx, id, number, 1)
	if err != nil || len(entries) == 0 || entries[0].Erased {
		return nil, err
	}
	var out [][]byte
	if kind == dubanv1.EntryKind_ENTRY_KIND_EVIDENCE_ATTACHED {
		var m dubanv1.EvidenceAttached
		if proto.Unmarshal(entries[0].Payload, &m) == nil {
			out = append(out, m.GetSha256())
		}
		return out, nil
	}
	var m dubanv1.StageRecorded
	if proto.Unmarshal(entries[0].Payload, &m) == nil {
		for _, d := range m.GetDocuments() {
			if len(d.GetSha256()) > 0 {
				out = append(out, d.GetSha256())
			}
		}
	}
	return out, nil
}
