package service

import (
	"context"
	"fmt"
	"sync"

	"duban.internal/node/attachment"
	"duban.internal/node/fault"
	"duban.internal/node/identity"
)

// What one agency may have under way at once. A certificate alone gives nobody the node's disk.
const (
	maxUploads = 16                        // uploads
	maxFlight  = 2 * attachment.DefaultMax // bytes that they announced
)

// flight counts the uploads under way.
type flight struct {
	mu  sync.Mutex
	now map[string]underWay // by agency
}

type underWay struct {
	uploads int
	bytes   uint64
}

func newFlight() *flight { return &flight{now: make(map[string]underWay)} }

// begin takes an upload's place, which done gives back (fault.Exhausted where there is none).
func (f *flight) begin(agency string, size uint64) (done func(), err error) {
	size = min(size, maxFlight+1) // so that nothing announced overflows the sum
	f.mu.Lock()
	defer f.mu.Unlock()
	u := f.now[agency]
	// A single file is for node/attachment to bound: its words are better.
	if u.uploads >= maxUploads || u.uploads > 0 && u.bytes+size > maxFlight {
		return nil, fault.Refuse(fault.Exhausted, "too much is being uploaded at once: try again when some of it is done", fault.Field{
			Field: "size", Description: fmt.Sprintf("%d uploads with %d bytes are under way; at most %d and %d bytes are allowed for one agency",
				u.uploads, u.bytes, maxUploads, uint64(maxFlight)),
		})
	}
	f.now[agency] = underWay{u.uploads + 1, u.bytes + size}
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		u := f.now[agency]
		if u.uploads == 1 {
			delete(f.now, agency)
			return
		}
		f.now[agency] = underWay{u.uploads - 1, u.bytes - size}
	}, nil
}

// admit says whether the caller may upload here: an agency that acts in this jurisdiction, and not too much at once.
func (s attachments) admit(ctx context.Context, size uint64) (done func(), err error) {
	id, err := caller(ctx)
	if err != nil {
		return nil, err
	}
	_, registered, err := s.Registry.Agency(ctx, s.Own, id.ID)
	if err != nil {
		return nil, fmt.Errorf("agency: %w", err)
	}
	if id.Kind != identity.Agency || !registered {
		return nil, fault.Refuse(fault.Denied, "only agencies that are registered here upload", fault.Field{
			Field: "certificate", Description: fmt.Sprintf("%s is not on record at this node: its operator registers it first", id.Actor()),
		})
	}
	return s.flight.begin(id.ID, size)
}
