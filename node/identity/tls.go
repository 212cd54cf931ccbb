package identity

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"time"

	"duban.internal/node/fault"
)

// Files are where a node, or a client, keeps what it shows and whom it trusts; PEM.
type Files struct {
	Cert string // own certificate
	Key  string // its private key
	CA   string // certificate of the tree's authority
}

// Pair is what Files hold.
type Pair struct {
	Cert tls.Certificate
	Own  Identity       // whom Cert names
	CA   *x509.CertPool // whom to trust

	// Now is the time by which certificates are judged; nil for the machine's.
	Now func() time.Time
}

// Load reads the files; every one that is wrong is named at once.
func (f Files) Load() (*Pair, error) {
	var bad fault.List
	p := &Pair{CA: x509.NewCertPool()}
	cert, certErr := os.ReadFile(f.Cert)
	if certErr != nil {
		bad.Add("cert", "%v", certErr)
	}
	key, keyErr := os.ReadFile(f.Key)
	if keyErr != nil {
		bad.Add("key", "%v", keyErr)
	}
	if certErr == nil && keyErr == nil {
		if err := p.own(cert, key); err != nil {
			bad.Add("cert", "%s: %v", f.Cert, err)
		}
	}
	if ca, err := os.ReadFile(f.CA); err != nil {
		bad.Add("ca", "%v", err)
	} else if !p.CA.AppendCertsFromPEM(ca) {
		bad.Add("ca", "%s: no certificate in it", f.CA)
	}
	if err := bad.Err(fault.Invalid, "TLS files"); err != nil {
		return nil, err
	}
	return p, nil
}

// NewPair is Load from memory.
func NewPair(cert, key, ca []byte) (*Pair, error) {
	p := &Pair{CA: x509.NewCertPool()}
	if err := p.own(cert, key); err != nil {
		return nil, err
	}
	if !p.CA.AppendCertsFromPEM(ca) {
		return nil, fmt.Errorf("identity: no certificate of an authority")
	}
	return p, nil
}

func (p *Pair) own(cert, key []byte) (err error) {
	if p.Cert, err = tls.X509KeyPair(cert, key); err != nil {
		return err
	}
	leaf := p.Cert.Leaf
	if leaf == nil {
		if leaf, err = x509.ParseCertificate(p.Cert.Certificate[0]); err != nil {
			return err
		}
		p.Cert.Leaf = leaf
	}
	p.Own, err = FromCertificate(leaf)
	return err
}

// NotAfter is when the own certificate ends: from then on nobody at the other end accepts it. A running node has to be
// given a new one, and started again, before.
func (p *Pair) NotAfter() time.Time {
	if p.Cert.Leaf == nil {
		return time.Time{}
	}
	return p.Cert.Leaf.NotAfter
}

// Check says what would keep others from accepting the own certificate at a time: that another authority than the trusted one
// made it, or that it has ended (fault.Invalid). Whoever is about to connect knows it sooner, and more clearly, than from the other end.
func (p *Pair) Check(now time.Time) error {
	leaf := p.Cert.Leaf
	if leaf == nil {
		return fault.New(fault.Invalid, "no certificate")
	}
	_, err := leaf.Verify(x509.VerifyOptions{Roots: p.CA, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	var unknown x509.UnknownAuthorityError
	var bad fault.List
	switch {
	case err == nil:
	case errors.As(err, &unknown):
		bad.Add("cert", "the certificate of %s was not made by the authority in ca: it is of another tree", p.Own.Actor())
	case now.After(leaf.NotAfter):
		bad.Add("cert", "the certificate of %s ended on %s: renew it with duban keygen issue DIR --renew", p.Own.Actor(), leaf.NotAfter.UTC().Format(time.RFC3339))
	default:
		bad.Add("cert", "the certificate of %s: %v", p.Own.Actor(), err)
	}
	return bad.Err(fault.Invalid, "nobody would accept this certificate")
}

// Server is the configuration of a listener: TLS 1.3, and every caller shows a certificate of the tree that names one
// identity of the same city.
func (p *Pair) Server() *tls.Config {
	return &tls.Config{
		Time:             p.Now,
		MinVersion:       tls.VersionTLS13,
		Certificates:     []tls.Certificate{p.Cert},
		ClientAuth:       tls.RequireAndVerifyClientCert,
		ClientCAs:        p.CA,
		VerifyConnection: func(s tls.ConnectionState) error { _, err := p.peer(s); return err },
	}
}

// Client is the configuration of a dialer. The server's certificate must be for the host that was dialed and, unless
// expect is the zero Identity, name expect.
func (p *Pair) Client(expect Identity) *tls.Config {
	return &tls.Config{
		Time:         p.Now,
		MinVersion:   tls.VersionTLS13,
		Certificates: []tls.Certificate{p.Cert},
		RootCAs:      p.CA,
		VerifyConnection: func(s tls.ConnectionState) error {
			got, err := p.peer(s)
			if err == nil && expect != (Identity{}) && got != expect {
				return fault.New(fault.Unauthenticated, "the server is %s: want %s", got, expect)
			}
			return err
		},
	}
}

func (p *Pair) peer(s tls.ConnectionState) (Identity, error) {
	got, err := FromState(s)
	if err == nil && got.City != p.Own.City {
		return Identity{}, fault.New(fault.Unauthenticated, "certificate of city %s: this is the tree of %s", got.City, p.Own.City)
	}
	return got, err
}

// FromState reads who is at the other end of a verified connection (fault.Unauthenticated where nobody is named).
func FromState(s tls.ConnectionState) (Identity, error) {
	if len(s.PeerCertificates) == 0 {
		return Identity{}, fault.New(fault.Unauthenticated, "no certificate was shown")
	}
	return FromCertificate(s.PeerCertificates[0])
}
