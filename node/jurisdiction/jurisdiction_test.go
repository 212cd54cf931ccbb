package jurisdiction_test

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"duban.internal/configs"
	"duban.internal/node/jurisdiction"
)

func load(t *testing.T, file string) *jurisdiction.Tree {
	t.Helper()
	f, err := configs.FS.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	tree, err := jurisdiction.LoadAll(jurisdiction.Source{Name: file, Reader: f})
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

func codes(divisions []jurisdiction.Division) (out []jurisdiction.Code) {
	for _, d := range divisions {
		out = append(out, d.Code)
	}
	return out
}

func TestShippedDivisions(t *testing.T) {
	tree := load(t, "divisions/divisions.csv")
	count := map[jurisdiction.Tier]int{}
	for d := range tree.All() {
		count[d.Tier]++
	}
	if count["city"] != 4 || count["district"] != 37 || count["street"] != 651 || tree.Len() != 692 {
		t.Errorf("got %v, want 4 cities, 37 districts, 651 streets", count)
	}
	if got, want := codes(tree.Children("")), []jurisdiction.Code{"120000", "330200", "371700", "442000"}; !slices.Equal(got, want) {
		t.Errorf("cities %v, want %v", got, want)
	}
	if d, ok := tree.Get("120116013"); !ok || d.Name != "新村街道" || d.Tier != jurisdiction.Street || d.Parent != "120116" {
		t.Errorf("120116013 = %+v, %v", d, ok)
	}
	if got, want := codes(tree.Ancestors("120116013")), []jurisdiction.Code{"120116", "120000"}; !slices.Equal(got, want) {
		t.Errorf("ancestors %v, want %v", got, want)
	}
	// 中山市 has no districts: its streets and towns lie straight under the city.
	if got, want := codes(tree.Ancestors("442000001")), []jurisdiction.Code{"442000"}; !slices.Equal(got, want) {
		t.Errorf("ancestors %v, want %v", got, want)
	}
	for _, d := range tree.Children("442000") {
		if d.Tier != jurisdiction.Street {
			t.Errorf("%+v under Zhongshan is no street", d)
		}
	}
}

func TestChicagoWards(t *testing.T) {
	tree := load(t, "divisions/chicago.csv")
	wards := tree.Children("990100")
	if len(wards) != 51 || wards[0].Code != "990100000" || wards[50].Name != "Ward 50" || tree.Len() != 53 {
		t.Errorf("%d divisions, %d wards, %+v", tree.Len(), len(wards), wards)
	}
}

func TestWithin(t *testing.T) {
	tree := load(t, "divisions/divisions.csv")
	for _, c := range []struct {
		code, ancestor jurisdiction.Code
		want           bool
	}{
		{"120116013", "120116013", true},
		{"120116013", "120116", true},
		{"120116013", "120000", true},
		{"120000", "120116", false},
		{"120116013", "120101", false},
		{"120116013", "442000", false},
		{"999999", "120000", false},
		{"120116", "999999", false},
		{"999999", "999999", false},
		{"120116", "", false},
		{"", "", false},
	} {
		if got := tree.Within(c.code, c.ancestor); got != c.want {
			t.Errorf("Within(%q, %q) = %v", c.code, c.ancestor, got)
		}
	}
	if _, ok := tree.Parent("120000"); ok {
		t.Error("a city has a parent")
	}
	if _, ok := tree.Parent("999999"); ok {
		t.Error("an unknown code has a parent")
	}
	if tree.Ancestors("120000") != nil || tree.Ancestors("999999") != nil || tree.Children("999999") != nil {
		t.Error("a city has ancestors or an unknown code relatives")
	}
}

func TestChildrenCannotChangeTheTree(t *testing.T) {
	tree := load(t, "divisions/chicago.csv")
	tree.Children("990000")[0].Name = "changed"
	if d := tree.Children("990000")[0]; d.Name == "changed" {
		t.Error("a caller changed the tree")
	}
}

// An operator adds a zone and its streets in a file of his own.
func TestSeveralFiles(t *testing.T) {
	f, err := configs.FS.Open("divisions/divisions.csv")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	own := "code,name,tier,parent\r\n330271,高新区,district,330200\r\n330271001,贵驷街道,street,330271\r\n"
	tree, err := jurisdiction.LoadAll(
		jurisdiction.Source{Name: "own.csv", Reader: strings.NewReader(own)},
		jurisdiction.Source{Name: "divisions.csv", Reader: f})
	if err != nil {
		t.Fatal(err)
	}
	if !tree.Within("330271001", "330200") {
		t.Error("the zone's street is not in Ningbo")
	}
}

func TestLoadNamesEverythingThatIsWrong(t *testing.T) {
	const head = "code,name,tier,parent\n"
	for _, c := range []struct {
		name, file string
		want       []string
	}{
		{"empty", "", []string{"want the heading code,name,tier,parent"}},
		{"heading only", head, []string{"at least one row"}},
		{"heading", "code,name\n120000,a\n", []string{"line 1: want the heading"}},
		{"not utf-8", head + "120000,\xcc\xec\xbd\xf2,city,\n", []string{"want UTF-8"}},
		{"codes", head + "12000,a,city,\n12000x,b,city,\n020000,c,city,\n", []string{
			`line 2: code "12000": want 6 digits`, `line 3: code "12000x": want digits`, `line 4: code "020000": must not begin with 0`}},
		{"several", "# two cities\n" + head + "120000,,city,\n120000,again,city,\n120101,x,county,120000\n120102,y,district,130000\n", []string{
			`line 3: name ""`, `line 4: code "120000": given before, at line 3`, `line 5: tier "county": want city, district or street`,
			`line 6: parent "130000": no such division`}},
		{"length", head + "120000,a,city,\n120101001,b,district,120000\n120102,c,street,120000\n", []string{
			`line 3: code "120101001": a district has 6 digits`, `line 4: code "120102": a street has 9 digits`}},
		{"parents", head + "120000,a,city,130000\n130000,b,city,\n120101,c,district,\n", []string{
			`line 2: parent "130000": a city has none`, `line 4: parent: a district needs one`}},
		{"itself", head + "120101,a,district,120101\n", []string{`line 2: parent "120101": is the division itself`}},
		{"cycle", head + "120101,a,district,120102\n120102,b,district,120101\n", []string{
			`line 2: parent "120102": is a district; a district cannot lie in it`, `line 3: parent "120101": is a district`}},
		{"upside down", head + "120000,a,city,\n120000001,b,street,120000\n120101,c,district,120000001\n", []string{
			`line 4: parent "120000001": is a street; a district cannot lie in it`}},
		{"fields", head + "120000,a,city\n130000,b,city,\n", []string{"line 2: 3 fields, want 4"}},
		{"quotes", head + "120000,a\"b,city,\n130000,\x01,city,\n", []string{"line 2: bare", "line 3: name"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			tree, err := jurisdiction.Load(strings.NewReader(c.file))
			if err == nil || tree != nil {
				t.Fatalf("loaded %v, %v", tree, err)
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error lacks %q:\n%v", want, err)
				}
			}
			if got := strings.Count(err.Error(), "\n") + 1; got != len(c.want) {
				t.Errorf("%d problems, want %d:\n%v", got, len(c.want), err)
			}
		})
	}
}

