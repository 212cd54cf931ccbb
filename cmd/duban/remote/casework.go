package remote

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"mime"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"duban.internal/cmd/duban/exit"
	"duban.internal/cmd/duban/show"
	"duban.internal/node/clock"
	"duban.internal/node/fault"
	dubanv1 "duban.internal/proto/duban/v1"
)

// write makes a command that records something: its request carries an id, so that a repeated one is recorded once.
func write(c *cobra.Command, run func(t *talk, args []string) (*dubanv1.Receipt, error)) *cobra.Command {
	withNode(c, func(t *talk, args []string) error {
		receipt, err := run(t, args)
		if err != nil {
			return err
		}
		return t.print(receipt, func() error {
			said := "recorded"
			if receipt.GetDuplicate() {
				said = "already recorded"
			}
			_, err := fmt.Fprintf(t.cmd.OutOrStdout(), "%s: entry %d of journal %x at %s\n", said, receipt.GetNumber(), receipt.GetJournal(), show.Time(receipt.GetRecordedUs()))
			return err
		})
	})
	requestFlag(c)
	return c
}

func requestFlag(c *cobra.Command) {
	c.Flags().String("request-id", "", "id of this request: the same id with the same content is recorded once; drawn where it is not given,\nand told where it is needed to ask again")
}

// requestID is the one given, or a drawn one: a retry of the connection then records nothing twice, and said tells it to
// whoever has to try again.
func (t *talk) requestID() string {
	t.request = t.text("request-id")
	if t.request == "" {
		t.request = rand.Text()
	}
	return t.request
}

func caseOpen() *cobra.Command {
	c := write(&cobra.Command{
		Use: "open CASE", Short: "Open a case", Args: cobra.ExactArgs(1),
		Example: "  duban case open 2026-0017 --number '津滨市监罚〔2026〕17号' --agency binhai-market --item 330231001000 \\\n" +
			"      --procedure penalty_general --source patrol --party-name 某某商店 --party-kind organisation \\\n" +
			"      --summary 无照经营 --handler officer-1 --identity keys/clients/agency-binhai-market",
	}, func(t *talk, args []string) (*dubanv1.Receipt, error) {
		occurred, err := t.micros("occurred")
		if err != nil {
			return nil, err
		}
		values, err := t.pairs("field")
		if err != nil {
			return nil, err
		}
		opened := &dubanv1.CaseOpened{
			CaseId: args[0], Number: t.text("number"), Agency: t.text("agency"), Item: t.text("item"), Procedure: t.text("procedure"),
			Source: t.text("source"), Summary: t.text("summary"), Handler: t.text("handler"), Generated: t.yes("generated"), Fields: values,
		}
		if t.text("party-name")+t.text("party-kind")+t.text("credit-code") != "" {
			opened.Party = &dubanv1.Party{Name: t.text("party-name"), Kind: t.text("party-kind"), CreditCode: t.text("credit-code")}
		}
		answer, err := call(t, dubanv1.NewCaseServiceClient(t.conn).OpenCase, &dubanv1.OpenCaseRequest{RequestId: t.requestID(), OccurredUs: occurred, Case: opened})
		return answer.GetReceipt(), err
	})
	texts(c, "number", "case number for people (案号)", "agency", "acting agency's id", "item", "item code (事项编码)",
		"procedure", "procedure by the profile's name", "source", "where it came from, by the profile's name", "summary", "what happened, in short",
		"handler", "officer who handles it, by id", "party-name", "name of the party (当事人)", "party-kind", "citizen or organisation",
		"credit-code", "unified social credit code", "occurred", "when it happened; now by default")
	c.Flags().Bool("generated", false, "mark it as made up")
	fieldFlag(c)
	return c
}

