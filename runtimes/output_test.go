package runtimes

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"
	"testing"
	"time"
)

func logFrame(text string, at time.Time) string {
	head := binary.BigEndian.AppendUint32([]byte(messageMagic), uint32(len(text)))
	return string(binary.BigEndian.AppendUint64(head, uint64(at.UnixMicro()))) + text
}

func TestOutput(t *testing.T) {
	at := time.UnixMicro(1_700_000_000_123_456)
	long := strings.Repeat("x", MaxMessage)
	for name, test := range map[string]struct {
		in   string
		want []string
	}{
		"lines":                      {"one\ntwo\r\n\nthree", []string{"one", "two", "three"}},
		"frame":                      {logFrame("one\ntwo\n", at), []string{"one\ntwo"}},
		"empty frame":                {logFrame("", at) + "x\n", []string{"x"}},
		"frames and lines":           {"a\n" + logFrame("b\nc", at) + logFrame("d", at) + "e\n", []string{"a", "b\nc", "d", "e"}},
		"frame within a line":        {"begun " + logFrame("b", at) + " ended\n", []string{"begun ", "b", " ended"}},
		"frame with frames in it":    {logFrame(logFrame("x", at), at), []string{logFrame("x", at)}},
		"first byte of a frame":      {"日Z日\n\xa5\n\xa5\x5a\n", []string{"日Z日", "\xa5", "\xa5\x5a"}},
		"claims too much":            {messageMagic + "\xff\xff\xff\xff12345678text\n", []string{messageMagic + "\xff\xff\xff\xff12345678text"}},
		"frame cut short":            {logFrame("b\nc", at)[:messageHeader+2], []string{"b\n"}},
		"header cut short":           {"a\n" + messageMagic + "\x00", []string{"a", messageMagic + "\x00"}},
		"line of the greatest size":  {long + "\n", []string{long}},
		"line beyond it":             {long + "yz\n", []string{long, "yz"}},
		"frame of the greatest size": {logFrame(long, at), []string{long}},
		"frame beyond it":            {logFrame(long+"yz\n", at), []string{long, "yz"}},
	} {
		t.Run(name, func(t *testing.T) {
			steps := []int{1, 7, len(test.in)}
			if len(test.in) > 1000 {
				steps = []int{65536, len(test.in)}
			}
			for _, step := range steps {
				var got []string
				o := NewOutput(func(message []byte, when time.Time) {
					got = append(got, string(message))
					if strings.HasPrefix(test.in, messageMagic) && string(message) == "one\ntwo" && !when.Equal(at) {
						t.Errorf("time %v", when)
					}
				})
				for piece := range slices.Chunk([]byte(test.in), step) {
					o.Write(piece)
				}
				o.Flush()
				if !slices.Equal(got, test.want) {
					t.Errorf("in pieces of %d: %.200q", step, got)
				}
			}
		})
	}
}

// FuzzOutput: whatever comes, in whatever pieces, nothing is lost but frame headers and line ends, no message is over
// the bound, and what is kept is bounded.
func FuzzOutput(f *testing.F) {
	f.Add([]byte("one\ntwo"), 3)
	f.Add([]byte(logFrame("a\nb", time.UnixMicro(1))+"text"+logFrame("c", time.UnixMicro(2))), 5)
	f.Add([]byte(messageMagic+"\xff\xff\xff\xff12345678text\n"), 2)
	f.Add([]byte(messageMagic[:2]+"\n"+messageMagic), 1)
	f.Fuzz(func(t *testing.T, data []byte, step int) {
		if step <= 0 {
			step = 1
		}
		run := func(step int) (out []byte) {
			o := NewOutput(func(message []byte, _ time.Time) {
				if len(message) == 0 || len(message) > MaxMessage {
					t.Fatalf("a message of %d bytes", len(message))
				}
				out = append(append(out, message...), '\n')
			})
			for piece := range slices.Chunk(data, step) {
				o.Write(piece)
				if len(o.pending) > MaxMessage {
					t.Fatalf("%d bytes kept", len(o.pending))
				}
			}
			o.Flush()
			return out
		}
		whole, pieces := run(len(data)+1), run(step)
		if !bytes.Equal(whole, pieces) {
			t.Fatalf("%q at once, %q in pieces of %d", whole, pieces, step)
		}
		if !bytes.Contains(data, []byte(messageMagic)) {
			strip := func(b []byte) []byte {
				return bytes.ReplaceAll(bytes.ReplaceAll(b, []byte("\n"), nil), []byte("\r"), nil)
			}
			if !bytes.Equal(strip(data), strip(whole)) {
				t.Fatalf("%q became %q", data, whole)
			}
		}
	})
}

func BenchmarkOutput(b *testing.B) {
	line := []byte(strings.Repeat("2024-01-01T00:00:00.000Z\tid\tINFO\tsome message of common length\n", 100))
	o := NewOutput(func([]byte, time.Time) {})
	b.SetBytes(int64(len(line)))
	b.ReportAllocs()
	for b.Loop() {
		o.Write(line)
	}
}
