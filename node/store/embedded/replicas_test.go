package embedded

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"duban.internal/node/clock"
	"duban.internal/node/journal"
	"duban.internal/node/store"
)

const replicaEnv = "DUBAN_TEST_REPLICA"

// replicaProcess is one replica of three: while it leads it appends and says what was answered; asked for "size" it
// says what it has; when its input ends it closes.
func replicaProcess(name string) error {
	base := os.Getenv(replicaEnv + "_BASE")
	id, err := journal.ParseID(os.Getenv(replicaEnv + "_ID"))
	if err != nil {
		return err
	}
	cert, err := tls.LoadX509KeyPair(filepath.Join(base, "cert.pem"), filepath.Join(base, "key.pem"))
	if err != nil {
		return err
	}
	pool := x509.NewCertPool()
	ca, err := os.ReadFile(filepath.Join(base, "cert.pem"))
	if err != nil || !pool.AppendCertsFromPEM(ca) {
		return fmt.Errorf("certificate: %w", err)
	}
	cfg := testConfig(filepath.Join(base, name), id)
	cfg.Replica = name
	cfg.Logger = slog.New(slog.NewTextHandler(os.Stdout, nil))
	cfg.MarkerBytes, cfg.TrailingLogs, cfg.walSegment = 100<<10, 8, 16<<10
	for i, a := range strings.Split(os.Getenv(replicaEnv+"_PEERS"), ",") {
		cfg.Peers = append(cfg.Peers, Peer{ID: fmt.Sprint("r", i), Address: a, Service: "service-of-r" + strconv.Itoa(i)})
	}
	cfg.TLS = &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{cert}, RootCAs: pool, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert}
	s, err := Open(context.Background(), cfg)
	if err != nil {
		return err
	}
	var mu sync.Mutex
	say := func(f string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Printf(f+"\n", args...)
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	var writing sync.WaitGroup
	writing.Add(1)
	go func() {
		defer writing.Done()
		for term := 0; ; term++ {
			lead, err := s.Lease(ctx)
			if err != nil {
				return
			}
			at, self := s.Leader()
			say("leads %s %v", at, self)
			var all sync.WaitGroup
			for w := range 4 {
				all.Add(1)
				go func() {
					defer all.Done()
					for i := 0; lead.Err() == nil; i++ {
						key := fmt.Sprintf("%s-%d-%d-%d-%d", name, os.Getpid(), term, w, i)
						r, errs := s.Append(lead, store.Command{Natural: key, Entries: []store.Proposal{{Stream: fmt.Sprint("case/", w), Kind: 1, Payload: fmt.Appendf(nil, "%s %s", key, strings.Repeat("x", 300))}}})
						if errs[0] == nil {
							say("answered %s %d", key, r[0].First)
						}
					}
				}()
			}
			all.Wait()
		}
	}()
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		switch in.Text() {
		case "quiet":
			stop()
			writing.Wait()
			say("quiet")
		case "size":
			info, _ := s.Journal(id)
			h, err := s.Hashes(id)
			if err != nil {
				return err
			}
			root, err := tlog.TreeHash(int64(info.Size), h)
			if err != nil {
				return err
			}
			say("size %d %v", info.Size, root)
		}
	}
	stop()
	writing.Wait()
	return s.Close()
}

type replicaUnder struct {
	name  string
	cmd   *exec.Cmd
	in    io.WriteCloser
	lines chan string
}

func startReplica(t *testing.T, base, name, id, peers string) *replicaUnder {
	t.Helper()
	r := &replicaUnder{name: name, lines: make(chan string, 100_000)}
	r.cmd = exec.Command(os.Args[0])
	r.cmd.Env = append(os.Environ(), replicaEnv+"="+name, replicaEnv+"_BASE="+base, replicaEnv+"_ID="+id, replicaEnv+"_PEERS="+peers)
	r.cmd.Stderr = os.Stderr
	out, err := r.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if r.in, err = r.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(r.lines)
		for s := bufio.NewScanner(out); s.Scan(); {
			r.lines <- s.Text()
		}
	}()
	t.Cleanup(func() { _ = r.cmd.Process.Kill() }) // most are gone by then
	return r
}

func (r *replicaUnder) kill() {
	_ = r.cmd.Process.Kill() // SIGKILL reaches a living process
	_ = r.cmd.Wait()         // it was killed
}

