package caseview

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"duban.internal/node/fault"
	"duban.internal/node/journal"
	"duban.internal/node/jurisdiction"
	"duban.internal/node/store"
	dubanv1 "duban.internal/proto/duban/v1"
)

// Page sizes of List.
const (
	DefaultPage = 100
	MaxPage     = 1000
)

// Query asks for cases, newest first.
type Query struct {
	Jurisdiction jurisdiction.Code // only cases in it or below it; "" for all that the node holds
	Agency       string            // "" for all
	OpenOnly     bool
	Size         int    // 1 to MaxPage; 0 for DefaultPage
	Token        string // where to go on; "" for the beginning
}

const columns = `c.case_id, c.number, c.agency, c.item, c.procedure, c.division, c.generated, c.imported, c.opened_us,
	c.closed_us, c.entry, s.version, s.stage FROM case_row c JOIN case_state s ON s.journal = c.journal AND s.case_id = c.case_id`

type found struct {
	*dubanv1.Case
	ordinal int64
	entry   uint64
}

func scan(rows interface{ Scan(...any) error }, info store.Info) (found, error) {
	c := found{Case: new(dubanv1.Case), ordinal: info.Ordinal}
	err := rows.Scan(&c.CaseId, &c.Number, &c.Agency, &c.Item, &c.Procedure, &c.Division, &c.Generated, &c.Imported,
		&c.OpenedUs, &c.ClosedUs, &c.entry, &c.Version, &c.Stage)
	id := info.ID
	c.Journal = id[:]
	return c, err
}

func one(ctx context.Context, q store.Queryer, info store.Info, caseID string) (*dubanv1.Case, error) {
	c, err := scan(q.QueryRowContext(ctx, `SELECT `+columns+` WHERE c.journal = $1 AND c.case_id = $2`, info.Ordinal, caseID), info)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	return c.Case, err
}

// List lists cases, each with its opening, newest first, and gives the token of the next page, empty at the end. A page costs
// the same wherever it is. Kinds of errors: fault.Invalid.
func (v *View) List(ctx context.Context, query Query) ([]*dubanv1.Case, string, error) {
	var bad fault.List
	size := query.Size
	switch {
	case size == 0:
		size = DefaultPage
	case size < 0 || size > MaxPage:
		bad.Add("page_size", "%d: expected 1 to %d, or 0 for %d", size, MaxPage, DefaultPage)
	}
	after, ok := parseToken(query.Token)
	if !ok {
		bad.Add("page_token", "is not one that this node gave: leave it empty to begin")
	}
	if query.Jurisdiction != "" {
		if _, known := v.tree.Get(query.Jurisdiction); !known {
			bad.Add("jurisdiction", "%.20q: this node knows no such division", string(query.Jurisdiction))
		}
	}
	if err := bad.Err(fault.Invalid, "cases can't be listed"); err != nil {
		return nil, "", err
	}
	places, err := v.places(ctx, query.Jurisdiction)
	if err != nil {
		return nil, "", err
	}
	var page []found
	err = v.store.View(ctx, func(q store.Queryer) error {
		page = page[:0]
		for _, p := range places {
			part, err := p.list(ctx, q, query, after, size+1)
			if err != nil {
				return err
			}
			page = append(page, part...)
		}
		return nil
	})
	if err != nil {
		return nil, "", fmt.Errorf("list cases: %w", err)
	}
	slices.SortFunc(page, func(a, b found) int { return a.position().compare(b.position()) })
	var next string
	if len(page) > size {
		page = page[:size]
		next = page[size-1].position().token()
	}
	cases := make([]*dubanv1.Case, len(page))
	for i, c := range page {
		cases[i] = c.Case
		id := journal.ID(c.Journal)
		if err := v.place(ctx, c.Case, id); err != nil {
			return nil, "", err
		}
		record, err := v.Record(ctx, id, c.CaseId, c.entry)
		if err != nil {
			return nil, "", err
		}
		if o, ok := record.(*dubanv1.CaseOpened); ok {
			c.Opening = o
		}
	}
	return cases, next, nil
}

// place is a journal whose cases are wanted: all, or those of some divisions below its own.
type place struct {
	store.Info
	divisions []jurisdiction.Code // nil for all
}

