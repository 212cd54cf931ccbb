package service

import (
	"testing"

	"github.com/stretchr/testify/require"

	"duban.internal/node/attachment"
	"duban.internal/node/fault"
)

// What one agency has under way bounds what else it may begin, and no other agency.
func TestFlight(t *testing.T) {
	f := newFlight()
	var ends []func()
	for range maxUploads {
		done, err := f.begin("a", 1)
		require.NoError(t, err)
		ends = append(ends, done)
	}
	_, err := f.begin("a", 1)
	require.True(t, fault.Is(err, fault.Exhausted), "%v", err)
	other, err := f.begin("b", attachment.DefaultMax)
	require.NoError(t, err)
	second, err := f.begin("b", attachment.DefaultMax)
	require.NoError(t, err)
	_, err = f.begin("b", 1)
	require.True(t, fault.Is(err, fault.Exhausted), "%v", err)
	other()
	other, err = f.begin("b", attachment.DefaultMax)
	require.NoError(t, err)
	for _, done := range append(ends, other, second) {
		done()
	}
	require.Empty(t, f.now)
}
