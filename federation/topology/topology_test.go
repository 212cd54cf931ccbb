package topology_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"duban.internal/federation/topology"
	"duban.internal/node/fault"
	"duban.internal/node/identity"
	"duban.internal/node/jurisdiction"
)

var now = time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC)

func spec() topology.Spec {
	return topology.Spec{
		City: "120000",
		Members: []topology.Member{
			{Code: "120116013", Name: "新村街道", Tier: jurisdiction.Street, Parent: "120116"},
			{Code: "120000", Name: "天津市", Tier: jurisdiction.City, Address: "127.0.0.1:7443", Hosts: []string{"city.example", "192.0.2.7"}},
			{Code: "120116", Name: `滨海"新\区`, Tier: jurisdiction.District, Parent: "120000"},
		},
		Clients: []identity.Identity{
			{City: "120000", Kind: identity.Agency, ID: "market"},
			{City: "120000", Kind: identity.Office, Role: "legal_office", Code: "120116"},
		},
		Now: now,
	}
}

func TestGenerate(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "deep", "keys")
	tree, err := topology.Generate(dir, spec())
	if err != nil {
		t.Fatal(err)
	}
	loaded, err := topology.Load(filepath.Join(dir, "topology.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(loaded.Format(), tree.Format()) || len(loaded.All()) != 3 || loaded.City() != "120000" {
		t.Errorf("written\n%s\nread\n%s", tree.Format(), loaded.Format())
	}
	if first := loaded.All()[0]; first.Code != "120000" || first.Address != "127.0.0.1:7443" {
		t.Errorf("first is %+v", first)
	}
	for _, c := range []struct {
		code, ancestor jurisdiction.Code
		want           bool
	}{{"120116013", "120116013", true}, {"120116013", "120000", true}, {"120116", "120116013", false}, {"1", "120000", false}} {
		if got := loaded.Within(c.code, c.ancestor); got != c.want {
			t.Errorf("%s within %s: %v", c.code, c.ancestor, got)
		}
	}
	if c := loaded.Children("120000"); len(c) != 1 || c[0].Code != "120116" || c[0].Name != `滨海"新\区` {
		t.Errorf("children %+v", c)
	}

	for _, n := range loaded.All() {
		folder := topology.NodeFolder(dir, n.Code)
		key, err := topology.JournalKey(folder)
		if err != nil || key.Public().String() != n.Key.String() || key.Public().Journal() != n.Journal {
			t.Errorf("%s: journal key %v, %v", n.Code, key, err)
		}
		pair, err := topology.NodeFiles(folder).Load()
		if err != nil || pair.Own.Actor() != "node:"+string(n.Code) {
			t.Fatalf("%s: %v, %v", n.Code, pair, err)
		}
		if leaf := pair.Cert.Leaf; leaf.NotAfter != now.Add(topology.Year) || leaf.VerifyHostname("localhost") != nil {
			t.Errorf("%s: valid until %v, for %v", n.Code, leaf.NotAfter, leaf.DNSNames)
		}
		if n, ok := loaded.Journal(n.Journal); !ok || n.Code == "" {
			t.Errorf("journal %s is not found", n.Journal)
		}
		operator := identity.Identity{City: "120000", Kind: identity.Operator, Code: n.Code}
		if pair, err := topology.ClientFiles(topology.ClientFolder(dir, operator)).Load(); err != nil || pair.Own != operator {
			t.Errorf("operator: %v, %v", pair, err)
		}
	}
	for _, c := range spec().Clients {
		if pair, err := topology.ClientFiles(topology.ClientFolder(dir, c)).Load(); err != nil || pair.Own != c {
			t.Errorf("%s: %v, %v", c, pair, err)
		}
	}
	err = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		if info, err := e.Info(); err != nil || strings.HasSuffix(path, ".key") && info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", path, info.Mode(), err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}

	if _, err := topology.Generate(dir, spec()); !fault.Is(err, fault.Exists) {
		t.Errorf("generated again: %v", err)
	}
	if after, err := os.ReadFile(filepath.Join(dir, "topology.yaml")); err != nil || !bytes.Equal(after, tree.Format()) {
		t.Errorf("a refused Generate changed something: %v", err)
	}
}

func TestGenerateLeavesNothingBehind(t *testing.T) {
	above := t.TempDir()
	bad := spec()
	bad.Members[0].Parent = "330200"
	bad.Members = append(bad.Members, topology.Member{Code: "12", Name: "x", Tier: jurisdiction.Street, Parent: "120000"})
	_, err := topology.Generate(filepath.Join(above, "keys"), bad)
	if !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "members[3].code") || !strings.Contains(err.Error(), "330200") {
		t.Errorf("%v", err)
	}
	if left, err := os.ReadDir(above); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestLoadSaysEverythingAtOnce(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	tree, err := topology.Generate(dir, spec())
	if err != nil {
		t.Fatal(err)
	}
	city, _ := tree.Node("120000")
	district, _ := tree.Node("120116")
	good := string(tree.Format())
	broken := strings.NewReplacer(
		`journal: "`+district.Journal.String(), `journal: "`+city.Journal.String(), // twice, and not the key's
		`parent: "120116"`, `parent: "120117"`,
		`name: "天津市"`, `name: ""`,
		`tier: district`, `tier: county`,
		`code: "120116013"`, `code: "12011601"`,
	).Replace(good)
	_, err = topology.Parse([]byte(broken))
	if err == nil {
		t.Fatal("loaded")
	}
	for _, want := range []string{
		`nodes[0].name: is missing`, `is also the journal of`, `is the key of journal`, `"county": want city, district or street`,
		`nodes[2].code: code "12011601"`, `"120117": no such node`,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("lacks %q:\n%v", want, err)
		}
	}
	for name, content := range map[string]string{
		"unknown key": good + "more: 1\n", "no YAML": "{", "empty": "", "no city": strings.Replace(good, `city: "120000"`, `city: "120116"`, 1),
		"key": strings.Replace(good, district.Key.String(), "x", 1),
	} {
		if _, err := topology.Parse([]byte(content)); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := topology.Load(filepath.Join(dir, "none.yaml")); !errors.Is(err, fs.ErrNotExist) || !fault.Is(err, fault.Invalid) {
		t.Errorf("%v", err)
	}
}
