package sim

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"testing"
)

func TestTry(t *testing.T) {
	n, _ := strconv.Atoi(os.Getenv("N"))
	seed, _ := strconv.Atoi(os.Getenv("SEED"))
	o := Options{Seed: uint64(seed), Histories: max(1, n)}
	if os.Getenv("TRACE") != "" {
		o.Trace = os.Stdout
	}
	r, err := Run(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Printf("%+v per minute %.0f\n", r, r.PerMinute())
	if r.Violation != nil {
		for _, l := range r.Violation.Last {
			fmt.Println(l)
		}
		t.Fatal(r.Violation)
	}
}
