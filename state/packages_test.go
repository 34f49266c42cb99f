package state

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"thaw"
)

func TestPackageComesBack(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir()})
	for _, size := range []int{0, 1, chunkSize, chunkSize + 1, 5*chunkSize - 3} {
		zip := bytes.Repeat([]byte("thaw!"), size/5+1)[:size]
		code, err := s.PutCode(t.Context(), zip)
		if err != nil {
			t.Fatal(err)
		}
		again, err := s.PutCode(t.Context(), zip)
		if err != nil || again != code || code.Size != int64(size) {
			t.Errorf("put again: %+v, %v; first %+v", again, err, code)
		}
		r, err := s.OpenCode(t.Context(), code.SHA256)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(r)
		if err != nil || !bytes.Equal(got, zip) {
			t.Fatalf("package of %d bytes came back as %d bytes, %v", size, len(got), err)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		if _, err := r.Read(make([]byte, 1)); err == nil {
			t.Error("a closed package can be read")
		}
	}
	for _, digest := range []string{"", "x", "../../etc/passwd", "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFV="} {
		if _, err := s.OpenCode(t.Context(), digest); !errors.Is(err, ErrNotFound) {
			t.Errorf("open %q: %v", digest, err)
		}
	}
}

func TestDamagedPackageIsNotPassedOffAsWhole(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir()})
	ctx := t.Context()
	zip := bytes.Repeat([]byte("x"), 2*chunkSize)
	for _, test := range []struct {
		what  string
		spoil func(subject string) error
	}{
		{"changed chunk", func(subject string) error {
			_, err := s.js.Publish(ctx, subject, bytes.Repeat([]byte("y"), chunkSize))
			return err
		}},
		{"short chunk", func(subject string) error {
			_, err := s.js.Publish(ctx, subject, []byte("y"))
			return err
		}},
		{"missing chunk", func(subject string) error {
			msg, err := s.code.GetLastMsgForSubject(ctx, subject)
			if err != nil {
				return err
			}
			return s.code.DeleteMsg(ctx, msg.Sequence)
		}},
	} {
		zip[0]++
		code, err := s.PutCode(ctx, zip)
		if err != nil {
			t.Fatal(err)
		}
		if err := test.spoil(codeSubject + hexDigest(t, code) + ".1"); err != nil {
			t.Fatal(err)
		}
		r, err := s.OpenCode(ctx, code.SHA256)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, r); err == nil {
			t.Errorf("%s: read to the end without an error", test.what)
		}
	}
}

func hexDigest(t *testing.T, code thaw.Code) string {
	t.Helper()
	digest, err := digestName(code.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	return digest
}

func (s *Store) chunks(t *testing.T, code thaw.Code) int {
	t.Helper()
	info, err := s.code.Info(t.Context(), jetstream.WithSubjectFilter(codeSubject+hexDigest(t, code)+".*"))
	if err != nil {
		t.Fatal(err)
	}
	return len(info.State.Subjects)
}

func TestSweepDropsWhatNobodyRefersTo(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir()})
	ctx := t.Context()
	put := func(text string) thaw.Code {
		t.Helper()
		code, err := s.PutCode(ctx, bytes.Repeat([]byte(text), chunkSize))
		if err != nil {
			t.Fatal(err)
		}
		return code
	}
	config, running, published, idle := put("ab"), put("cd"), put("ij"), put("ef")
	f := function("f")
	f.Config.Code = config
	f.Running = &thaw.Version{Code: running}
	f.Published = []thaw.Version{{Number: "1", Code: published}}
	if err := s.CreateFunction(ctx, f); err != nil {
		t.Fatal(err)
	}
	orphan := bytes.Repeat([]byte("gh"), chunkSize)
	half := thaw.Code{SHA256: sha256Text(orphan)}
	if err := s.upload(ctx, hexDigest(t, half), orphan); err != nil {
		t.Fatal(err)
	}
	has := func(what string, code thaw.Code, want int) {
		t.Helper()
		if got := s.chunks(t, code); got != want {
			t.Errorf("%s: %d chunks, want %d", what, got, want)
		}
	}

	if err := s.SweepCode(ctx); err != nil {
		t.Fatal(err)
	}
	has("young package", idle, 2)
	has("young upload", half, 2)

	before := time.Now()
	put("ef")
	if err := s.sweepCode(ctx, before, before.Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	has("package put again", idle, 2)
	has("upload that never ended", half, 0)

	if err := s.sweepCode(ctx, time.Now(), time.Now()); err != nil {
		t.Fatal(err)
	}
	has("package in Config", config, 2)
	has("package of a published version", published, 2)
	has("package in Running", running, 2)
	has("package of nobody", idle, 0)
	readWhole(t, s, config.SHA256)
	readWhole(t, s, running.SHA256)
	if _, err := s.OpenCode(ctx, idle.SHA256); !errors.Is(err, ErrNotFound) {
		t.Errorf("open swept package: %v", err)
	}
	readWhole(t, s, put("ef").SHA256)
}