func caseStage() *cobra.Command {
	c := write(&cobra.Command{
		Use: "stage CASE STAGE", Short: "Record that a stage (环节) was completed", Args: cobra.ExactArgs(2),
		Long: "Record that a stage (环节) was completed. Which stages there are, and what each takes, `duban profile show` tells.",
		Example: "  duban case stage 2026-0017 filing --officer officer-1 --officer officer-2 --handler officer-1 --result filed \\\n" +
			"      --document filing_approval=津滨市监立〔2026〕17号 --field cause=无照经营\n" +
			"  duban case stage 2026-0017 investigation --officer officer-1 --officer officer-2 --handler officer-1 \\\n" +
			"      --field certificate_shown=yes --document investigation_report=B-17@report.pdf   # uploads report.pdf first",
	}, func(t *talk, args []string) (*dubanv1.Receipt, error) {
		completed, err := t.micros("completed")
		if err != nil {
			return nil, err
		}
		if completed == 0 {
			completed = clock.Micros(clock.System().Now())
			t.same("completed", clock.Time(completed).In(show.Shanghai).Format(time.RFC3339Nano))
		}
		values, err := t.pairs("field")
		if err != nil {
			return nil, err
		}
		stage := &dubanv1.StageRecorded{
			CaseId: args[0], Stage: args[1], CompletedUs: completed, Officers: t.list("officer"), Handler: t.text("handler"),
			Fields: values, LateReason: t.text("late-reason"),
		}
		if t.text("result")+t.text("reason") != "" {
			stage.Opinion = &dubanv1.Opinion{Result: t.text("result"), Reason: t.text("reason")}
		}
		if stage.Documents, err = t.documents(); err != nil {
			return nil, err
		}
		answer, err := call(t, dubanv1.NewCaseServiceClient(t.conn).RecordStage, &dubanv1.RecordStageRequest{RequestId: t.requestID(), Stage: stage})
		return answer.GetReceipt(), err
	})
	texts(c, "completed", "when it was completed; now by default", "handler", "officer answerable for the stage", "result", "opinion, by the profile's name",
		"reason", "reasons of the opinion", "late-reason", "why it could not be collected in real time (T16)")
	c.Flags().StringArray("officer", nil, "officer who acted, by id; may be given several times")
	c.Flags().StringArray("document", nil, "NAME=CODE, or NAME=CODE@FILE to upload the file; may be given several times")
	fieldFlag(c)
	return c
}

// documents reads --document and uploads the files among them.
func (t *talk) documents() ([]*dubanv1.Document, error) {
	var out []*dubanv1.Document
	for _, d := range t.list("document") {
		name, rest, ok := strings.Cut(d, "=")
		code, file, attached := strings.Cut(rest, "@")
		if !ok || name == "" || attached && file == "" {
			return nil, fault.Refuse(fault.Invalid, "flags", fault.Field{Field: "--document", Description: "\"" + d + "\": expected NAME=CODE or NAME=CODE@FILE"})
		}
		document := &dubanv1.Document{Name: name, Code: code}
		if attached {
			uploaded, err := t.upload(file)
			if err != nil {
				return nil, err
			}
			document.Sha256 = uploaded.Sha256
		}
		out = append(out, document)
	}
	return out, nil
}

func caseEvidence() *cobra.Command {
	c := write(&cobra.Command{
		Use: "evidence CASE FILE", Short: "Upload a file and attach it as evidence (证据)", Args: cobra.ExactArgs(2),
		Example: "  duban case evidence 2026-0017 photo.jpg --stage investigation",
	}, func(t *talk, args []string) (*dubanv1.Receipt, error) {
		uploaded, err := t.upload(args[1])
		if err != nil {
			return nil, err
		}
		name, media := t.text("name"), t.text("media-type")
		if name == "" {
			name = filepath.Base(args[1])
		}
		if media == "" {
			media = mime.TypeByExtension(filepath.Ext(name))
		}
		if media == "" {
			media = "application/octet-stream"
		}
		answer, err := call(t, dubanv1.NewCaseServiceClient(t.conn).AttachEvidence, &dubanv1.AttachEvidenceRequest{
			RequestId: t.requestID(), Evidence: &dubanv1.EvidenceAttached{
				CaseId: args[0], Stage: t.text("stage"), Sha256: uploaded.Sha256, Size: uploaded.Size, Name: name, MediaType: media,
			},
		})
		return answer.GetReceipt(), err
	})
	texts(c, "stage", "stage that it belongs to", "name", "file name to record; the file's own by default", "media-type", "media type; by the name's ending by default")
	return c
}

const chunk = 256 << 10 // bytes a message, as the service allows

// upload sends a file. It is read twice: its hash goes ahead of its bytes, so that what is there already is not sent.
func (t *talk) upload(path string) (*dubanv1.UploadAttachmentResponse, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fault.New(fault.Invalid, "attachment: %w", err)
	}
	defer f.Close()
	h := sha256.New()
	size, err := io.Copy(h, f)
	if err != nil {
		return nil, fmt.Errorf("attachment %s: %w", path, err)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	stream, err := dubanv1.NewAttachmentServiceClient(t.conn).UploadAttachment(t.cmd.Context())
	if err != nil {
		return nil, exit.Remote(t.said(err))
	}
	description := &dubanv1.AttachmentDescription{Sha256: h.Sum(nil), Size: uint64(size)}
	err = stream.Send(&dubanv1.UploadAttachmentRequest{Part: &dubanv1.UploadAttachmentRequest_Description{Description: description}})
	progress := show.NewProgress(t.cmd.ErrOrStderr(), clock.System())
	defer progress.Done()
	buf := make([]byte, chunk)
	// A Send that fails says only that the stream has ended; the node's reason comes with CloseAndRecv.
	for sent := int64(0); err == nil; {
		n, readErr := io.ReadFull(f, buf)
		if n > 0 {
			err = stream.Send(&dubanv1.UploadAttachmentRequest{Part: &dubanv1.UploadAttachmentRequest_Chunk{Chunk: buf[:n]}})
			sent += int64(n)
			progress.Say("%s: %d of %d MiB", filepath.Base(path), sent>>20, size>>20)
		}
		if readErr == io.EOF || readErr == io.ErrUnexpectedEOF {
			break
		}
		if readErr != nil {
			return nil, fmt.Errorf("attachment %s: %w", path, readErr)
		}
	}
	answer, err := stream.CloseAndRecv()
	return answer, exit.Remote(t.said(err))
}

