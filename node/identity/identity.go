// Package identity says who is at the other end of a connection: a node, an agency's system, an office or an operator,
// by the URI in its certificate.
//
// Every connection is mutual TLS 1.3, and both ends must hold a certificate of the tree's own authority (CA) with exactly
// one URI of this form:
//
//	duban://<city code>/node/<code>            the node of a jurisdiction
//	duban://<city code>/agency/<id>            the system of an agency (行政执法机关)
//	duban://<city code>/office/<role>/<code>   an office, such as the legal office of a district (政府法制机构)
//	duban://<city code>/operator/<code>        who runs the node of a jurisdiction
//
// A certificate that names nobody, or more than one, is refused in the handshake. What the named one may do is decided
// elsewhere (node/access). A person named in a request is data, not an identity. Certificates are not revoked one by one:
// they are short-lived, and an authority is replaced as a whole.
package identity

import (
	"crypto/x509"
	"net/url"
	"regexp"
	"strings"

	"duban.internal/node/fault"
	"duban.internal/node/jurisdiction"
)

// Kind says what an identity stands for.
type Kind string

// The kinds.
const (
	Node     Kind = "node"
	Agency   Kind = "agency"
	Office   Kind = "office"
	Operator Kind = "operator"
)

// Identity is who a certificate names. Which fields are set depends on Kind.
type Identity struct {
	City jurisdiction.Code // root of the tree
	Kind Kind
	ID   string            // agency: its id
	Role string            // office: its role by the profile's name
	Code jurisdiction.Code // node, office, operator: the jurisdiction
}

const scheme = "duban"

var (
	validID   = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)
	validRole = regexp.MustCompile(`^[a-z][a-z0-9_]{0,31}$`)
)

// Actor is the identity as entries name it: "agency:<id>", "office:<role>@<code>", "node:<code>", "operator:<code>".
func (i Identity) Actor() string {
	switch i.Kind {
	case Agency:
		return "agency:" + i.ID
	case Office:
		return "office:" + i.Role + "@" + string(i.Code)
	default:
		return string(i.Kind) + ":" + string(i.Code)
	}
}

// String is the URI that names the identity.
func (i Identity) String() string { return i.uri().String() }

func (i Identity) uri() *url.URL {
	path := "/" + string(i.Kind) + "/"
	switch i.Kind {
	case Agency:
		path += i.ID
	case Office:
		path += i.Role + "/" + string(i.Code)
	default:
		path += string(i.Code)
	}
	return &url.URL{Scheme: scheme, Host: string(i.City), Path: path}
}

// Validate names every field that no certificate could carry (fault.Invalid).
func (i Identity) Validate() error {
	var bad fault.List
	if _, err := jurisdiction.ParseCode(string(i.City)); err != nil {
		bad.Add("city", "%v", err)
	}
	switch i.Kind {
	case Node, Operator, Office:
		if _, err := jurisdiction.ParseCode(string(i.Code)); err != nil {
			bad.Add("code", "%v", err)
		}
		if i.Kind == Office && !validRole.MatchString(i.Role) {
			bad.Add("role", "%.40q: want 1 to 32 of a-z 0-9 _, a letter first", i.Role)
		}
	case Agency:
		if !validID.MatchString(i.ID) {
			bad.Add("id", "%.80q: want 1 to 64 of A-Z a-z 0-9 - _ ., a letter or digit first", i.ID)
		}
	default:
		bad.Add("kind", "%.20q: want %s, %s, %s or %s", string(i.Kind), Node, Agency, Office, Operator)
	}
	return bad.Err(fault.Invalid, "identity")
}

// Parse reads the URI of an identity; anything that String would not write is refused (fault.Invalid).
func Parse(uri string) (Identity, error) {
	rest, ok := strings.CutPrefix(uri, scheme+"://")
	if !ok {
		return Identity{}, fault.New(fault.Invalid, "identity %.200q: want %s://<city>/<kind>/...", uri, scheme)
	}
	parts := strings.Split(rest, "/")
	var i Identity
	switch {
	case len(parts) == 3 && Kind(parts[1]) == Agency:
		i = Identity{City: jurisdiction.Code(parts[0]), Kind: Agency, ID: parts[2]}
	case len(parts) == 3:
		i = Identity{City: jurisdiction.Code(parts[0]), Kind: Kind(parts[1]), Code: jurisdiction.Code(parts[2])}
	case len(parts) == 4 && Kind(parts[1]) == Office:
		i = Identity{City: jurisdiction.Code(parts[0]), Kind: Office, Role: parts[2], Code: jurisdiction.Code(parts[3])}
	default:
		return Identity{}, fault.New(fault.Invalid, "identity %.200q: want %s://<city>/node/<code>, /agency/<id>, "+
			"/office/<role>/<code> or /operator/<code>", uri, scheme)
	}
	if err := i.Validate(); err != nil {
		return Identity{}, err
	}
	return i, nil
}

// FromCertificate reads who cert names. The caller has verified cert. Kind of errors: fault.Unauthenticated.
func FromCertificate(cert *x509.Certificate) (Identity, error) {
	var found []Identity
	for _, u := range cert.URIs {
		if u.Scheme != scheme {
			continue
		}
		i, err := Parse(u.String())
		if err != nil {
			return Identity{}, &fault.Error{Kind: fault.Unauthenticated, Msg: "certificate: " + err.Error(), Err: err}
		}
		found = append(found, i)
	}
	if len(found) != 1 {
		return Identity{}, fault.New(fault.Unauthenticated,
			"certificate names %d identities: want exactly one URI %s://...", len(found), scheme)
	}
	return found[0], nil
}
