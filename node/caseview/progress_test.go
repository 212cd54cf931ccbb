package caseview

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"

	"duban.internal/node/casefile"
)

func sample() *progress {
	return &progress{
		procedure: "penalty_general", agency: "a-1", openedAt: -5, imported: true, opening: 1 << 40, evidence: 3,
		steps: []step{
			{number: 7, stage: "filing", result: "filed", completedAt: 1 << 50, handler: "o-1"},
			{number: 9, stage: "investigation", completedAt: 2, handler: "o-1", officers: []string{"o-1", "o-2"}},
		},
		corrections: []casefile.Correction{{ID: "k-1", Entry: 7, Decided: true}, {ID: "k-2", Entry: 9, Decided: true, Approved: true}},
	}
}

func TestProgress(t *testing.T) {
	for _, p := range []*progress{sample(), {}} {
		got, err := decodeProgress(p.encode())
		require.NoError(t, err)
		require.Equal(t, p, got)
	}
	st := sample().state("c-1")
	require.Equal(t, []string{"o-1"}, st.Stages[0].People)
	require.Equal(t, []string{"o-1", "o-2"}, st.Stages[1].People, "each once")
	whole := sample().encode()
	for n := range whole {
		_, err := decodeProgress(whole[:n])
		require.ErrorIs(t, err, errProgress, "cut to %d bytes", n)
	}
}

func FuzzProgress(f *testing.F) {
	f.Add(sample().encode())
	f.Add([]byte{progressVersion})
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := decodeProgress(b)
		if err != nil {
			return
		}
		again, err := decodeProgress(p.encode())
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(again.encode(), p.encode()) {
			t.Fatal("not the same again")
		}
	})
}
