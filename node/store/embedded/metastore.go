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
// finishes that rotation. A seal that was torn is cut off, for raft-wal takes the segment for sealed then, too.
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
	f, err := os.OpenFile(filepath.Join(dir, segment.FileName(*tail)), os.O_RDWR, 0)
	if errors.Is(err, os.ErrNotExist) {
		return state, nil // raft-wal makes it
	}
	if err != nil {
		return state, err
	}
	seal, err := readSeal(f)
	if err == nil && seal.torn {
		err = cutTail(f, seal.good)
	}
	if err := errors.Join(err, f.Close()); err != nil || seal.index == 0 || seal.torn {
		return state, err
	}
	now := s.clock.Now()
	tail.SealTime, tail.IndexStart, tail.MaxIndex = now, uint64(seal.index), tail.BaseIndex+seal.entries-1
	next := types.SegmentInfo{
		ID: state.NextSegmentID, BaseIndex: tail.MaxIndex + 1, MinIndex: tail.MaxIndex + 1,
		Codec: tail.Codec, CreateTime: now, SizeLimit: tail.SizeLimit,
	}
	state.NextSegmentID++
	state.Segments = append(state.Segments, next)
	return state, s.CommitState(state)
}

// seal is what the frames of a segment say of its end.
type seal struct {
	index   int64  // where the index array begins; 0 where there is none
	entries uint64 // in the segment
	torn    bool   // there is an index, and its commit is not whole: nobody was told of it
	good    int64  // end of the last commit before the index
}

// readSeal walks the frames of a segment.
func readSeal(f *os.File) (seal, error) {
	const header, frame = 32, 8
	var (
		s         = seal{good: header}
		at        = int64(header)
		crcStart  int64
		committed bool
		h         [frame]byte
	)
	for {
		if _, err := f.ReadAt(h[:], at); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return s, err
		}
		n := int64(binary.LittleEndian.Uint32(h[4:]))
		switch h[0] {
		case segment.FrameEntry:
			s.entries++
		case segment.FrameIndex:
			s.index = at + frame
		case segment.FrameCommit:
			if s.index != 0 { // the commit of the seal: nothing follows it
				sum, err := checksum(f, crcStart, at-crcStart)
				if err != nil {
					return s, err
				}
				committed = sum == uint32(n)
			} else {
				s.good, crcStart = at+frame, at+frame
			}
			n = 0
		}
		if h[0] < segment.FrameEntry || h[0] > segment.FrameCommit || s.index != 0 && h[0] == segment.FrameCommit {
			break
		}
		at += frame + (n+frame-1)/frame*frame
	}
	s.torn = s.index != 0 && !committed
	return s, nil
}

// cutTail zeroes a file behind a position.
func cutTail(f *os.File, at int64) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	return errors.Join(f.Truncate(at), f.Truncate(info.Size()), f.Sync())
}

func checksum(r io.ReaderAt, at, n int64) (uint32, error) {
	h := crc32.New(castagnoli)
	_, err := io.Copy(h, io.NewSectionReader(r, at, n))
	return h.Sum32(), err
}
