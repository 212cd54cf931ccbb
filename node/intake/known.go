package intake

import (
	"context"
	"fmt"
	"sync"

	"duban.internal/node/casefile"
	"duban.internal/node/fault"
	"duban.internal/node/identity"
	"duban.internal/node/planted"
	"duban.internal/node/profile"
	"duban.internal/node/registry"
	"duban.internal/node/store"
	dubanv1 "duban.internal/proto/duban/v1"
)

// known remembers base information, for every record asks for the same few rows. What is remembered may be out of date: so
// each value has the version of its stream, commands expect that version, and a command that is refused is decided again on
// values that are looked up anew.
type known struct {
	mu       sync.Mutex
	profile  dated[*profile.Profile]
	agencies map[string]dated[*dubanv1.Agency]
	officers map[string]dated[*dubanv1.Officer]
}

// dated is a value, or that there is none, as of a version of its stream.
type dated[T any] struct {
	value   T
	version uint64
	known   bool
}

// maxKnown bounds what is remembered of a kind.
const maxKnown = 1 << 16

func newKnown() *known {
	return &known{agencies: make(map[string]dated[*dubanv1.Agency]), officers: make(map[string]dated[*dubanv1.Officer])}
}

func (k *known) forget() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.profile = dated[*profile.Profile]{}
	clear(k.agencies)
	clear(k.officers)
}

// look is what one decision saw of the base information.
type look struct {
	in         *Intake
	expect     []store.Expect // that must still hold at the commit
	remembered bool           // some of it was not looked up for this decision
	failed     error          // of a lookup
}

func (l *look) saw(stream string, version uint64, remembered bool) {
	l.remembered = l.remembered || remembered
	for _, x := range l.expect {
		if x.Stream == stream {
			return
		}
	}
	l.expect = append(l.expect, store.Expect{Stream: stream, Version: version})
}

// profile is the profile in force.
func (l *look) profile(ctx context.Context) (*profile.Profile, error) {
	k := l.in.known
	k.mu.Lock()
	d := k.profile
	k.mu.Unlock()
	l.saw(registry.NodeStream, d.version, d.known)
	if d.known {
		return d.value, nil
	}
	d, err := fetch(ctx, l, registry.NodeStream, func() (*profile.Profile, error) {
		p, _, err := l.in.Registry.Present(ctx)
		return p, err
	})
	if err != nil {
		return nil, err
	}
	k.mu.Lock()
	k.profile = d
	k.mu.Unlock()
	return d.value, nil
}

// fetch looks a value up: the version first, so that a value can only be newer than its version says.
func fetch[T any](ctx context.Context, l *look, stream string, read func() (T, error)) (d dated[T], err error) {
	if d.version, err = l.in.Store.Version(ctx, stream); err != nil {
		return d, fmt.Errorf("version of %s: %w", stream, err)
	}
	if d.value, err = read(); err != nil {
		return d, err
	}
	d.known = true
	for i := range l.expect {
		if l.expect[i].Stream == stream {
			l.expect[i].Version = d.version
		}
	}
	return d, nil
}

// recall gives a remembered row of base information, or looks it up; nil where there is none.
func recall[T any](ctx context.Context, l *look, all map[string]dated[*T], id, stream string, read func() (*T, bool, error)) (*T, error) {
	k := l.in.known
	k.mu.Lock()
	d := all[id]
	k.mu.Unlock()
	l.saw(stream, d.version, d.known)
	if d.known {
		return d.value, nil
	}
	d, err := fetch(ctx, l, stream, func() (*T, error) {
		v, ok, err := read()
		if err != nil || !ok {
			return nil, err
		}
		return v, nil
	})
	if err != nil {
		return nil, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(all) >= maxKnown {
		clear(all)
	}
	all[id] = d
	return d.value, nil
}

// facts are what the gate needs beside the case.
func (l *look) facts(ctx context.Context, caller identity.Identity, agency string) (casefile.Facts, error) {
	in := l.in
	f := casefile.Facts{
		Ahead: in.Ahead, History: caller.Kind == identity.Operator,
		Officer: func(id string) *dubanv1.Officer {
			if !idForm.MatchString(id) {
				return nil
			}
			o, err := recall(ctx, l, in.known.officers, id, registry.OfficerStream(id), func() (*dubanv1.Officer, bool, error) {
				return in.Registry.Officer(ctx, in.own, id)
			})
			if err != nil && l.failed == nil {
				l.failed = fmt.Errorf("officer: %w", err)
			}
			return o
		},
		Uploaded: func(sha []byte) bool {
			_, ok := in.Files.Has(sha)
			return ok
		},
	}
	if !idForm.MatchString(agency) {
		return f, nil
	}
	var err error
	f.Agency, err = recall(ctx, l, in.known.agencies, agency, registry.AgencyStream(agency), func() (*dubanv1.Agency, bool, error) {
		return in.Registry.Agency(ctx, in.own, agency)
	})
	if err != nil {
		return f, fmt.Errorf("agency: %w", err)
	}
	return f, nil
}

// settled is what the gate said, unless a lookup failed.
func (l *look) settled(bad fault.List, msg string) error {
	if planted.On("intake.no-gate") {
		return nil
	}
	if l.failed != nil {
		return l.failed
	}
	return bad.Err(fault.Invalid, msg)
}
