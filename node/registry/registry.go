package registry

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"google.golang.org/protobuf/proto"

	"duban.internal/node/clock"
	"duban.internal/node/fault"
	"duban.internal/node/journal"
	"duban.internal/node/jurisdiction"
	"duban.internal/node/profile"
	"duban.internal/node/store"
	"duban.internal/node/workday"
	dubanv1 "duban.internal/proto/duban/v1"
)

// Reader is what the registry reads of a store.
type Reader interface {
	Own() journal.ID
	Journals() []store.Info
	Journal(id journal.ID) (store.Info, bool)
	Get(ctx context.Context, id journal.ID, t *store.Table, key ...any) (store.Row, bool, error)
	Scan(ctx context.Context, id journal.ID, t *store.Table, from []any, most int) ([]store.Row, error)
	View(ctx context.Context, fn func(q store.Queryer) error) error
}

// Registry answers from the folded tables. It is safe for concurrent use.
type Registry struct {
	store    Reader
	compiled *Compiled

	mu        sync.Mutex
	adoptions map[adoptionKey]adopted
}

// Compiled keeps profiles and calendars by their address. Registries of one process may share one: what has an address
// is the same everywhere. It is safe for concurrent use.
type Compiled struct {
	mu        sync.Mutex
	profiles  map[string]*profile.Profile
	calendars map[string]*workday.Calendar
}

// NewCompiled makes an empty one.
func NewCompiled() *Compiled {
	return &Compiled{profiles: make(map[string]*profile.Profile), calendars: make(map[string]*workday.Calendar)}
}

type adoptionKey struct {
	journal journal.ID
	kind    int64
}

// adoption is where something was adopted.
type adoption struct {
	number int64
	hash   string
}

// adopted are the adoptions of a kind in a journal, ascending: all of those below entry upTo, and perhaps later ones.
type adopted struct {
	list []adoption
	upTo uint64
}

// before is the last adoption before an entry.
func (a adopted) before(number uint64) (adoption, bool) {
	for i := len(a.list) - 1; i >= 0; i-- {
		if uint64(a.list[i].number) < number {
			return a.list[i], true
		}
	}
	return adoption{}, false
}

// New makes a registry over a store whose engine folds Fold.
func New(s Reader) *Registry { return NewSharing(s, NewCompiled()) }

// NewSharing is New with what others have compiled.
func NewSharing(s Reader, c *Compiled) *Registry {
	return &Registry{store: s, compiled: c, adoptions: make(map[adoptionKey]adopted)}
}

// Judged is what a journal had adopted before its entry of this number: what judges that entry. The journal's size, or
// anything above, asks for the present. Kinds of errors: fault.Precondition where the journal had adopted none.
func (r *Registry) Judged(ctx context.Context, id journal.ID, number uint64) (*profile.Profile, *workday.Calendar, error) {
	p, err := r.profile(ctx, id, number)
	if err != nil {
		return nil, nil, err
	}
	c, err := r.calendar(ctx, id, number)
	if err != nil {
		return nil, nil, err
	}
	return p, c, nil
}

// Present is what the own journal judges by now.
func (r *Registry) Present(ctx context.Context) (*profile.Profile, *workday.Calendar, error) {
	return r.Judged(ctx, r.store.Own(), 1<<62)
}

func (r *Registry) profile(ctx context.Context, id journal.ID, number uint64) (*profile.Profile, error) {
	kind := dubanv1.EntryKind_ENTRY_KIND_PROFILE_ADOPTED
	a, err := r.inForce(ctx, id, kind, number)
	if err != nil {
		return nil, err
	}
	return compiled(ctx, r, r.compiled.profiles, id, kind, a, func(content []byte) (*profile.Profile, error) {
		var m dubanv1.ProfileAdopted
		if err := proto.Unmarshal(content, &m); err != nil {
			return nil, err
		}
		p, err := profile.Parse(profileFiles(&m))
		if err != nil {
			return nil, err
		}
		if hash := p.Hash(); string(hash[:]) != a.hash {
			return nil, fmt.Errorf("its files are not what its address says")
		}
		return p, nil
	})
}