// TestSweepKeepsLayers drops a layer's package only when neither the layer nor a function has it any more.
func TestSweepKeepsLayers(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir()})
	ctx := t.Context()
	put := func(text string) thaw.Code {
		t.Helper()
		code, err := s.PutCode(ctx, []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		return code
	}
	there, used, gone := put("there"), put("used"), put("gone")
	layers := s.Records(thaw.LayerRecords)
	err := layers.Create(ctx, "deps", &thaw.LayerRecord{Name: "deps", Last: 3, Versions: []thaw.LayerVersion{{Number: 1, Code: there}, {Number: 3, Code: gone}}})
	if err != nil {
		t.Fatal(err)
	}
	f := function("f")
	f.Config.Code, f.Published = put("code"), []thaw.Version{{Number: "1", Layers: []thaw.Layer{{ARN: "deleted", Code: used}}}}
	if err := s.CreateFunction(ctx, f); err != nil {
		t.Fatal(err)
	}
	if err := s.sweepCode(ctx, time.Now(), time.Now()); err != nil {
		t.Fatal(err)
	}
	for _, code := range []thaw.Code{there, used, gone} {
		readWhole(t, s, code.SHA256)
	}
	if _, err := UpdateRecord(ctx, layers, "deps", func(r *thaw.LayerRecord) error { r.Versions = r.Versions[:1]; return nil }); err != nil {
		t.Fatal(err)
	}
	before := time.Now()
	if err := s.KeepCode(ctx, gone.SHA256); err != nil {
		t.Fatal(err)
	}
	if err := s.sweepCode(ctx, before, before); err != nil {
		t.Fatal(err)
	}
	readWhole(t, s, gone.SHA256)
	if err := s.sweepCode(ctx, time.Now(), time.Now()); err != nil {
		t.Fatal(err)
	}
	if _, err := s.OpenCode(ctx, gone.SHA256); !errors.Is(err, ErrNotFound) {
		t.Errorf("a package of nobody's is still there: %v", err)
	}
	readWhole(t, s, used.SHA256)
	if err := s.KeepCode(ctx, gone.SHA256); !errors.Is(err, ErrNotFound) {
		t.Errorf("a package that is not there can be kept: %v", err)
	}
}

// TestSweepSparesAnUploadThatCameInBetween holds a sweep between taking a package's mark off and dropping its chunks.
func TestSweepSparesAnUploadThatCameInBetween(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir()})
	ctx := t.Context()
	zip := bytes.Repeat([]byte("ab"), chunkSize)
	code, err := s.PutCode(ctx, zip)
	if err != nil {
		t.Fatal(err)
	}
	info, err := s.code.Info(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Records(codeKind).Delete(ctx, hexDigest(t, code)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.PutCode(ctx, zip); err != nil {
		t.Fatal(err)
	}
	if err := s.purgeChunks(ctx, hexDigest(t, code), info.State.LastSeq); err != nil {
		t.Fatal(err)
	}
	readWhole(t, s, code.SHA256)
}

// TestSweepBesideUploads has one goroutine sweep packages of any age while others put the same ones over and over: what is
// visible in the end must be whole.
func TestSweepBesideUploads(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir()})
	ctx := t.Context()
	stop := make(chan struct{})
	swept := make(chan struct{})
	go func() {
		defer close(swept)
		for {
			select {
			case <-stop:
				return
			default:
				if err := s.sweepCode(ctx, time.Now(), time.Now().Add(-codeGrace)); err != nil {
					t.Error(err)
					return
				}
			}
		}
	}()
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			for n := range 60 {
				if _, err := s.PutCode(ctx, bytes.Repeat([]byte{byte(n % 3)}, 2*chunkSize)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	close(stop)
	<-swept
	list, err := s.Records(codeKind).List(ctx, "")
	if err != nil {
		t.Fatal(err)
	}
	for _, mark := range list {
		readWhole(t, s, base64Digest(t, mark.Key))
	}
}

func sha256Text(data []byte) string {
	sum := sha256.Sum256(data)
	return base64.StdEncoding.EncodeToString(sum[:])
}

func base64Digest(t *testing.T, name string) string {
	t.Helper()
	sum, err := hex.DecodeString(name)
	if err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(sum)
}
