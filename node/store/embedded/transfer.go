package embedded

import (
	"bufio"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/hashicorp/raft"

	"duban.internal/node/fault"
	"duban.internal/node/journal"
)

// snapshots is raft's store of markers. To a replica that is behind the log the leader sends, in place of a marker, its
// whole state: a marker that names files, and their bytes.
type snapshots struct {
	raft.SnapshotStore
	s *Store
}

// sentFile is a file of the data folder in a stream of the whole state.
type sentFile struct {
	Name string `json:"name"` // below the data folder, with slashes
	Size int64  `json:"size"`
}

// Open is raft.SnapshotStore: raft opens a snapshot to send it, or to restore one that it was sent.
func (x snapshots) Open(id string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	meta, r, err := x.SnapshotStore.Open(id)
	if err != nil {
		return nil, nil, err
	}
	mk, _, err := readMarker(r)
	if err := errors.Join(err, r.Close()); err != nil {
		return nil, nil, err
	}
	if len(mk.Files) > 0 {
		return x.SnapshotStore.Open(id)
	}
	stream, size, err := x.s.whole()
	if err != nil {
		return nil, nil, fmt.Errorf("whole state: %w", err)
	}
	sent := *meta
	sent.Size = size
	return &sent, stream, nil
}

// wholeState streams a copy of the tables and the journals' files as far as the copy says.
type wholeState struct {
	io.Reader
	open []io.Closer
	dir  string
}

// Close is io.Closer.
func (w *wholeState) Close() error {
	var errs []error
	for _, c := range w.open {
		errs = append(errs, c.Close())
	}
	return errors.Join(append(errs, os.RemoveAll(w.dir))...)
}

// whole copies the tables as they are now, which is at or after the newest marker: logs that the receiver gets twice it
// skips.
func (s *Store) whole() (_ *wholeState, size int64, err error) {
	dir, err := os.MkdirTemp(s.cfg.Dir, "sending-")
	if err != nil {
		return nil, 0, err
	}
	w := &wholeState{dir: dir}
	defer func() {
		if err != nil {
			_ = w.Close() // the first error is the one to tell
		}
	}()
	tables := filepath.Join(dir, tablesFile)
	c, err := openConn(filepath.Join(s.cfg.Dir, tablesFile), readWrite)
	if err != nil {
		return nil, 0, err
	}
	err = c.exec("VACUUM INTO ?1", tables)
	c.close()
	if err != nil {
		return nil, 0, err
	}
	// The copy's positions, through a store of its own over the same files of journals.
	from := &Store{cfg: Config{Dir: dir, Logger: s.cfg.Logger, disk: realDisk{readOnly: true}}.withDefaults()}
	if err := from.openWriter(); err != nil {
		return nil, 0, err
	}
	defer func() { _ = from.release() }() // a copy
	from.m.dir = s.cfg.Dir
	if err := from.load(); err != nil {
		return nil, 0, err
	}
	mk := &marker{Applied: from.m.applied, Own: from.m.own.id.String(), Stamp: from.m.own.stamp}
	var parts []io.Reader
	add := func(path, name string, n int64) error {
		f, err := os.Open(filepath.Clean(path))
		if err != nil {
			return err
		}
		w.open = append(w.open, f)
		if n < 0 {
			info, err := f.Stat()
			if err != nil {
				return err
			}
			n = info.Size()
		}
		mk.Files = append(mk.Files, sentFile{name, n})
		parts = append(parts, io.NewSectionReader(f, 0, n))
		size += n
		return nil
	}
	from.w.conn.close() // the copy is one file then
	from.w = nil
	from.m.rows.reader.close()
	if err := add(tables, tablesFile, -1); err != nil {
		return nil, 0, err
	}
	for _, l := range from.m.order {
		if l.tree, err = loadTree(l.files, l.at.size); err != nil {
			return nil, 0, err
		}
		root := l.tree.root()
		mk.Journals = append(mk.Journals, markedSize{l.id.String(), l.at.size, l.at.bytes, hex.EncodeToString(root[:])})
		name := journalsDir + "/" + l.id.String() + "/"
		sizes := map[string]int64{"hashes": storedHashes(l.at.size) * 32, "ends": int64(l.at.size) * endSize}
		names := []string{"hashes", "ends"}
		for i, x := range l.files.segments {
			end := l.at.bytes
			if i+1 < len(l.files.segments) {
				end = min(end, l.files.segments[i+1].base)
			}
			if x.base < end {
				names, sizes[x.name] = append(names, x.name), segmentHeader+end-x.base
			}
		}
		for _, n := range names {
			if err := add(filepath.Join(s.cfg.Dir, filepath.FromSlash(name), n), name+n, sizes[n]); err != nil {
				return nil, 0, err
			}
		}
	}
	var head strings.Builder
	if err := mk.write(&head); err != nil {
		return nil, 0, err
	}
	w.Reader = io.MultiReader(append([]io.Reader{strings.NewReader(head.String())}, parts...)...)
	return w, size + int64(head.Len()), nil
}