func (r *Registry) calendar(ctx context.Context, id journal.ID, number uint64) (*workday.Calendar, error) {
	kind := dubanv1.EntryKind_ENTRY_KIND_CALENDAR_ADOPTED
	a, err := r.inForce(ctx, id, kind, number)
	if err != nil {
		return nil, err
	}
	return compiled(ctx, r, r.compiled.calendars, id, kind, a, func(content []byte) (*workday.Calendar, error) {
		var m dubanv1.CalendarAdopted
		if err := proto.Unmarshal(content, &m); err != nil {
			return nil, err
		}
		return workday.Parse(m.GetContent())
	})
}

// compiled is the profile or calendar of an adoption, from the cache where it has been compiled before.
func compiled[T any](ctx context.Context, r *Registry, cache map[string]*T, id journal.ID, kind dubanv1.EntryKind, a adoption,
	compile func([]byte) (*T, error),
) (*T, error) {
	r.compiled.mu.Lock()
	v := cache[a.hash]
	r.compiled.mu.Unlock()
	if v != nil {
		return v, nil
	}
	row, ok, err := r.store.Get(ctx, id, Adoption, int64(kind), a.number)
	if err != nil {
		return nil, fmt.Errorf("read adoption: %w", err)
	}
	if !ok {
		return nil, fault.New(fault.Internal, "journal %s: adoption of entry %d has no content", id, a.number)
	}
	if v, err = compile(row[4].([]byte)); err != nil {
		return nil, &fault.Error{Kind: fault.Unsupported, Err: err, Msg: fmt.Sprintf(
			"journal %s adopted with entry %d what this version can't read: %v", id, a.number, err)}
	}
	r.compiled.mu.Lock()
	defer r.compiled.mu.Unlock()
	cache[a.hash] = v
	return v, nil
}

// inForce finds the last adoption before an entry. What is known of folded entries doesn't change, so that only the present
// has to be looked up.
func (r *Registry) inForce(ctx context.Context, id journal.ID, kind dubanv1.EntryKind, number uint64) (adoption, error) {
	info, ok := r.store.Journal(id)
	if !ok {
		return adoption{}, fault.New(fault.NotFound, "this node holds no journal %s", id)
	}
	key := adoptionKey{id, int64(kind)}
	r.mu.Lock()
	had := r.adoptions[key]
	r.mu.Unlock()
	if number > had.upTo {
		row, ok, err := r.store.Get(ctx, id, Adopted, int64(kind))
		if err != nil {
			return adoption{}, fmt.Errorf("read adopted %s: %w", what(kind), err)
		}
		if n := len(had.list); ok && (n == 0 || had.list[n-1].number < row[1].(int64)) {
			if had.list, err = r.load(ctx, info, kind); err != nil {
				return adoption{}, err
			}
		}
		had.upTo = info.Folded
		r.mu.Lock()
		if r.adoptions[key].upTo <= had.upTo {
			r.adoptions[key] = had
		}
		r.mu.Unlock()
	}
	if a, ok := had.before(number); ok {
		return a, nil
	}
	return adoption{}, fault.New(fault.Precondition, "journal %s had adopted no %s before entry %d", id, what(kind), number)
}

func what(kind dubanv1.EntryKind) string {
	if kind == dubanv1.EntryKind_ENTRY_KIND_PROFILE_ADOPTED {
		return "profile"
	}
	return "calendar"
}

// adoptionPage is how many adoptions are read at once; a profile's row holds its files.
const adoptionPage = 16

func (r *Registry) load(ctx context.Context, info store.Info, kind dubanv1.EntryKind) ([]adoption, error) {
	var list []adoption
	for from := int64(0); ; {
		rows, err := r.store.Scan(ctx, info.ID, Adoption, []any{int64(kind), from}, adoptionPage)
		if err != nil {
			return nil, fmt.Errorf("read adoptions: %w", err)
		}
		for _, row := range rows {
			if row[0].(int64) != int64(kind) {
				return list, nil
			}
			list = append(list, adoption{row[1].(int64), string(row[2].([]byte))})
			from = row[1].(int64) + 1
		}
		if len(rows) < adoptionPage {
			return list, nil
		}
	}
}

