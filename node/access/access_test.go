package access_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/reflection/grpc_reflection_v1alpha"

	"duban.internal/configs"
	"duban.internal/node/access"
	"duban.internal/node/fault"
	"duban.internal/node/identity"
	"duban.internal/node/jurisdiction"
	dubanv1 "duban.internal/proto/duban/v1"
)

// Every method of every service has a row, and no row is for a method that isn't there.
func TestEveryMethodHasARow(t *testing.T) {
	_ = []any{
		dubanv1.File_duban_v1_case_proto, grpc_health_v1.File_grpc_health_v1_health_proto,
		grpc_reflection_v1.File_grpc_reflection_v1_reflection_proto, grpc_reflection_v1alpha.File_grpc_reflection_v1alpha_reflection_proto,
	}
	seen := map[string]bool{}
	protoregistry.GlobalFiles.RangeFiles(func(f protoreflect.FileDescriptor) bool {
		for i := range f.Services().Len() {
			service := f.Services().Get(i)
			for j := range service.Methods().Len() {
				method := "/" + string(service.FullName()) + "/" + string(service.Methods().Get(j).Name())
				seen[method] = true
				_, ok := access.Policy[method]
				require.True(t, ok, "%s has no row in the table of access", method)
			}
		}
		return true
	})
	require.True(t, seen["/duban.v1.CaseService/OpenCase"])
	for method, row := range access.Policy {
		require.True(t, seen[method], "%s is not there", method)
		require.True(t, row.Anonymous != (len(row.Grants) > 0), "%s", method)
	}
}

// Without a certificate nothing of ours can be called.
func TestNothingIsAnonymousButHealth(t *testing.T) {
	for method, row := range access.Policy {
		require.Equal(t, strings.HasPrefix(method, "/grpc.health."), row.Anonymous, method)
	}
}

func TestCheck(t *testing.T) {
	f, err := configs.FS.Open("divisions/divisions.csv")
	require.NoError(t, err)
	defer f.Close()
	tree, err := jurisdiction.Load(f)
	require.NoError(t, err)
	const city, district, street, other = "120000", "120116", "120116013", "120101"
	at := func(code jurisdiction.Code) *access.Guard { return &access.Guard{Tree: tree, Code: code} }
	agency := identity.Identity{City: city, Kind: identity.Agency, ID: "a-1"}
	office := func(code jurisdiction.Code) identity.Identity {
		return identity.Identity{City: city, Kind: identity.Office, Role: "legal_office", Code: code}
	}
	operator := func(code jurisdiction.Code) identity.Identity {
		return identity.Identity{City: city, Kind: identity.Operator, Code: code}
	}
	node := identity.Identity{City: city, Kind: identity.Node, Code: street}
	for _, c := range []struct {
		name   string
		guard  *access.Guard
		caller identity.Identity
		method string
		want   bool
	}{
		{"agency records", at(street), agency, "/duban.v1.CaseService/OpenCase", true},
		{"office does not record", at(street), office(street), "/duban.v1.CaseService/OpenCase", false},
		{"operator does not record", at(street), operator(street), "/duban.v1.CaseService/RecordStage", false},
		{"node does not record", at(street), node, "/duban.v1.CaseService/RecordStage", false},
		{"district office approves a street's correction", at(street), office(district), "/duban.v1.CaseService/DecideCorrection", true},
		{"another district's office does not", at(street), office(other), "/duban.v1.CaseService/DecideCorrection", false},
		{"agency does not", at(street), agency, "/duban.v1.CaseService/DecideCorrection", false},
		{"city office reads a street", at(street), office(city), "/duban.v1.CaseService/ListCases", true},
		{"street office does not read its district", at(district), office(street), "/duban.v1.CaseService/ListCases", false},
		{"operator registers at its node", at(street), operator(street), "/duban.v1.RegistryService/RegisterAgency", true},
		{"the district's operator does not at a street", at(street), operator(district), "/duban.v1.RegistryService/RegisterAgency", false},
		{"an office does not register", at(street), office(street), "/duban.v1.RegistryService/RegisterAgency", false},
		{"nodes sync", at(district), node, "/duban.v1.SyncService/Sync", true},
		{"agencies don't", at(district), agency, "/duban.v1.SyncService/Sync", false},
		{"the receiving office handles", at(district), office(district), "/duban.v1.AlertService/HandleAlert", true},
		{"another does not", at(district), office(city), "/duban.v1.AlertService/HandleAlert", false},
		{"an agency does not dispute", at(district), agency, "/duban.v1.AlertService/DisputeAlert", false},
		{"evidence is not for the operator", at(street), operator(street), "/duban.v1.AttachmentService/DownloadAttachment", false},
		{"what has no row is denied", at(street), operator(street), "/duban.v1.CaseService/DropCase", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := c.guard.Check(c.caller, true, c.method)
			if c.want {
				require.NoError(t, err)
				return
			}
			require.Equal(t, fault.Denied, fault.Of(err))
			require.NotEmpty(t, fault.Fields(err))
			require.Equal(t, fault.Unauthenticated, fault.Of(c.guard.Check(identity.Identity{}, false, c.method)))
		})
	}
	require.NoError(t, at(street).Check(identity.Identity{}, false, "/grpc.health.v1.Health/Check"))
}

func TestOwnAgency(t *testing.T) {
	agency := identity.Identity{City: "120000", Kind: identity.Agency, ID: "a-1"}
	require.NoError(t, access.OwnAgency(agency, "a-1", "case.agency"))
	err := access.OwnAgency(agency, "a-2", "case.agency")
	require.Equal(t, fault.Denied, fault.Of(err))
	require.Equal(t, "case.agency", fault.Fields(err)[0].Field)
	require.NoError(t, access.OwnAgency(identity.Identity{Kind: identity.Office}, "a-2", "case.agency"))
}
