package main_test

import (
	"strings"
	"testing"
	"testing/fstest"
)

// small is a house of few rooms, for trees planted in memory: the checker is tried apart from today's packages.
var small = plan{
	module: "x",
	rooms: []room{
		{path: "cmd/duban", step: 490},
		{path: "cmd/duban/app", step: 450},
		{path: "escalation", step: 390},
		{path: "federation", step: 390},
		{path: "node/intake", step: 270},
		{path: "node/casefile", step: 240, pure: true},
		{path: "node/registry", step: 240},
		{path: "node/store/embedded", step: 220, only: []string{"cmd/duban"}},
		{path: "node/store/storetest", step: 220},
		{path: "node/store", step: 215},
		{path: "node/identity", step: 205, values: true},
		{path: "node/clock", step: 200, values: true},
	},
	apart: [][2]string{{"escalation", "federation"}},
	libraries: []library{
		{"github.com/spf13", []string{"cmd"}, "flags end at the command line"},
		{"github.com/hashicorp/raft", []string{"node/store/embedded"}, "raft is private"},
		{"testing", nil, "belongs in tests"},
	},
	clocks: []exception{{"node/clock", "it is the clock"}},
	top:    []string{"cmd", "escalation", "federation", "node", "go.mod"},
}

// goFile is a documented Go file of the package that imports what is named and has the body.
func goFile(pkg, body string, imports ...string) string {
	var b strings.Builder
	b.WriteString("// Package " + pkg + " is planted.\npackage " + pkg + "\n")
	for _, i := range imports {
		b.WriteString("import " + i + "\n")
	}
	b.WriteString(body + "\n")
	return b.String()
}

