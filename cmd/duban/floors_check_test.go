package main_test

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
)

// maxLines bounds a production file that a person wrote.
const maxLines = 500

// vague are package names that say nothing of a package's promise.
var vague = []string{
	"util", "utils", "common", "helper", "helpers", "manager", "managers", "types", "misc", "base", "shared",
}

// asking are the functions of package time that read or wait on the machine's clock.
var asking = []string{
	"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "Tick", "NewTimer", "NewTicker",
}

// outside are what a pure package never imports, trees included: it decides, others act.
var outside = []string{"os", "net", "syscall", "database/sql", "io/ioutil", "math/rand", "google.golang.org/grpc"}

// A room is a package and its place. step/100 is the floor.
type room struct {
	path string
	step int
	// pure: no disk, network, database or goroutine in its production code, and none in what it imports of ours.
	pure bool
	// values: not pure, but pure packages use its types.
	values bool
	// only: trees whose production code may import it; empty for all that stand higher.
	only []string
}

type library struct {
	prefix string
	may    []string // trees that may import it
	why    string
}

type exception struct {
	tree string
	why  string
}

type plan struct {
	module    string
	rooms     []room
	apart     [][2]string
	libraries []library
	clocks    []exception
	top       []string
}

// A source is one parsed Go file.
type source struct {
	name      string // path in the checkout
	dir       string
	test      bool
	generated bool
	lines     int
	file      *ast.File
	set       *token.FileSet
}

// check returns what is wrong in the tree, in order of file, and how many packages it saw.
func (p plan) check(tree fs.FS) (wrong []string, packages int, err error) {
	wrong, err = p.checkTop(tree)
	if err != nil {
		return nil, 0, err
	}
	sources, odd, err := load(tree)
	if err != nil {
		return nil, 0, err
	}
	wrong = append(wrong, odd...)
	dirs := map[string][]source{}
	for _, s := range sources {
		dirs[s.dir] = append(dirs[s.dir], s)
	}
	for dir, files := range dirs {
		wrong = append(wrong, p.checkPackage(dir, files)...)
		from, known := p.room(dir)
		for _, s := range files {
			wrong = append(wrong, p.checkClock(s)...)
			if known {
				wrong = append(wrong, p.checkImports(from, s)...)
			}
		}
	}
	slices.Sort(wrong)
	return wrong, len(dirs), nil
}

func (p plan) checkTop(tree fs.FS) (wrong []string, err error) {
	entries, err := fs.ReadDir(tree, ".")
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), ".") && !slices.Contains(p.top, e.Name()) {
			wrong = append(wrong, fmt.Sprintf("%s: not allowed in the first folder; allowed: %s and names that begin with a dot",
				e.Name(), strings.Join(p.top, ", ")))
		}
	}
	return wrong, nil
}

