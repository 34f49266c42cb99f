package code

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"strings"
	"testing"

	"github.com/klauspost/compress/flate"

	"thaw"
)

// part is one entry of an archive that a test makes.
type part struct {
	name string
	mode fs.FileMode
	body string
	// spoil changes the entry's header after everything was set.
	spoil func(*zip.FileHeader)
}

func pack(t testing.TB, parts ...part) []byte {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for _, p := range parts {
		h := &zip.FileHeader{Name: p.name, Method: zip.Deflate, NonUTF8: true}
		h.SetMode(p.mode)
		if p.body == "" {
			h.Method = zip.Store
		}
		if p.spoil != nil {
			p.spoil(h)
		}
		e, err := w.CreateHeader(h)
		if err == nil && p.body != "" {
			_, err = e.Write([]byte(p.body))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func check(t testing.TB, archive []byte) error {
	t.Helper()
	_, err := Check(t.Context(), bytes.NewReader(archive), int64(len(archive)))
	return err
}

func TestCheck(t *testing.T) {
	index := part{name: "index.py", mode: 0o644, body: "def handler(event, context): pass\n"}
	with := func(parts ...part) []byte { return pack(t, append([]part{index}, parts...)...) }
	for _, test := range []struct {
		what    string
		archive []byte
		say     string // "" is acceptance
	}{
		{"a plain package", with(), ""},
		{"a package with all there may be", with(
			part{name: "lib/", mode: fs.ModeDir | 0o700},
			part{name: "./lib/a.py", mode: 0o600, body: "a"},
			part{name: "lib//b.py", mode: fs.ModeSetuid | 0o755, body: "b"},
			part{name: "node_modules/.bin/x", mode: fs.ModeSymlink | 0o777, body: "../x/cli.js"},
			part{name: "node_modules/x/cli.js", mode: 0o755, body: "#!"},
			part{name: "dangling", mode: fs.ModeSymlink | 0o777, body: "not/there"},
			part{name: "C:data", mode: 0o644}, part{name: "new\nline", mode: 0o644}, part{name: "ä", mode: 0o644},
		), ""},
		{"something in front of the archive", append([]byte("#!/bin/sh\n"), with()...), ""},
		{"names that differ in case", with(part{name: "Index.py", mode: 0o644}, part{name: "INDEX.PY", mode: 0o644}), ""},
		{"a directory named twice", with(part{name: "d/", mode: fs.ModeDir | 0o755}, part{name: "d/", mode: fs.ModeDir | 0o755}), ""},

		{"nothing", nil, empty},
		{"an archive without entries", pack(t), empty},
		{"an archive of directories", pack(t, part{name: "d/", mode: fs.ModeDir | 0o755}), empty},
		{"text", []byte("hello"), unusable},
		{"half an archive", with()[:60], unusable},
		{"an archive without its end", with()[:len(with())-10], unusable},
		{"a changed byte", corrupt(with(part{name: "x", mode: 0o644, body: strings.Repeat("abc", 1000)}), "x"), unusable},

		{"a way up", with(part{name: "../x", mode: 0o644}), "leads out"},
		{"a way up and down", with(part{name: "a/../../x", mode: 0o644}), "leads out"},
		{"a way up that stays inside", with(part{name: "a/../x", mode: 0o644}), "leads out"},
		{"a directory up", with(part{name: "../", mode: fs.ModeDir | 0o755}), "leads out"},
		{"an absolute name", with(part{name: "/etc/passwd", mode: 0o644}), "is absolute"},
		{"a backslash", with(part{name: `..\x`, mode: 0o644}), "backslash"},
		{"a NUL", with(part{name: "a\x00b", mode: 0o644}), "NUL"},
		{"no UTF-8", with(part{name: "gr\xfc\xdfe.txt", mode: 0o644}), "not UTF-8"},
		{"no name", with(part{name: "", mode: 0o644}), "no name"},
		{"the tree itself", with(part{name: ".", mode: 0o644}), "the function's directory itself"},
		{"a long element", with(part{name: strings.Repeat("x", 256), mode: 0o644}), "element of 256 bytes"},
		{"a long name", with(part{name: strings.Repeat("x/", 600) + "x", mode: 0o644}), "has 1201 bytes"},

		{"two files of one name", with(index), "two entries"},
		{"two spellings of one name", with(part{name: "./index.py", mode: 0o644}), "two entries"},
		{"a file below a file", with(part{name: "index.py/x", mode: 0o644}), "both a directory"},
		{"a file over a directory", with(part{name: "d/x", mode: 0o644}, part{name: "d", mode: 0o644}), "both a directory"},
		{"a file below a link", with(part{name: "l", mode: fs.ModeSymlink, body: "index.py"}, part{name: "l/x", mode: 0o644}), "both a directory"},
		{"a directory with contents", with(part{name: "d", mode: fs.ModeDir | 0o755, body: "x"}), "contents of its own"},

		{"an absolute link", with(part{name: "l", mode: fs.ModeSymlink, body: "/etc/passwd"}), "out of the function's directory"},
		{"a link up", with(part{name: "a/l", mode: fs.ModeSymlink, body: "../../etc/passwd"}), "out of the function's directory"},
		{"a link up through a link", with(
			part{name: "p/deep", mode: fs.ModeSymlink, body: "../q"},
			part{name: "q/f", mode: 0o644},
			part{name: "p/l", mode: fs.ModeSymlink, body: "deep/../../etc/passwd"},
		), "out of the function's directory"},
		{"links in a circle", with(part{name: "a", mode: fs.ModeSymlink, body: "b"}, part{name: "b", mode: fs.ModeSymlink, body: "a"}), "more than 40 links"},
		{"a link to nothing", with(part{name: "l", mode: fs.ModeSymlink}), "no usable target"},
		{"a link with a NUL", with(part{name: "l", mode: fs.ModeSymlink, body: "a\x00"}), "no usable target"},
		{"a link of a megabyte", with(part{name: "l", mode: fs.ModeSymlink, body: strings.Repeat("x", 1<<20)}), "target of 1048576 bytes"},

		{"a device", with(part{name: "null", mode: fs.ModeDevice | 0o666}), "neither a file"},
		{"a character device", with(part{name: "null", mode: fs.ModeDevice | fs.ModeCharDevice | 0o666}), "neither a file"},
		{"a pipe", with(part{name: "p", mode: fs.ModeNamedPipe | 0o666}), "neither a file"},
		{"a socket", with(part{name: "s", mode: fs.ModeSocket | 0o666}), "neither a file"},
		{"an encrypted file", with(part{name: "x", mode: 0o644, body: "x", spoil: func(h *zip.FileHeader) { h.Flags |= encrypted }}), "encrypted"},
		{"another compression", withMethod(t, with(part{name: "x", mode: 0o644, body: "x"}), "x", 93), "method 93"},

		{"too much, as declared", bomb(t, 3, 100<<20), "Unzipped size must be smaller than 262144000 bytes"},
		{"exactly the bound", bomb(t, 1, thaw.MaxUnzipped), "Unzipped size must be smaller than 262144000 bytes"},
		{"one byte below the bound", bomb(t, 1, thaw.MaxUnzipped-1), ""},
		{"too much, declared as little", lie(t, bomb(t, 1, 300<<20), 1000), unusable},
		{"files that share their data", overlap(t), "share their data"},
		{"too many files", many(t, maxNodes+1, "f%d"), "more than 65535 files"},
		{"too many implied directories", many(t, 700, strings.Repeat("%[1]d/", 100)), "more than 65535 files"},
		{"a list of files without end", many(t, 300_000, "f%d"), "the list of files has more than"},
	} {
		err := check(t, test.archive)
		if test.say == "" {
			if err != nil {
				t.Errorf("%s: %v", test.what, err)
			}
			continue
		}
		if thaw.CodeOf(err) != thaw.CodeInvalidParameterValue || !strings.Contains(err.Error(), test.say) {
			t.Errorf("%s: %v, want %q", test.what, err, test.say)
		}
	}
}

func TestCheckEndsWithItsContext(t *testing.T) {
	archive := pack(t, part{name: "f", mode: 0o644, body: "x"})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Check(ctx, bytes.NewReader(archive), int64(len(archive))); err != ctx.Err() {
		t.Fatal(err)
	}
}

func TestReadFailureIsNotTheArchivesFault(t *testing.T) {
	archive := pack(t, part{name: "f", mode: 0o644, body: strings.Repeat("xyz", 1<<20)})
	for _, from := range []int64{0, int64(len(archive)) - 30} {
		_, err := Check(t.Context(), failing{bytes.NewReader(archive), from}, int64(len(archive)))
		if err == nil || thaw.CodeOf(err) == thaw.CodeInvalidParameterValue {
			t.Errorf("reads fail from %d: %v", from, err)
		}
	}
}

// failing fails to read what begins before a place, at or after which the archive's own list begins.
type failing struct {
	*bytes.Reader
	from int64
}

func (f failing) ReadAt(p []byte, off int64) (int, error) {
	if off <= f.from {
		return 0, fs.ErrPermission
	}
	return f.Reader.ReadAt(p, off)
}

// central finds an entry's header in the archive's list, and the one in front of its data.
func central(archive []byte, name string) (list, local int) {
	list = bytes.LastIndex(archive, []byte(name)) - 46
	local = int(binary.LittleEndian.Uint32(archive[list+42:]))
	return list, local
}

// corrupt changes a byte in the middle of an entry's data.
func corrupt(archive []byte, name string) []byte {
	list, local := central(archive, name)
	packed := int(binary.LittleEndian.Uint32(archive[list+20:]))
	archive[local+30+len(name)+packed/2] ^= 0x10
	return archive
}

func withMethod(t *testing.T, archive []byte, name string, method uint16) []byte {
	t.Helper()
	list, _ := central(archive, name)
	binary.LittleEndian.PutUint16(archive[list+10:], method)
	return archive
}

// bomb packs n files of zeros. A megabyte is deflated once and repeated: deflated pieces that were flushed can be strung
// together.
func bomb(t *testing.T, n int, size int64) []byte {
	t.Helper()
	deflate := func(length int64, end func(*flate.Writer) error) []byte {
		var b bytes.Buffer
		w, err := flate.NewWriter(&b, flate.BestSpeed)
		if err == nil {
			_, err = w.Write(make([]byte, length))
		}
		if err = errors.Join(err, end(w)); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	const piece = 1 << 20
	data := bytes.Repeat(deflate(piece, (*flate.Writer).Flush), int(size/piece))
	data = append(data, deflate(size%piece, (*flate.Writer).Close)...)
	sum := crc32.NewIEEE()
	if _, err := io.CopyN(sum, zeros{}, size); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for i := range n {
		e, err := w.CreateRaw(&zip.FileHeader{
			Name: fmt.Sprintf("zeros%d", i), Method: zip.Deflate, CRC32: sum.Sum32(),
			CompressedSize64: uint64(len(data)), UncompressedSize64: uint64(size),
		})
		if err == nil {
			_, err = e.Write(data)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// zeros never ends.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// lie declares another size for the first file of a bomb.
func lie(t *testing.T, archive []byte, size uint32) []byte {
	t.Helper()
	list, _ := central(archive, "zeros0")
	binary.LittleEndian.PutUint32(archive[list+24:], size)
	return archive
}

// overlap makes two entries of the list point to the same data.
func overlap(t *testing.T) []byte {
	t.Helper()
	archive := pack(t, part{name: "a1", mode: 0o644, body: "same"}, part{name: "a2", mode: 0o644, body: "same"})
	first, _ := central(archive, "a1")
	second, _ := central(archive, "a2")
	copy(archive[second+42:second+46], archive[first+42:first+46])
	return archive
}

func many(t *testing.T, n int, format string) []byte {
	t.Helper()
	parts := make([]part, n)
	for i := range parts {
		parts[i] = part{name: strings.TrimSuffix(fmt.Sprintf(format, i), "/"), mode: 0o644}
	}
	return pack(t, parts...)
}

func FuzzCheck(f *testing.F) {
	f.Add([]byte("PK\x05\x06"))
	f.Add(pack(f, part{name: "index.py", mode: 0o644, body: "x"}, part{name: "d/l", mode: fs.ModeSymlink, body: "../index.py"}))
	f.Fuzz(func(t *testing.T, archive []byte) {
		if err := check(t, archive); err != nil && thaw.CodeOf(err) != thaw.CodeInvalidParameterValue {
			t.Fatal(err)
		}
	})
}
