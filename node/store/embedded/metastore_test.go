package embedded

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"
	"github.com/hashicorp/raft-wal/metadb"
	"github.com/hashicorp/raft-wal/segment"
	"github.com/hashicorp/raft-wal/types"

	"duban.internal/node/clock"
)

// sealAndStop leaves a raft log as a process does that dies between sealing a segment and beginning the next. It gives
// the last index and the file of the sealed segment.
func sealAndStop(t *testing.T, dir string) (last uint64, file string) {
	t.Helper()
	w, err := wal.Open(dir, wal.WithSegmentSize(8<<10))
	if err != nil {
		t.Fatal(err)
	}
	for i := uint64(1); i <= 12; i++ {
		if err := w.StoreLog(&raft.Log{Index: i, Term: 1, Data: make([]byte, 1024)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	var meta metadb.BoltMetaDB
	state, err := meta.Load(dir)
	if err != nil || len(state.Segments) != 2 {
		t.Fatalf("%d segments, %v", len(state.Segments), err)
	}
	if err := os.Remove(filepath.Join(dir, segment.FileName(state.Segments[1]))); err != nil {
		t.Fatal(err)
	}
	tail := &state.Segments[0]
	last = tail.MaxIndex
	tail.SealTime, tail.MaxIndex, tail.IndexStart = time.Time{}, 0, 0
	state.Segments = state.Segments[:1]
	state.NextSegmentID--
	if err := errors.Join(meta.CommitState(state), meta.Close()); err != nil {
		t.Fatal(err)
	}
	return last, filepath.Join(dir, segment.FileName(state.Segments[0]))
}

func TestSealedTailIsRotated(t *testing.T) {
	dir := t.TempDir()
	last, _ := sealAndStop(t, dir)
	next := &raft.Log{Index: last + 1, Term: 2, Data: []byte("after")}
	w, err := wal.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.StoreLog(next); !errors.Is(err, types.ErrSealed) {
		t.Errorf("raft-wal alone: %v; if it has learned to rotate, sealedTail can go", err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	goesOn(t, dir, last)
}

func TestTornSealIsCut(t *testing.T) {
	for _, damage := range []string{"index", "commit"} {
		dir := t.TempDir()
		last, name := sealAndStop(t, dir)
		f, err := os.OpenFile(name, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		s, err := readSeal(f)
		if err != nil || s.index == 0 || s.torn || s.entries != last {
			t.Fatalf("seal %+v %v, expected %d entries", s, err, last)
		}
		at := s.index
		if damage == "commit" {
			at += int64(s.entries+1) / 2 * 8
		}
		if _, err := f.WriteAt(make([]byte, 8), at); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		goesOn(t, dir, last-1) // the last batch was never acknowledged
	}
}

// goesOn checks that a log opens with the mended store, has its logs and takes more.
func goesOn(t *testing.T, dir string, last uint64) {
	t.Helper()
	for round := range uint64(2) {
		w, err := wal.Open(dir, wal.WithMetaStore(&sealedTail{clock: clock.System()}))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := w.LastIndex(); got != last+round || err != nil {
			t.Fatalf("last index %d %v, expected %d", got, err, last+round)
		}
		if err := w.StoreLog(&raft.Log{Index: last + round + 1, Term: 2, Data: []byte("after")}); err != nil {
			t.Fatal(err)
		}
		var l raft.Log
		for i := uint64(1); i <= last+round+1; i++ {
			if err := w.GetLog(i, &l); err != nil || l.Index != i {
				t.Fatalf("log %d: %v", i, err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
