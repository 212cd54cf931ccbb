package fetch

import (
	"context"
	"errors"
	"io"

	"duban.internal/federation"
	"duban.internal/node/fault"
	"duban.internal/node/journal"
	dubanv1 "duban.internal/proto/duban/v1"
)

// chunkBytes is how much goes into one message.
const chunkBytes = 256 << 10

// Server gives attachments to the node above. It implements federation.Files.
type Server struct{ cfg Config }

var _ federation.Files = (*Server)(nil)

// NewServer makes one. Kind of errors: fault.Invalid.
func NewServer(cfg Config) (*Server, error) {
	cfg, err := cfg.prepared()
	return &Server{cfg: cfg}, err
}

// Serve sends the bytes from the offset on: those that are here, or else those that a node below has, as they come. Kinds
// of errors: fault.Invalid, NotFound, Unavailable where the child isn't there.
func (s *Server) Serve(ctx context.Context, ask *dubanv1.SyncFetch, send func(*dubanv1.SyncChunk) error) error {
	id, err := journal.IDFrom(ask.GetJournal())
	if err != nil {
		return fault.New(fault.Invalid, "%w", err)
	}
	child, err := s.cfg.allowed(ctx, id, ask.GetSha256())
	if err != nil {
		return err
	}
	if size, ok := s.cfg.Files.Has(ask.GetSha256()); ok {
		return s.give(ctx, ask, size, send)
	}
	if child == "" || s.cfg.Below == nil {
		return fault.New(fault.NotFound, "attachment %x is not here", ask.GetSha256())
	}
	return s.cfg.Below.Fetch(ctx, child, id, [32]byte(ask.GetSha256()), ask.GetOffset(), send)
}

func (s *Server) give(ctx context.Context, ask *dubanv1.SyncFetch, size uint64, send func(*dubanv1.SyncChunk) error) (err error) {
	at := ask.GetOffset()
	r, err := s.cfg.Files.Get(ask.GetSha256(), at)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	for first := true; at < size || first; first = false {
		if err := ctx.Err(); err != nil {
			return err
		}
		data := make([]byte, min(chunkBytes, size-at)) // whoever sends it may keep it
		if _, err := io.ReadFull(r, data); err != nil && len(data) > 0 {
			return fault.New(fault.Corrupt, "attachment %x: %w", ask.GetSha256(), err)
		}
		if err := send(&dubanv1.SyncChunk{Offset: at, Data: data, Size: size}); err != nil {
			return err
		}
		at += uint64(len(data))
	}
	return nil
}
