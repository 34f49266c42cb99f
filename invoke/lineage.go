package invoke

import (
	"fmt"
	"hash/fnv"
	"strconv"
	"strings"

	"thaw/telemetry/xray"
)

// A trace header's Lineage says how often a request has gone through which function, so that a function which invokes
// itself, directly or through others, is stopped. SDKs pass the header on by themselves inside a function. The form is
// AWS's, from X-Ray's documentation of the tracing header: hash:count, separated by '|'.
const (
	// maxRecursion is how often a function may be invoked in one chain of requests. AWS: about 16 times.
	maxRecursion = 16
	// maxLineage bounds how many functions of a chain are counted; AWS has a bound too, and does not tell it.
	maxLineage = 32
)

// lineageOf names a function in a lineage.
func lineageOf(arn string) string {
	h := fnv.New32a()
	h.Write([]byte(arn)) //nolint:errcheck // hashes never fail
	return fmt.Sprintf("%08x", h.Sum32())
}

// descend adds one invocation of a function to a trace header. count is how often the chain has come to the function
// before.
func descend(trace, function string) (next string, count int) {
	head, lineage := xray.CutLineage(trace)
	var b strings.Builder
	b.Grow(len(trace) + len(xray.LineageKey) + len(function) + 4)
	b.WriteString(head)
	if head != "" {
		b.WriteByte(';')
	}
	b.WriteString(xray.LineageKey)
	entries, found := 0, false
	for entry := range strings.SplitSeq(lineage, "|") {
		name, n, ok := strings.Cut(entry, ":")
		number, err := strconv.ParseUint(n, 10, 16)
		if !ok || err != nil || entries == maxLineage {
			continue
		}
		if name == function {
			count, found = int(number), true
			n = strconv.Itoa(count + 1)
		}
		if entries > 0 {
			b.WriteByte('|')
		}
		b.WriteString(name)
		b.WriteByte(':')
		b.WriteString(n)
		entries++
	}
	if !found {
		if entries > 0 {
			b.WriteByte('|')
		}
		b.WriteString(function)
		b.WriteString(":1")
	}
	return b.String(), count
}

// KeepTrace gives a trace header that came from where no HTTP server has judged it, as in an event or a message. One that
// could not be a header, or is too long for one, is left out: it gives the empty string.
func KeepTrace(trace string) string {
	if len(trace) > xray.MaxHeader {
		return ""
	}
	for i := range len(trace) {
		if trace[i] < ' ' || trace[i] > '~' {
			return ""
		}
	}
	return trace
}

// Furthest gives the trace header that an invocation with several messages carries on: of those that can be kept, the one
// whose lineage has come back to a function most often, so that a loop is seen also where its messages share batches with
// others. It gives the empty string where there is none.
func Furthest(traces []string) string {
	furthest, most := "", -1
	for _, trace := range traces {
		if trace = KeepTrace(trace); trace == "" {
			continue
		}
		_, lineage := xray.CutLineage(trace)
		count := 0
		for entry := range strings.SplitSeq(lineage, "|") {
			_, text, _ := strings.Cut(entry, ":")
			if n, err := strconv.ParseUint(text, 10, 16); err == nil {
				count = max(count, int(n))
			}
		}
		if count > most {
			furthest, most = trace, count
		}
	}
	return furthest
}
