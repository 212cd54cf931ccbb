package embedded

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc64"
	"io"
	"os"
	"path/filepath"

	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"
	"github.com/hashicorp/raft-wal/fs"
	"github.com/hashicorp/raft-wal/metadb"
	"github.com/hashicorp/raft-wal/segment"
	"github.com/hashicorp/raft-wal/types"
	"golang.org/x/mod/sumdb/tlog"

	"duban.internal/node/journal"
)

// journal checks every byte of a journal's files against the entries, and the entries against each other.
func (v *verifier) journal(ctx context.Context, l *log, mk *marker) error {
	r := JournalReport{ID: l.id, Own: l == v.s.m.own, Size: l.at.size, Folded: l.folded, Bytes: l.at.bytes, Stopped: l.stopped}
	c := &checker{
		v: v, l: l, r: &r, marked: mk.position(l.id).size, root: mk.root(l.id),
		hashes: bufio.NewReaderSize(io.NewSectionReader(l.files.hashes, 0, 1<<62), 1<<20),
		ends:   bufio.NewReaderSize(io.NewSectionReader(l.files.ends, 0, 1<<62), 1<<20),
	}
	for _, x := range l.files.broken {
		if x.first < l.at.size {
			c.find(x.first, x.name, "%v", x.err)
		}
	}
	for n := uint64(0); n < l.at.size; n++ {
		if n%1024 == 0 {
			if err := ctx.Err(); err != nil {
				return err
			}
			v.progress("journal "+l.id.String(), n, l.at.size)
		}
		if !c.entry(n) {
			break
		}
	}
	c.segments()
	r.Root = c.tree.root()
	v.report.Journals = append(v.report.Journals, r)
	return nil
}

type checker struct {
	v      *verifier
	l      *log
	r      *JournalReport
	hashes *bufio.Reader
	ends   *bufio.Reader
	tree   tree
	at     int64 // bytes of records before
	before int64 // recorded time of the entry before
	marked uint64
	root   string
	buf    []byte
}

func (c *checker) find(n uint64, where, format string, args ...any) {
	c.v.report.find(Finding{c.l.id, int64(n), where, fmt.Sprintf(format, args...)})
}

// entry checks one entry; false where nothing after it can be found.
func (c *checker) entry(n uint64) bool {
	var e [endSize]byte
	_, endErr := io.ReadFull(c.ends, e[:])
	end := int64(binary.BigEndian.Uint64(e[:]))
	rec, err := c.record()
	switch {
	case err != nil:
		c.find(n, "segment", "%v", err)
		if endErr != nil || end <= c.at || end-c.at > maxRecord {
			c.find(n, "ends", "it does not say where the damaged entry ends; nothing behind it was checked")
			return false
		}
		c.at = end
	default:
		c.at += int64(rec.size)
		if endErr != nil {
			c.find(n, "ends", "the entry ends at %d, which the file does not say: %v", c.at, endErr)
		} else if end != c.at {
			c.find(n, "ends", "the entry ends at %d, the file says %d", c.at, end)
		}
		if rec.erased {
			c.r.Erased++
		}
	}
	var leaf tlog.Hash
	if rec.raw != nil {
		leaf = journal.LeafHash(rec.raw)
	}
	if err == nil {
		c.meaning(n, rec)
	}
	return c.stored(n, leaf, rec.raw != nil)
}

// record reads the record at c.at; its header bytes may be good where the rest is not.
func (c *checker) record() (record, error) {
	if cap(c.buf) == 0 {
		c.buf = make([]byte, 64<<10)
	}
	b := c.buf[:cap(c.buf)]
	for {
		n, err := c.l.files.readSome(b, c.at)
		if err != nil {
			return record{}, err
		}
		r, err := decodeRecord(b[:n])
		if errors.Is(err, io.ErrUnexpectedEOF) && n == len(b) && len(b) < maxRecord {
			b = make([]byte, min(maxRecord, 8*len(b)))
			c.buf = b
			continue
		}
		if errors.Is(err, io.ErrUnexpectedEOF) {
			return record{}, errors.New("the segment ends in the middle of the entry")
		}
		return r, err
	}
}

