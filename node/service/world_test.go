package service_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"

	"duban.internal/configs"
	"duban.internal/node/access"
	"duban.internal/node/attachment"
	"duban.internal/node/caseview"
	"duban.internal/node/clock"
	"duban.internal/node/fault"
	"duban.internal/node/identity"
	"duban.internal/node/intake"
	"duban.internal/node/journal"
	"duban.internal/node/jurisdiction"
	"duban.internal/node/profile"
	"duban.internal/node/registry"
	"duban.internal/node/rpc"
	"duban.internal/node/service"
	"duban.internal/node/store"
	"duban.internal/node/store/embedded"
	"duban.internal/node/workday"
	dubanv1 "duban.internal/proto/duban/v1"
)

const (
	city     = "120000"
	district = "120116"
	street   = "120116013"
	agency   = "a-1"
	other    = "a-2"
	item     = "330217"
)

// world is one node on the real engine, served over real mutual TLS on loopback, on a clock that stands still.
type world struct {
	t       testing.TB
	clock   *clock.Manual
	tree    *jurisdiction.Tree
	store   store.Store
	cases   *caseview.View
	reg     *registry.Registry
	intake  *intake.Intake
	files   *attachment.Files
	address string
	ca      *identity.Authority
}

// plan says how a node differs from the street of the Tianjin profile.
type plan struct {
	code, profile, calendar, divisions string
	start                              time.Time
}

func newWorld(t testing.TB, p plan) *world {
	t.Helper()
	fill := func(s *string, v string) {
		if *s == "" {
			*s = v
		}
	}
	fill(&p.code, street)
	fill(&p.profile, "profiles/tianjin")
	fill(&p.calendar, "calendars/cn-holidays.csv")
	fill(&p.divisions, "divisions/divisions.csv")
	if p.start.IsZero() {
		p.start = time.Date(2026, 3, 2, 2, 0, 0, 0, time.UTC)
	}
	w := &world{t: t, clock: clock.NewManual(p.start)}
	file := func(name string) []byte {
		b, err := configs.FS.ReadFile(name)
		require.NoError(t, err)
		return b
	}
	var err error
	w.tree, err = jurisdiction.Load(strings.NewReader(string(file(p.divisions))))
	require.NoError(t, err)
	division, ok := w.tree.Get(jurisdiction.Code(p.code))
	require.True(t, ok)
	prof, err := profile.Load(configs.FS, p.profile)
	require.NoError(t, err)
	calendar, err := workday.Parse(file(p.calendar))
	require.NoError(t, err)

	folds := []store.Fold{registry.Fold(), caseview.Fold()}
	w.store, err = embedded.Open(t.Context(), embedded.Config{
		Dir: t.TempDir(), Journal: journal.NewID(), Folds: []*store.Fold{&folds[0], &folds[1]}, Clock: w.clock,
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, w.store.Close()) })
	lead, err := w.store.Lease(t.Context())
	require.NoError(t, err)
	start := registry.Start{Division: division, Profile: prof, Calendar: calendar}
	require.NoError(t, registry.Bootstrap(lead, w.store, start))

	w.reg = registry.New(w.store)
	w.cases = caseview.New(w.store, w.reg, w.tree)
	w.files, err = attachment.Open(attachment.Config{Dir: t.TempDir()})
	require.NoError(t, err)
	w.intake, err = intake.New(intake.Config{
		Store: w.store, Registry: w.reg, Cases: w.cases, Files: w.files, Tree: w.tree, Clock: w.clock,
	})
	require.NoError(t, err)
	top := division.Code
	if a := w.tree.Ancestors(top); len(a) > 0 {
		top = a[len(a)-1].Code
	}
	w.ca, err = identity.NewAuthority(top, w.clock.Now(), 365*24*time.Hour)
	require.NoError(t, err)
	w.serve(division.Code)
	return w
}

func (w *world) serve(code jurisdiction.Code) {
	w.t.Helper()
	pair := w.pair(identity.Identity{City: w.ca.City, Kind: identity.Node, Code: code})
	server, err := rpc.New(rpc.Config{TLS: pair.Server(), Guard: &access.Guard{Tree: w.tree, Code: code}, Leader: w.store.Leader},
		service.Config{Own: w.store.Own(), Intake: w.intake, Cases: w.cases, Registry: w.reg, Files: w.files}.Register)
	require.NoError(w.t, err)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(w.t, err)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	w.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		server.Stop(ctx)
		require.NoError(w.t, <-served)
	})
	w.address = listener.Addr().String()
}

func (w *world) pair(id identity.Identity) *identity.Pair {
	w.t.Helper()
	cert, key, err := w.ca.Issue(id, []string{"127.0.0.1"}, w.clock.Now(), 30*24*time.Hour)
	require.NoError(w.t, err)
	pair, err := identity.NewPair(cert, key, w.ca.Certificate())
	require.NoError(w.t, err)
	pair.Now = w.clock.Now
	return pair
}

func (w *world) dial(id identity.Identity) *grpc.ClientConn {
	w.t.Helper()
	id.City = w.ca.City
	conn, err := rpc.Dial(w.address, w.pair(id).Client(identity.Identity{}))
	require.NoError(w.t, err)
	w.t.Cleanup(func() { require.NoError(w.t, conn.Close()) })
	return conn
}

// client is a caller's connection with every service on it.
type client struct {
	dubanv1.CaseServiceClient
	dubanv1.RegistryServiceClient
	dubanv1.AttachmentServiceClient
	dubanv1.CollectionServiceClient
	conn *grpc.ClientConn
}

