// Package exit says how a command ended, in numbers for programs and in words for people. It promises that every error
// becomes exactly one code of the documented list; it never calls os.Exit.
package exit

import (
	"context"
	"errors"
	"fmt"
	"io"

	"duban.internal/cmd/duban/show"
	"duban.internal/node/fault"
)

// The codes. They are documented by Help and never renumbered.
const (
	OK          = 0
	Failed      = 1
	Usage       = 2
	Refused     = 3
	Unreachable = 4
	Partly      = 5
	Interrupted = 130
)

// Help is what `duban help exit-codes` prints.
const Help = `Every command ends with one of these codes:

    0  done
    1  failed: a defect, a full disk and the like, or a story of the demo that did not end as it should;
       the message says what
    2  wrong input: a flag, an argument, a configuration or a file; nothing was asked of any node
    3  refused: the node said no and why, or verification or rebuilding found what must not be
    4  unreachable: the node could not be reached in time, does not accept the certificate,
       or can't answer now; the same command may be tried again, and one that records
       something says then with which --request-id, so that it is recorded once
    5  partly: an import ended, and some rows were refused; --refused FILE has them with reasons
  130  interrupted

With --json, what went wrong is written to standard error as one JSON object:
{"code": 3, "error": "...", "kind": "precondition", "fields": [{"field": "...", "description": "..."}]}
`

// Coded gives an error a code.
type Coded struct {
	Code int
	Err  error
}

// Error is the error's.
func (c *Coded) Error() string { return c.Err.Error() }

// Unwrap is the error.
func (c *Coded) Unwrap() error { return c.Err }

// With gives err a code; nil stays nil.
func With(code int, err error) error {
	if err == nil {
		return nil
	}
	return &Coded{code, err}
}

// Remote marks an error that a node answered, or that came of asking it.
func Remote(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, context.Canceled):
		return With(Interrupted, err)
	case errors.Is(err, context.DeadlineExceeded), fault.Is(err, fault.Unavailable), fault.Is(err, fault.NotLeader), fault.Is(err, fault.Unauthenticated):
		return With(Unreachable, err)
	case fault.Is(err, fault.Internal):
		return With(Failed, err)
	}
	return With(Refused, err)
}

// Code is the code of an error.
func Code(err error) int {
	if err == nil {
		return OK
	}
	if c, ok := errors.AsType[*Coded](err); ok {
		return c.Code
	}
	switch {
	case errors.Is(err, context.Canceled):
		return Interrupted
	case errors.Is(err, context.DeadlineExceeded):
		return Unreachable
	}
	switch fault.Of(err) {
	case fault.Invalid:
		return Usage
	case fault.Exists, fault.Precondition, fault.Corrupt, fault.Unsupported, fault.NotFound, fault.Denied:
		return Refused
	case fault.Unavailable, fault.NotLeader, fault.Unauthenticated:
		return Unreachable
	}
	return Failed
}

// kind is the fault's, or for what is none the meaning of its code.
func kind(err error) string {
	if _, ok := errors.AsType[*fault.Error](err); ok {
		return fault.Of(err).String()
	}
	switch Code(err) {
	case Usage:
		return fault.Invalid.String()
	case Unreachable:
		return fault.Unavailable.String()
	case Partly:
		return "partly"
	case Interrupted:
		return "interrupted"
	}
	return fault.Internal.String()
}

// Tell writes an error: a sentence and a line for each field, or JSON.
func Tell(w io.Writer, err error, json bool) {
	fields := fault.Fields(err)
	if json {
		type field struct {
			Field       string `json:"field"`
			Description string `json:"description"`
		}
		out := struct {
			Code   int     `json:"code"`
			Error  string  `json:"error"`
			Kind   string  `json:"kind"`
			Fields []field `json:"fields"`
		}{Code(err), err.Error(), kind(err), []field{}}
		for _, f := range fields {
			out.Fields = append(out.Fields, field(f))
		}
		if show.JSON(w, out) == nil {
			return
		}
	}
	message := err.Error()
	if e, ok := errors.AsType[*fault.Error](err); ok && len(fields) > 0 {
		message = e.Msg
	}
	fmt.Fprintf(w, "duban: %s\n", show.Clean(message))
	for _, f := range fields {
		fmt.Fprintf(w, "  %s: %s\n", show.Clean(f.Field), show.Clean(f.Description))
	}
}
