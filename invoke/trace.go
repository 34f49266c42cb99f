package invoke

import (
	"strings"
	"time"

	"thaw"
	"thaw/telemetry/xray"
)

// Sample decides about a trace that nobody has decided about; active says that the function's tracing mode is Active.
type Sample func(root [16]byte, active bool, now time.Time) bool

// TraceHead is the caller's trace, or a new one that nothing is decided about.
func TraceHead(r *Request) string {
	if r.TraceID != "" {
		return r.TraceID
	}
	h := xray.Header{Root: xray.NewTrace(r.Start)}
	return string(h.Append(make([]byte, 0, 40)))
}

// head is the trace that an invocation belongs to, as its function is told it, and decided about. In one that is sampled the
// function is told of a segment of the invocation's own, and caller is the one that was named before.
func (i *Invoker) head(r *Request, v *thaw.Version) (trace string, caller [8]byte) {
	var buffer [96]byte
	if r.TraceID == "" {
		h := xray.Header{Root: xray.NewTrace(r.Start)}
		h.Parent, h.Decision = xray.NewSegment(), i.decide(&h, v, r.Start)
		return string(h.Append(buffer[:0])), caller
	}
	if i.cfg.Sample == nil && strings.Contains(r.TraceID, "Sampled=") {
		return r.TraceID, caller
	}
	h, ok := xray.Parse(r.TraceID)
	if !ok || h.Decision == xray.NotSampled {
		return r.TraceID, caller
	}
	if h.Decision == xray.Undecided {
		h.Decision = i.decide(&h, v, r.Start)
	}
	if h.Decision == xray.Sampled && i.cfg.Sample != nil {
		caller, h.Parent = h.Parent, xray.NewSegment()
	}
	return h.Rewrite(r.TraceID), caller
}

func (i *Invoker) decide(h *xray.Header, v *thaw.Version, now time.Time) xray.Decision {
	if i.cfg.Sample != nil && i.cfg.Sample(h.Root, v.TracingMode == thaw.TracingActive, now) {
		return xray.Sampled
	}
	return xray.NotSampled
}
