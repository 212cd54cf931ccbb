package embedded

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"

	"github.com/hashicorp/raft-wal/metadb"
	"github.com/hashicorp/raft-wal/segment"
	"github.com/hashicorp/raft-wal/types"

	"duban.internal/node/clock"
)

// sealedTail is raft-wal's store of its own state, with one thing mended: a process that dies after a segment was sealed
// and before the next was begun leaves a sealed tail, to which raft-wal 0.4.2 refuses every append for ever. Load
// finishes that rotation.
type sealedTail struct {
	metadb.BoltMetaDB
	clock clock.Clock
}

// Load is types.MetaStore.
func (s *sealedTail) Load(dir string) (types.PersistentState, error) {
	state, err := s.BoltMetaDB.Load(dir)
	if err != nil || len(state.Segments) == 0 {
		return state, err
	}
	tail := &state.Segments[len(state.Segments)-1]
	if !tail.SealTime.IsZero() {
		return state, nil
	}
	seal, entries, err := readSeal(filepath.Join(dir, segment.FileName(*tail)))
	if err != nil || seal == 0 || entries == 0 {
		return state, err
	}
	now := s.clock.Now()
	tail.SealTime, tail.IndexStart, tail.MaxIndex = now, seal, tail.BaseIndex+entries-1
	next := types.SegmentInfo{
		ID: state.NextSegmentID, BaseIndex: tail.MaxIndex + 1, MinIndex: tail.MaxIndex + 1,
		Codec: tail.Codec, CreateTime: now, SizeLimit: tail.SizeLimit,
	}
	state.NextSegmentID++
	state.Segments = append(state.Segments, next)
	return state, s.CommitState(state)
}

// readSeal walks a segment's frames: where its index array begins and how many entries it has, zeros where the segment
// is not sealed, or its seal is torn and raft-wal will cut it off.
func readSeal(name string) (indexStart, entries uint64, err error) {
	f, err := os.Open(filepath.Clean(name))
	if errors.Is(err, os.ErrNotExist) {
		return 0, 0, nil
	}
	if err != nil {
		return 0, 0, err
	}
	defer func() { _ = f.Close() }() // only read
	const header, frame = 32, 8
	var (
		at        int64 = header
		crcStart  int64
		committed bool
		h         [frame]byte
	)
	for {
		if _, err := f.ReadAt(h[:], at); errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			break
		} else if err != nil {
			return 0, 0, err
		}
		n := int64(binary.LittleEndian.Uint32(h[4:]))
		step := frame + (n+frame-1)/frame*frame
		switch h[0] {
		case segment.FrameEntry:
			if indexStart != 0 {
				return 0, 0, nil // an index that was never committed, written over
			}
			entries++
			committed = false
		case segment.FrameIndex:
			indexStart = uint64(at) + frame
			committed = false
		case segment.FrameCommit:
			sum, err := checksum(f, crcStart, at-crcStart)
			if err != nil {
				return 0, 0, err
			}
			if sum != uint32(n) {
				return 0, 0, nil
			}
			committed, crcStart = true, at+frame
			step = frame
		default:
			if indexStart != 0 && committed {
				return indexStart, entries, nil
			}
			return 0, 0, nil
		}
		at += step
	}
	if indexStart != 0 && committed {
		return indexStart, entries, nil
	}
	return 0, 0, nil
}

func checksum(r io.ReaderAt, at, n int64) (uint32, error) {
	h := crc32.New(castagnoli)
	_, err := io.Copy(h, io.NewSectionReader(r, at, n))
	return h.Sum32(), err
}