// load parses every Go file but those that go itself ignores; odd is what should not be in the tree at all.
func load(tree fs.FS) (sources []source, odd []string, err error) {
	err = fs.WalkDir(tree, ".", func(name string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		base := e.Name()
		hidden := name != "." && (strings.HasPrefix(base, ".") || strings.HasPrefix(base, "_"))
		switch {
		case e.IsDir() && (hidden || base == "testdata" || name == "bin"):
			return fs.SkipDir
		case e.IsDir() || hidden:
			return nil
		case base == "go.mod" && name != "go.mod":
			odd = append(odd, name+": a second module; modules of tools live in .ci/tools/NAME, and there are no others")
			return nil
		case !strings.HasSuffix(base, ".go"):
			return nil
		}
		raw, err := fs.ReadFile(tree, name)
		if err != nil {
			return err
		}
		set := token.NewFileSet()
		file, err := parser.ParseFile(set, name, raw, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		sources = append(sources, source{
			name: name, dir: path.Dir(name), test: strings.HasSuffix(base, "_test.go"),
			generated: ast.IsGenerated(file), lines: bytes.Count(raw, []byte("\n")), file: file, set: set,
		})
		return nil
	})
	return sources, odd, err
}

// checkPackage looks at what can be said of a package or a file alone.
func (p plan) checkPackage(dir string, files []source) (wrong []string) {
	if _, ok := p.room(dir); !ok {
		wrong = append(wrong, fmt.Sprintf("%s: not on the floor plan: add {path: %q, step: N} to rooms in "+
			"cmd/duban/floors_test.go, N above everything it imports and below everything that imports it", dir, dir))
	}
	documented := false
	for _, s := range files {
		if s.file.Doc != nil && strings.TrimSpace(s.file.Doc.Text()) != "" {
			documented = true
		}
		name := strings.TrimSuffix(s.file.Name.Name, "_test")
		if slices.Contains(vague, name) || slices.Contains(vague, path.Base(dir)) {
			wrong = append(wrong, fmt.Sprintf("%s: package %s says nothing of its promise; name it after what it does", s.name, name))
		}
		if !s.test && !s.generated && s.lines > maxLines {
			wrong = append(wrong, fmt.Sprintf("%s: %d lines, at most %d: split it", s.name, s.lines, maxLines))
		}
	}
	if !documented {
		wrong = append(wrong, fmt.Sprintf("%s: no package comment; it states the package's promise and its limits", dir))
	}
	return wrong
}

// checkClock finds calls of (and references to) what reads or waits on the machine's clock. Tests may read it and wait
// with a bound; sleeping is not waiting for anything and is refused there too.
func (p plan) checkClock(s source) (wrong []string) {
	for _, e := range p.clocks {
		if within(s.dir, e.tree) {
			return nil
		}
	}
	local := ""
	for _, i := range s.file.Imports {
		if i.Path.Value == `"time"` {
			if local = "time"; i.Name != nil {
				local = i.Name.Name
			}
		}
	}
	if local == "" {
		return nil
	}
	if local == "." {
		return []string{s.name + `: imports "time" into its own names; import it plainly`}
	}
	ast.Inspect(s.file, func(n ast.Node) bool {
		sel, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		x, ok := sel.X.(*ast.Ident)
		if !ok || x.Name != local || !slices.Contains(asking, sel.Sel.Name) {
			return true
		}
		switch {
		case !s.test && !strings.HasSuffix(s.dir, "test"):
			wrong = append(wrong, fmt.Sprintf("%s: time.%s: every time comes from an injected node/clock", s.at(sel), sel.Sel.Name))
		case sel.Sel.Name == "Sleep":
			wrong = append(wrong, fmt.Sprintf("%s: time.Sleep in a test: wait for what should happen, with a bound; "+
				"timers are tested with testing/synctest or a manual clock", s.at(sel)))
		}
		return true
	})
	return wrong
}

func (p plan) checkImports(from room, s source) (wrong []string) {
	say := func(n ast.Node, format string, args ...any) {
		wrong = append(wrong, s.at(n)+": "+fmt.Sprintf(format, args...))
	}
	trial := s.test || strings.HasSuffix(path.Base(from.path), "test") // code that never ships
	for _, i := range s.file.Imports {
		target, err := strconv.Unquote(i.Path.Value)
		if err != nil {
			say(i, "import %s: %v", i.Path.Value, err)
			continue
		}
		ours, ok := strings.CutPrefix(target, p.module+"/")
		if !ok {
			if !trial {
				p.checkLibrary(from, target, func(text string) { say(i, "%s", text) })
			}
			continue
		}
		to, known := p.room(ours)
		switch {
		case !known:
			say(i, "imports %s, which is not on the floor plan (rooms in cmd/duban/floors_test.go)", ours)
		case s.test && to.path == from.path:
			// An external test of its own package.
		case p.areApart(from.path, to.path):
			say(i, "imports %s: %s and %s never import each other; cmd/duban/app joins them", ours, tree(from.path), tree(to.path))
		case s.test && to.step/100 > from.step/100:
			say(i, "imports %s from floor %d into floor %d: imports go down only, in tests too", ours, to.step/100, from.step/100)
		case s.test:
		case to.step >= from.step:
			say(i, "imports %s, which stands on step %d, not below step %d of %s: imports go down only", ours, to.step, from.step, from.path)
		case strings.HasSuffix(path.Base(to.path), "test") && !trial:
			say(i, "imports %s: packages called xxxtest are for tests alone", ours)
		case len(to.only) > 0 && !slices.ContainsFunc(to.only, func(t string) bool { return within(from.path, t) }):
			say(i, "imports %s, which only %s may import", ours, strings.Join(to.only, ", "))
		case from.pure && !to.pure && !to.values && to.step >= 200:
			say(i, "imports %s, which is not pure, into %s, which is", ours, from.path)
		}
	}
	if from.pure && !s.test {
		ast.Inspect(s.file, func(n ast.Node) bool {
			if g, ok := n.(*ast.GoStmt); ok {
				say(g, "starts a goroutine in %s, which is pure", from.path)
			}
			return true
		})
	}
	return wrong
}

// checkLibrary says what is wrong with an import of somebody else's package.
func (p plan) checkLibrary(from room, target string, say func(string)) {
	if from.pure {
		for _, o := range outside {
			if within(target, o) {
				say(fmt.Sprintf("imports %s into %s, which is pure: it decides, others read and write", target, from.path))
			}
		}
	}
	best := library{}
	for _, l := range p.libraries {
		if within(target, l.prefix) && len(l.prefix) > len(best.prefix) {
			best = l
		}
	}
	if best.prefix != "" && !slices.ContainsFunc(best.may, func(t string) bool { return within(from.path, t) }) {
		say(fmt.Sprintf("imports %s into %s: %s", target, from.path, best.why))
	}
}

func (p plan) room(dir string) (room, bool) {
	for _, r := range p.rooms {
		if r.path == dir {
			return r, true
		}
	}
	return room{}, false
}

func (p plan) areApart(a, b string) bool {
	for _, x := range p.apart {
		if within(a, x[0]) && within(b, x[1]) || within(a, x[1]) && within(b, x[0]) {
			return true
		}
	}
	return false
}

// within reports whether dir is the tree's root or lies in it.
func within(dir, root string) bool { return dir == root || strings.HasPrefix(dir, root+"/") }

// tree is the first folder of a path.
func tree(dir string) string { first, _, _ := strings.Cut(dir, "/"); return first }

func (s source) at(n ast.Node) string {
	return fmt.Sprintf("%s:%d", s.name, s.set.Position(n.Pos()).Line)
}
