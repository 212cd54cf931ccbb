package rpc

import (
	"context"
	"errors"
	"io"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"

	"duban.internal/node/fault"
)

// domain names whose kinds ErrorInfo carries.
const domain = "duban.v1"

// Each kind has a code for those who know only codes; the kind itself travels in an ErrorInfo.
var toCode = map[fault.Kind]codes.Code{
	fault.Internal:        codes.Internal,
	fault.Invalid:         codes.InvalidArgument,
	fault.NotFound:        codes.NotFound,
	fault.Exists:          codes.AlreadyExists,
	fault.Conflict:        codes.Aborted,
	fault.Precondition:    codes.FailedPrecondition,
	fault.Denied:          codes.PermissionDenied,
	fault.Unauthenticated: codes.Unauthenticated,
	fault.NotLeader:       codes.Unavailable,
	fault.Unavailable:     codes.Unavailable,
	fault.Exhausted:       codes.ResourceExhausted,
	fault.Corrupt:         codes.DataLoss,
	fault.Unsupported:     codes.Unimplemented,
}

// fromCode is for statuses that gRPC itself makes.
var fromCode = map[codes.Code]fault.Kind{
	codes.InvalidArgument:    fault.Invalid,
	codes.OutOfRange:         fault.Invalid,
	codes.NotFound:           fault.NotFound,
	codes.AlreadyExists:      fault.Exists,
	codes.Aborted:            fault.Conflict,
	codes.FailedPrecondition: fault.Precondition,
	codes.PermissionDenied:   fault.Denied,
	codes.Unauthenticated:    fault.Unauthenticated,
	codes.Unavailable:        fault.Unavailable,
	codes.DeadlineExceeded:   fault.Unavailable,
	codes.Canceled:           fault.Unavailable,
	codes.ResourceExhausted:  fault.Exhausted,
	codes.DataLoss:           fault.Corrupt,
	codes.Unimplemented:      fault.Unsupported,
}

// LeaderError says, as the cause of a fault.NotLeader, which replica to ask; "" where nobody leads at present.
type LeaderError struct{ Address string }

// Error names the leader.
func (e *LeaderError) Error() string { return "the leader is " + strconv.Quote(e.Address) }

// toStatus is err as it goes over the wire. A fault keeps kind, sentence and fields; an error that nobody classified keeps
// nothing, its text is for the log.
func toStatus(err error, leader func() (string, bool)) error {
	if err == nil {
		return nil
	}
	classified, ok := errors.AsType[*fault.Error](err)
	if !ok {
		switch {
		case errors.Is(err, context.DeadlineExceeded):
			return status.Error(codes.DeadlineExceeded, "the deadline of the call passed; whether it was done is not known: send it again with its request id")
		case errors.Is(err, context.Canceled):
			return status.Error(codes.Canceled, "the call was canceled")
		}
		if s, ok := status.FromError(err); ok { // made by gRPC: of a stream that broke, of a message that is too large
			return s.Err()
		}
		return status.Error(codes.Internal, "internal error; the node's log has the reason under this request's id")
	}
	msg := classified.Msg
	if msg == "" {
		msg = classified.Kind.String()
	}
	if classified.Kind == fault.Internal {
		msg = "internal error; the node's log has the reason under this request's id"
	}
	info := &errdetails.ErrorInfo{Reason: reason(classified.Kind), Domain: domain}
	if classified.Kind == fault.NotLeader && leader != nil {
		if address, self := leader(); !self {
			info.Metadata = map[string]string{"leader": address}
		}
	}
	details := []protoadapt.MessageV1{info}
	if len(classified.Fields) > 0 && classified.Kind != fault.Internal {
		details = append(details, badRequest(classified.Fields))
	}
	s, err := status.New(toCode[classified.Kind], msg).WithDetails(details...)
	if err != nil { // a message that is no UTF-8
		return status.Error(toCode[classified.Kind], strings.ToValidUTF8(msg, "?"))
	}
	return s.Err()
}

