package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"duban.internal/cmd/duban/exit"
)

// What only people can settle: each command says what it wants, and refuses where there is nothing to settle.
func TestSettlingFromATerminal(t *testing.T) {
	w := newTianjin(t)
	operator := func(args ...string) []string { return at(w.district, w, "operator-120116", args...) }
	above := func(args ...string) []string { return at(w.city, w, "operator-120000", args...) }
	office := func(args ...string) []string { return at(w.district, w, "office-legal_office-120116", args...) }
	eventually(t, func() bool {
		return strings.Contains(must(t, operator("status", "--json")...), `"parent_connected": true`)
	}, "the district reaches the city")

	for _, c := range []struct {
		args []string
		code int
		says string
	}{
		{operator("clock", "accept", "--reason", "compared", "--by", "somebody"), exit.Refused, "there is nothing to accept"},
		{operator("clock", "accept"), exit.Refused, "is missing: expected who decides it"},
		{at(w.district, w, "office-legal_office-120116", "clock", "accept", "--reason", "x", "--by", "y"), exit.Refused, "operator of 120116"},
		{above("journal", "readmit", "120116", "--reason", "settled", "--by", "somebody"), exit.Refused, "there is nothing to settle"},
		{above("journal", "readmit", "120117", "--reason", "settled", "--by", "somebody"), exit.Refused, "expected one of: 120116"},
		{operator("journal", "readmit", "120000", "--by", "somebody"), exit.Refused, "reason: is missing"},
		{operator("journal", "readmit"), exit.Usage, "arg"},
		{office("alert", "reopen", "3fa9c20000", "--reason", "doubtful", "--by", "somebody"), exit.Refused, "no such alert"},
	} {
		o := duban(t, c.args...)
		require.Equal(t, c.code, o.code, "%v: %s%s", c.args, o.stdout, o.stderr)
		require.Contains(t, o.stderr, c.says, "%v", c.args)
	}
	require.Contains(t, must(t, office("alert", "list", "--claimed")...), "no alert")

	// The nodes above, and what they witnessed, are shown to people and programs.
	eventually(t, func() bool {
		s := decode[struct {
			Ancestors []struct {
				Code    string
				Letters int
				Size    uint64 `json:"witnessed_size"`
			}
			Stopped  string `json:"clock_stopped"`
			Journals []struct{ Size uint64 }
		}](t, must(t, operator("status", "--json")...))
		return s.Stopped == "" && len(s.Ancestors) == 1 && s.Ancestors[0].Code == "120000" && s.Ancestors[0].Letters == 2 &&
			s.Ancestors[0].Size == s.Journals[0].Size
	}, "the city has witnessed everything and sent its profile and calendar")
	require.Regexp(t, `above +witnessed +entries +heard +letters`, must(t, operator("status")...))
	w.stop(t)
}
