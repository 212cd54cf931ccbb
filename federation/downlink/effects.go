package downlink

import (
	"fmt"

	"duban.internal/node/journal"
	"duban.internal/node/jurisdiction"
	"duban.internal/node/store"
	dubanv1 "duban.internal/proto/duban/v1"
)

// Effect is something to be done. One field is set. Those of one session are to be done in their order.
type Effect struct {
	Load    *Load
	Send    *Send
	Commit  *Commit
	Compare *Compare
	Recall  *Recall
	Next    *Next
	Chunk   *Chunk
	Hangup  *Hangup
}

// Load asks where journals stand in the store; answered by Loaded.
type Load struct {
	Session  uint64
	Journals []journal.ID
}

// Send is a message for a child.
type Send struct {
	Session uint64
	Message *dubanv1.SyncResponse
}

// Commit asks to make something durable: AppendReplica and Append, in either order or at once; answered by Stored. What is
// on its way at the same time is of other journals.
type Commit struct {
	Ticket   uint64
	Replicas []store.Replica
	Commands []store.Command

	items   []item
	replica []journal.ID   // whose each of Replicas is
	command [][]journal.ID // whose each of Commands is
}

// Compare asks what the stored tree of a journal shows at a size that is durable; answered by Compared.
type Compare struct {
	Session uint64
	Journal journal.ID
	Size    uint64

	taken *Taken
}

// Recall asks for what nodes above countersigned of the child's journals; answered by Recalled.
type Recall struct {
	Session  uint64
	Journals []journal.ID
}

// Countersigned is what a node above countersigned of a journal.
type Countersigned struct {
	Journal journal.ID
	By      jurisdiction.Code
	Time    int64 // stated by the checkpoint
	Note    []byte
}

// Next asks for letters for a child; answered by Nexted.
type Next struct {
	Session uint64
	Child   jurisdiction.Code
	At      []*dubanv1.LetterPosition
	Bytes   int // about
}

// Chunk hands on bytes of an attachment.
type Chunk struct {
	Session uint64
	Chunk   *dubanv1.SyncChunk
}

// Hangup asks to end a stream; Err is told to the child. Closed is not to be called for it.
type Hangup struct {
	Session uint64
	Err     error
}

// String is for logs.
func (h *Hangup) String() string { return fmt.Sprintf("session %d: %v", h.Session, h.Err) }
