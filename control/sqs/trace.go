package sqs

import (
	"context"

	"thaw/control/internal/operation"
	"thaw/state/queues"
)

// carryTrace has a message that brings no trace carry on that of the request which sends it, as X-Ray's developer guide
// says of SQS. SDKs that run in a function send the function's, so that a loop through a queue is seen. meta is what m has;
// digests are of what the sender wrote, and leave the trace out.
func carryTrace(ctx context.Context, m *queues.Message, meta queues.SQSMeta) {
	trace := operation.CallersTrace(ctx)
	if trace == "" || !allowedText(trace) || len(meta.System) > 0 {
		return
	}
	meta.System = map[string]queues.SQSAttribute{traceHeader: {Type: "String", String: trace}}
	m.Meta = meta.Encode()
}
