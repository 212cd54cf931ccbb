package demo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"duban.internal/cmd/duban/app"
	"duban.internal/node/clock"
	"duban.internal/node/journal"
	"duban.internal/node/jurisdiction"
	dubanv1 "duban.internal/proto/duban/v1"
)

const (
	forgedCases = 5
	target      = "demo-d-3" // the case whose record is tampered with
)

// playForgery: the journal of a street is copied. In one copy a byte of a record is changed, for verify to find. In another
// the record is rewritten and everything above it hashed and signed anew, with the street's own keys, as only the street
// itself could: its parent has seen the true one and must refuse it.
func (d *demo) playForgery(ctx context.Context, cause bool, deadline time.Time) error {
	for i := range forgedCases {
		id := fmt.Sprintf("demo-d-%d", i+1)
		if err := d.openPenalty(ctx, d.forged, id, d.clock.Now()); err != nil {
			return err
		}
	}
	if err := d.acknowledged(ctx, d.forged, deadline); err != nil {
		return err
	}
	if err := d.fleet.Stop(d.forged); err != nil {
		return err
	}
	for _, name := range []string{d.changed(), d.rewritten()} {
		if err := os.CopyFS(name, os.DirFS(d.fleet.DataDir(d.forged))); err != nil {
			return err
		}
	}
	if cause {
		if err := changeByte(d.changed(), target); err != nil {
			return err
		}
		if err := d.presentForgery(ctx); err != nil {
			return err
		}
	}
	return d.fleet.Restart(ctx, d.forged)
}

func (d *demo) changed() string   { return filepath.Join(d.dir, "copy-with-a-changed-byte") }
func (d *demo) rewritten() string { return filepath.Join(d.dir, "copy-rewritten") }

// acknowledged waits until the parent has all of a street's journal.
func (d *demo) acknowledged(ctx context.Context, street jurisdiction.Code, deadline time.Time) error {
	there, err := d.shows(ctx, street, deadline, sent)
	if err == nil && !there {
		err = fmt.Errorf("the journal of %s did not reach its district", street)
	}
	return err
}

// sent says whether a node's parent has all of its own journal.
func sent(status *dubanv1.GetStatusResponse) bool {
	own := status.Journals[0]
	return own.Acknowledged == own.Size
}

// shows waits until a node's status is as wanted; false where it is not by the deadline.
func (d *demo) shows(ctx context.Context, code jurisdiction.Code, deadline time.Time, wanted func(*dubanv1.GetStatusResponse) bool) (bool, error) {
	op, err := d.links.operator(code)
	if err != nil {
		return false, err
	}
	for d.clock.Now().Before(deadline) {
		status, err := op.node.GetStatus(ctx, &dubanv1.GetStatusRequest{})
		if err != nil {
			return false, err
		}
		if wanted(status) {
			return true, nil
		}
		if err := clock.Pause(ctx, d.clock, pollEvery); err != nil {
			return false, err
		}
	}
	return false, nil
}

// changeByte changes one byte of the stored record that names a case.
func changeByte(dir, id string) error {
	found := errors.New("found")
	err := filepath.WalkDir(dir, func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || !strings.Contains(filepath.ToSlash(name), "/journals/") {
			return err
		}
		content, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		at := bytes.Index(content, []byte(id))
		if at < 0 {
			return nil
		}
		content[at+len(id)-1] ^= 1
		if err := os.WriteFile(name, content, 0o600); err != nil {
			return err
		}
		return found
	})
	if errors.Is(err, found) {
		return nil
	}
	return errors.Join(err, fmt.Errorf("no stored record names case %s", id))
}

// presentForgery rewrites the copy's record of the case and presents the rewritten journal to the street's parent, with
// the street's certificate and signature.
func (d *demo) presentForgery(ctx context.Context) error {
	entries, err := app.ReadJournal(ctx, d.rewritten())
	if err != nil {
		return err
	}
	forged, err := rewrite(entries, target, clock.Micros(d.clock.Now()))
	if err != nil {
		return err
	}
	return d.present(ctx, "d", d.forged, forged, forged[len(forged)-1].RecordedAt)
}

// rewrite changes the opening of a case and everything that follows from it, and adds one entry more, recorded now.
func rewrite(entries []journal.Entry, id string, now int64) ([]journal.Entry, error) {
	for i, e := range entries {
		var opened dubanv1.CaseOpened
		if e.Kind != uint32(dubanv1.EntryKind_ENTRY_KIND_CASE_OPENED) || proto.Unmarshal(e.Payload, &opened) != nil || opened.CaseId != id {
			continue
		}
		opened.Summary = "改写后的案情(演示)"
		payload, err := proto.Marshal(&opened)
		if err != nil {
			return nil, err
		}
		entries[i] = reseal(e, e.Number, payload)
		last := entries[len(entries)-1]
		last.RecordedAt = now
		return append(entries, reseal(last, last.Number+1, last.Payload)), nil
	}
	return nil, fmt.Errorf("the copy has no entry that opens case %s", id)
}

func reseal(e journal.Entry, number uint64, payload []byte) journal.Entry {
	e.Number, e.Payload, e.Salt = number, payload, journal.NewSalt()
	e.Digest = journal.Digest(e.Salt, e.Payload)
	e.Raw = e.Header.Append(nil)
	return e
}

// judgeForgery asks the parent whether it refuses the journal, and verify whether it names the changed entry.
func (d *demo) judgeForgery(ctx context.Context, _ story) (Outcome, error) {
	var o Outcome
	street, _ := d.fleet.Tree().Node(d.forged)
	refused, err := d.refusal(ctx, d.forged)
	if err != nil {
		return o, err
	}
	number, err := entryOf(ctx, d.rewritten(), target)
	if err != nil {
		return o, err
	}
	verify := app.Verify(ctx, app.VerifyOptions{Dir: d.changed(), Topology: filepath.Join(d.fleet.KeyDir(), "topology.yaml")})
	named := verify != nil && strings.Contains(verify.Error(), fmt.Sprintf("entry %d", number))
	if refused == "" {
		o.problem("%s refuses nothing", d.say.place(street.Parent))
	}
	if !named {
		o.problem("verify did not name entry %d of the copy: %v", number, verify)
	}
	o.Found = fmt.Sprintf("refused: %s; verify: %v", refused, verify)
	return o, nil
}

// refusal is why a street's district takes no more of its journal; empty where it does.
func (d *demo) refusal(ctx context.Context, street jurisdiction.Code) (string, error) {
	node, _ := d.fleet.Tree().Node(street)
	op, err := d.links.operator(node.Parent)
	if err != nil {
		return "", err
	}
	status, err := op.node.GetStatus(ctx, &dubanv1.GetStatusRequest{})
	if err != nil {
		return "", err
	}
	for _, j := range status.Journals {
		if j.Code == string(street) {
			return j.Refused, nil
		}
	}
	return "", nil
}

// entryOf is the number of the entry that opens a case.
func entryOf(ctx context.Context, dir, id string) (uint64, error) {
	entries, err := app.ReadJournal(ctx, dir)
	if err != nil {
		return 0, err
	}
	for _, e := range entries {
		var opened dubanv1.CaseOpened
		if e.Kind == uint32(dubanv1.EntryKind_ENTRY_KIND_CASE_OPENED) && proto.Unmarshal(e.Payload, &opened) == nil && opened.CaseId == id {
			return e.Number, nil
		}
	}
	return 0, fmt.Errorf("no entry opens case %s", id)
}
