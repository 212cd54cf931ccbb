package embedded

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"sync"

	"golang.org/x/mod/sumdb/tlog"

	"duban.internal/node/fault"
	"duban.internal/node/journal"
)

// Format of the files of a journal; doc.go specifies it.
const (
	segmentMagic  = "dubanSEG"
	segmentHeader = 64
	recordHeader  = 1 + 4 + 4 + 4
	stateLive     = 'L'
	stateErased   = 'E'
	endSize       = 8
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// appendRecord encodes one entry as it lies in a segment.
func appendRecord(dst, raw, salt, payload []byte, erased bool) []byte {
	at := len(dst)
	state := byte(stateLive)
	if erased {
		state = stateErased
	}
	dst = append(dst, state)
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(raw)))
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(payload)))
	sum := crc32.Checksum(dst[at+1:], castagnoli)
	dst = binary.BigEndian.AppendUint32(dst, crc32.Update(sum, castagnoli, raw))
	dst = append(dst, raw...)
	if erased {
		return append(dst, make([]byte, journal.SaltSize)...)
	}
	return append(append(dst, salt...), payload...)
}

// record is one entry in a segment, not yet judged against its digest.
type record struct {
	raw, salt, payload []byte
	erased             bool
	size               int
}

func decodeRecord(b []byte) (record, error) {
	if len(b) < recordHeader {
		return record{}, io.ErrUnexpectedEOF
	}
	nRaw, nPayload := int(binary.BigEndian.Uint32(b[1:])), int(binary.BigEndian.Uint32(b[5:]))
	if nRaw > maxRaw || nPayload > journal.MaxPayload {
		return record{}, errors.New("impossible length")
	}
	r := record{size: recordHeader + nRaw + journal.SaltSize + nPayload}
	if len(b) < r.size {
		return record{}, io.ErrUnexpectedEOF
	}
	r.raw = b[recordHeader : recordHeader+nRaw : recordHeader+nRaw]
	sum := crc32.Update(crc32.Checksum(b[1:9], castagnoli), castagnoli, r.raw)
	if sum != binary.BigEndian.Uint32(b[9:]) {
		return record{}, errors.New("checksum of the header does not match")
	}
	body := b[recordHeader+nRaw : r.size : r.size]
	switch b[0] {
	case stateLive:
		r.salt, r.payload = body[:journal.SaltSize:journal.SaltSize], body[journal.SaltSize:]
	case stateErased:
		r.erased = true
		for _, x := range body {
			if x != 0 {
				return r, errors.New("erased, and yet bytes remain")
			}
		}
	default:
		return r, fmt.Errorf("unknown state %#x", b[0])
	}
	return r, nil
}

// maxRaw bounds an entry's header bytes, extensions of later versions included.
const maxRaw = 64 << 10

// segmentFile is one file of records.
type segmentFile struct {
	first uint64 // number of its first entry
	base  int64  // bytes of records in the segments before
	f     file
	name  string
}

// files are the files of one journal: segments, `hashes` and `ends`. One goroutine writes; any may read below the size
// that was published to it.
type files struct {
	disk  disk
	dir   string
	id    journal.ID
	limit int64

	mu       sync.RWMutex // segments; held for writing while a payload is being erased
	segments []*segmentFile
	broken   []brokenSegment

	hashes, ends file
	dirty        bool
	dirDirty     bool
}

func openFiles(d disk, dir string, id journal.ID, limit int64) (*files, error) {
	fs := &files{disk: d, dir: dir, id: id, limit: limit}
	real, ok := d.(realDisk)
	readOnly := ok && real.readOnly
	if _, err := d.List(dir); errors.Is(err, os.ErrNotExist) && !readOnly {
		if err := d.MkdirAll(dir); err != nil {
			return nil, err
		}
		if err := d.SyncDir(filepath.Dir(dir)); err != nil {
			return nil, err
		}
		fs.dirDirty = true
	}
	names, err := d.List(dir)
	if err != nil {
		return nil, err
	}
	if fs.hashes, err = d.Open(filepath.Join(dir, "hashes"), true); err != nil {
		return nil, err
	}
	if fs.ends, err = d.Open(filepath.Join(dir, "ends"), true); err != nil {
		return nil, errors.Join(err, fs.hashes.Close())
	}
	for _, name := range names {
		if !strings.HasSuffix(name, ".seg") {
			continue
		}
		f, err := d.Open(filepath.Join(dir, name), false)
		if err != nil {
			return nil, errors.Join(err, fs.close())
		}
		s := &segmentFile{f: f, name: name}
		if err := s.readHeader(id); err != nil {
			// Begun when the machine stopped, it holds nothing that is not in the raft log; truncate judges that.
			if _, scan := fmt.Sscanf(name, "%d.seg", &s.first); scan != nil {
				return nil, errors.Join(err, scan, f.Close(), fs.close())
			}
			fs.broken = append(fs.broken, brokenSegment{s, err})
			continue
		}
		fs.segments = append(fs.segments, s)
	}
	slices.SortFunc(fs.segments, func(a, b *segmentFile) int { return int(a.base - b.base) })
	return fs, nil
}

