package attachment_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"duban.internal/node/fault"
)

// An attachment comes in pieces, over breaks and a restart, and is what its address says.
func TestResume(t *testing.T) {
	dir := t.TempDir()
	f := open(t, dir)
	content := bytes.Repeat([]byte("evidence"), 50_000)
	sum := sha256.Sum256(content)
	sent := 0
	for i := range 7 {
		if i == 3 {
			f = open(t, dir) // a restart
		}
		p, err := f.Resume(sum[:])
		require.NoError(t, err)
		require.EqualValues(t, sent, p.Size())
		_, err = f.Resume(sum[:])
		require.Equal(t, fault.Conflict, fault.Of(err), "one at a time")
		n, err := p.Write(content[sent:min(len(content), sent+60_000)])
		require.NoError(t, err)
		sent += n
		_, ok := f.Has(sum[:])
		require.False(t, ok)
		if sent == len(content) {
			require.NoError(t, p.Finish(t.Context()))
		}
		require.NoError(t, p.Close())
	}
	require.Len(t, files(t, dir), 1)
	r, err := f.Get(sum[:], 0)
	require.NoError(t, err)
	got, err := io.ReadAll(r)
	require.NoError(t, err)
	require.NoError(t, r.Close())
	require.True(t, bytes.Equal(content, got))
}

// What came is not what was asked for, too much, or spoiled by a crash: it is dropped, and the next attempt begins anew.
func TestResumeOfOtherBytes(t *testing.T) {
	dir := t.TempDir()
	f := open(t, dir)
	content := []byte("evidence")
	sum := sha256.Sum256(content)
	_, err := f.Resume(sum[:5])
	require.Equal(t, fault.Invalid, fault.Of(err))

	p, err := f.Resume(sum[:])
	require.NoError(t, err)
	_, err = p.Write([]byte("evidenze"))
	require.NoError(t, err)
	require.Equal(t, fault.Corrupt, fault.Of(p.Finish(t.Context())))
	require.Empty(t, files(t, dir))

	p, err = f.Resume(sum[:])
	require.NoError(t, err)
	require.Zero(t, p.Size())
	_, err = p.Write(make([]byte, 1<<20+1))
	require.Equal(t, fault.Exhausted, fault.Of(err))
	_, err = p.Write(content[:4])
	require.NoError(t, err)
	require.NoError(t, p.Close())
	require.NoError(t, p.Close())
	left := files(t, dir)
	require.Len(t, left, 1)
	require.Equal(t, "partial", filepath.Base(filepath.Dir(left[0])))
	require.NoError(t, os.WriteFile(left[0], []byte{0, 0, 0, 0}, 0o600)) // as a file system leaves it that lost power

	p, err = f.Resume(sum[:])
	require.NoError(t, err)
	_, err = p.Write(content[4:])
	require.NoError(t, err)
	require.Equal(t, fault.Corrupt, fault.Of(p.Finish(t.Context())))

	p, err = f.Resume(sum[:])
	require.NoError(t, err)
	_, err = p.Write(content)
	require.NoError(t, err)
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, p.Finish(canceled), context.Canceled)
	p, err = f.Resume(sum[:])
	require.NoError(t, err)
	require.EqualValues(t, len(content), p.Size(), "what came is kept")
	require.NoError(t, p.Finish(t.Context()))
	size, ok := f.Has(sum[:])
	require.True(t, ok)
	require.EqualValues(t, len(content), size)
}
