package app

import (
	"context"

	"duban.internal/node/fault"
)

// VerifyOptions say what to verify.
type VerifyOptions struct {
	Dir string // data folder of a node that does not run
}

// Verify is being built.
func Verify(context.Context, VerifyOptions) error {
	return fault.New(fault.Unsupported, "verify is not built yet")
}
