package embedded

import (
	"io"
	"os"
	"path/filepath"
)

// disk is what the engine asks of a file system for the files of journals. Tests give it a faulty or a slow twin.
type disk interface {
	Open(name string, create bool) (file, error)
	List(dir string) ([]string, error) // names, sorted
	Remove(name string) error
	MkdirAll(dir string) error
	SyncDir(dir string) error
}

type file interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Truncate(size int64) error
	Size() (int64, error)
	Sync() error
}

type realDisk struct{ readOnly bool }

type realFile struct{ *os.File }

func (d realDisk) Open(name string, create bool) (file, error) {
	flags := os.O_RDWR
	if create {
		flags |= os.O_CREATE
	}
	if d.readOnly {
		flags = os.O_RDONLY
	}
	f, err := os.OpenFile(name, flags, 0o640)
	if err != nil {
		return nil, err
	}
	return realFile{f}, nil
}

func (realDisk) List(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	return names, err
}

func (realDisk) Remove(name string) error  { return os.Remove(name) }
func (realDisk) MkdirAll(dir string) error { return os.MkdirAll(dir, 0o750) }

func (realDisk) SyncDir(dir string) error {
	f, err := os.Open(filepath.Clean(dir))
	if err != nil {
		return err
	}
	err = f.Sync()
	if e := f.Close(); err == nil {
		err = e
	}
	return err
}

func (f realFile) Size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}
