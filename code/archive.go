package code

import (
	"archive/zip"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"sync"

	"github.com/klauspost/compress/flate"

	"thaw"
)

// What AWS answers, word for word; messages of real accounts are in many public bug reports. A reason that AWS does not
// give is added behind unusable.
const (
	unusable = "Could not unzip uploaded file. Please check your file, then try to upload again."
	empty    = "Uploaded file must be a non-empty zip"
)

// refuse makes the error for an archive that cannot be unpacked, with what is wrong in it.
func refuse(format string, args ...any) error {
	return thaw.Errorf(thaw.CodeInvalidParameterValue, unusable+" In this file, "+format+".", args...)
}

var errTooLarge = thaw.Errorf(thaw.CodeInvalidParameterValue, "Unzipped size must be smaller than %d bytes", thaw.MaxUnzipped)

// maxDirectoryBytes bounds an archive's central directory: maxNodes entries with names of a good length. It bounds the
// memory that opening takes, which entries of 46 bytes would otherwise multiply.
const maxDirectoryBytes = 12 << 20

// item is one entry that becomes something on disk.
type item struct {
	zip    *zip.File
	name   string
	kind   kind
	target string // of a link
}

// executable reports whether anyone may execute the file.
func (i *item) executable() bool { return i.zip.Mode()&0o111 != 0 }

// archive is a package that was judged: everything but what inflating its files can tell.
type archive struct {
	source *boundedReaderAt
	tree   *tree
	items  []item // files and links
	size   int64  // of all files as declared, bytes
}

// openArchive judges an archive of size bytes.
func openArchive(ctx context.Context, r io.ReaderAt, size int64) (*archive, error) {
	if size == 0 {
		return nil, thaw.Errorf(thaw.CodeInvalidParameterValue, empty)
	}
	opening := &boundedReaderAt{r: r, left: maxDirectoryBytes}
	z, err := zip.NewReader(opening, size)
	switch {
	case opening.exceeded:
		return nil, refuse("the list of files has more than %d bytes", maxDirectoryBytes)
	case err != nil:
		return nil, opening.fault(err)
	}
	opening.left = -1
	z.RegisterDecompressor(zip.Deflate, newDecompressor)
	a := &archive{source: opening, tree: newTree(maxNodes)}
	for _, f := range z.File {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if err := a.add(f); err != nil {
			return nil, err
		}
	}
	if len(a.items) == 0 {
		return nil, thaw.Errorf(thaw.CodeInvalidParameterValue, empty)
	}
	if err := a.checkOverlap(); err != nil {
		return nil, err
	}
	if err := a.readLinks(); err != nil {
		return nil, err
	}
	return a, a.tree.checkLinks()
}

func (a *archive) add(f *zip.File) error {
	name, err := cleanName(f.Name)
	if err != nil {
		return err
	}
	i := item{zip: f, name: name}
	switch f.Mode().Type() {
	case 0:
		i.kind = file
	case fs.ModeDir:
		i.kind = directory
	case fs.ModeSymlink:
		i.kind = link
	default:
		return refuse("%q is neither a file nor a directory nor a link", f.Name)
	}
	if err := a.tree.add(name, i.kind); err != nil {
		return err
	}
	if i.kind == directory {
		if f.UncompressedSize64 != 0 {
			return refuse("the directory %q has contents of its own", f.Name)
		}
		return nil
	}
	switch {
	case f.Flags&encrypted != 0:
		return refuse("%q is encrypted", f.Name)
	case f.Method != zip.Store && f.Method != zip.Deflate:
		return refuse("%q is compressed with method %d; only deflate is known", f.Name, f.Method)
	case i.kind == link && f.UncompressedSize64 > maxLinkBytes:
		return refuse("the link %q has a target of %d bytes; at most %d are possible", f.Name, f.UncompressedSize64, maxLinkBytes)
	case f.UncompressedSize64 >= uint64(thaw.MaxUnzipped-a.size):
		return errTooLarge
	}
	a.size += int64(f.UncompressedSize64)
	a.items = append(a.items, i)
	return nil
}

// encrypted is the bit of an entry's flags that says so.
const encrypted = 1

