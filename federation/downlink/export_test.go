package downlink

import (
	"google.golang.org/protobuf/proto"

	"duban.internal/node/journal"
	dubanv1 "duban.internal/proto/duban/v1"
)

func opened(key *journal.PublicKey, m *dubanv1.SyncRequest) *Opened {
	o := &Opened{message: m, bytes: proto.Size(m), id: key.Journal(), from: m.GetBatch().GetFrom(), note: m.GetBatch().GetCheckpoint()}
	if m.GetHeartbeat() != nil {
		o.note = m.GetHeartbeat().GetCheckpoint()
	}
	o.open(key)
	return o
}

// Batch takes a batch that the journal's writer presents.
func (c *Copy) Batch(b *dubanv1.SyncBatch) (*Taken, error) {
	t, _, err := c.Take(opened(c.key, &dubanv1.SyncRequest{Message: &dubanv1.SyncRequest_Batch{Batch: b}}), true)
	return t, err
}

// Forwarded takes a batch that another node presents.
func (c *Copy) Forwarded(b *dubanv1.SyncBatch) (*Taken, error) {
	t, _, err := c.Take(opened(c.key, &dubanv1.SyncRequest{Message: &dubanv1.SyncRequest_Batch{Batch: b}}), false)
	return t, err
}

// Heartbeat takes a checkpoint.
func (c *Copy) Heartbeat(note []byte) (t *Taken, older bool, err error) {
	return c.Take(opened(c.key, &dubanv1.SyncRequest{Message: &dubanv1.SyncRequest_Heartbeat{
		Heartbeat: &dubanv1.SyncHeartbeat{Checkpoint: note}}}), true)
}
