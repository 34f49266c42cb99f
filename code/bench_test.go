package code

import (
	"bytes"
	"io/fs"
	"math/rand/v2"
	"strconv"
	"testing"
)

// vendored is like a function with its dependencies: thousands of small text files and a few large binaries.
func vendored(tb testing.TB) []byte {
	r := rand.New(rand.NewPCG(1, 2))
	var parts []part
	word := func() string { return strconv.Itoa(r.IntN(5000)) + " " }
	for i := range 2000 {
		var b bytes.Buffer
		for range r.IntN(4000) {
			b.WriteString(word())
		}
		parts = append(parts, part{name: "d" + strconv.Itoa(i%200) + "/f" + strconv.Itoa(i), mode: 0o644, body: b.String()})
	}
	for i := range 4 {
		var b bytes.Buffer
		for range 1_000_000 {
			b.WriteString(word())
		}
		parts = append(parts, part{name: "lib" + strconv.Itoa(i) + ".so", mode: 0o755, body: b.String()})
	}
	return pack(tb, parts...)
}

func BenchmarkCheck(b *testing.B) {
	archive := vendored(b)
	b.ReportMetric(float64(len(archive))/(1<<20), "MiB")
	a, err := openArchive(b.Context(), bytes.NewReader(archive), int64(len(archive)))
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(a.size)
	for b.Loop() {
		if err := check(b, archive); err != nil {
			b.Fatal(err)
		}
	}
}

var _ = fs.ModeDir
