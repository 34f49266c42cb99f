package metrics

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// FuzzReadJournal feeds records whose checksums are right and whose contents are not.
func FuzzReadJournal(f *testing.F) {
	j := journal{series: map[*series]uint64{}}
	s := &series{identity: identity{Metric: latency, Unit: UnitCount, Resolution: 60, Own: true}}
	var v summary
	for i := range 40 {
		v.add(float64(i)-7.5, 3)
	}
	j.begin()
	j.add(s, 60, &v)
	j.add(s, 120, &v)
	f.Add(j.buffer[recordHeader:])
	f.Add([]byte{})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01})
	f.Fuzz(func(t *testing.T, payload []byte) {
		record := binary.LittleEndian.AppendUint32(nil, uint32(len(payload)))
		record = binary.LittleEndian.AppendUint32(record, crc32.Checksum(payload, castagnoli))
		record = append(record, payload...)
		if err := readJournal(bytes.NewReader(record), func(id identity, slot int64, delta *summary) {
			if id.Resolution != 1 && id.Resolution != 60 || delta.count < 0 || len(delta.histogram.positive) > maxBuckets {
				t.Errorf("%+v at %d: %+v", id, slot, delta)
			}
			// What was read is what would be written.
			d := decoder{data: appendSummary(nil, delta)}
			again := d.summary()
			if diff := cmp.Diff(*delta, again, cmp.AllowUnexported(summary{}, histogram{}, bucket{})); diff != "" || d.err != nil {
				t.Errorf("%v %s", d.err, diff)
			}
			// And it can be merged and asked.
			merged := v
			merged.histogram.positive, merged.histogram.negative = nil, nil
			merged.merge(delta)
			p := merged.point(slot, id.Unit)
			p.Percentile(99)
		}); err != nil {
			t.Error(err)
		}
	})
}

// TestARecordThatIsNotWrittenEndsTheJournal: what followed would count its series by other numbers.
func TestARecordThatIsNotWrittenEndsTheJournal(t *testing.T) {
	j := journal{dir: t.TempDir(), number: 1}
	j.forget()
	j.begin()
	if err := j.rotate(); err != nil {
		t.Fatal(err)
	}
	var v summary
	v.add(1, 1)
	record := func(name string) error {
		s := &series{identity: identity{Metric: Metric{Namespace: "n", Name: name}, Unit: UnitCount, Resolution: 60}}
		j.begin()
		j.add(s, 60, &v)
		return j.write()
	}
	if err := record("a"); err != nil {
		t.Fatal(err)
	}
	size := j.size
	j.size = maxJournal - 40
	if err := record(strings.Repeat("b", 100)); err == nil {
		t.Fatal("a record was written that has no room")
	}
	j.size = size
	if err := record("c"); err == nil {
		t.Error("a record was written after one that is missing")
	}
	var got []string
	if _, err := recoverJournal(j.dir, func(id identity, _ int64, _ *summary) { got = append(got, id.Name) }); err != nil || len(got) != 1 || got[0] != "a" {
		t.Errorf("read %v, %v", got, err)
	}
}