// checkOverlap refuses entries that share bytes of the archive, the way of bombs that are small without nesting.
func (a *archive) checkOverlap() error {
	type span struct {
		from, to int64
		name     string
	}
	spans := make([]span, 0, len(a.items))
	for _, i := range a.items {
		from, err := i.zip.DataOffset()
		if err != nil {
			return a.source.fault(err)
		}
		if packed := int64(i.zip.CompressedSize64); packed > 0 {
			spans = append(spans, span{from, from + packed, i.name})
		}
	}
	slices.SortFunc(spans, func(a, b span) int { return cmp.Compare(a.from, b.from) })
	for n := 1; n < len(spans); n++ {
		if spans[n].from < spans[n-1].to {
			return refuse("%q and %q share their data", spans[n-1].name, spans[n].name)
		}
	}
	return nil
}

func (a *archive) readLinks() error {
	for n := range a.items {
		i := &a.items[n]
		if i.kind != link {
			continue
		}
		r, err := i.zip.Open()
		if err != nil {
			return a.source.fault(err)
		}
		target, err := io.ReadAll(io.LimitReader(r, maxLinkBytes+1))
		r.Close()
		if err != nil || len(target) > maxLinkBytes {
			return a.source.fault(err)
		}
		i.target = string(target)
		if err := a.tree.addTarget(i.name, i.target); err != nil {
			return err
		}
	}
	return nil
}

// inflater copies the files of one archive, all together less than thaw.MaxUnzipped bytes whatever the archive declares.
type inflater struct {
	archive *archive
	left    int64
	buffer  []byte
}

func (a *archive) inflater() *inflater {
	return &inflater{archive: a, left: thaw.MaxUnzipped, buffer: make([]byte, 128<<10)}
}

// copy inflates one file into w. It fails with a *thaw.Error when the archive is at fault.
func (f *inflater) copy(ctx context.Context, w io.Writer, i *item) error {
	r, err := i.zip.Open()
	if err != nil {
		return f.archive.source.fault(err)
	}
	defer r.Close()
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := r.Read(f.buffer)
		if f.left -= int64(n); f.left <= 0 {
			return errTooLarge
		}
		if n > 0 {
			if _, err := w.Write(f.buffer[:n]); err != nil {
				return err
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return f.archive.source.fault(fmt.Errorf("%s: %w", i.name, err))
		}
	}
}

// boundedReaderAt stops reading after a number of bytes; -1 is no bound.
type boundedReaderAt struct {
	r        io.ReaderAt
	left     int64
	exceeded bool
	err      error // of r, other than io.EOF
}

func (b *boundedReaderAt) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, io.ErrUnexpectedEOF // the archive names such a place, which is no fault of the reader's
	}
	if b.left >= 0 {
		if b.left -= int64(len(p)); b.left < 0 {
			b.left, b.exceeded = 0, true
			return 0, io.ErrUnexpectedEOF
		}
	}
	n, err := b.r.ReadAt(p, off)
	if err != nil && !errors.Is(err, io.EOF) && b.err == nil {
		b.err = err
	}
	return n, err
}

// fault tells a failure to read from bytes that are no archive or no whole one.
func (b *boundedReaderAt) fault(err error) error {
	if b.err != nil {
		return fmt.Errorf("read package: %w", b.err)
	}
	return &thaw.Error{Code: thaw.CodeInvalidParameterValue, Message: unusable, Cause: err}
}

// Inflating state is 40 KiB; a package has thousands of files.
var decompressors = sync.Pool{New: func() any { return flate.NewReader(nil) }}

func newDecompressor(r io.Reader) io.ReadCloser {
	f := decompressors.Get().(io.ReadCloser)
	if err := f.(flate.Resetter).Reset(r, nil); err != nil {
		return flate.NewReader(r)
	}
	return &pooledDecompressor{f}
}

// pooledDecompressor gives its state back when it is closed.
type pooledDecompressor struct{ io.ReadCloser }

func (p *pooledDecompressor) Close() error {
	if p.ReadCloser == nil {
		return nil
	}
	err := p.ReadCloser.Close()
	decompressors.Put(p.ReadCloser)
	p.ReadCloser = nil
	return err
}

func (p *pooledDecompressor) Read(b []byte) (int, error) {
	if p.ReadCloser == nil {
		return 0, fs.ErrClosed
	}
	return p.ReadCloser.Read(b)
}
