package attachment_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"

	"duban.internal/node/attachment"
	"duban.internal/node/fault"
)

func open(t *testing.T, dir string) *attachment.Files {
	t.Helper()
	f, err := attachment.Open(attachment.Config{Dir: dir, Max: 1 << 20})
	require.NoError(t, err)
	return f
}

// files are all regular files below a folder.
func files(t *testing.T, dir string) (all []string) {
	t.Helper()
	require.NoError(t, filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			all = append(all, path)
		}
		return err
	}))
	return all
}

func TestPutGet(t *testing.T) {
	dir := t.TempDir()
	f := open(t, dir)
	content := bytes.Repeat([]byte("evidence"), 50_000)
	sum := sha256.Sum256(content)
	_, ok := f.Has(sum[:])
	require.False(t, ok)
	duplicate, err := f.Put(t.Context(), sum[:], uint64(len(content)), iotest.HalfReader(bytes.NewReader(content)))
	require.NoError(t, err)
	require.False(t, duplicate)
	duplicate, err = f.Put(t.Context(), sum[:], uint64(len(content)), iotest.ErrReader(errors.New("must not be read")))
	require.NoError(t, err)
	require.True(t, duplicate)
	again := open(t, dir)
	size, ok := again.Has(sum[:])
	require.True(t, ok)
	require.EqualValues(t, len(content), size)
	for _, offset := range []uint64{0, 1, 300_000, uint64(len(content))} {
		r, err := again.Get(sum[:], offset)
		require.NoError(t, err)
		got, err := io.ReadAll(r)
		require.NoError(t, err)
		require.NoError(t, r.Close())
		require.True(t, bytes.Equal(content[offset:], got), "from %d", offset)
	}
	_, err = again.Get(sum[:], uint64(len(content))+1)
	require.Equal(t, fault.Invalid, fault.Of(err))
	other := sha256.Sum256(nil)
	_, err = again.Get(other[:], 0)
	require.Equal(t, fault.NotFound, fault.Of(err))
}

// What is not what was announced leaves nothing behind.
func TestRefused(t *testing.T) {
	dir := t.TempDir()
	f := open(t, dir)
	content := []byte("bytes")
	sum := sha256.Sum256(content)
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	for _, c := range []struct {
		name  string
		ctx   context.Context
		sha   []byte
		size  uint64
		r     io.Reader
		kind  fault.Kind
		field string
	}{
		{"no address", t.Context(), nil, 5, bytes.NewReader(content), fault.Invalid, "sha256"},
		{"no size", t.Context(), sum[:], 0, bytes.NewReader(content), fault.Invalid, "size"},
		{"too large", t.Context(), sum[:], 1<<20 + 1, bytes.NewReader(content), fault.Exhausted, "size"},
		{"shorter", t.Context(), sum[:], 6, bytes.NewReader(content), fault.Invalid, "size"},
		{"longer", t.Context(), sum[:], 4, bytes.NewReader(content), fault.Invalid, "size"},
		{"other bytes", t.Context(), sum[:], 5, bytes.NewReader([]byte("bytez")), fault.Invalid, "sha256"},
		{"broken off", t.Context(), sum[:], 5, io.MultiReader(bytes.NewReader(content[:2]), iotest.ErrReader(errors.New("gone"))), fault.Internal, ""},
		{"canceled", canceled, sum[:], 5, bytes.NewReader(content), fault.Internal, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := f.Put(c.ctx, c.sha, c.size, c.r)
			require.Error(t, err)
			require.Equal(t, c.kind, fault.Of(err))
			if c.field != "" {
				require.Equal(t, c.field, fault.Fields(err)[0].Field)
			}
			require.Empty(t, files(t, dir))
		})
	}
}

func TestCrashedUploadsAreCleared(t *testing.T) {
	dir := t.TempDir()
	open(t, dir)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "incoming", "half"), []byte("x"), 0o600))
	open(t, dir)
	require.Empty(t, files(t, dir))
}

func TestSameBytesAtOnce(t *testing.T) {
	dir := t.TempDir()
	f := open(t, dir)
	content := bytes.Repeat([]byte{7}, 100_000)
	sum := sha256.Sum256(content)
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			if _, err := f.Put(context.Background(), sum[:], uint64(len(content)), bytes.NewReader(content)); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	require.Len(t, files(t, dir), 1)
}