// brokenSegment has a header that can't be read; first is from its name.
type brokenSegment struct {
	*segmentFile
	err error
}

func (s *segmentFile) header(id journal.ID) []byte {
	b := append(make([]byte, 0, segmentHeader), segmentMagic...)
	b = binary.BigEndian.AppendUint32(b, 1)
	b = append(b, id[:]...)
	b = binary.BigEndian.AppendUint64(b, s.first)
	b = binary.BigEndian.AppendUint64(b, uint64(s.base))
	b = append(b, make([]byte, segmentHeader-4-len(b))...)
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

func (s *segmentFile) readHeader(id journal.ID) error {
	b := make([]byte, segmentHeader)
	if _, err := s.f.ReadAt(b, 0); err != nil {
		return fault.New(fault.Corrupt, "journal %s: segment header of %s: %w", id, s.name, err)
	}
	if crc32.Checksum(b[:segmentHeader-4], castagnoli) != binary.BigEndian.Uint32(b[segmentHeader-4:]) || string(b[:8]) != segmentMagic {
		return fault.New(fault.Corrupt, "journal %s: segment header of %s is damaged", id, s.name)
	}
	if v := binary.BigEndian.Uint32(b[8:]); v != 1 {
		return fault.New(fault.Unsupported, "segment version %d, this program reads 1", v)
	}
	if journal.ID(b[12:28]) != id {
		return fault.New(fault.Corrupt, "segment %s belongs to journal %s, expected %s", s.name, journal.ID(b[12:28]), id)
	}
	s.first, s.base = binary.BigEndian.Uint64(b[28:]), int64(binary.BigEndian.Uint64(b[36:]))
	return nil
}

// append writes a run of records at a position; hashes and ends go with it.
func (fs *files) append(at position, run *run) error {
	fs.dirty = true
	if len(fs.segments) == 0 || at.bytes-fs.segments[len(fs.segments)-1].base >= fs.limit {
		if err := fs.roll(at); err != nil {
			return err
		}
	}
	s := fs.segments[len(fs.segments)-1]
	to := segmentHeader + at.bytes - s.base
	for _, c := range run.records {
		if _, err := s.f.WriteAt(*c, to); err != nil {
			return err
		}
		to += int64(len(*c))
	}
	if _, err := fs.hashes.WriteAt(run.hashes, storedHashes(at.size)*tlog.HashSize); err != nil {
		return err
	}
	_, err := fs.ends.WriteAt(run.ends, int64(at.size)*endSize)
	return err
}

func (fs *files) roll(at position) error {
	s := &segmentFile{first: at.size, base: at.bytes, name: fmt.Sprintf("%020d.seg", at.size)}
	var err error
	if s.f, err = fs.disk.Open(filepath.Join(fs.dir, s.name), true); err != nil {
		return err
	}
	if err := s.f.Truncate(0); err != nil {
		return err
	}
	if _, err := s.f.WriteAt(s.header(fs.id), 0); err != nil {
		return err
	}
	if n := len(fs.segments); n > 0 { // only the last segment is fsynced by markers
		if err := fs.segments[n-1].f.Sync(); err != nil {
			return err
		}
	}
	fs.dirDirty = true
	fs.mu.Lock()
	fs.segments = append(fs.segments, s)
	fs.mu.Unlock()
	return nil
}

// sync makes everything written durable.
func (fs *files) sync() error {
	if fs.dirty && len(fs.segments) > 0 {
		if err := fs.segments[len(fs.segments)-1].f.Sync(); err != nil {
			return err
		}
	}
	if fs.dirty {
		if err := errors.Join(fs.hashes.Sync(), fs.ends.Sync()); err != nil {
			return err
		}
	}
	if fs.dirDirty {
		if err := fs.disk.SyncDir(fs.dir); err != nil {
			return err
		}
	}
	fs.dirty, fs.dirDirty = false, false
	return nil
}

// truncate cuts everything off behind a position.
func (fs *files) truncate(at position) error {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	for _, x := range fs.broken {
		if x.first < at.size {
			return x.err
		}
		if err := errors.Join(x.f.Close(), fs.disk.Remove(filepath.Join(fs.dir, x.name))); err != nil {
			return err
		}
		fs.dirDirty = true
	}
	fs.broken = nil
	for n := len(fs.segments); n > 0 && fs.segments[n-1].base >= at.bytes; n = len(fs.segments) {
		s := fs.segments[n-1]
		if err := errors.Join(s.f.Close(), fs.disk.Remove(filepath.Join(fs.dir, s.name))); err != nil {
			return err
		}
		fs.segments = fs.segments[:n-1]
		fs.dirDirty = true
	}
	if n := len(fs.segments); n > 0 {
		s := fs.segments[n-1]
		if err := s.f.Truncate(segmentHeader + at.bytes - s.base); err != nil {
			return err
		}
	}
	fs.dirty = true
	return errors.Join(fs.hashes.Truncate(storedHashes(at.size)*tlog.HashSize), fs.ends.Truncate(int64(at.size)*endSize))
}

func (fs *files) close() error {
	var errs []error
	for _, s := range fs.segments {
		errs = append(errs, s.f.Close())
	}
	for _, x := range fs.broken {
		errs = append(errs, x.f.Close())
	}
	fs.segments, fs.broken = nil, nil
	for _, f := range []file{fs.hashes, fs.ends} {
		if f != nil {
			errs = append(errs, f.Close())
		}
	}
	return errors.Join(errs...)
}

// end is where the records of the first n entries end.
func (fs *files) end(n uint64) (int64, error) {
	if n == 0 {
		return 0, nil
	}
	var b [endSize]byte
	if _, err := fs.ends.ReadAt(b[:], int64(n-1)*endSize); err != nil {
		return 0, err
	}
	return int64(binary.BigEndian.Uint64(b[:])), nil
}

// ReadHashes reads the tree.
func (fs *files) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(indexes))
	for i, x := range indexes {
		if _, err := fs.hashes.ReadAt(out[i][:], x*tlog.HashSize); err != nil {
			return nil, fmt.Errorf("journal %s: tree hash %d: %w", fs.id, x, err)
		}
	}
	return out, nil
}

