package federation

import (
	"context"

	"duban.internal/node/journal"
	"duban.internal/node/jurisdiction"
	dubanv1 "duban.internal/proto/duban/v1"
)

// What the two ends of a stream carry for others. Each may be nil: nothing is carried then.

// Above is the child's end of what comes down: letters of the journals above.
type Above interface {
	// Positions says where this node stands with every sender, for itself and for each jurisdiction below it.
	Positions(ctx context.Context) ([]*dubanv1.LetterPosition, error)
	// Take verifies a letter and makes it durable. What is wrong with a letter is said in the answer; an error is the
	// node's own: the same letter is offered again after a while.
	Take(ctx context.Context, letter *dubanv1.SyncLetter) (*dubanv1.SyncLetterAck, error)
}

// Below is the parent's end of what goes down.
type Below interface {
	// Next gives letters for a child and for those below it, from where it stands on, of about maxBytes together and at
	// least one where there is one. It is asked after the hello, after each acknowledgement and when the store grew.
	Next(ctx context.Context, child jurisdiction.Code, at []*dubanv1.LetterPosition, maxBytes int) ([]*dubanv1.SyncLetter, error)
}

// Files gives bytes of attachments to the node above: its own, or those that it fetches itself from further below.
type Files interface {
	// Serve sends the bytes from the offset asked for on, in order and without a gap, until the end or until ctx ends:
	// then nobody waits any more. Chunks need no id. What can't be given is said in the last chunk's problem; an error is
	// told to the node above in the same way.
	Serve(ctx context.Context, ask *dubanv1.SyncFetch, send func(*dubanv1.SyncChunk) error) error
}

// Fetcher asks a child for bytes of an attachment, over the stream that the child keeps open.
type Fetcher interface {
	// Fetch hands chunks to sink in order and without a gap, from offset on, and returns nil at the end of the attachment.
	// fault.Unavailable where the child has no stream open or it breaks: ask again from where sink stands; NotFound where
	// the child says that it can't be given. An error of sink, or the end of ctx, gives the request up and is returned.
	// The bytes are not checked against the address: who has them all does that.
	Fetch(ctx context.Context, child jurisdiction.Code, id journal.ID, sha256 [32]byte, offset uint64, sink func(*dubanv1.SyncChunk) error) error
}