func caseExplain() *cobra.Command {
	c := write(&cobra.Command{
		Use: "explain CASE", Short: "Explain an anomaly (说明理由)", Args: cobra.ExactArgs(1),
		Example: "  duban case explain 2026-0017 --subject cause_changed --text '补充调查后认定无证经营' --officer officer-1",
	}, func(t *talk, args []string) (*dubanv1.Receipt, error) {
		answer, err := call(t, dubanv1.NewCaseServiceClient(t.conn).GiveExplanation, &dubanv1.GiveExplanationRequest{
			RequestId: t.requestID(), Explanation: &dubanv1.ExplanationGiven{
				CaseId: args[0], Stage: t.text("stage"), Subject: t.text("subject"), Text: t.text("text"), Officer: t.text("officer"),
			},
		})
		return answer.GetReceipt(), err
	})
	texts(c, "stage", "stage that it explains", "subject", "what it explains, by the profile's name", "text", "the explanation", "officer", "who gives it, by id")
	return c
}

func caseCorrect() *cobra.Command {
	c := write(&cobra.Command{
		Use: "correct CASE", Short: "Apply for a correction of what was recorded (修改申请, T14)", Args: cobra.ExactArgs(1),
		Example: "  duban case correct 2026-0017 --id c1 --entry 42 --change summary=无证经营 --reason 笔误 --officer officer-1",
	}, func(t *talk, args []string) (*dubanv1.Receipt, error) {
		changes, err := t.pairs("change")
		if err != nil {
			return nil, err
		}
		entry, err := t.cmd.Flags().GetUint64("entry")
		if err != nil {
			return nil, err
		}
		id := t.text("id")
		if id == "" {
			id = strings.ToLower(rand.Text())[:10]
			t.same("id", id)
		}
		answer, err := call(t, dubanv1.NewCaseServiceClient(t.conn).RequestCorrection, &dubanv1.RequestCorrectionRequest{
			RequestId: t.requestID(), Correction: &dubanv1.CorrectionRequested{
				CaseId: args[0], CorrectionId: id, Entry: entry, Changes: changes, Reason: t.text("reason"), Officer: t.text("officer"),
			},
		})
		return answer.GetReceipt(), err
	})
	texts(c, "id", "id of the request, unique in the case; drawn where it is not given", "reason", "why", "officer", "who applies, by id")
	c.Flags().Uint64("entry", 0, "number of the entry to correct, as duban case show tells it")
	c.Flags().StringArray("change", nil, "FIELD=VALUE by the field's path in the entry, such as fields.cause=...; may be given several times")
	return c
}

func caseDecide() *cobra.Command {
	c := write(&cobra.Command{
		Use: "decide-correction CASE CORRECTION", Short: "Approve or reject a correction (修改审批)", Args: cobra.ExactArgs(2),
		Example: "  duban case decide-correction 2026-0017 c1 --approve --by 法制科 --identity keys/clients/office-legal_office-120116\n" +
			"  duban case decide-correction 2026-0017 c2 --reject --reason 证据不足 --by 法制科",
	}, func(t *talk, args []string) (*dubanv1.Receipt, error) {
		if t.yes("approve") == t.yes("reject") {
			return nil, fault.Refuse(fault.Invalid, "flags", fault.Field{Field: "--approve", Description: "expected one of --approve and --reject"})
		}
		answer, err := call(t, dubanv1.NewCaseServiceClient(t.conn).DecideCorrection, &dubanv1.DecideCorrectionRequest{
			RequestId: t.requestID(), Decision: &dubanv1.CorrectionDecided{
				CaseId: args[0], CorrectionId: args[1], Approved: t.yes("approve"), Reason: t.text("reason"), DecidedBy: t.text("by"),
			},
		})
		return answer.GetReceipt(), err
	})
	texts(c, "reason", "reasons", "by", "who decides")
	c.Flags().Bool("approve", false, "make the correction")
	c.Flags().Bool("reject", false, "don't make it")
	return c
}

// texts adds string flags: name, help, name, help, ...
func texts(c *cobra.Command, pairs ...string) {
	for i := 0; i < len(pairs); i += 2 {
		c.Flags().String(pairs[i], "", pairs[i+1])
	}
}

func fieldFlag(c *cobra.Command) {
	c.Flags().StringArray("field", nil, "NAME=VALUE by the profile's names; may be given several times")
}

// journalID is an id for people: its first digits are enough to tell journals apart.
func journalID(id []byte) string {
	text := hex.EncodeToString(id)
	return text[:min(8, len(text))]
}
