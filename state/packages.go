package state

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"thaw"
)

// Packages are kept by content: chunk N of a package is the message on subject thaw.code.DIGEST.N, and its bytes follow
// from the digest, so that two uploads of the same package cannot disagree. A package exists once its mark is among the
// records, which is written when every chunk has been acknowledged; chunks without a mark are what a crash left.
//
//	(nothing) --chunks--> uploaded --mark--> present --SweepCode: mark off, then chunks--> (nothing)

// chunkSize is part of the stored format.
const chunkSize = 512 << 10

// uploadWindow bounds the chunks of one upload that wait for their acknowledgement.
const uploadWindow = 8

// codeGrace is for how long a package that no function refers to is spared: its function may be about to be created.
const codeGrace = time.Hour

// codeKind is the kind of the records that mark packages as present.
const codeKind = "code-package"

type codeMark struct {
	Size int64 `json:"size"`
}

// PutCode stores a deployment package and gives its name. It returns once the package is whole; a package that is there
// already is not stored again. It fails with ErrFull.
func (s *Store) PutCode(ctx context.Context, zip []byte) (thaw.Code, error) {
	sum := sha256.Sum256(zip)
	digest := hex.EncodeToString(sum[:])
	code := thaw.Code{SHA256: base64.StdEncoding.EncodeToString(sum[:]), Size: int64(len(zip))}
	marks := s.Records(codeKind)
	mark := codeMark{Size: code.Size}

	// Writing the mark again makes the package young, so that no sweep takes it before its function exists.
	var old codeMark
	if rev, err := marks.read(ctx, digest, &old); err == nil {
		if err = marks.replace(ctx, digest, mark, rev, 1); err == nil {
			return code, nil
		} else if !errors.Is(err, jetstream.ErrKeyRevisionMismatch) {
			return thaw.Code{}, err
		}
	} else if !errors.Is(err, ErrNotFound) {
		return thaw.Code{}, err
	}

	if err := s.upload(ctx, digest, zip); err != nil {
		return thaw.Code{}, s.storeError("store package", err)
	}
	if err := marks.Put(ctx, digest, mark); err != nil {
		return thaw.Code{}, err
	}
	return code, nil
}

// KeepCode makes a package young, so that sweeps spare it for a while whether or not anything refers to it. It fails with
// ErrNotFound.
func (s *Store) KeepCode(ctx context.Context, digest string) error {
	name, err := digestName(digest)
	if err != nil {
		return err
	}
	_, err = ReduceRecord(ctx, s.Records(codeKind), name, func(*codeMark) error { return nil })
	return err
}

// upload stores the chunks and returns when all are acknowledged.
func (s *Store) upload(ctx context.Context, digest string, zip []byte) error {
	if err := s.room.take(len(zip)); err != nil {
		return err
	}
	defer s.room.give(len(zip))
	var waiting []jetstream.PubAckFuture
	settle := func(most int) error {
		for len(waiting) > most {
			select {
			case <-waiting[0].Ok():
			case err := <-waiting[0].Err():
				return err
			case <-ctx.Done():
				return ctx.Err()
			case <-s.closed:
				return ErrClosed
			}
			waiting = waiting[1:]
		}
		return nil
	}
	for n := 0; len(zip) > 0; n++ {
		if err := settle(uploadWindow - 1); err != nil {
			return err
		}
		chunk := zip[:min(chunkSize, len(zip))]
		zip = zip[len(chunk):]
		ack, err := s.js.PublishAsync(codeSubject+digest+"."+strconv.Itoa(n), chunk)
		if err != nil {
			return err
		}
		waiting = append(waiting, ack)
	}
	return settle(0)
}

// OpenCode reads a package by its digest in standard base64, thaw.Code's form. It fails with ErrNotFound. The reader
// checks the digest and fails at the end if the bytes are not those; ctx holds until it is closed.
func (s *Store) OpenCode(ctx context.Context, digest string) (io.ReadCloser, error) {
	name, err := digestName(digest)
	if err != nil {
		return nil, err
	}
	var mark codeMark
	if err := s.Records(codeKind).Get(ctx, name, &mark); err != nil {
		return nil, err
	}
	return &codeReader{ctx: ctx, store: s, digest: name, left: mark.Size, hash: sha256.New()}, nil
}

// digestName turns a digest from thaw.Code's form into the one in subjects and keys: hex.
func digestName(digest string) (string, error) {
	sum, err := base64.StdEncoding.Strict().DecodeString(digest)
	if err != nil || len(sum) != sha256.Size {
		return "", fmt.Errorf("package %q: %w: not a SHA-256 digest in base64", digest, ErrNotFound)
	}
	return hex.EncodeToString(sum), nil
}

// codeReader reads the chunks of a package one after the other.
type codeReader struct {
	ctx    context.Context
	store  *Store
	digest string
	next   int
	chunk  []byte
	left   int64 // bytes not fetched yet
	hash   hash.Hash
	err    error
}

