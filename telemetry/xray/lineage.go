package xray

import "strings"

// MaxHeader bounds a trace header that is kept or carried on, bytes; one with a whole lineage has some 500.
const MaxHeader = 4096

// LineageKey is what the field of a header begins with that says how often its chain of requests has come to which function.
const LineageKey = "Lineage="

var bars = strings.NewReplacer("%7C", "|", "%7c", "|")

// CutLineage takes the lineage out of a trace header; several count as one. Some SDKs, botocore and Go's among them,
// send the header with its bars percent-encoded.
func CutLineage(trace string) (head, lineage string) {
	if !strings.Contains(trace, LineageKey) {
		return trace, ""
	}
	var others, lineages []string
	for field := range strings.SplitSeq(trace, ";") {
		if l, ok := strings.CutPrefix(field, LineageKey); ok {
			lineages = append(lineages, bars.Replace(l))
		} else {
			others = append(others, field)
		}
	}
	return strings.Join(others, ";"), strings.Join(lineages, "|")
}
