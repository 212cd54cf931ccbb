package exit_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"duban.internal/cmd/duban/exit"
	"duban.internal/node/fault"
)

func TestEveryKindHasACode(t *testing.T) {
	for _, k := range fault.Kinds() {
		err := fmt.Errorf("asking: %w", fault.New(k, "no"))
		for _, code := range []int{exit.Code(err), exit.Code(exit.Remote(err))} {
			require.NotZero(t, code, k)
			require.Contains(t, exit.Help, fmt.Sprintf("\n%5d  ", code))
		}
	}
	for _, c := range []struct {
		err  error
		want int
	}{
		{nil, 0},
		{exit.Remote(nil), 0},
		{errors.New("disk"), exit.Failed},
		{fault.New(fault.Invalid, "x"), exit.Usage},
		{exit.Remote(fault.New(fault.Invalid, "x")), exit.Refused},
		{exit.Remote(fault.New(fault.Unavailable, "x")), exit.Unreachable},
		{exit.Remote(fault.New(fault.Internal, "x")), exit.Failed},
		{exit.Remote(fault.New(fault.Unauthenticated, "x")), exit.Unreachable}, // "does not accept the certificate"
		{exit.Remote(context.DeadlineExceeded), exit.Unreachable},
		{context.Canceled, exit.Interrupted},
		{fault.New(fault.Corrupt, "x"), exit.Refused},
	} {
		require.Equal(t, c.want, exit.Code(c.err), "%v", c.err)
	}
}

func TestTell(t *testing.T) {
	err := exit.Remote(fault.Refuse(fault.Precondition, "the stage can't be recorded", fault.Field{Field: "stage.officers", Description: "at least one"}))
	var out bytes.Buffer
	exit.Tell(&out, err, false)
	require.Equal(t, "duban: the stage can't be recorded\n  stage.officers: at least one\n", out.String())
	out.Reset()
	exit.Tell(&out, err, true)
	require.JSONEq(t, `{"code":3,"error":"the stage can't be recorded: stage.officers: at least one","kind":"precondition",
		"fields":[{"field":"stage.officers","description":"at least one"}]}`, out.String())
	require.True(t, strings.HasSuffix(out.String(), "}\n"))
}