// readBytes reads records from a byte position on.
func (fs *files) readBytes(b []byte, at int64) error {
	fs.mu.RLock()
	defer fs.mu.RUnlock()
	for len(b) > 0 {
		i := sort.Search(len(fs.segments), func(i int) bool { return fs.segments[i].base > at }) - 1
		if i < 0 {
			return io.ErrUnexpectedEOF
		}
		n := int64(len(b))
		if i+1 < len(fs.segments) {
			n = min(n, fs.segments[i+1].base-at)
		}
		if _, err := fs.segments[i].f.ReadAt(b[:n], segmentHeader+at-fs.segments[i].base); err != nil {
			return err
		}
		b, at = b[n:], at+n
	}
	return nil
}

const readAhead = 4096

// read returns entries from a number on, below size, up to about max bytes.
func (fs *files) read(from, size uint64, most int) ([]journal.Entry, error) {
	if from >= size {
		return nil, nil
	}
	n := min(size-from, readAhead)
	begin, err := fs.end(from)
	if err != nil {
		return nil, err
	}
	ends := make([]byte, n*endSize)
	if _, err := fs.ends.ReadAt(ends, int64(from)*endSize); err != nil {
		return nil, err
	}
	end := int64(0)
	for i := range n {
		e := int64(binary.BigEndian.Uint64(ends[i*endSize:]))
		if i > 0 && e-begin > int64(most) {
			n = i
			break
		}
		end = e
	}
	if end <= begin || end-begin > int64(max(most, maxRecord)) {
		return nil, fault.New(fault.Corrupt, "journal %s entry %d: its place in the segments makes no sense (%d to %d); run verify", fs.id, from, begin, end)
	}
	buf := make([]byte, end-begin)
	if err := fs.readBytes(buf, begin); err != nil {
		return nil, fmt.Errorf("journal %s entry %d: %w", fs.id, from, err)
	}
	out := make([]journal.Entry, 0, n)
	for i := range n {
		r, err := decodeRecord(buf)
		if err != nil {
			return nil, fault.New(fault.Corrupt, "journal %s entry %d: %w", fs.id, from+i, err)
		}
		e, err := journal.Open(r.raw, r.salt, r.payload, r.erased)
		if err == nil && (e.Journal != fs.id || e.Number != from+i) {
			err = fmt.Errorf("found journal %s entry %d in its place", e.Journal, e.Number)
		}
		if err != nil {
			return nil, fault.New(fault.Corrupt, "journal %s entry %d: %w", fs.id, from+i, err)
		}
		out = append(out, e)
		buf = buf[r.size:]
	}
	return out, nil
}

const maxRecord = recordHeader + maxRaw + journal.SaltSize + journal.MaxPayload

// erase overwrites salt and payload of an entry in place. It may be repeated.
func (fs *files) erase(number uint64) error {
	begin, err := fs.end(number)
	if err != nil {
		return err
	}
	end, err := fs.end(number + 1)
	if err != nil {
		return err
	}
	var head [recordHeader]byte
	if err := fs.readBytes(head[:], begin); err != nil {
		return err
	}
	nRaw := int64(binary.BigEndian.Uint32(head[1:]))
	fs.mu.Lock()
	defer fs.mu.Unlock()
	i := sort.Search(len(fs.segments), func(i int) bool { return fs.segments[i].base > begin }) - 1
	if i < 0 || nRaw > maxRaw || begin+recordHeader+nRaw > end {
		return fault.New(fault.Corrupt, "journal %s entry %d: its place in the segments makes no sense; run verify", fs.id, number)
	}
	s := fs.segments[i]
	at := segmentHeader + begin - s.base
	if _, err := s.f.WriteAt(make([]byte, end-begin-recordHeader-nRaw), at+recordHeader+nRaw); err != nil {
		return err
	}
	if _, err := s.f.WriteAt([]byte{stateErased}, at); err != nil {
		return err
	}
	fs.dirty = true
	return s.f.Sync() // it need not be the last segment
}

// position is an end of a journal: entries and bytes of records before it.
type position struct {
	size  uint64
	bytes int64
}
