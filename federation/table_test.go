package federation_test

import (
	"context"
	"testing"

	"google.golang.org/protobuf/proto"

	"duban.internal/federation"
	"duban.internal/federation/federationtest"
	"duban.internal/node/clock"
	"duban.internal/node/journal"
	"duban.internal/node/store"
	"duban.internal/node/store/memory"
	dubanv1 "duban.internal/proto/duban/v1"
)

// A payload that is gone without leave stays in sight until its journal approves that.
func TestErasuresNeedLeave(t *testing.T) {
	fold := federation.Fold()
	s := memory.Open(memory.Config{Disk: memory.NewDisk(journal.NewID()), Folds: []*store.Fold{&fold}, Clock: clock.System(), Synced: true})
	id := journal.NewID()
	approval, err := proto.Marshal(&dubanv1.PayloadErased{Number: 1, Reason: "its time is over", ApprovedBy: "p1"})
	if err != nil {
		t.Fatal(err)
	}
	stage, erasure := uint32(dubanv1.EntryKind_ENTRY_KIND_STAGE_RECORDED), uint32(dubanv1.EntryKind_ENTRY_KIND_PAYLOAD_ERASED)
	take := func(number uint64, kind uint32, payload []byte, erased bool) {
		t.Helper()
		e := federationtest.Entry(id, number, 1, store.Proposal{Stream: "case/1", Kind: kind, Actor: "agency:x", Payload: payload})
		if erased {
			e.Salt, e.Payload, e.Erased = nil, nil, true
		}
		if errs := s.AppendReplica(context.Background(), store.Replica{Journal: id, From: number, Entries: []journal.Entry{e}}); errs[0] != nil {
			t.Fatal(errs[0])
		}
	}
	want := func(numbers ...int64) {
		t.Helper()
		rows, err := s.Scan(context.Background(), id, federation.Unapproved, nil, 10)
		if err != nil || len(rows) != len(numbers) {
			t.Fatalf("%v %v, expected %v", rows, err, numbers)
		}
		for i, n := range numbers {
			if rows[i][0] != n {
				t.Errorf("%v, expected %v", rows, numbers)
			}
		}
	}
	take(0, stage, []byte("kept"), false)
	take(1, stage, []byte("gone"), true)
	take(2, stage, []byte("gone"), true)
	want(1, 2)
	take(3, erasure, approval, false)
	want(2)
}