func (r *codeReader) Read(p []byte) (int, error) {
	if len(r.chunk) == 0 && r.err == nil {
		r.err = r.fetch()
	}
	if len(r.chunk) == 0 {
		return 0, r.err
	}
	n := copy(p, r.chunk)
	r.chunk = r.chunk[n:]
	return n, nil
}

func (r *codeReader) fetch() error {
	if r.left == 0 {
		if hex.EncodeToString(r.hash.Sum(nil)) != r.digest {
			return fmt.Errorf("read package %s: the stored bytes have another digest; deploy the function again", r.digest)
		}
		return io.EOF
	}
	msg, err := r.store.code.GetLastMsgForSubject(r.ctx, codeSubject+r.digest+"."+strconv.Itoa(r.next))
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return fmt.Errorf("read package %s: %w: chunk %d; deploy the function again", r.digest, ErrNotFound, r.next)
	}
	if err != nil {
		return r.store.storeError("read package "+r.digest, err)
	}
	if len(msg.Data) == 0 || int64(len(msg.Data)) > r.left {
		return fmt.Errorf("read package %s: chunk %d has %d bytes of %d; deploy the function again", r.digest, r.next, len(msg.Data), r.left)
	}
	r.next++
	r.left -= int64(len(msg.Data))
	r.hash.Write(msg.Data)
	r.chunk = msg.Data
	return nil
}

func (r *codeReader) Close() error {
	r.chunk, r.err = nil, ErrClosed
	return nil
}

// SweepCode drops the packages that no function and no layer refers to and what uploads left that never ended, sparing both for an
// hour. It may run beside everything else, on any number of nodes.
func (s *Store) SweepCode(ctx context.Context) error {
	grace := time.Now().Add(-codeGrace)
	return s.sweepCode(ctx, grace, grace)
}

// sweepCode spares packages marked after the one time and uploads without a mark that began after the other.
func (s *Store) sweepCode(ctx context.Context, marks, uploads time.Time) error {
	// Only chunks up to this point are dropped. An upload that begins after its package's mark is gone stores every
	// chunk anew, beyond this point.
	info, err := s.code.Info(ctx, jetstream.WithSubjectFilter(codeSubject+"*.0"))
	if err != nil {
		return s.storeError("sweep packages", err)
	}
	until := info.State.LastSeq
	records := s.Records(codeKind)
	type mark struct {
		rev     uint64
		created time.Time
	}
	marked := map[string]mark{}
	err = records.scan(ctx, func(key string, kv jetstream.KeyValueEntry) { marked[key] = mark{kv.Revision(), kv.Created()} })
	if err != nil {
		return err
	}
	wanted, err := s.referred(ctx)
	if err != nil {
		return err
	}

	for digest, m := range marked {
		if wanted[digest] || m.created.After(marks) {
			continue
		}
		err := records.deleteRevision(ctx, digest, m.rev)
		if errors.Is(err, jetstream.ErrKeyRevisionMismatch) {
			continue
		}
		if err != nil {
			return err
		}
		if err := s.purgeChunks(ctx, digest, until); err != nil {
			return err
		}
	}
	for subject := range info.State.Subjects {
		digest := strings.TrimSuffix(strings.TrimPrefix(subject, codeSubject), ".0")
		if _, ok := marked[digest]; ok {
			continue
		}
		first, err := s.code.GetLastMsgForSubject(ctx, subject)
		if errors.Is(err, jetstream.ErrMsgNotFound) || err == nil && first.Time.After(uploads) {
			continue
		}
		if err != nil {
			return s.storeError("sweep packages", err)
		}
		if err := s.purgeChunks(ctx, digest, until); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) purgeChunks(ctx context.Context, digest string, until uint64) error {
	err := s.code.Purge(ctx, jetstream.WithPurgeSubject(codeSubject+digest+".*"), jetstream.WithPurgeSequence(until+1))
	if err != nil {
		return s.storeError("sweep packages", err)
	}
	return nil
}

// referred gives the digests, in hex, of all packages that functions and layers refer to. A function has been given what a
// layer that is going had by the time that the layer's record says so, or within the time that packages are spared.
func (s *Store) referred(ctx context.Context) (map[string]bool, error) {
	wanted := map[string]bool{}
	add := func(c thaw.Code) {
		if name, err := digestName(c.SHA256); err == nil {
			wanted[name] = true
		}
	}
	layers, err := s.Records(thaw.LayerRecords).List(ctx, "")
	if err != nil {
		return nil, err
	}
	for _, record := range layers {
		var layer thaw.LayerRecord
		if err := json.Unmarshal(record.Value, &layer); err != nil {
			return nil, fmt.Errorf("sweep packages: layer %s: %w", record.Key, err)
		}
		for i := range layer.Versions {
			add(layer.Versions[i].Code)
		}
	}
	use := func(v *thaw.Version) {
		add(v.Code)
		for i := range v.Layers {
			add(v.Layers[i].Code)
		}
	}
	for _, e := range *s.catalog.view.Load() {
		use(&e.f.Config)
		if e.f.Running != nil {
			use(e.f.Running)
		}
		for i := range e.f.Published {
			use(&e.f.Published[i])
		}
	}
	return wanted, nil
}
