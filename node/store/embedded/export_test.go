package embedded

import (
	"time"

	"github.com/hashicorp/raft-wal/fs"
	"github.com/hashicorp/raft-wal/types"

	"duban.internal/node/clock"
)

// SlowSync adds d to every fsync of the raft log and of journals' files. SQLite's own fsyncs (of checkpoints and
// markers) and those of raft-wal's bolt file (at rotations and elections) stay as they are.
func SlowSync(cfg Config, d time.Duration) Config {
	cfg.disk = slowDisk{d: d}
	cfg.walVFS = slowVFS{fs.New(), d}
	return cfg
}

func pause(d time.Duration) { <-clock.System().Timer(d).C }

type slowDisk struct {
	realDisk
	d time.Duration
}

type slowFile struct {
	file
	d time.Duration
}

func (x slowDisk) Open(name string, create bool) (file, error) {
	f, err := x.realDisk.Open(name, create)
	return slowFile{f, x.d}, err
}

func (f slowFile) Sync() error { pause(f.d); return f.file.Sync() }

type slowVFS struct {
	types.VFS
	d time.Duration
}

type slowWAL struct {
	types.WritableFile
	d time.Duration
}

func (f slowWAL) Sync() error { pause(f.d); return f.WritableFile.Sync() }

func (v slowVFS) Create(dir, name string, size uint64) (types.WritableFile, error) {
	f, err := v.VFS.Create(dir, name, size)
	return slowWAL{f, v.d}, err
}

func (v slowVFS) OpenWriter(dir, name string) (types.WritableFile, error) {
	f, err := v.VFS.OpenWriter(dir, name)
	return slowWAL{f, v.d}, err
}

// Jobs is how many commits of tables there were, and raft's index.
func (s *Store) Jobs() (jobs, logs uint64) {
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	return s.m.job, s.m.applied
}
