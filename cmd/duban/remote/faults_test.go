package remote_test

import (
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// Errors as a node sends them.
var (
	unavailable = status.Error(codes.Unavailable, "the leader has changed")
	refusal     = fields("case.case_id", "there is such a case", "case.number", "missing", "case.party", "missing", "case.fields.cause", "missing",
		"occurred_us", "2026-03-02T07:00:00Z is before the law")
	stageRefusal = fields("stage.stage", "not now", "stage.documents[1].code", "missing", "stage.officers[0]", "unknown", "stage.opinion.result", "missing",
		"stage.completed_us", "2026-03-02T07:00:00Z is early")
)

func fields(pairs ...string) error {
	bad := new(errdetails.BadRequest)
	for i := 0; i < len(pairs); i += 2 {
		bad.FieldViolations = append(bad.FieldViolations, &errdetails.BadRequest_FieldViolation{Field: pairs[i], Description: pairs[i+1]})
	}
	s, err := status.New(codes.InvalidArgument, "refused").WithDetails(bad)
	if err != nil {
		return err
	}
	return s.Err()
}

func equal(a, b proto.Message) bool { return proto.Equal(a, b) }
