package demo

import (
	"context"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"time"

	"duban.internal/node/clock"
	"duban.internal/node/jurisdiction"
	dubanv1 "duban.internal/proto/duban/v1"
)

// story is one story: what makes it happen, and how it should end.
type story struct {
	name  string
	title string
	node  jurisdiction.Code // where the case is
	id    string            // of the case; empty for the story without one
	play  func(ctx context.Context, cause bool, deadline time.Time) error
	judge func(ctx context.Context, s story) (Outcome, error)
}

func (d *demo) stories() []story {
	return []story{
		{name: "a", title: "a street's case that nobody handles goes to level 3", node: d.street, id: "demo-a",
			play: d.playStreet, judge: d.judgeStreet},
		{name: "b", title: "a district agency's alert is handled at level 2", node: d.district, id: "demo-b",
			play: d.playDistrict, judge: d.judgeDistrict},
		{name: "c", title: "a city agency's alert ends at level 2", node: city, id: "demo-c",
			play: d.playCity, judge: d.judgeCity},
		{name: "d", title: "a tampered copy of a street's journal is refused and named", node: d.forged,
			play: d.playForgery, judge: d.judgeForgery},
		{name: "e", title: "a street that is cut off handles in time: what its district opened on silence is withdrawn", node: d.cut,
			id: "demo-e", play: d.playCut, judge: d.judgeCut},
		{name: "f", title: "a district is off: its street reaches the city, and level 3 opens at its time", node: d.orphan,
			id: "demo-f", play: d.playDead, judge: d.judgeDead},
		{name: "g", title: "a street goes off before a limit ends: its district opens level 2 when level 1 would have run out", node: d.gone,
			id: "demo-g", play: d.playGone, judge: d.judgeGone},
		{name: "h", title: "a street whose clock is turned back is refused and named", node: d.turned,
			id: "demo-h", play: d.playTurned, judge: d.judgeTurned},
		{name: "i", title: "a street patched to raise no alerts is named by its district", node: d.mute,
			id: "demo-i", play: d.playMute, judge: d.judgeMute},
	}
}

// How far back the late ones lie. The profile's limits are days; a fortnight is late by any of them.
const fortnight = 14 * 24 * time.Hour

// playStreet: a street's agency collects a stage long after it was completed (T16), and nobody handles the alert until it
// has reached the city.
func (d *demo) playStreet(ctx context.Context, cause bool, deadline time.Time) error {
	completed := d.clock.Now()
	if cause {
		completed = completed.Add(-fortnight)
	}
	if err := d.openPenalty(ctx, d.street, "demo-a", completed); err != nil {
		return err
	}
	alert, ok, err := d.await(ctx, "demo-a", deadline, func(a *dubanv1.Alert) bool { return level(a, 3) != nil })
	if err != nil || !ok {
		return err
	}
	return d.handle(ctx, city, alert, "supervision_order", "街道与区均未在时限内处理,由市发出督办意见(演示)")
}

// playDistrict: one officer alone investigates (P42). The agency's legal unit lets it lie; the district's legal office
// handles level 2 in time, and level 3 must not open.
func (d *demo) playDistrict(ctx context.Context, cause bool, deadline time.Time) error {
	now := d.clock.Now()
	if err := d.openPenalty(ctx, d.district, "demo-b", now); err != nil {
		return err
	}
	agency, err := d.links.agency(d.district)
	if err != nil {
		return err
	}
	if err := photograph(ctx, agency, "demo-b"); err != nil {
		return err
	}
	officers := 2
	if cause {
		officers = 1
	}
	stage := investigated(d.district, "demo-b", d.clock.Now(), officers)
	if _, err := agency.cases.RecordStage(ctx, &dubanv1.RecordStageRequest{Stage: stage}); err != nil {
		return err
	}
	alert, ok, err := d.await(ctx, "demo-b", deadline, func(a *dubanv1.Alert) bool { return level(a, 2) != nil })
	if err != nil || !ok {
		return err
	}
	due := clock.Time(level(alert, 2).DueUs)
	if err := d.handle(ctx, d.district, alert, "ordered_to_mend", "责令补派执法人员重新调查(演示)"); err != nil {
		return err
	}
	return d.until(ctx, due.Add(24*time.Hour)) // long enough for a level 3 that must not come
}

// playCity: a city agency collects an inspection far too late (T15), and nobody does anything. There is no level 3.
func (d *demo) playCity(ctx context.Context, cause bool, deadline time.Time) error {
	completed := d.clock.Now()
	if cause {
		completed = completed.Add(-fortnight)
	}
	agency, err := d.links.agency(city)
	if err != nil {
		return err
	}
	request := &dubanv1.OpenCaseRequest{OccurredUs: clock.Micros(completed), Case: opening(city, "demo-c", inspection, dice("demo-c"))}
	if _, err := agency.cases.OpenCase(ctx, request); err != nil {
		return err
	}
	record, err := upload(ctx, agency, []byte("现场检查笔录(演示) demo-c"))
	if err != nil {
		return err
	}
	stage := inspected(city, "demo-c", completed, record.Sha256)
	if _, err := agency.cases.RecordStage(ctx, &dubanv1.RecordStageRequest{Stage: stage}); err != nil {
		return err
	}
	alert, ok, err := d.await(ctx, "demo-c", deadline, func(a *dubanv1.Alert) bool { return level(a, 2) != nil })
	if err != nil || !ok {
		return err
	}
	return d.until(ctx, clock.Time(level(alert, 2).DueUs).Add(24*time.Hour))
}

