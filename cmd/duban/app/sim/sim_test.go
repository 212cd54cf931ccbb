package sim

import (
	"bufio"
	"context"
	"os"
	"strconv"
	"strings"
	"testing"
)

// seeds are those that ever failed, with the size of their tree.
func seeds(t *testing.T) (out []Options) {
	f, err := os.Open("testdata/seeds")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) < 2 || strings.HasPrefix(fields[0], "#") {
			continue
		}
		nodes, err1 := strconv.Atoi(fields[0])
		seed, err2 := strconv.ParseUint(fields[1], 10, 64)
		if err1 != nil || err2 != nil {
			t.Fatalf("testdata/seeds: %q", lines.Text())
		}
		out = append(out, Options{Nodes: nodes, Seed: seed, Histories: 1})
	}
	return out
}

func run(t *testing.T, o Options) Report {
	t.Helper()
	r, err := Run(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	if r.Violation != nil {
		t.Fatal(r.Text())
	}
	return r
}

func TestSimulate(t *testing.T) {
	r := run(t, Options{Seed: 1, Histories: 3, Nodes: 12})
	t.Logf("%d histories, %.0f a minute; %d levels, %d on silence, %d withdrawn", r.Histories, r.PerMinute(), r.Levels, r.Silent, r.Withdrawn)
	if r.Levels == 0 || r.Handled == 0 || r.Crashes == 0 {
		t.Errorf("nothing happened: %+v", r)
	}
}

func TestSeedsThatFailed(t *testing.T) {
	for _, o := range seeds(t) {
		t.Run(strconv.FormatUint(o.Seed, 10), func(t *testing.T) { run(t, o) })
	}
}

// The same seeds are the same histories, whoever runs them at once.
func TestSameSeedSameTrace(t *testing.T) {
	a := run(t, Options{Seed: 7, Histories: 2, Nodes: 6, Workers: 1})
	b := run(t, Options{Seed: 7, Histories: 2, Nodes: 6, Workers: 2})
	if a.Hash != b.Hash || a.Steps != b.Steps {
		t.Errorf("%s in %d steps, and %s in %d", a.Hash, a.Steps, b.Hash, b.Steps)
	}
	if c := run(t, Options{Seed: 8, Histories: 2, Nodes: 6}); c.Hash == a.Hash {
		t.Error("other seeds have the same trace")
	}
}
