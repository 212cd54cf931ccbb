// Package fault is the closed list of what can go wrong, in terms of what the caller has to do about it.
//
// Domain code returns a *Error with one of the kinds; the server's interceptor maps kinds to wire codes and its twin
// on the client maps them back, so a caller across the wire sees the same kind and the same fields. An error that
// nobody classified is Internal: its text is logged and never shown to a client. Kinds are never reordered.
package fault

import (
	"errors"
	"fmt"
	"strings"
)

// Kind says what the caller has to do.
type Kind uint8

// The kinds.
const (
	Internal        Kind = iota // a defect or an unclassified failure: report it
	Invalid                     // the request is wrong: mend the named fields
	NotFound                    // nothing by that name: look it up
	Exists                      // it is there with other content: choose another name
	Conflict                    // decided on a state that moved on: read and decide again
	Precondition                // the present state forbids it: do first what the fields name
	Denied                      // the caller may not: ask who may
	Unauthenticated             // the caller is not known: present a certificate
	NotLeader                   // this replica does not write: ask the leader
	Unavailable                 // not now: try again later
	Exhausted                   // too large or too many: send less
	Corrupt                     // stored or received bytes are not what was signed or hashed: stop and verify
	Unsupported                 // this version does not know it: upgrade
	kinds                       // count; keep last
)

var names = [kinds]string{
	"internal", "invalid", "not found", "exists", "conflict", "precondition", "denied", "unauthenticated",
	"not leader", "unavailable", "exhausted", "corrupt", "unsupported",
}

// String is the kind's name for people.
func (k Kind) String() string {
	if k < kinds {
		return names[k]
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// Kinds returns every kind, for tests and mappings that have to cover all.
func Kinds() []Kind {
	all := make([]Kind, kinds)
	for i := range all {
		all[i] = Kind(i)
	}
	return all
}

// Field is one reason for a refusal: which field, and what was expected and is allowed.
type Field struct {
	Field       string // path of the field, such as "stage.officers"
	Description string // what is wrong, what is allowed
}

// Error is a classified failure.
type Error struct {
	Kind   Kind
	Msg    string  // one sentence for people: what went wrong and what to do next
	Fields []Field // every field at fault
	Err    error   // cause, for logs
}

// New makes an error of a kind.
func New(k Kind, format string, args ...any) *Error {
	e := fmt.Errorf(format, args...)
	return &Error{Kind: k, Msg: e.Error(), Err: errors.Unwrap(e)}
}

// Refuse makes an error of a kind that names every field at fault.
func Refuse(k Kind, msg string, fields ...Field) *Error {
	return &Error{Kind: k, Msg: msg, Fields: fields}
}

// Error is the sentence and the fields.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Msg)
	if e.Msg == "" {
		b.WriteString(e.Kind.String())
	}
	for i, f := range e.Fields {
		if i == 0 {
			b.WriteString(": ")
		} else {
			b.WriteString("; ")
		}
		b.WriteString(f.Field)
		b.WriteString(": ")
		b.WriteString(f.Description)
	}
	return b.String()
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// Of is the kind of err; Internal for one that nobody classified. Of(nil) must not be asked.
func Of(err error) Kind {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Kind
	}
	return Internal
}

// Is reports whether err is of kind k.
func Is(err error, k Kind) bool { return err != nil && Of(err) == k }

// Fields are the fields at fault in err.
func Fields(err error) []Field {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Fields
	}
	return nil
}

// List gathers the fields at fault in one request, so that all are said at once.
type List []Field

// Add notes a field at fault.
func (l *List) Add(field, format string, args ...any) {
	*l = append(*l, Field{Field: field, Description: fmt.Sprintf(format, args...)})
}

// Err is nil where nothing was noted, and otherwise one error of kind k with all fields.
func (l List) Err(k Kind, msg string) error {
	if len(l) == 0 {
		return nil
	}
	return &Error{Kind: k, Msg: msg, Fields: l}
}
