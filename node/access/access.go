// Package access says who may call what: one table, method by kind of caller and place, and nothing else is allowed.
//
// What it promises: a method without a row is denied to everybody, and a test walks every service so that none is
// forgotten. A caller is who its certificate names (node/identity); nothing in a request changes that. What depends on what a
// request is about is decided by the service, from CallerFrom: an agency writes and reads its own cases only, a level of an
// alert is handled by whom it is for.
//
// What it doesn't do yet: readings beyond a scope on approval (T22), and a log of every reading (Z28).
package access

import (
	"context"
	"strings"

	"duban.internal/node/fault"
	"duban.internal/node/identity"
	"duban.internal/node/jurisdiction"
)

// Where says at which nodes a grant holds, by the jurisdiction that the caller's certificate names.
type Where uint8

// The places. Agencies name no jurisdiction: Anywhere is all that can be said of them here.
const (
	Anywhere    Where = iota // at every node of the tree
	Here                     // at the node of the caller's own jurisdiction
	HereOrBelow              // at that node and at those below it: who supervises an area reads all of it
)

// Grant allows a kind of caller.
type Grant struct {
	Kind  identity.Kind
	Where Where
}

// Row of the table. Anonymous needs no certificate: it reveals nothing and changes nothing.
type Row struct {
	Anonymous bool
	Grants    []Grant
}

var (
	agencies  = Grant{identity.Agency, Anywhere} // narrowed to its own cases
	offices   = Grant{identity.Office, HereOrBelow}
	operators = Grant{identity.Operator, HereOrBelow}
	nodes     = Grant{identity.Node, Anywhere} // narrowed to the node's place in the tree

	record   = Row{Grants: []Grant{agencies}}
	read     = Row{Grants: []Grant{agencies, offices, operators}}
	register = Row{Grants: []Grant{{identity.Operator, Here}}} // T7: the operator is not the supervisor
	handle   = Row{Grants: []Grant{agencies, {identity.Office, Here}}}
	anybody  = Row{Anonymous: true}
	everyone = Row{Grants: []Grant{agencies, offices, operators, nodes}}
)

// Policy is the table: full method name -> row.
var Policy = map[string]Row{
	"/duban.v1.CaseService/OpenCase":          record,
	"/duban.v1.CaseService/RecordStage":       record,
	"/duban.v1.CaseService/AttachEvidence":    record,
	"/duban.v1.CaseService/GiveExplanation":   record,
	"/duban.v1.CaseService/RequestCorrection": record,
	"/duban.v1.CaseService/DecideCorrection":  {Grants: []Grant{offices}}, // T14; which office, the profile says
	"/duban.v1.CaseService/GetCase":           read,
	"/duban.v1.CaseService/ListCases":         read,

	// The operator brings imported history and nothing else (node/intake).
	"/duban.v1.CollectionService/Collect": {Grants: []Grant{agencies, {identity.Operator, Here}}},

	"/duban.v1.AttachmentService/UploadAttachment":   record,
	"/duban.v1.AttachmentService/DownloadAttachment": {Grants: []Grant{agencies, offices}},

	"/duban.v1.RegistryService/RegisterAgency":  register,
	"/duban.v1.RegistryService/RegisterOfficer": register,
	"/duban.v1.RegistryService/RegisterOffice":  register,
	"/duban.v1.RegistryService/ListAgencies":    read,

	"/duban.v1.NodeService/GetStatus":      {Grants: []Grant{agencies, offices, operators, nodes}},
	"/duban.v1.NodeService/AcceptClock":    {Grants: []Grant{{identity.Operator, Here}}},
	"/duban.v1.NodeService/ReadmitJournal": {Grants: []Grant{{identity.Operator, Here}}},

	"/duban.v1.AlertService/ListAlerts":   read,
	"/duban.v1.AlertService/GetAlert":     read,
	"/duban.v1.AlertService/WatchAlerts":  read,
	"/duban.v1.AlertService/HandleAlert":  handle,
	"/duban.v1.AlertService/ReopenAlert":  handle,
	"/duban.v1.AlertService/DisputeAlert": {Grants: []Grant{{identity.Office, Here}}},

	"/duban.v1.SyncService/Sync": {Grants: []Grant{nodes}},

	"/grpc.health.v1.Health/Check": anybody,
	"/grpc.health.v1.Health/Watch": anybody,
	"/grpc.health.v1.Health/List":  anybody,

	"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo":      everyone,
	"/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": everyone,
}

// Guard applies the table at one node.
type Guard struct {
	Tree *jurisdiction.Tree
	Code jurisdiction.Code // of the node
}

// Check says whether a caller may call a method here; known is false for one without a certificate. Kinds of errors:
// fault.Unauthenticated, fault.Denied.
func (g *Guard) Check(caller identity.Identity, known bool, method string) error {
	row, ok := Policy[method]
	switch {
	case ok && row.Anonymous:
		return nil
	case !known:
		return fault.Refuse(fault.Unauthenticated, "show a certificate of this tree", fault.Field{
			Field: "certificate", Description: "none was shown; a node answers only those it knows",
		})
	case !ok:
		return fault.Refuse(fault.Denied, "nobody may call this", fault.Field{Field: "method", Description: method})
	}
	var allowed []string
	for _, grant := range row.Grants {
		if grant.Kind == caller.Kind && g.holds(grant.Where, caller.Code) {
			return nil
		}
		allowed = append(allowed, string(grant.Kind)+grant.Where.said(g.Code))
	}
	return fault.Refuse(fault.Denied, caller.Actor()+" may not call this here", fault.Field{
		Field: "certificate", Description: method + " is for: " + strings.Join(allowed, "; "),
	})
}

func (g *Guard) holds(w Where, code jurisdiction.Code) bool {
	switch w {
	case Anywhere:
		return true
	case Here:
		return code == g.Code
	case HereOrBelow:
		return code == g.Code || g.Tree.Within(g.Code, code)
	}
	return false
}

func (w Where) said(code jurisdiction.Code) string {
	switch w {
	case Here:
		return " of " + string(code)
	case HereOrBelow:
		return " of " + string(code) + " or above it"
	}
	return ""
}

type callerKey struct{}

// WithCaller notes who calls; the server does it after Check.
func WithCaller(ctx context.Context, caller identity.Identity) context.Context {
	return context.WithValue(ctx, callerKey{}, caller)
}

// CallerFrom is who calls; false outside of a call or without a certificate.
func CallerFrom(ctx context.Context) (identity.Identity, bool) {
	caller, ok := ctx.Value(callerKey{}).(identity.Identity)
	return caller, ok
}

// OwnAgency refuses an agency that acts or reads for another one (fault.Denied); other kinds of callers pass.
func OwnAgency(caller identity.Identity, agency, field string) error {
	if caller.Kind != identity.Agency || caller.ID == agency {
		return nil
	}
	return fault.Refuse(fault.Denied, "an agency acts in its own cases only", fault.Field{
		Field: field, Description: "belongs to another agency; the certificate names " + caller.ID,
	})
}
