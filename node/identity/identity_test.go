package identity_test

import (
	"crypto/tls"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"duban.internal/node/fault"
	"duban.internal/node/identity"
)

func TestURIs(t *testing.T) {
	for _, c := range []struct{ uri, actor string }{
		{"duban://120000/node/120116", "node:120116"},
		{"duban://120000/agency/market-120116", "agency:market-120116"},
		{"duban://120000/office/legal_office/120116", "office:legal_office@120116"},
		{"duban://120000/operator/120116013", "operator:120116013"},
	} {
		i, err := identity.Parse(c.uri)
		if err != nil {
			t.Errorf("%s: %v", c.uri, err)
			continue
		}
		if i.String() != c.uri || i.Actor() != c.actor {
			t.Errorf("%s: %s, %s", c.uri, i, i.Actor())
		}
	}
	for _, uri := range []string{"", "http://120000/node/120116", "duban://120000/node", "duban://120000/node/12", "duban://x/node/120116",
		"duban://120000/office/120116", "duban://120000/office/Legal/120116", "duban://120000/agency/", "duban://120000/agency/a b",
		"duban://120000/king/120116", "duban://120000/node/120116/x", "duban://120000/office//120116"} {
		if i, err := identity.Parse(uri); err == nil || !fault.Is(err, fault.Invalid) {
			t.Errorf("%q: %+v, %v", uri, i, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("duban://120000/office/legal_office/120116")
	f.Add("duban://120000/agency/x?y#z")
	f.Fuzz(func(t *testing.T, uri string) {
		if i, err := identity.Parse(uri); err == nil && i.String() != uri {
			t.Errorf("%q read as %q", uri, i)
		}
	})
}

var start = time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC)

func pair(t *testing.T, a *identity.Authority, ca []byte, id identity.Identity, valid time.Duration) *identity.Pair {
	t.Helper()
	cert, key, err := a.Issue(id, []string{"127.0.0.1", "localhost"}, start, valid)
	if err != nil {
		t.Fatal(err)
	}
	p, err := identity.NewPair(cert, key, ca)
	if err != nil {
		t.Fatal(err)
	}
	p.Now = func() time.Time { return start.Add(time.Hour) }
	return p
}

// handshake says what went wrong at either end; the client's certificate is judged by the server after the client is done.
func handshake(t *testing.T, server, client *tls.Config) (seen identity.Identity, serverErr, clientErr error) {
	t.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", server)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	done := make(chan error, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			done <- err
			return
		}
		defer c.Close()
		s := c.(*tls.Conn)
		if err = s.Handshake(); err == nil {
			seen, err = identity.FromState(s.ConnectionState())
		}
		done <- err
	}()
	c, clientErr := tls.DialWithDialer(&net.Dialer{Timeout: 5 * time.Second}, "tcp", l.Addr().String(), client)
	if clientErr == nil {
		defer c.Close()
	}
	return seen, <-done, clientErr
}

func TestHandshake(t *testing.T) {
	authority := func(city string) (*identity.Authority, []byte) {
		a, err := identity.NewAuthority("120000", start, 24*time.Hour)
		if city != "120000" {
			a, err = identity.NewAuthority("330200", start, 24*time.Hour)
		}
		if err != nil {
			t.Fatal(err)
		}
		return a, a.Certificate()
	}
	a, ca := authority("120000")
	other, otherCA := authority("120000")
	ningbo, _ := authority("330200")
	city := identity.Identity{City: "120000", Kind: identity.Node, Code: "120000"}
	district := identity.Identity{City: "120000", Kind: identity.Node, Code: "120116"}
	both := append(append([]byte(nil), ca...), ningbo.Certificate()...)

	server := pair(t, a, both, city, 24*time.Hour)
	client := pair(t, a, ca, district, 24*time.Hour)
	seen, e1, e2 := handshake(t, server.Server(), client.Client(city))
	if e1 != nil || e2 != nil || seen != district {
		t.Fatalf("seen %v, server: %v, client: %v", seen, e1, e2)
	}

	if _, _, err := handshake(t, server.Server(), client.Client(district)); err == nil || !strings.Contains(err.Error(), "want duban://120000/node/120116") {
		t.Errorf("another server than expected: %v", err)
	}
	bare := client.Client(city)
	bare.Certificates = nil
	if _, err, _ := handshake(t, server.Server(), bare); err == nil {
		t.Error("a client without a certificate got in")
	}
	if _, err, _ := handshake(t, server.Server(), pair(t, other, ca, district, 24*time.Hour).Client(city)); err == nil {
		t.Error("a client of another authority got in")
	}
	if _, err, _ := handshake(t, server.Server(), pair(t, a, ca, district, time.Minute).Client(city)); err == nil {
		t.Error("an expired certificate got in")
	}
	if _, _, err := handshake(t, server.Server(), pair(t, a, otherCA, district, 24*time.Hour).Client(city)); err == nil {
		t.Error("a server of another authority was trusted")
	}
	agency := identity.Identity{City: "120000", Kind: identity.Agency, ID: "market"}
	if _, _, err := handshake(t, pair(t, a, ca, agency, 24*time.Hour).Server(), client.Client(identity.Identity{})); err == nil {
		t.Error("an agency's certificate served")
	}
	foreign := identity.Identity{City: "330200", Kind: identity.Node, Code: "330200"}
	careless := pair(t, ningbo, ca, foreign, 24*time.Hour).Client(city)
	careless.VerifyConnection = nil // as a client that does not care who serves
	if _, err, _ := handshake(t, server.Server(), careless); err == nil || !strings.Contains(err.Error(), "city 330200") {
		t.Errorf("a node of another city: %v", err)
	}
	old := client.Client(city)
	old.MinVersion, old.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	if _, err, _ := handshake(t, server.Server(), old); err == nil {
		t.Error("TLS 1.2 got in")
	}
	if _, _, err := a.Issue(foreign, nil, start, time.Hour); !fault.Is(err, fault.Invalid) {
		t.Errorf("a certificate for another city: %v", err)
	}
}

func TestFiles(t *testing.T) {
	dir := t.TempDir()
	a, err := identity.NewAuthority("120000", start, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	key, err := a.Key()
	if err != nil {
		t.Fatal(err)
	}
	if a, err = identity.ParseAuthority("120000", a.Certificate(), key); err != nil {
		t.Fatal(err)
	}
	id := identity.Identity{City: "120000", Kind: identity.Operator, Code: "120000"}
	cert, key, err := a.Issue(id, nil, start, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	files := identity.Files{Cert: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem"), CA: filepath.Join(dir, "ca.pem")}
	if _, err := files.Load(); len(fault.Fields(err)) != 3 {
		t.Errorf("three files are missing: %v", err)
	}
	for name, content := range map[string][]byte{files.Cert: cert, files.Key: key, files.CA: a.Certificate()} {
		if err := os.WriteFile(name, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if p, err := files.Load(); err != nil || p.Own != id {
		t.Errorf("%v, %v", p, err)
	}
	if err := os.WriteFile(files.CA, []byte("nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := files.Load(); len(fault.Fields(err)) != 1 || fault.Fields(err)[0].Field != "ca" {
		t.Errorf("%v", err)
	}
}
