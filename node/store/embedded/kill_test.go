package embedded

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"duban.internal/node/clock"
	"duban.internal/node/journal"
	"duban.internal/node/store"
)

// test is the context of appends in tests.
func (s *Store) test() context.Context { return context.Background() }

const killEnv = "DUBAN_TEST_KILL_DIR"

// TestMain is also the process that TestKill kills: it appends from many goroutines and says what was answered.
func TestMain(m *testing.M) {
	if name := os.Getenv(replicaEnv); name != "" {
		if err := replicaProcess(name); err != nil {
			fmt.Fprintln(os.Stderr, name, err)
			os.Exit(1)
		}
		return
	}
	if dir := os.Getenv(behindEnv); dir != "" {
		if err := behindProcess(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	dir := os.Getenv(killEnv)
	if dir == "" {
		os.Exit(m.Run())
	}
	id, err := journal.ParseID(os.Getenv(killEnv + "_ID"))
	if err != nil {
		panic(err)
	}
	cfg := testConfig(dir, id)
	cfg.SegmentBytes, cfg.MarkerBytes, cfg.TrailingLogs, cfg.walSegment = 64<<10, 100<<10, 4, 64<<10
	s, err := Open(context.Background(), cfg)
	if err != nil {
		panic(err)
	}
	var out sync.Mutex
	fmt.Println("open")
	round := os.Getenv(killEnv + "_ROUND")
	var all sync.WaitGroup
	for w := range 8 {
		all.Add(1)
		go func() {
			defer all.Done()
			for i := 0; ; i++ {
				name := fmt.Sprintf("%s-%d-%d", round, w, i)
				r, errs := s.Append(context.Background(), store.Command{Natural: name, Entries: []store.Proposal{{Stream: fmt.Sprint("case/", w), Kind: 1, Payload: fmt.Appendf(nil, "%s %s", name, strings.Repeat("x", 300))}}})
				if errs[0] != nil {
					return
				}
				out.Lock()
				fmt.Println(r[0].First, name)
				out.Unlock()
			}
		}()
	}
	all.Wait()
}

// TestKill kills a loaded process again and again; every answered entry is there once, where it was answered to be.
func TestKill(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	dir, id := t.TempDir(), journal.NewID()
	answered := map[string]uint64{}
	r := rand.New(rand.NewPCG(1, 2))
	for round := range 12 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), killEnv+"="+dir, killEnv+"_ID="+id.String(), killEnv+"_ROUND="+strconv.Itoa(round))
		cmd.Stderr = os.Stderr
		pipe, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(pipe)
		if !lines.Scan() || lines.Text() != "open" {
			t.Fatalf("round %d: did not open: %q", round, lines.Text())
		}
		timer := clock.System().Timer(time.Duration(20+r.IntN(300)) * time.Millisecond)
		go func() {
			<-timer.C
			_ = cmd.Process.Kill() // it may be gone
		}()
		for lines.Scan() {
			number, name, ok := strings.Cut(lines.Text(), " ")
			n, err := strconv.ParseUint(number, 10, 64)
			if !ok || err != nil {
				continue // cut by the kill
			}
			answered[name] = n
		}
		_ = cmd.Wait() // it was killed
	}
	cfg := testConfig(dir, id)
	s := open(t, cfg)
	found := map[string]bool{}
	for at := uint64(0); ; {
		es, err := s.Read(t.Context(), id, at, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		if len(es) == 0 {
			break
		}
		for _, e := range es {
			name, _, _ := strings.Cut(string(e.Payload), " ")
			if found[name] {
				t.Fatalf("%s is there twice", name)
			}
			found[name] = true
			if n, ok := answered[name]; ok && n != e.Number {
				t.Fatalf("%s is entry %d, it was answered as %d", name, e.Number, n)
			}
		}
		at += uint64(len(es))
	}
	for name := range answered {
		if !found[name] {
			t.Fatalf("%s was answered and is lost", name)
		}
	}
	t.Logf("%d answered, %d found", len(answered), len(found))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	rep, err := Verify(t.Context(), dir, Options{Folds: []*store.Fold{tallyFold()}}, nil)
	if err != nil || len(rep.Findings) > 0 {
		t.Fatalf("verify: %v %v", err, rep)
	}
}