// meaning checks what the header says.
func (c *checker) meaning(n uint64, rec record) {
	e, err := journal.Open(rec.raw, rec.salt, rec.payload, rec.erased)
	switch {
	case err != nil:
		c.find(n, "segment", "%v", err)
	case e.Journal != c.l.id || e.Number != n:
		c.find(n, "segment", "entry %d of journal %s lies in its place", e.Number, e.Journal)
	case c.r.Own && e.RecordedAt < c.before:
		c.find(n, "segment", "recorded at %d, before the entry before it (%d)", e.RecordedAt, c.before)
	default:
		c.before = e.RecordedAt
	}
}

// stored checks the hashes that an entry stores. Where the entry itself is unreadable its leaf is taken from the file.
func (c *checker) stored(n uint64, leaf tlog.Hash, known bool) bool {
	count := storedHashes(n+1) - storedHashes(n)
	got := make([]byte, count*tlog.HashSize)
	if _, err := io.ReadFull(c.hashes, got); err != nil {
		c.find(n, "hashes", "the file ends before the entry's hash: %v", err)
		return false
	}
	if !known {
		leaf = tlog.Hash(got[:tlog.HashSize])
	}
	want := c.tree.add(nil, leaf)
	if !bytes.Equal(got, want) {
		for i := range count {
			if at := i * tlog.HashSize; !bytes.Equal(got[at:at+tlog.HashSize], want[at:at+tlog.HashSize]) {
				c.find(n, "hashes", "the tree hash of level %d over entries %d to %d does not match", i, n+1-1<<i, n)
				break
			}
		}
	}
	if c.tree.size == c.marked && c.root != "" {
		if root := c.tree.root(); hex.EncodeToString(root[:]) != c.root {
			c.find(n, "marker", "the tree of %d entries has root %x, the marker says %s", c.marked, root[:], c.root)
		}
	}
	return true
}

// segments checks that the segments' headers agree with what lies before them.
func (c *checker) segments() {
	base := int64(-1)
	for i, s := range c.l.files.segments {
		if i == 0 && (s.first != 0 || s.base != 0) {
			c.find(0, s.name, "the first segment begins at entry %d", s.first)
		}
		if s.name != fmt.Sprintf("%020d.seg", s.first) {
			c.find(s.first, s.name, "its header says that it begins at entry %d", s.first)
		}
		if s.first > c.l.at.size {
			continue // behind what the tables have
		}
		if end, err := c.l.files.end(s.first); err != nil || end != s.base || s.base <= base {
			c.find(s.first, s.name, "its header says that %d bytes lie before it, there are %d", s.base, end)
		}
		base = s.base
	}
	if n := len(c.l.files.segments); n > 0 {
		s := c.l.files.segments[n-1]
		if size, err := s.f.Size(); err == nil && size-segmentHeader+s.base > c.l.at.bytes {
			c.v.report.Notes = append(c.v.report.Notes, fmt.Sprintf("journal %s: %d bytes behind entry %d belong to no commit; the next start cuts them off",
				c.l.id, size-segmentHeader+s.base-c.l.at.bytes, int64(c.l.at.size)-1))
		}
	}
}

// readSome reads up to len(b) bytes of records at a position, within one segment.
func (fs *files) readSome(b []byte, at int64) (int, error) {
	for i := len(fs.segments) - 1; i >= 0; i-- {
		s := fs.segments[i]
		if s.base > at {
			continue
		}
		if i+1 < len(fs.segments) {
			b = b[:min(int64(len(b)), fs.segments[i+1].base-at)]
		}
		n, err := s.f.ReadAt(b, segmentHeader+at-s.base)
		if n > 0 || errors.Is(err, io.EOF) {
			err = nil
		}
		return n, err
	}
	return 0, errors.New("no segment has it")
}

func (mk *marker) root(id journal.ID) string {
	for _, j := range mk.Journals {
		if j.ID == id.String() {
			return j.Root
		}
	}
	return ""
}