// TestThreeReplicas forms three replicas over TLS, kills the one that leads, twice, and finds everything answered on all
// three. A replica that was away for longer than the log reaches back takes the leader's whole state.
func TestThreeReplicas(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	base, id := t.TempDir(), journal.NewID()
	certificate(t, base)
	var peers []string
	for range 3 {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		peers = append(peers, ln.Addr().String())
		defer func() { _ = ln.Close() }() // closed below already
		_ = ln.Close()
	}
	all := make([]*replicaUnder, 3)
	start := func(i int) { all[i] = startReplica(t, base, fmt.Sprint("r", i), id.String(), strings.Join(peers, ",")) }
	for i := range all {
		start(i)
	}
	answered, tookOver := map[string]bool{}, 0
	patience := clock.System().Timer(90 * time.Second)
	// until reads what replicas say until one has given so many answers; it returns that one.
	until := func(n int) int {
		t.Helper()
		count := make([]int, 3)
		for {
			var line string
			var ok bool
			var i int
			select {
			case line, ok = <-all[0].lines:
			case line, ok = <-all[1].lines:
				i = 1
			case line, ok = <-all[2].lines:
				i = 2
			case <-patience.C:
				t.Fatalf("nobody leads: %v answers", count)
			}
			if !ok {
				t.Fatalf("replica %d ended", i)
			}
			if strings.Contains(line, "took over") {
				tookOver++
			}
			if strings.HasPrefix(line, "leads") && line != fmt.Sprintf("leads service-of-r%d true", i) {
				t.Errorf("replica %d says %q", i, line)
			}
			if key, found := strings.CutPrefix(line, "answered "); found {
				answered[key] = true
				if count[i]++; count[i] >= n {
					return i
				}
			}
		}
	}
	for range 2 {
		leader := until(200)
		all[leader].kill()
		for line := range all[leader].lines {
			if key, found := strings.CutPrefix(line, "answered "); found {
				answered[key] = true
			}
		}
		all[leader].lines = make(chan string) // says nothing
		next := until(800)                    // more than the log keeps for one that is away
		if next == leader {
			t.Fatal("a dead replica leads")
		}
		start(leader)
	}
	until(200)
	for _, r := range all {
		if _, err := io.WriteString(r.in, "quiet\n"); err != nil {
			t.Fatal(err)
		}
	}
	say := func(r *replicaUnder, prefix string) string {
		t.Helper()
		for {
			select {
			case line, ok := <-r.lines:
				if !ok {
					t.Fatalf("replica %s ended", r.name)
				}
				if key, found := strings.CutPrefix(line, "answered "); found {
					answered[key] = true
				}
				if strings.Contains(line, "took over") {
					tookOver++
				}
				if strings.HasPrefix(line, prefix) {
					return line
				}
			case <-patience.C:
				t.Fatalf("replica %s does not say %s", r.name, prefix)
			}
		}
	}
	for _, r := range all {
		say(r, "quiet")
	}
	for same := false; !same; { // followers learn of the last commit with the next heartbeat
		sizes := map[string]bool{}
		for _, r := range all {
			if _, err := io.WriteString(r.in, "size\n"); err != nil {
				t.Fatal(err)
			}
			sizes[say(r, "size ")] = true
		}
		same = len(sizes) == 1
	}
	for _, r := range all {
		_ = r.in.Close() // asks it to end
		if err := r.cmd.Wait(); err != nil {
			t.Errorf("replica %s: %v", r.name, err)
		}
		dir := filepath.Join(base, r.name)
		rep, err := Verify(t.Context(), dir, Options{Folds: []*store.Fold{tallyFold()}, Also: func(ctx context.Context, c Contents) []error {
			have := map[string]bool{}
			for at := uint64(0); ; {
				es, err := c.Read(ctx, id, at, 1<<20)
				if err != nil || len(es) == 0 {
					break
				}
				for _, e := range es {
					key, _, _ := strings.Cut(string(e.Payload), " ")
					key = fmt.Sprint(key, " ", e.Number)
					have[key] = true
				}
				at += uint64(len(es))
			}
			var errs []error
			for key := range answered {
				if !have[key] {
					errs = append(errs, fmt.Errorf("%s was answered and is not there", key))
				}
			}
			return errs
		}}, nil)
		if err != nil || len(rep.Findings) > 0 {
			t.Errorf("replica %s: %v %+v", r.name, err, rep.Findings)
		}
	}
	if tookOver == 0 {
		t.Error("no replica took over the leader's state: the test does not show what it says")
	}
	t.Logf("%d answered, %d states taken over", len(answered), tookOver)
}

// certificate writes one key that all replicas of the test share.
func certificate(t *testing.T, dir string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "replicas"}, NotBefore: time.Unix(0, 0),
		NotAfter: time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{"cert.pem": {Type: "CERTIFICATE", Bytes: der}, "key.pem": {Type: "PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