// openPenalty opens a penalty case and files it, as completed at a time.
func (d *demo) openPenalty(ctx context.Context, code jurisdiction.Code, id string, at time.Time) error {
	agency, err := d.links.agency(code)
	if err != nil {
		return err
	}
	request := &dubanv1.OpenCaseRequest{OccurredUs: clock.Micros(at), Case: opening(code, id, penalty, dice(id))}
	if _, err := agency.cases.OpenCase(ctx, request); err != nil {
		return err
	}
	_, err = agency.cases.RecordStage(ctx, &dubanv1.RecordStageRequest{Stage: filed(code, id, at)})
	return err
}

// handle handles the highest level of an alert as the legal office of code.
func (d *demo) handle(ctx context.Context, code jurisdiction.Code, a *dubanv1.Alert, action, explanation string) error {
	legal, err := d.links.office(code)
	if err != nil {
		return err
	}
	_, err = legal.alerts.HandleAlert(ctx, &dubanv1.HandleAlertRequest{
		AlertId: a.AlertId, Action: action, Explanation: explanation, HandledBy: "演示值班人员",
	})
	return err
}

// await asks the city until the alert of a case is as wanted; false where the deadline passes first.
func (d *demo) await(ctx context.Context, id string, deadline time.Time, wanted func(*dubanv1.Alert) bool) (*dubanv1.Alert, bool, error) {
	for d.clock.Now().Before(deadline) {
		alert, err := d.alertOf(ctx, id)
		if err != nil {
			return nil, false, err
		}
		if alert != nil && wanted(alert) {
			return alert, true, nil
		}
		if err := clock.Pause(ctx, d.clock, pollEvery); err != nil {
			return nil, false, err
		}
	}
	return nil, false, nil
}

func (d *demo) until(ctx context.Context, t time.Time) error {
	return clock.Sleep(ctx, d.clock, t.Sub(d.clock.Now()))
}

// alertOf is the alert of a case as the city sees it; nil while there is none.
func (d *demo) alertOf(ctx context.Context, id string) (*dubanv1.Alert, error) {
	alerts, err := d.cityAlerts(ctx)
	if err != nil {
		return nil, err
	}
	for _, a := range alerts {
		if a.CaseId == id {
			return a, nil
		}
	}
	return nil, nil
}

func (d *demo) cityAlerts(ctx context.Context) ([]*dubanv1.Alert, error) {
	legal, err := d.links.office(city)
	if err != nil {
		return nil, err
	}
	answer, err := legal.alerts.ListAlerts(ctx, &dubanv1.ListAlertsRequest{PageSize: 1000})
	if err != nil {
		return nil, err
	}
	return answer.Alerts, nil
}

// level is a level of an alert's first round; nil where it never opened.
func level(a *dubanv1.Alert, n uint32) *dubanv1.AlertLevel {
	for _, l := range a.Levels {
		if l.Round == 1 && l.Level == n {
			return l
		}
	}
	return nil
}

// photograph attaches evidence to a case.
func photograph(ctx context.Context, agency *link, id string) error {
	photo, err := upload(ctx, agency, []byte("现场照片(演示) "+id))
	if err != nil {
		return err
	}
	evidence := &dubanv1.EvidenceAttached{CaseId: id, Sha256: photo.Sha256, Size: photo.Size, Name: "photo.txt", MediaType: "text/plain"}
	_, err = agency.cases.AttachEvidence(ctx, &dubanv1.AttachEvidenceRequest{Evidence: evidence})
	return err
}

func upload(ctx context.Context, l *link, content []byte) (*dubanv1.UploadAttachmentResponse, error) {
	sum := sha256.Sum256(content)
	stream, err := l.files.UploadAttachment(ctx)
	if err != nil {
		return nil, err
	}
	description := &dubanv1.AttachmentDescription{Sha256: sum[:], Size: uint64(len(content))}
	for _, m := range []*dubanv1.UploadAttachmentRequest{
		{Part: &dubanv1.UploadAttachmentRequest_Description{Description: description}},
		{Part: &dubanv1.UploadAttachmentRequest_Chunk{Chunk: content}},
	} {
		if err := stream.Send(m); err != nil {
			return nil, fmt.Errorf("upload: %w", err)
		}
	}
	return stream.CloseAndRecv()
}

// dice are the same for the same case.
func dice(id string) *rand.Rand {
	sum := sha256.Sum256([]byte(id))
	return rand.New(rand.NewChaCha8(sum))
}
