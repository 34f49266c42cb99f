package code

import (
	"bytes"
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

func BenchmarkUnpack(b *testing.B) {
	archive := vendored(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := unpackInto(b, b.TempDir(), archive); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDirWarm(b *testing.B) {
	src := &shelf{}
	digest := src.put(sized(b, 0, 1000))
	c := openCache(b, b.TempDir(), src, 0)
	if _, err := c.Dir(b.Context(), digest); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Dir(b.Context(), digest); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDirColdSmall(b *testing.B) {
	src := &shelf{}
	i := 0
	c := openCache(b, b.TempDir(), src, 0)
	for b.Loop() {
		i++
		b.StopTimer()
		digest := src.put(pack(b, part{name: "index.py", mode: 0o644, body: strconv.Itoa(i)}))
		b.StartTimer()
		if _, err := c.Dir(b.Context(), digest); err != nil {
			b.Fatal(err)
		}
	}
}