// marker reads the newest marker, and checks that with the raft log it reaches the tables.
func (v *verifier) marker() *marker {
	mk, index, err := readSnapshots(filepath.Join(v.dir, "snapshots"))
	bad := func(where, format string, args ...any) {
		v.report.find(Finding{Entry: -1, Where: where, What: fmt.Sprintf(format, args...)})
	}
	if err != nil {
		bad("snapshots", "%v", err)
		return &marker{}
	}
	m := v.s.m
	if mk.Own != "" && mk.Own != m.own.id.String() {
		bad("snapshots", "the marker is of journal %s, the tables are of %s", mk.Own, m.own.id)
	}
	from := max(mk.Applied, index)
	if m.applied < mk.Applied {
		from = m.applied
		v.report.Notes = append(v.report.Notes, "the tables are older than the marker; the next start replays the raft log")
	}
	to := max(m.applied, mk.Applied)
	if to <= from {
		return mk
	}
	next := from + 1
	err = v.raftLog(from, func(l *raft.Log) error {
		if l.Index != next {
			return fmt.Errorf("log %d follows log %d", l.Index, next-1)
		}
		next++
		if l.Type == raft.LogCommand {
			if _, err := decodeGroup(l.Data); err != nil {
				return fmt.Errorf("log %d: %w", l.Index, err)
			}
		}
		return nil
	})
	if err != nil {
		bad("raft", "%v", err)
	} else if next <= to {
		bad("raft", "the log ends at %d, the tables and the marker need it from %d to %d", next-1, from+1, to)
	}
	return mk
}

// raftLog reads the raft log behind an index without changing it.
func (v *verifier) raftLog(after uint64, each func(l *raft.Log) error) error {
	dir := filepath.Join(v.dir, "raft")
	if err := copyFile(filepath.Join(v.scratch, metadb.FileName), filepath.Join(dir, metadb.FileName)); err != nil {
		return err
	}
	var meta metadb.BoltMetaDB
	state, err := meta.Load(v.scratch)
	if err != nil {
		return err
	}
	defer func() { _ = meta.Close() }() // a copy
	filer := segment.NewFiler(dir, fs.New())
	for _, si := range state.Segments {
		if !si.SealTime.IsZero() && si.MaxIndex <= after {
			continue
		}
		var broken error
		before := uint64(0)
		if !si.SealTime.IsZero() {
			before = si.MaxIndex + 1 // what follows it in the file was taken back
		}
		err := filer.DumpSegment(si.BaseIndex, si.ID, max(after, si.MinIndex-1), before, func(_ types.SegmentInfo, e types.LogEntry) (bool, error) {
			var l raft.Log
			if broken = (&wal.BinaryCodec{}).Decode(e.Data, &l); broken == nil {
				broken = each(&l)
			}
			return broken == nil, nil
		})
		if err := errors.Join(err, broken); err != nil {
			return err
		}
	}
	return nil
}

// readSnapshots finds the newest marker without raft's store, which writes to the folder.
func readSnapshots(dir string) (*marker, uint64, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) || len(entries) == 0 {
		return &marker{}, 0, nil
	}
	if err != nil {
		return nil, 0, err
	}
	type meta struct {
		Index, Term uint64
		CRC         []byte
	}
	var best meta
	var name string
	for _, e := range entries {
		if !e.IsDir() || filepath.Ext(e.Name()) == ".tmp" {
			continue
		}
		b, err := os.ReadFile(filepath.Join(dir, e.Name(), "meta.json"))
		if errors.Is(err, os.ErrNotExist) {
			continue // killed while raft was removing an old one
		}
		if err != nil {
			return nil, 0, err
		}
		var m meta
		if err := json.Unmarshal(b, &m); err != nil {
			return nil, 0, fmt.Errorf("%s: %w", e.Name(), err)
		}
		if name == "" || m.Term > best.Term || m.Term == best.Term && m.Index > best.Index {
			best, name = m, e.Name()
		}
	}
	if name == "" {
		return &marker{}, 0, nil
	}
	f, err := os.Open(filepath.Join(dir, name, "state.bin"))
	if err != nil {
		return nil, 0, err
	}
	defer func() { _ = f.Close() }() // only read
	sum := crc64.New(crc64.MakeTable(crc64.ECMA))
	if _, err := io.Copy(sum, f); err != nil {
		return nil, 0, err
	}
	if !bytes.Equal(sum.Sum(nil), best.CRC) {
		return nil, 0, fmt.Errorf("%s: checksum does not match", name)
	}
	mk, _, err := readMarker(io.NewSectionReader(f, 0, 1<<62))
	return mk, best.Index, err
}