// A state that is coming in lies in incomingDir; once whole it is renamed to arrivedDir and takes the place of the old.
const (
	incomingDir = "incoming"
	arrivedDir  = "arrived"
)

// receive writes a streamed state beside the present one.
func receive(dir string, mk *marker, r io.Reader) error {
	in := filepath.Join(dir, incomingDir)
	if err := os.RemoveAll(in); err != nil {
		return err
	}
	folders := map[string]bool{in: true, filepath.Join(in, journalsDir): true}
	for _, f := range mk.Files {
		if !goodName(f.Name) {
			return fault.New(fault.Corrupt, "the leader's state names a file %q", f.Name)
		}
		path := filepath.Join(in, filepath.FromSlash(f.Name))
		if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
			return err
		}
		folders[filepath.Dir(path)] = true
		out, err := os.OpenFile(filepath.Clean(path), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o640)
		if err != nil {
			return err
		}
		_, err = io.CopyN(out, r, f.Size)
		if err := errors.Join(err, out.Sync(), out.Close()); err != nil {
			return fmt.Errorf("%s: %w", f.Name, err)
		}
	}
	for folder := range folders {
		if err := (realDisk{}).SyncDir(folder); err != nil {
			return err
		}
	}
	if err := os.Rename(in, filepath.Join(dir, arrivedDir)); err != nil {
		return err
	}
	return realDisk{}.SyncDir(dir)
}

// goodName keeps a stream from writing anywhere but where state belongs.
func goodName(name string) bool {
	if name == tablesFile {
		return true
	}
	p := strings.Split(name, "/")
	if len(p) != 3 || p[0] != journalsDir {
		return false
	}
	if _, err := journal.ParseID(p[1]); err != nil {
		return false
	}
	return p[2] == "hashes" || p[2] == "ends" || strings.HasSuffix(p[2], ".seg") && strings.Trim(p[2], "0123456789") == ".seg"
}

// settleArrived puts a state that has come in whole in the place of the old one. It may be interrupted anywhere and
// begun again; nothing may be open.
func settleArrived(dir string) error {
	at := filepath.Join(dir, arrivedDir)
	if err := os.RemoveAll(filepath.Join(dir, incomingDir)); err != nil {
		return err
	}
	if sending, err := filepath.Glob(filepath.Join(dir, "sending-*")); err == nil {
		for _, name := range sending {
			if err := os.RemoveAll(name); err != nil {
				return err
			}
		}
	}
	if _, err := os.Stat(at); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	// tables.db moves last: while it is there, this is not done.
	for _, name := range []string{journalsDir, tablesFile} {
		from, to := filepath.Join(at, name), filepath.Join(dir, name)
		if _, err := os.Stat(from); errors.Is(err, os.ErrNotExist) {
			continue // moved before the interruption
		}
		for _, old := range []string{to, to + "-wal", to + "-shm"} {
			if err := os.RemoveAll(old); err != nil {
				return err
			}
		}
		if err := os.Rename(from, to); err != nil {
			return err
		}
		if err := (realDisk{}).SyncDir(dir); err != nil {
			return err
		}
	}
	return errors.Join(os.RemoveAll(at), realDisk{}.SyncDir(dir))
}