// TestFloorsNotice plants one fault at a time and asks for exactly one complaint, at the right place.
func TestFloorsNotice(t *testing.T) {
	for _, c := range []struct {
		name  string
		files map[string]string
		want  string // in the only complaint; empty where the tree is right
	}{
		{"a right tree", map[string]string{
			"go.mod":                           "module x\n",
			".hidden/a.go":                     "not go",
			"cmd/duban/main.go":                goFile("main", "", `_ "x/cmd/duban/app"`, `_ "github.com/spf13/viper"`),
			"cmd/duban/app/app.go":             goFile("app", "", `_ "x/escalation"`, `_ "x/federation"`, `_ "x/node/store/embedded"`),
			"node/store/embedded/e.go":         goFile("embedded", "", `_ "github.com/hashicorp/raft"`, `_ "x/node/store"`),
			"node/store/embedded/e_test.go":    goFile("embedded_test", "", `_ "x/node/intake"`, `_ "testing"`),
			"node/store/storetest/suite.go":    goFile("storetest", "", `_ "testing"`, `_ "x/node/store"`),
			"node/store/store.go":              goFile("store", ""),
			"node/store/testdata/ignored.go":   "not go",
			"node/clock/clock.go":              goFile("clock", "var Now = time.Now", `"time"`),
			"node/intake/limits_test.go":       goFile("intake", "var start = time.Now()", `"time"`),
			"node/casefile/casefile.go":        goFile("casefile", "var D = time.Second", `"time"`, `_ "x/node/identity"`),
			"node/store/store_windows_test.go": goFile("store", ""),
		}, ""},
		{"up a floor", map[string]string{"node/intake/a.go": goFile("intake", "", `_ "x/escalation"`)},
			"node/intake/a.go:3: imports escalation, which stands on step 390"},
		{"up a step of one floor", map[string]string{"node/store/a.go": goFile("store", "", `_ "x/node/intake"`)}, "imports go down only"},
		{"same step", map[string]string{"node/casefile/a.go": goFile("casefile", "", `_ "x/node/registry"`)}, "imports go down only"},
		{"up a floor in a test", map[string]string{
			"node/intake/a.go": goFile("intake", ""), "node/intake/a_test.go": goFile("intake", "", `_ "x/federation"`),
		}, "in tests too"},
		{"escalation to federation", map[string]string{"escalation/a.go": goFile("escalation", "", `_ "x/federation"`)}, "never import each other"},
		{"federation to escalation in a test", map[string]string{
			"federation/a_test.go": goFile("federation_test", "", `_ "x/escalation"`),
		}, "never import each other"},
		{"a package nobody planned", map[string]string{"node/new/a.go": goFile("fresh", "")}, `add {path: "node/new", step: N}`},
		{"an import nobody planned", map[string]string{"escalation/a.go": goFile("escalation", "", `_ "x/node/new"`)}, "not on the floor plan"},
		{"a test suite in production", map[string]string{"node/intake/a.go": goFile("intake", "", `_ "x/node/store/storetest"`)}, "for tests alone"},
		{"testing in production", map[string]string{"node/intake/a.go": goFile("intake", "", `_ "testing"`)}, "belongs in tests"},
		{"an engine outside of the command", map[string]string{"node/intake/a.go": goFile("intake", "", `_ "x/node/store/embedded"`)}, "which only cmd/duban may import"},
		{"raft outside of its engine", map[string]string{"cmd/duban/app/a.go": goFile("app", "", `_ "github.com/hashicorp/raft"`)}, "raft is private"},
		{"viper below the command", map[string]string{"node/intake/a.go": goFile("intake", "", `_ "github.com/spf13/viper"`)}, "flags end at the command line"},
		{"disk in a pure package", map[string]string{"node/casefile/a.go": goFile("casefile", "", `_ "os"`)}, "which is pure"},
		{"network in a pure package", map[string]string{"node/casefile/a.go": goFile("casefile", "", `_ "net/http"`)}, "which is pure"},
		{"a store in a pure package", map[string]string{"node/casefile/a.go": goFile("casefile", "", `_ "x/node/store"`)}, "which is not pure"},
		{"a goroutine in a pure package", map[string]string{"node/casefile/a.go": goFile("casefile", "func f() { go f() }")}, "starts a goroutine"},
		{"the machine's time", map[string]string{"node/intake/a.go": goFile("intake", "var t = time.Now()", `"time"`)}, "a.go:4: time.Now"},
		{"the machine's time, renamed", map[string]string{"node/intake/a.go": goFile("intake", "var t = wall.AfterFunc", `wall "time"`)}, "time.AfterFunc"},
		{"the machine's time, dotted", map[string]string{"node/intake/a.go": goFile("intake", "var t = Now()", `. "time"`)}, "import it plainly"},
		{"sleep in a test", map[string]string{"node/intake/a_test.go": goFile("intake", "func f() { time.Sleep(1) }", `"time"`)}, "time.Sleep in a test"},
		{"no package comment", map[string]string{"node/intake/a.go": "package intake\n"}, "no package comment"},
		{"a vague name", map[string]string{"node/intake/a.go": goFile("util", "")}, "says nothing of its promise"},
		{"a long file", map[string]string{"node/intake/a.go": goFile("intake", strings.Repeat("\n", maxLines))}, "at most 500"},
		{"a long test", map[string]string{"node/intake/a_test.go": goFile("intake", strings.Repeat("\n", maxLines))}, ""},
		{"a long generated file", map[string]string{
			"node/intake/a.go": "// Code generated by x. DO NOT EDIT.\n\n" + goFile("intake", strings.Repeat("\n", maxLines)),
		}, ""},
		{"a folder in the first folder", map[string]string{"pkg/README": "x"}, "pkg: not allowed"},
		{"a file in the first folder", map[string]string{"notes.txt": "x"}, "notes.txt: not allowed"},
		{"a second module", map[string]string{"node/store/go.mod": "module y\n", "node/store/a.go": goFile("store", "")}, "a second module"},
	} {
		t.Run(c.name, func(t *testing.T) {
			tree := fstest.MapFS{}
			for name, text := range c.files {
				tree[name] = &fstest.MapFile{Data: []byte(text)}
			}
			wrong, _, err := small.check(tree)
			if err != nil {
				t.Fatal(err)
			}
			all := strings.Join(wrong, "\n")
			switch {
			case c.want == "" && len(wrong) > 0:
				t.Errorf("a right tree is said to be wrong:\n%s", all)
			case c.want != "" && len(wrong) != 1:
				t.Errorf("got %d complaints, want one that says %q:\n%s", len(wrong), c.want, all)
			case !strings.Contains(all, c.want):
				t.Errorf("got %q, want it to say %q", all, c.want)
			}
		})
	}
}

// TestFloorsPlan looks at the plan itself: each package once, and on a floor that its folder names.
func TestFloorsPlan(t *testing.T) {
	floors := map[string]int{"cmd": 4, "escalation": 3, "federation": 3, "node": 2, "proto": 1, "configs": 0}
	seen := map[string]bool{}
	for _, r := range rooms {
		if seen[r.path] {
			t.Errorf("%s stands twice on the plan", r.path)
		}
		seen[r.path] = true
		if floor, ok := floors[tree(r.path)]; !ok || r.step/100 != floor {
			t.Errorf("%s: step %d is not on the floor of %s", r.path, r.step, tree(r.path))
		}
	}
}
