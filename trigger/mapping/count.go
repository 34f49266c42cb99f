package mapping

import "thaw"

// AWS's metrics of the group EventCount, those that queues have (Lambda developer guide, "Types of metrics for Lambda
// functions"). Each value is the number of messages of one receive, one batch or one attempt; it is 0 for a receive that brings
// none, a batch of which nothing is filtered out, and a batch that could not be deleted.
const (
	metricPolled   = "PolledEventCount"
	metricFiltered = "FilteredOutEventCount" // of mappings that have filters
	metricInvoked  = "InvokedEventCount"     // at each attempt
	metricFailed   = "FailedInvokeEventCount"
	metricDeleted  = "DeletedEventCount" // after the function has dealt with them
)

// count passes on a metric's value if the mapping asks for it.
func (r *runner) count(metric string, messages int) {
	if r.mapping.CountEvents && r.loop.cfg.Count != nil {
		r.loop.cfg.Count(r.mapping.UUID, metric, messages)
	}
}

// countAttempt counts an attempt to invoke the function with a batch: one that was throttled was made, as AWS has it.
func (r *runner) countAttempt(messages int, result Result, err error) {
	if err != nil && r.working.Err() != nil {
		return // nobody waits for it any more
	}
	if err == nil || thaw.CodeOf(err) == thaw.CodeTooManyRequests {
		r.count(metricInvoked, messages)
	}
	if err != nil || result.FunctionError {
		r.count(metricFailed, messages)
	}
}
