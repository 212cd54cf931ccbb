package app_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"

	"duban.internal/federation/topology"
	"duban.internal/node/clock"
	"duban.internal/node/fault"
	"duban.internal/node/identity"
	"duban.internal/node/jurisdiction"
	"duban.internal/node/rpc"
	dubanv1 "duban.internal/proto/duban/v1"
)

var (
	enforcer = identity.Identity{City: city, Kind: identity.Agency, ID: "cg"}
	other    = identity.Identity{City: city, Kind: identity.Agency, ID: "other"}
	bureau   = identity.Identity{City: city, Kind: identity.Office, Role: "legal_office", Code: city}
)

func dialAs(t *testing.T, keys string, who identity.Identity, code jurisdiction.Code, address string) *grpc.ClientConn {
	t.Helper()
	pair, err := topology.ClientFiles(topology.ClientFolder(keys, who)).Load()
	require.NoError(t, err)
	conn, err := rpc.Dial(address, pair.Client(identity.Identity{City: city, Kind: identity.Node, Code: code}))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// download is an attachment as somebody gets it.
func download(t *testing.T, conn *grpc.ClientConn, sum [32]byte) ([]byte, error) {
	t.Helper()
	stream, err := dubanv1.NewAttachmentServiceClient(conn).DownloadAttachment(t.Context(), &dubanv1.DownloadAttachmentRequest{Sha256: sum[:]})
	require.NoError(t, err)
	var out []byte
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, err
		}
		out = append(out, m.Chunk...)
	}
}

// What an agency uploaded at a street is opened at the city by who may open it there: it comes up through the district.
func TestAttachmentFromBelow(t *testing.T) {
	keys := filepath.Join(t.TempDir(), "keys")
	_, err := topology.Generate(keys, topology.Spec{
		City: city, Now: clock.System().Now(), Clients: []identity.Identity{enforcer, other, bureau},
		Members: []topology.Member{
			{Code: city, Name: "天津市", Tier: jurisdiction.City},
			{Code: district, Name: "滨海新区", Tier: jurisdiction.District, Parent: city},
			{Code: street, Name: "新村街道", Tier: jurisdiction.Street, Parent: district},
		},
	})
	require.NoError(t, err)
	top, _ := start(t, config(keys, city, t.TempDir()))
	middle := config(keys, district, t.TempDir())
	middle.Parent = top.Addr()
	mid, _ := start(t, middle)
	low := config(keys, street, t.TempDir())
	low.Parent = mid.Addr()
	leaf, _ := start(t, low)

	registry := dubanv1.NewRegistryServiceClient(operator(t, keys, street, leaf.Addr()))
	_, err = registry.RegisterAgency(t.Context(), &dubanv1.RegisterAgencyRequest{
		Agency: &dubanv1.Agency{Id: "cg", Name: "城管", Jurisdiction: string(street), System: "urban", Items: []string{"1"}}})
	require.NoError(t, err)
	_, err = registry.RegisterOfficer(t.Context(), &dubanv1.RegisterOfficerRequest{Officer: &dubanv1.Officer{Id: "o1", Name: "某", Agency: "cg", Certificate: "C1"}})
	require.NoError(t, err)
	agency := dialAs(t, keys, enforcer, street, leaf.Addr())
	cases := dubanv1.NewCaseServiceClient(agency)
	_, err = cases.OpenCase(t.Context(), &dubanv1.OpenCaseRequest{Case: &dubanv1.CaseOpened{
		CaseId: "c1", Number: "1号", Agency: "cg", Item: "1", Procedure: "penalty_general", Source: "patrol", Summary: "占道经营", Handler: "o1",
		Generated: true, Party: &dubanv1.Party{Name: "某店", Kind: "citizen"}, Fields: map[string]string{"address": "某路1号"},
	}})
	require.NoError(t, err)
	content := bytes.Repeat([]byte("现场录像 "), 100_000)
	sum := sha256.Sum256(content)
	upload, err := dubanv1.NewAttachmentServiceClient(agency).UploadAttachment(t.Context())
	require.NoError(t, err)
	require.NoError(t, upload.Send(&dubanv1.UploadAttachmentRequest{Part: &dubanv1.UploadAttachmentRequest_Description{
		Description: &dubanv1.AttachmentDescription{Sha256: sum[:], Size: uint64(len(content))}}}))
	for rest := content; len(rest) > 0; {
		n := min(len(rest), 128<<10)
		require.NoError(t, upload.Send(&dubanv1.UploadAttachmentRequest{Part: &dubanv1.UploadAttachmentRequest_Chunk{Chunk: rest[:n]}}))
		rest = rest[n:]
	}
	_, err = upload.CloseAndRecv()
	require.NoError(t, err)
	_, err = cases.AttachEvidence(t.Context(), &dubanv1.AttachEvidenceRequest{Evidence: &dubanv1.EvidenceAttached{
		CaseId: "c1", Sha256: sum[:], Size: uint64(len(content)), Name: "video.mp4", MediaType: "video/mp4"}})
	require.NoError(t, err)

	office := dialAs(t, keys, bureau, city, top.Addr())
	require.Eventually(t, func() bool {
		for _, j := range status(t, keys, city, top.Addr()).Journals {
			if j.Code == string(street) {
				return j.Size >= status(t, keys, street, leaf.Addr()).Journals[0].Size
			}
		}
		return false
	}, 20*time.Second, 20*time.Millisecond)
	got, err := download(t, office, sum)
	require.NoError(t, err)
	require.Equal(t, sum, sha256.Sum256(got))

	// Who has no case with it is told that there is none, and so is who asks for what nobody named.
	_, err = download(t, dialAs(t, keys, other, city, top.Addr()), sum)
	require.True(t, fault.Is(err, fault.NotFound), "%v", err)
	_, err = download(t, office, sha256.Sum256([]byte("never uploaded")))
	require.True(t, fault.Is(err, fault.NotFound), "%v", err)
}