func (w *world) as(id identity.Identity) client {
	conn := w.dial(id)
	return client{
		dubanv1.NewCaseServiceClient(conn), dubanv1.NewRegistryServiceClient(conn),
		dubanv1.NewAttachmentServiceClient(conn), dubanv1.NewCollectionServiceClient(conn), conn,
	}
}

func (w *world) agency(id string) client {
	return w.as(identity.Identity{Kind: identity.Agency, ID: id})
}

func (w *world) operator(code string) client {
	return w.as(identity.Identity{Kind: identity.Operator, Code: jurisdiction.Code(code)})
}

func (w *world) office(code string) client {
	return w.as(identity.Identity{Kind: identity.Office, Role: "legal_office", Code: jurisdiction.Code(code)})
}

// staffed registers two agencies, the first with two officers for each hand and one whose certificate has run out.
func (w *world) staffed() *world {
	w.t.Helper()
	op := w.operator(street)
	for _, id := range []string{agency, other} {
		_, err := op.RegisterAgency(w.t.Context(), &dubanv1.RegisterAgencyRequest{Agency: &dubanv1.Agency{
			Id: id, Name: "综合执法队", Jurisdiction: street, Items: []string{item},
		}})
		require.NoError(w.t, err)
	}
	for id, of := range map[string]string{"o-1": agency, "o-2": agency, "o-3": agency, "x-1": other, "late": agency} {
		o := &dubanv1.Officer{Id: id, Name: "某某", Agency: of, Certificate: "C-" + id}
		if id == "late" {
			o.ValidUntilUs = clock.Micros(w.clock.Now().Add(-time.Hour))
		}
		_, err := op.RegisterOfficer(w.t.Context(), &dubanv1.RegisterOfficerRequest{Officer: o})
		require.NoError(w.t, err)
	}
	return w
}

func (w *world) size() uint64 {
	info, ok := w.store.Journal(w.store.Own())
	require.True(w.t, ok)
	return info.Size
}

// us is the clock's time with an offset.
func (w *world) us(d time.Duration) int64 { return clock.Micros(w.clock.Now().Add(d)) }

func opening(id string) *dubanv1.CaseOpened {
	return &dubanv1.CaseOpened{
		CaseId: id, Number: "津罚〔2026〕" + id, Agency: agency, Item: item, Procedure: "penalty_general", Source: "patrol",
		Summary: "占道经营", Handler: "o-1", Party: &dubanv1.Party{Name: "某单位", Kind: "organisation"}, Generated: true,
	}
}

func (w *world) filing(id string) *dubanv1.StageRecorded {
	return &dubanv1.StageRecorded{
		CaseId: id, Stage: "filing", CompletedUs: w.us(0), Handler: "o-1", Opinion: &dubanv1.Opinion{Result: "filed"},
		Documents: []*dubanv1.Document{{Name: "filing_approval", Code: "D-" + id}}, Fields: map[string]string{"cause": "占道经营"},
	}
}

// opened opens and files a case and gives the number of the filing.
func (w *world) opened(id string) uint64 {
	w.t.Helper()
	a := w.agency(agency)
	_, err := a.OpenCase(w.t.Context(), &dubanv1.OpenCaseRequest{Case: opening(id), OccurredUs: w.us(-time.Hour)})
	require.NoError(w.t, err)
	r, err := a.RecordStage(w.t.Context(), &dubanv1.RecordStageRequest{Stage: w.filing(id)})
	require.NoError(w.t, err)
	return r.GetReceipt().GetNumber()
}

// upload sends bytes in chunks.
func upload(ctx context.Context, c client, size uint64, sum []byte, chunks ...[]byte) (*dubanv1.UploadAttachmentResponse, error) {
	s, err := c.UploadAttachment(ctx)
	if err != nil {
		return nil, err
	}
	d := &dubanv1.AttachmentDescription{Sha256: sum, Size: size}
	err = s.Send(&dubanv1.UploadAttachmentRequest{Part: &dubanv1.UploadAttachmentRequest_Description{Description: d}})
	for i := 0; i < len(chunks) && err == nil; i++ {
		err = s.Send(&dubanv1.UploadAttachmentRequest{Part: &dubanv1.UploadAttachmentRequest_Chunk{Chunk: chunks[i]}})
	}
	return s.CloseAndRecv() // a Send that failed gives its reason here
}

func uploadAll(t *testing.T, c client, content string) []byte {
	t.Helper()
	sum := sha256.Sum256([]byte(content))
	_, err := upload(t.Context(), c, uint64(len(content)), sum[:], []byte(content))
	require.NoError(t, err)
	return sum[:]
}

// refused checks kind, field and words of a refusal, and that nothing changed.
func (w *world) refused(before uint64, err error, kind fault.Kind, field, words string) {
	w.t.Helper()
	require.Error(w.t, err)
	require.Equal(w.t, kind, fault.Of(err), "%v", err)
	found := false
	for _, f := range fault.Fields(err) {
		require.NotEmpty(w.t, f.Description)
		found = found || f.Field == field && strings.Contains(f.Description, words)
	}
	require.True(w.t, found, "want field %s with %q in: %s", field, words, said(err))
	require.Equal(w.t, before, w.size(), "a refusal changed the journal")
}

func said(err error) string {
	var b strings.Builder
	for _, f := range fault.Fields(err) {
		fmt.Fprintf(&b, "\n%s: %s", f.Field, f.Description)
	}
	return err.Error() + b.String()
}