func badRequest(fields []fault.Field) *errdetails.BadRequest {
	bad := new(errdetails.BadRequest)
	for _, f := range fields {
		bad.FieldViolations = append(bad.FieldViolations, &errdetails.BadRequest_FieldViolation{
			Field: strings.ToValidUTF8(f.Field, "?"), Description: strings.ToValidUTF8(f.Description, "?"),
		})
	}
	return bad
}

// reason is a kind as ErrorInfo has it: NOT_FOUND.
func reason(k fault.Kind) string { return strings.ToUpper(strings.ReplaceAll(k.String(), " ", "_")) }

var kindOf = func() map[string]fault.Kind {
	m := make(map[string]fault.Kind)
	for _, k := range fault.Kinds() {
		m[reason(k)] = k
	}
	return m
}()

func malformed(why string) error {
	return fault.Refuse(fault.Invalid, "the message can't be read", fault.Field{
		Field: "message", Description: "truncated or malformed: expected a message of the method's type: " + why,
	})
}

// handshake says why one failed, in a sentence: whose certificate it was and what is wrong with it. What the other end found
// comes as a "remote error"; it says no more than the kind.
func handshake(message string) fault.Field {
	theirs := strings.Contains(message, "remote error")
	has := func(parts ...string) bool {
		return slices.ContainsFunc(parts, func(p string) bool { return strings.Contains(message, p) })
	}
	switch {
	case theirs && has("unknown certificate authority", "unknown authority", "certificate required"):
		return fault.Field{Field: "certificate", Description: "the node does not know the authority that made the certificate: it is of another tree"}
	case theirs && has("expired certificate"):
		return fault.Field{Field: "certificate", Description: "it has ended: renew it with duban keygen issue DIR --renew"}
	case has("unknown authority"):
		return fault.Field{Field: "ca", Description: "the node's certificate is not by this authority: the node is of another tree, or its keys were made anew"}
	case has("has expired or is not yet valid"):
		return fault.Field{Field: "ca", Description: "the node's certificate has ended or does not hold yet: its operator renews it with duban keygen issue DIR --renew; or a clock is wrong"}
	}
	_, why, _ := strings.Cut(message, "tls: ")
	return fault.Field{Field: "certificate", Description: why}
}

// FromStatus is what a call gave, with the kind and the fields that the other end stated: the twin of what the server
// does. nil and io.EOF stay what they are.
func FromStatus(err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		return err
	}
	if _, ok := errors.AsType[*fault.Error](err); ok {
		return err
	}
	s, ok := status.FromError(err)
	if !ok {
		return err
	}
	e := &fault.Error{Kind: fromCode[s.Code()], Msg: s.Message(), Err: err} // Internal where nothing else fits
	switch s.Code() {
	case codes.DeadlineExceeded:
		e.Err = errors.Join(context.DeadlineExceeded, err)
	case codes.Canceled:
		e.Err = errors.Join(context.Canceled, err)
	case codes.ResourceExhausted:
		if strings.Contains(s.Message(), "larger than max") {
			e.Fields = []fault.Field{{Field: "message", Description: s.Message()}}
		}
	case codes.Unavailable:
		if strings.Contains(s.Message(), "tls: ") {
			e.Kind, e.Msg = fault.Unauthenticated, "no connection: who is at the other end is not believed"
			e.Fields = []fault.Field{handshake(s.Message())}
		}
	}
	for _, d := range s.Details() {
		switch d := d.(type) {
		case *errdetails.ErrorInfo:
			if k, known := kindOf[d.GetReason()]; known && d.GetDomain() == domain {
				e.Kind = k
				if address, said := d.GetMetadata()["leader"]; said {
					e.Err = errors.Join(&LeaderError{address}, err)
				}
			}
		case *errdetails.BadRequest:
			e.Fields = nil
			for _, f := range d.GetFieldViolations() {
				e.Fields = append(e.Fields, fault.Field{Field: f.GetField(), Description: f.GetDescription()})
			}
		}
	}
	return e
}
