package demo

import (
	"context"
	"errors"
	"io"
	"time"

	"duban.internal/federation"
	"duban.internal/federation/topology"
	"duban.internal/node/clock"
	"duban.internal/node/identity"
	"duban.internal/node/journal"
	"duban.internal/node/jurisdiction"
	"duban.internal/node/rpc"
	dubanv1 "duban.internal/proto/duban/v1"
)

// present signs a journal with a street's own key and presents what the street's parent lacks of it, at least its last entry, with the street's own
// certificate, as only the street itself could. stated is the time that the checkpoint states.
func (d *demo) present(ctx context.Context, story string, code jurisdiction.Code, entries []journal.Entry, stated int64) error {
	street, _ := d.fleet.Tree().Node(code)
	folder := topology.NodeFolder(d.fleet.KeyDir(), code)
	key, err := topology.JournalKey(folder)
	if err != nil {
		return err
	}
	var edge journal.Frontier
	for _, e := range entries {
		edge.Append(journal.LeafHash(e.Raw))
	}
	note, err := key.Sign(journal.Checkpoint{Journal: street.Journal, Size: edge.Size(), Root: edge.Root(), Time: stated})
	if err != nil {
		return err
	}
	lacking := func(size uint64) *dubanv1.SyncBatch {
		from := min(size, uint64(len(entries)-1))
		return &dubanv1.SyncBatch{Journal: street.Journal[:], From: from, Entries: federation.ToWire(entries[from:]), Checkpoint: note}
	}
	pair, err := topology.NodeFiles(folder).Load()
	if err != nil {
		return err
	}
	parent, _ := d.fleet.Tree().Node(street.Parent)
	conn, err := rpc.Dial(parent.Address, pair.Client(identity.Identity{City: city, Kind: identity.Node, Code: parent.Code}))
	if err != nil {
		return err
	}
	defer conn.Close()
	return d.speak(ctx, dubanv1.NewSyncServiceClient(conn), story, street, lacking)
}

// speak speaks the sync protocol for a forged journal until the parent has answered. lacking is what to send to a parent that
// has so many entries.
func (d *demo) speak(ctx context.Context, parent dubanv1.SyncServiceClient, story string, street topology.Node,
	lacking func(size uint64) *dubanv1.SyncBatch) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	stream, err := parent.Sync(ctx)
	if err != nil {
		return err
	}
	hello := &dubanv1.SyncHello{
		Code: string(street.Code), Journals: [][]byte{street.Journal[:]}, NowUs: clock.Micros(d.clock.Now()), Kinds: federation.Kinds(),
	}
	if err := stream.Send(&dubanv1.SyncRequest{Message: &dubanv1.SyncRequest_Hello{Hello: hello}}); err != nil {
		return err
	}
	for {
		answer, err := stream.Recv()
		if err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		switch {
		case answer.GetWelcome() != nil:
			var size uint64
			for _, p := range answer.GetWelcome().GetPositions() {
				size = p.GetSize() // the hello named one journal
			}
			if err := stream.Send(&dubanv1.SyncRequest{Message: &dubanv1.SyncRequest_Batch{Batch: lacking(size)}}); err != nil {
				return err
			}
		case answer.GetRefusal() != nil:
			d.say.at(d.clock.Now(), story, "%s refuses the forged journal of %s: %s", d.say.place(street.Parent), street.Name, answer.GetRefusal().Reason)
			return nil
		case answer.GetAck() != nil:
			return nil // the verdict will say that it was believed
		}
	}
}
