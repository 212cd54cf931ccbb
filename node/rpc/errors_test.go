package rpc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"duban.internal/node/fault"
)

// Every kind crosses the wire and comes back with its sentence and its fields.
func TestKindsRoundTrip(t *testing.T) {
	for _, k := range fault.Kinds() {
		t.Run(k.String(), func(t *testing.T) {
			said := &fault.Error{
				Kind: k, Msg: "that won't do", Err: errors.New("cause"),
				Fields: []fault.Field{{Field: "a.b[1]", Description: "missing: 案号"}, {Field: "c", Description: "too long"}},
			}
			wire := toStatus(fmt.Errorf("while deciding: %w", said), func() (string, bool) { return "host:1", false })
			_, mapped := toCode[k]
			require.True(t, mapped)
			require.Equal(t, toCode[k], status.Code(wire))
			got := FromStatus(wire)
			require.Equal(t, k, fault.Of(got))
			if k == fault.Internal {
				require.NotContains(t, got.Error(), "that won't do", "what is internal is for the log")
				require.Empty(t, fault.Fields(got))
				return
			}
			require.Equal(t, said.Fields, fault.Fields(got))
			require.Contains(t, got.Error(), "that won't do")
			require.NotContains(t, got.Error(), "cause")
			var leader *LeaderError
			require.Equal(t, k == fault.NotLeader, errors.As(got, &leader))
			if leader != nil {
				require.Equal(t, "host:1", leader.Address)
			}
		})
	}
}

func TestUnclassified(t *testing.T) {
	wire := toStatus(errors.New("secret path"), nil)
	require.Equal(t, codes.Internal, status.Code(wire))
	require.NotContains(t, wire.Error(), "secret")
	require.NoError(t, toStatus(nil, nil))
	require.NoError(t, FromStatus(nil))
	require.Equal(t, io.EOF, FromStatus(io.EOF))
	late := FromStatus(toStatus(fmt.Errorf("append: %w", context.DeadlineExceeded), nil))
	require.Equal(t, fault.Unavailable, fault.Of(late))
	require.ErrorIs(t, late, context.DeadlineExceeded)
	bytes := toStatus(fault.Refuse(fault.Invalid, "no \xff text", fault.Field{Field: "f\xff", Description: "\xfe"}), nil)
	require.Equal(t, codes.InvalidArgument, status.Code(bytes))
}