// Jurisdiction is which jurisdiction a journal stands for; false before its first entry.
func (r *Registry) Jurisdiction(ctx context.Context, id journal.ID) (jurisdiction.Division, bool, error) {
	row, ok, err := r.store.Get(ctx, id, Jurisdiction, int64(0))
	if err != nil || !ok {
		return jurisdiction.Division{}, false, err
	}
	return jurisdiction.Division{
		Code: jurisdiction.Code(row[1].(string)), Name: row[2].(string),
		Tier: jurisdiction.Tier(row[3].(string)), Parent: jurisdiction.Code(row[4].(string)),
	}, true, nil
}

// JournalsOf are the journals that stand, or stood, for a jurisdiction: a restored node may have begun a second one.
func (r *Registry) JournalsOf(ctx context.Context, code jurisdiction.Code) ([]journal.ID, error) {
	var ids []journal.ID
	for _, info := range r.store.Journals() {
		d, ok, err := r.Jurisdiction(ctx, info.ID)
		if err != nil {
			return nil, err
		}
		if ok && d.Code == code {
			ids = append(ids, info.ID)
		}
	}
	return ids, nil
}

// Agency is an agency as last registered in a journal; false where it is not.
func (r *Registry) Agency(ctx context.Context, id journal.ID, agency string) (*dubanv1.Agency, bool, error) {
	return read[dubanv1.Agency](ctx, r, id, Agency, 2, agency)
}

// Officer is an officer as last registered in a journal; false where it is not.
func (r *Registry) Officer(ctx context.Context, id journal.ID, officer string) (*dubanv1.Officer, bool, error) {
	return read[dubanv1.Officer](ctx, r, id, Officer, 2, officer)
}

// Office is an office as last registered in the own journal; false where it is not.
func (r *Registry) Office(ctx context.Context, role, code string) (*dubanv1.Office, bool, error) {
	return read[dubanv1.Office](ctx, r, r.store.Own(), Office, 3, role, code)
}

// AcceptedClock is what people accepted last of the own node's clock; the zero value is nothing.
func (r *Registry) AcceptedClock(ctx context.Context) (clock.Accepted, error) {
	row, ok, err := r.store.Get(ctx, r.store.Own(), Clock, int64(0))
	if err != nil || !ok {
		return clock.Accepted{}, err
	}
	return clock.Accepted{Expected: row[1].(int64), Shown: row[2].(int64)}, nil
}

// read gets a row by key and decodes the column payload.
func read[T any, M interface {
	*T
	proto.Message
}](ctx context.Context, r *Registry, id journal.ID, t *store.Table, payload int, key ...any) (M, bool, error) {
	row, ok, err := r.store.Get(ctx, id, t, key...)
	if err != nil || !ok {
		return nil, false, err
	}
	m := M(new(T))
	if err := proto.Unmarshal(row[payload].([]byte), m); err != nil {
		return nil, false, fmt.Errorf("%s %v: %w", t.Name, key, err)
	}
	return m, true, nil
}

// Agencies lists agencies of the own journal by id, from the first after an id, at most limit.
func (r *Registry) Agencies(ctx context.Context, after string, limit int) ([]*dubanv1.Agency, error) {
	info, _ := r.store.Journal(r.store.Own())
	var list []*dubanv1.Agency
	err := r.store.View(ctx, func(q store.Queryer) error {
		list = list[:0]
		rows, err := q.QueryContext(ctx, `SELECT payload FROM agency WHERE journal = $1 AND id > $2 ORDER BY id LIMIT $3`,
			info.Ordinal, after, int64(limit))
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var payload []byte
			if err := rows.Scan(&payload); err != nil {
				return err
			}
			var a dubanv1.Agency
			if err := proto.Unmarshal(payload, &a); err != nil {
				return err
			}
			list = append(list, &a)
		}
		return rows.Err()
	})
	if err != nil {
		return nil, fmt.Errorf("list agencies: %w", err)
	}
	return slices.Clip(list), nil
}

// VerifierKey is the key of a journal as recorded in the journal of an ancestor; false where it is not.
func (r *Registry) VerifierKey(ctx context.Context, at, of journal.ID) (code, key string, ok bool, err error) {
	row, ok, err := r.store.Get(ctx, at, JournalKey, of[:])
	if err != nil || !ok {
		return "", "", false, err
	}
	return row[1].(string), row[2].(string), true, nil
}
