package identity

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"time"

	"duban.internal/node/fault"
	"duban.internal/node/jurisdiction"
)

// Authority issues the certificates of one tree. Keys are ECDSA P-256.
type Authority struct {
	City jurisdiction.Code
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	der  []byte
}

// backdate lets a certificate work on machines whose clocks are a little behind.
const backdate = 5 * time.Minute

// NewAuthority makes an authority for the tree of a city, valid from now on for the given time.
func NewAuthority(city jurisdiction.Code, now time.Time, valid time.Duration) (*Authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template, err := newTemplate("Duban authority of "+string(city), now, valid)
	if err != nil {
		return nil, err
	}
	template.IsCA, template.BasicConstraintsValid, template.MaxPathLenZero = true, true, true
	template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &Authority{City: city, cert: cert, key: key, der: der}, nil
}

// ParseAuthority reads what Certificate and Key wrote, to issue further certificates.
func ParseAuthority(city jurisdiction.Code, certPEM, keyPEM []byte) (*Authority, error) {
	block, _ := pem.Decode(certPEM)
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, fault.New(fault.Invalid, "authority: want a PEM certificate")
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, err
	}
	keyBlock, _ := pem.Decode(keyPEM)
	if keyBlock == nil || keyBlock.Type != "PRIVATE KEY" {
		return nil, fault.New(fault.Invalid, "authority: want a PEM private key")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(keyBlock.Bytes)
	if err != nil {
		return nil, err
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok || !cert.IsCA || !key.PublicKey.Equal(cert.PublicKey) {
		return nil, fault.New(fault.Invalid, "authority: want the certificate of an authority and its own ECDSA key")
	}
	return &Authority{City: city, cert: cert, key: key, der: block.Bytes}, nil
}

// Certificate is the authority's own, PEM: what everybody trusts.
func (a *Authority) Certificate() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.der})
}

// Key is the authority's private key, PEM: whoever has it can name anybody.
func (a *Authority) Key() ([]byte, error) { return keyPEM(a.key) }

// NotAfter is when the authority's certificate ends, and with it every certificate that it issued.
func (a *Authority) NotAfter() time.Time { return a.cert.NotAfter }

// Issue makes a key and a certificate for one identity of the city. Hosts are the names and addresses under which a node
// is dialed; others have none and can't be servers. No certificate is valid beyond the authority's own; one whose authority
// has ended is not made (fault.Precondition).
func (a *Authority) Issue(id Identity, hosts []string, now time.Time, valid time.Duration) (cert, key []byte, err error) {
	if err := id.Validate(); err != nil {
		return nil, nil, err
	}
	if id.City != a.City {
		return nil, nil, fault.New(fault.Invalid, "identity of city %s: this is the authority of %s", id.City, a.City)
	}
	if left := a.NotAfter().Sub(now); left <= 0 {
		return nil, nil, fault.New(fault.Precondition, "the authority of %s ended on %s: a new tree of keys is needed",
			a.City, a.NotAfter().UTC().Format(time.DateOnly))
	} else if valid > left {
		valid = left
	}
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	template, err := newTemplate(id.Actor(), now, valid)
	if err != nil {
		return nil, nil, err
	}
	template.URIs = []*url.URL{id.uri()}
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	if id.Kind == Node {
		template.ExtKeyUsage = append(template.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
		for _, h := range hosts {
			if ip := net.ParseIP(h); ip != nil {
				template.IPAddresses = append(template.IPAddresses, ip)
			} else {
				template.DNSNames = append(template.DNSNames, h)
			}
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &private.PublicKey, a.key)
	if err != nil {
		return nil, nil, err
	}
	key, err = keyPEM(private)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), key, err
}

func newTemplate(name string, now time.Time, valid time.Duration) (*x509.Certificate, error) {
	if valid <= 0 {
		return nil, fmt.Errorf("certificate of %s: valid for %v, want more than nothing", name, valid)
	}
	serial := make([]byte, 16)
	if _, err := rand.Read(serial); err != nil {
		return nil, err
	}
	serial[0] &= 0x7f
	id := sha256.Sum256(serial)
	return &x509.Certificate{
		SerialNumber: new(big.Int).SetBytes(serial),
		Subject:      pkix.Name{Organization: []string{"Duban"}, CommonName: name, SerialNumber: fmt.Sprintf("%x", id[:4])},
		NotBefore:    now.Add(-backdate),
		NotAfter:     now.Add(valid),
	}, nil
}

func keyPEM(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}
