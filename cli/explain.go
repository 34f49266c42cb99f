package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"

	"thaw"
)

// Headers of the native API.
const (
	headerExplain    = "X-Thaw-Explain"
	headerStart      = "X-Thaw-Start"
	headerInvocation = "X-Thaw-Invocation"
	startForced      = "forced"
)

// invocation is the platform's account of one invocation, as the X-Thaw-Invocation header carries it.
type invocation struct {
	RequestID   string           `json:"request_id"`
	StartKind   thaw.StartKind   `json:"start_kind"`
	Cause       thaw.Cause       `json:"cause,omitempty"`
	Environment string           `json:"environment"`
	Phases      map[string]int64 `json:"phases"`      // µs by phase name
	Duration    int64            `json:"duration_us"` // the handler's
	Init        int64            `json:"init_us"`
	Restore     int64            `json:"restore_us"` // instead of init_us where a fork of a version with SnapStart started
	FailedInit  int64            `json:"failed_init_us,omitempty"`
	PostRuntime int64            `json:"post_runtime_us,omitempty"` // that the caller waited for
	Billed      int64            `json:"billed_ms"`
	Memory      int64            `json:"memory_mb"`
	MaxMemory   int64            `json:"max_memory_mb"`
}

// parseInvocation reads the header; nil when the platform sent none or it is not readable.
func parseInvocation(h http.Header) *invocation {
	text := h.Get(headerInvocation)
	if text == "" {
		return nil
	}
	var inv invocation
	if json.Unmarshal([]byte(text), &inv) != nil {
		return nil
	}
	return &inv
}

// causeWords says each cause as the end of the sentence "this start was not warm: …".
var causeWords = map[thaw.Cause]string{
	thaw.CauseFirst:         "nothing had run this version yet",
	thaw.CauseScaleOut:      "every environment was busy",
	thaw.CauseIdleExpired:   "the last environment had been idle for too long",
	thaw.CauseAged:          "the last environment had reached its maximum age",
	thaw.CauseEvicted:       "the last environment had to make room",
	thaw.CauseDeployed:      "the code is new",
	thaw.CauseConfigChanged: "the configuration is new",
	thaw.CauseCrashed:       "the last environment died",
	thaw.CauseTimedOut:      "the last environment ran into its timeout",
	thaw.CauseForced:        "a new environment was asked for",
}

// startWords says what the start kinds that are thaw's own are.
var startWords = map[thaw.StartKind]string{
	thaw.StartFork:  "fork of the initialised template",
	thaw.StartSpare: "spare, made before the request came",
}

// barWidth is the waterfall's width in characters.
const barWidth = 40

// writeExplanation draws a function's start and the phases: one line per phase that took time, with a bar that begins where the
// phase before it ended.
func writeExplanation(w io.Writer, name string, inv *invocation) {
	fmt.Fprintf(w, "start        %s", first(startWords[inv.StartKind], string(inv.StartKind)))
	if inv.Cause != "" {
		fmt.Fprintf(w, ", because %s (%s)", first(causeWords[inv.Cause], "of "+string(inv.Cause)), inv.Cause)
	}
	if inv.StartKind == thaw.StartBoot {
		fmt.Fprintf(w, "\nnot forked   thaw get %s tells why", name)
	}
	fmt.Fprintf(w, "\nenvironment  %s\nrequest      %s\n", inv.Environment, inv.RequestID)
	fmt.Fprintf(w, "memory       %d MB of %d MB\n", inv.MaxMemory, inv.Memory)
	switch {
	case inv.Restore > 0:
		fmt.Fprintf(w, "reported     Restore Duration %s ms\n", millis(inv.Restore))
	case inv.Init > 0:
		fmt.Fprintf(w, "reported     Init Duration %s ms\n", millis(inv.Init))
	}
	fmt.Fprintf(w, "billed       %d ms\n\n", inv.Billed)

	var parts []part
	var total int64
	add := func(name string, length int64) {
		if length = clampPhase(length); length > 0 {
			parts = append(parts, part{name, total, length})
			total += length
		}
	}
	for phase := range thaw.NumPhases {
		switch phase {
		case thaw.PhaseSandbox:
			add(partFailedInit, inv.FailedInit)
		case thaw.PhaseRespond:
			add(partPostRuntime, inv.PostRuntime)
		}
		add(phase.String(), inv.Phases[phase.String()])
	}
	for _, p := range parts {
		p.write(w, total)
	}
	writeLength(w, "total", total)
}

// What is drawn beside the phases.
const (
	partFailedInit  = "failed init"
	partPostRuntime = "postruntime" // of extensions
)

// part is one line of a waterfall: a phase, or what is none; µs from nothing to a day.
type part struct {
	name          string
	start, length int64
}

// write draws the part in a picture of so many µs.
func (p *part) write(w io.Writer, whole int64) {
	fmt.Fprintf(w, "%-11s %9s ms  %s\n", p.name, millis(p.length), bar(p.start, p.length, whole))
}

func writeLength(w io.Writer, name string, length int64) {
	fmt.Fprintf(w, "%-11s %9s ms\n", name, millis(length))
}

// clampPhase keeps the drawing's sums in range whatever another program sent: from nothing to a day.
func clampPhase(us int64) int64 { return min(max(us, 0), 86_400_000_000) }

// bar is a line of barWidth columns in which a phase from at to at+length of total is filled, at least one column.
func bar(at, length, total int64) string {
	if total <= 0 {
		return ""
	}
	from := int(min(at*barWidth/total, barWidth-1))
	to := int(min((at+length)*barWidth/total, barWidth))
	return strings.Repeat(" ", from) + strings.Repeat("█", max(to-from, 1))
}

// millis writes microseconds as milliseconds with three digits after the point below 10 ms, fewer above.
func millis(us int64) string {
	ms := float64(us) / 1000
	switch {
	case ms < 10:
		return fmt.Sprintf("%.3f", ms)
	case ms < 100:
		return fmt.Sprintf("%.2f", ms)
	default:
		return fmt.Sprintf("%.1f", ms)
	}
}
