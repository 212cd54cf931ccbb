package demo

import (
	"context"
	"errors"
	"sync"

	"google.golang.org/grpc"

	"duban.internal/cmd/duban/app/fleet"
	"duban.internal/node/identity"
	"duban.internal/node/jurisdiction"
	dubanv1 "duban.internal/proto/duban/v1"
)

// links are the connections of those who act, one for each node and identity.
type links struct {
	fleet *fleet.Fleet
	mu    sync.Mutex
	open  map[linkKey]*link
}

type linkKey struct {
	node jurisdiction.Code
	as   identity.Identity
}

// link is one identity at one node.
type link struct {
	conn     *grpc.ClientConn
	cases    dubanv1.CaseServiceClient
	alerts   dubanv1.AlertServiceClient
	files    dubanv1.AttachmentServiceClient
	registry dubanv1.RegistryServiceClient
	node     dubanv1.NodeServiceClient
}

func (l *links) to(node jurisdiction.Code, as identity.Identity) (*link, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	key := linkKey{node, as}
	if found := l.open[key]; found != nil {
		return found, nil
	}
	conn, err := l.fleet.Dial(node, as)
	if err != nil {
		return nil, err
	}
	if l.open == nil {
		l.open = map[linkKey]*link{}
	}
	made := &link{
		conn: conn, cases: dubanv1.NewCaseServiceClient(conn), alerts: dubanv1.NewAlertServiceClient(conn),
		files: dubanv1.NewAttachmentServiceClient(conn), registry: dubanv1.NewRegistryServiceClient(conn),
		node: dubanv1.NewNodeServiceClient(conn),
	}
	l.open[key] = made
	return made, nil
}

// agency is the agency of a jurisdiction at its own node.
func (l *links) agency(code jurisdiction.Code) (*link, error) { return l.to(code, agencyOf(code)) }

// office is the legal office of a jurisdiction at its own node.
func (l *links) office(code jurisdiction.Code) (*link, error) { return l.to(code, officeOf(code)) }

// operator runs the node of a jurisdiction.
func (l *links) operator(code jurisdiction.Code) (*link, error) {
	return l.to(code, l.fleet.Operator(code))
}

func (l *links) close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var errs []error
	for _, link := range l.open {
		errs = append(errs, link.conn.Close())
	}
	l.open = nil
	return errors.Join(errs...)
}

// register puts agencies, officers and offices on record, each at its own node.
func (d *demo) register(ctx context.Context) error {
	for _, m := range d.members {
		op, err := d.links.operator(m.Code)
		if err != nil {
			return err
		}
		if _, err := op.registry.RegisterAgency(ctx, &dubanv1.RegisterAgencyRequest{Agency: agencyRecord(m)}); err != nil {
			return err
		}
		for _, id := range hands(m.Code) {
			officer := officerRecord(m.Code, id)
			if _, err := op.registry.RegisterOfficer(ctx, &dubanv1.RegisterOfficerRequest{Officer: officer}); err != nil {
				return err
			}
		}
		if m.Tier == jurisdiction.Street {
			continue // a street's level 2 is its district's (T27)
		}
		o := &dubanv1.Office{Role: office, Jurisdiction: string(m.Code), Name: m.Name + "司法局(演示)"}
		if _, err := op.registry.RegisterOffice(ctx, &dubanv1.RegisterOfficeRequest{Office: o}); err != nil {
			return err
		}
	}
	return nil
}
