package code

import (
	"context"
	"io"
)

// Check says whether a deployment package or a layer of size bytes can be unpacked, without writing anything, and how many bytes
// its files have. It inflates all of it. What is wrong with the package is a *thaw.Error with
// CodeInvalidParameterValue in AWS's words; another error is ctx's or the reader's.
//
// Bounds: thaw.MaxUnzipped bytes unpacked, 65,535 files and directories, names of 1,024 bytes.
//
// Refused are: no or no whole archive, no files, names that are absolute, lead out of the tree, are not UTF-8 or have a
// backslash or NUL, two files of the same name, a file in the place of a directory, links out of the tree, devices,
// sockets and pipes, encryption, compression other than deflate, files that share data in the archive.
func Check(ctx context.Context, zip io.ReaderAt, size int64) (unzipped int64, err error) {
	a, err := openArchive(ctx, zip, size)
	if err != nil {
		return 0, err
	}
	inflate := a.inflater()
	for n := range a.items {
		if err := inflate.copy(ctx, io.Discard, &a.items[n]); err != nil {
			return 0, err
		}
	}
	return a.size, nil
}