func (v *View) places(ctx context.Context, in jurisdiction.Code) ([]place, error) {
	var places []place
	for _, info := range v.store.Journals() {
		if in == "" {
			places = append(places, place{Info: info})
			continue
		}
		d, ok, err := v.registry.Jurisdiction(ctx, info.ID)
		switch {
		case err != nil:
			return nil, err
		case !ok:
		case v.tree.Within(d.Code, in):
			places = append(places, place{Info: info})
		case v.tree.Within(in, d.Code): // imported cases of a division below the journal's own
			places = append(places, place{Info: info, divisions: v.below(in)})
		}
	}
	return places, nil
}

// below is a division and all that lies in it.
func (v *View) below(in jurisdiction.Code) []jurisdiction.Code {
	all := []jurisdiction.Code{in}
	for i := 0; i < len(all); i++ {
		for _, d := range v.tree.Children(all[i]) {
			all = append(all, d.Code)
		}
	}
	return all
}

func (p place) list(ctx context.Context, q store.Queryer, query Query, after position, limit int) ([]found, error) {
	if p.divisions == nil {
		return p.part(ctx, q, query, after, limit, "")
	}
	var all []found
	for _, d := range p.divisions {
		part, err := p.part(ctx, q, query, after, limit, d)
		if err != nil {
			return nil, err
		}
		all = append(all, part...)
	}
	return all, nil
}

func (p place) part(ctx context.Context, q store.Queryer, query Query, after position, limit int, division jurisdiction.Code) ([]found, error) {
	var where strings.Builder
	args := []any{p.Ordinal}
	and := func(condition string, arg any) {
		args = append(args, arg)
		fmt.Fprintf(&where, " AND %s $%d", condition, len(args))
	}
	if query.Agency != "" {
		and("c.agency =", query.Agency)
	}
	if query.OpenOnly {
		where.WriteString(" AND c.closed_us = 0")
	}
	if division != "" {
		where.WriteString(" AND c.division <> ''") // so that the partial index may be used
		and("c.division =", string(division))
	}
	if after.set {
		// Of one time, journals come in the order of their ordinals, then cases by id, descending.
		switch {
		case p.Ordinal < after.ordinal:
			and("c.opened_us <=", after.opened)
		case p.Ordinal > after.ordinal:
			and("c.opened_us <", after.opened)
		default:
			args = append(args, after.opened, after.id)
			fmt.Fprintf(&where, " AND (c.opened_us, c.case_id) < ($%d, $%d)", len(args)-1, len(args))
		}
	}
	args = append(args, int64(limit))
	rows, err := q.QueryContext(ctx, fmt.Sprintf(
		`SELECT %s WHERE c.journal = $1%s ORDER BY c.opened_us DESC, c.case_id DESC LIMIT $%d`, columns, where.String(), len(args)), args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []found
	for rows.Next() {
		c, err := scan(rows, p.Info)
		if err != nil {
			return nil, err
		}
		all = append(all, c)
	}
	return all, rows.Err()
}

// position is where a case stands in the list.
type position struct {
	set     bool
	opened  int64
	ordinal int64
	id      string
}

func (c found) position() position { return position{true, c.OpenedUs, c.ordinal, c.CaseId} }

func (p position) compare(o position) int {
	return cmp.Or(cmp.Compare(o.opened, p.opened), cmp.Compare(o.ordinal, p.ordinal), cmp.Compare(o.id, p.id))
}

func (p position) token() string {
	b := binary.BigEndian.AppendUint64(nil, uint64(p.opened))
	b = binary.BigEndian.AppendUint64(b, uint64(p.ordinal))
	return base64.RawURLEncoding.EncodeToString(append(b, p.id...))
}

func parseToken(s string) (position, bool) {
	if s == "" {
		return position{}, true
	}
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil || len(b) < 17 || len(b) > 16+128 {
		return position{}, false
	}
	return position{
		set: true, opened: int64(binary.BigEndian.Uint64(b)), ordinal: int64(binary.BigEndian.Uint64(b[8:])), id: string(b[16:]),
	}, true
}