func TestErrorsNameTheFile(t *testing.T) {
	_, err := jurisdiction.LoadAll(
		jurisdiction.Source{Name: "a.csv", Reader: strings.NewReader("code,name,tier,parent\n120000,a,city,\n")},
		jurisdiction.Source{Name: "b.csv", Reader: strings.NewReader("code,name,tier,parent\n120000,a,city,\n")})
	if err == nil || !strings.Contains(err.Error(), `b.csv line 2: code "120000": given before, at a.csv line 2`) {
		t.Error(err)
	}
}

// Whatever loads is a forest: every division reaches a city, and the tiers only rise on the way.
func FuzzLoad(f *testing.F) {
	for _, name := range []string{"divisions/chicago.csv"} {
		seed, err := configs.FS.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(seed)
	}
	f.Add([]byte("code,name,tier,parent\n120101,a,district,120102\n120102,b,district,120101\n"))
	f.Fuzz(func(t *testing.T, file []byte) {
		tree, err := jurisdiction.Load(bytes.NewReader(file))
		if err != nil {
			return
		}
		for d := range tree.All() {
			if _, err := jurisdiction.ParseCode(string(d.Code)); err != nil {
				t.Fatal(err)
			}
			top := d
			if path := tree.Ancestors(d.Code); len(path) > 0 {
				top = path[len(path)-1]
			}
			if top.Tier != jurisdiction.City || !tree.Within(d.Code, top.Code) {
				t.Fatalf("%+v does not reach a city but %+v", d, top)
			}
		}
	})
}