// Restore takes the leader's whole state in place of this replica's.
func (f fsm) Restore(r io.ReadCloser) error {
	s := f.s
	mk, rest, err := readMarker(r)
	if err == nil && mk.Own != s.own.String() {
		err = fault.New(fault.Corrupt, "the leader's state is of journal %s, this replica is of %s", mk.Own, s.own)
	}
	if err == nil {
		err = receive(s.cfg.Dir, mk, rest)
	}
	if err := errors.Join(err, r.Close()); err != nil {
		return err
	}
	if err := s.onWriter(func() error { return s.exchange(mk) }); err != nil {
		s.fail(err)
		return err
	}
	s.cfg.Logger.Info("took over the leader's whole state", "applied", mk.Applied)
	return nil
}

// exchange runs on the writer, while nothing is applied: files and connections go over to the state that arrived.
func (s *Store) exchange(mk *marker) error {
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	if k := s.check; k != nil {
		if k.busy {
			if err := <-k.ended; err != nil { // the tables that it was for are replaced
				s.cfg.Logger.Warn("checkpoint of tables that are replaced", "error", err)
			}
			k.busy = false
		}
		k.conn.close()
	}
	old := s.readers.Load()
	if err := s.reopen(); err != nil {
		return err
	}
	if err := old.retire(); err != nil {
		s.cfg.Logger.Warn("old connections", "error", err)
	}
	for _, l := range s.m.order {
		if err := s.cut(l, l.at); err != nil {
			return err
		}
	}
	if s.check != nil {
		if err := s.w.run("PRAGMA wal_autocheckpoint=0"); err != nil {
			return err
		}
		var err error
		if s.check.conn, err = openConn(filepath.Join(s.cfg.Dir, tablesFile), readWrite, "synchronous=NORMAL"); err != nil {
			return err
		}
	}
	if err := s.settle(context.Background()); err != nil {
		return err
	}
	s.marked.Store(mk.Applied)
	s.republish()
	return nil
}

// reopen opens the state that arrived in place of the present one. Readers that are at it finish on the old files, which
// have no names any more: those of journals are closed when nothing refers to them.
func (s *Store) reopen() error {
	m := s.m
	s.w.conn.close()
	m.rows.reader.close()
	if err := settleArrived(s.cfg.Dir); err != nil {
		return err
	}
	m.rows.forget()
	m.order, m.logs = nil, map[journal.ID]*log{}
	if err := s.openTables(); err != nil {
		return err
	}
	return s.load()
}

// restoreNewest takes the newest snapshot's state, at a start.
func (s *Store) restoreNewest() error {
	list, err := s.snaps.List()
	if err != nil {
		return err
	}
	_, r, err := s.snaps.Open(list[0].ID)
	if err != nil {
		return err
	}
	mk, rest, err := readMarker(r)
	if err == nil {
		err = receive(s.cfg.Dir, mk, rest)
	}
	if err := errors.Join(err, r.Close()); err != nil {
		return err
	}
	old := s.readers.Load()
	return errors.Join(s.reopen(), old.retire())
}

// readMarker reads a marker and gives what follows it.
func readMarker(r io.Reader) (*marker, io.Reader, error) {
	b := bufio.NewReaderSize(r, 64<<10)
	magic := make([]byte, len(markerMagic))
	if _, err := io.ReadFull(b, magic); err != nil || string(magic) != markerMagic {
		return nil, nil, fault.New(fault.Corrupt, "the newest raft snapshot is not a marker of this program")
	}
	line, err := b.ReadBytes('\n')
	if err != nil {
		return nil, nil, fault.New(fault.Corrupt, "marker: %w", err)
	}
	mk := &marker{}
	if err := json.Unmarshal(line, mk); err != nil {
		return nil, nil, fault.New(fault.Corrupt, "marker: %w", err)
	}
	return mk, b, nil
}
