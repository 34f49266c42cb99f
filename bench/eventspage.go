package main

import (
	"fmt"
	"io"
)

// writeEvents writes what the event side does.
func (f *findings) writeEvents(w io.Writer) {
	r := f.Events
	if r == nil {
		return
	}
	fmt.Fprintf(w, "## Events and queues\n\nEvents and messages of %d bytes; what is acknowledged is stored. Per second, while the function of the asynchronous\ninvocations runs on the same cores.\n\n"+
		"| what | 1 connection | %d connections |\n|---|---:|---:|\n", eventSize, connections)
	for i := 0; i+1 < len(r.Rates); i += 2 {
		fmt.Fprintf(w, "| %s | %.0f | %.0f |\n", r.Rates[i].What, r.Rates[i].PerSecond, r.Rates[i+1].PerSecond)
	}
	fmt.Fprintf(w, "\nAll that was accepted had run %.1f s after the last of it; what follows in the table and below began after that.\n", r.Drained.Seconds())
	fmt.Fprintf(w, "\n### Latency\n\nFrom just before the request is sent until the handler of a Python function begins, by the machine's clock. The messages go through a mapping with\nBatchSize %d and no window.\n\n"+
		"| what | count | delivered again | p50 | p95 | p99 |\n|---|---:|---:|---:|---:|---:|\n", queueBatch)
	row := func(what string, again int, took latencies) {
		if len(took) > 0 {
			fmt.Fprintf(w, "| %s | %d | %d | %s | %s | %s |\n", what, len(took), again, ms(took.percentile(50)), ms(took.percentile(95)), ms(took.percentile(99)))
		}
	}
	row(fmt.Sprintf("asynchronous invocations, %d/s", pacedRate), 0, r.First)
	for i := range r.Mapping {
		m := &r.Mapping[i]
		row(fmt.Sprintf("queue to function, %d/s (%.0f/s sent)", m.Rate, m.PerSecond), m.Again, m.Took)
	}
	fmt.Fprintln(w)
	if b := r.Backlog; b != nil {
		fmt.Fprintf(w, "### %d messages waiting\n\n| what | without | with them | per message |\n|---|---:|---:|---:|\n", b.Messages)
		fmt.Fprintf(w, "| resident memory of the platform | %s MB | %s MB | %d bytes |\n", mb(b.Without), mb(b.Memory), (b.Memory-b.Without)/int64(b.Messages))
		fmt.Fprintf(w, "| disk | | %s MB | %d bytes |\n", mb(b.Disk), b.Disk/int64(b.Messages))
		fmt.Fprintf(w, "| start, until it answers | %s ms | %s ms | |\n", ms(b.StartWithout), ms(b.Start))
		fmt.Fprintf(w, "\nStoring them through the engine, %d at a time, took %.1f s: %.0f per second.\n\n", backlogChunk, b.Fill.Seconds(), float64(b.Messages)/b.Fill.Seconds())
	}
}
