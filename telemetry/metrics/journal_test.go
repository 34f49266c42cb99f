package metrics

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
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
