package state

import (
	"bytes"
	"io"
	"testing"
)

func TestPackageComesBack(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir()})
	for _, size := range []int{0, 1, chunkSize, chunkSize + 1, 5*chunkSize - 3} {
		zip := bytes.Repeat([]byte("thaw!"), size/5+1)[:size]
		code, err := s.PutCode(t.Context(), zip)
		if err != nil {
			t.Fatal(err)
		}
		r, err := s.OpenCode(t.Context(), code.SHA256)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(r)
		if err != nil || !bytes.Equal(got, zip) {
			t.Fatalf("package of %d bytes came back as %d bytes, %v", size, len(got), err)
		}
	}
}
