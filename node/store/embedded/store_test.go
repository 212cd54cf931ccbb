package embedded_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"duban.internal/node/clock"
	"duban.internal/node/journal"
	"duban.internal/node/store"
	"duban.internal/node/store/embedded"
)

func TestSmoke(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	dir := t.TempDir()
	begin := time.Now()
	cfg := embedded.Config{Dir: dir, Journal: journal.NewID(), Clock: clock.System(), Known: []uint32{1}}
	s, err := embedded.Open(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Log("open", time.Since(begin))
	for i := range 10 {
		r, errs := s.Append(ctx, store.Command{Entries: []store.Proposal{{Stream: "a", Kind: 1, Payload: []byte(fmt.Sprint(i))}}})
		if errs[0] != nil || r[0].First != uint64(i) {
			t.Fatal(r, errs)
		}
	}
	t.Log("append", time.Since(begin))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	t.Log("close", time.Since(begin))
	s, err = embedded.Open(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Log("reopen", time.Since(begin))
	defer s.Close()
	es, err := s.Read(ctx, s.Own(), 0, 1<<20)
	if len(es) != 10 || err != nil {
		t.Fatal(es, err)
	}
	if v, err := s.Version(ctx, "a"); v != 10 || err != nil {
		t.Fatal(v, err)
	}
}
