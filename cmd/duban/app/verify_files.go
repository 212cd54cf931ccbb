package app

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"duban.internal/node/journal"
	"duban.internal/node/store"
	"duban.internal/node/store/embedded"
)

// attachments checks the files of evidence and documents: the bytes of each are what its name says, and all that entries
// of the own journal name are there. Those that entries from below name stay with the nodes below until somebody asks.
func (v *Verified) attachments(ctx context.Context, c embedded.Contents, dir string, progress func(string, uint64, uint64)) error {
	found, total, err := attachmentFiles(dir)
	if err != nil {
		return err
	}
	if progress == nil {
		progress = func(string, uint64, uint64) {}
	}
	const doing = "attachments, MiB"
	var done uint64
	good := make(map[string]bool, len(found))
	for _, path := range found {
		name := filepath.Base(path)
		sum, err := digestFile(ctx, path, func(n int) {
			done += uint64(n)
			progress(doing, done>>20, total>>20)
		})
		switch {
		case err != nil && ctx.Err() != nil:
			return err
		case err != nil:
			v.found = append(v.found, embedded.Finding{Entry: -1, Where: path, What: err.Error()})
		case sum != name:
			v.found = append(v.found, embedded.Finding{Entry: -1, Where: path, What: "its bytes have the SHA-256 " + sum})
		default:
			v.Attachments++
		}
		good[name] = err == nil && sum == name
	}
	named, err := attachmentsNamed(ctx, c)
	if err != nil {
		return err
	}
	for _, n := range named {
		name := hex.EncodeToString(n.sha256)
		intact, there := good[name]
		switch {
		case !there:
			v.found = append(v.found, embedded.Finding{Journal: n.journal, Entry: int64(n.entry), Where: "case " + n.caseID, What: "names the attachment " + name + ", which is not there"})
		case !intact:
			v.found = append(v.found, embedded.Finding{Journal: n.journal, Entry: int64(n.entry), Where: "case " + n.caseID, What: "names the attachment " + name + ", which is damaged"})
		}
	}
	return nil
}

// attachmentFiles are the files under their addresses, and how many bytes they have; what is still coming in is left out.
func attachmentFiles(dir string) (found []string, total uint64, err error) {
	folders, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0, nil // then every entry that names one is a finding
	}
	if err != nil {
		return nil, 0, err
	}
	for _, folder := range folders {
		if len(folder.Name()) != 2 || !folder.IsDir() {
			continue
		}
		files, err := os.ReadDir(filepath.Join(dir, folder.Name()))
		if err != nil {
			return nil, 0, err
		}
		for _, f := range files {
			info, err := f.Info()
			if err != nil {
				return nil, 0, err
			}
			found, total = append(found, filepath.Join(dir, folder.Name(), f.Name())), total+uint64(info.Size())
		}
	}
	return found, total, nil
}

func digestFile(ctx context.Context, path string, read func(n int)) (sum string, err error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }() // only read
	h := sha256.New()
	buf := make([]byte, 1<<20)
	for ctx.Err() == nil {
		n, err := f.Read(buf)
		h.Write(buf[:n])
		read(n)
		if errors.Is(err, io.EOF) {
			return hex.EncodeToString(h.Sum(nil)), nil
		}
		if err != nil {
			return "", err
		}
	}
	return "", context.Cause(ctx)
}

// naming is an entry of the own journal that names an attachment.
type naming struct {
	journal journal.ID
	sha256  []byte
	caseID  string
	entry   uint64
}

func attachmentsNamed(ctx context.Context, c embedded.Contents) (all []naming, err error) {
	journals := c.Journals() // the own one comes first
	if len(journals) == 0 || !journals[0].Own {
		return nil, nil
	}
	err = c.View(ctx, func(q store.Queryer) error {
		rows, err := q.QueryContext(ctx, `SELECT sha256, case_id, number FROM attachment_use WHERE journal = $1 ORDER BY number, sha256`, journals[0].Ordinal)
		if err != nil {
			return fmt.Errorf("attachments named: %w", err)
		}
		defer rows.Close()
		for rows.Next() {
			n := naming{journal: journals[0].ID}
			if err := rows.Scan(&n.sha256, &n.caseID, &n.entry); err != nil {
				return err
			}
			all = append(all, n)
		}
		return rows.Err()
	})
	return all, err
}
