package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"thaw"
)

// explained is the answer of GET /_thaw/invocations/REQUEST_ID.
type explained struct {
	RequestID string    `json:"request_id"`
	Function  string    `json:"function"`
	Attempts  []attempt `json:"attempts"`
	Dropped   uint64    `json:"dropped_records"`
}

// attempt is one record with what is to be said about it. Times are in µs.
type attempt struct {
	recorded
	Verdict verdict  `json:"verdict"`
	Profile *profile `json:"profile"`
}

type recorded struct {
	RequestID   string         `json:"request_id"`
	Function    string         `json:"function"`
	Version     string         `json:"function_version"`
	Alias       string         `json:"alias"`
	Start       time.Time      `json:"start"`
	StartKind   thaw.StartKind `json:"start_kind"`
	Cause       thaw.Cause     `json:"cause"`
	Total       int64          `json:"total_us"`
	Before      int64          `json:"before_handler_us"`
	Phases      []phaseSpan    `json:"phases"`
	Init        int64          `json:"init_us"`
	Restore     int64          `json:"restore_us"`
	FailedInit  int64          `json:"failed_init_us"`
	PostRuntime int64          `json:"post_runtime_us"`
	Billed      int64          `json:"billed_ms"`
	Memory      int64          `json:"memory_mb"`
	MaxMemory   int64          `json:"max_memory_mb"`
	ErrorType   string         `json:"error_type"`
	Async       bool           `json:"async"`
	Environment string         `json:"environment"`
	TraceID     string         `json:"trace_id"`
	Node        string         `json:"node"`
}

type phaseSpan struct {
	Phase  string `json:"phase"`
	Start  int64  `json:"start_us"`
	Length int64  `json:"length_us"`
}

type verdict struct {
	Summary   string    `json:"summary"`
	Start     string    `json:"start"`
	NotForked string    `json:"not_forked"`
	Compared  string    `json:"compared"`
	Findings  []finding `json:"findings"`
}

type finding struct {
	What string `json:"what"`
	Do   string `json:"do"`
}

// starts is the answer of GET /_thaw/functions/NAME/starts.
type starts struct {
	Function    string       `json:"function"`
	Since       time.Time    `json:"since"`
	Kinds       []startsKind `json:"kinds"`
	Template    templateView `json:"template"`
	Invocations int64        `json:"invocations"`
	Throttles   int64        `json:"throttles"`
	Throttled   []throttled  `json:"throttled"`
	Typical     *attempt     `json:"typical"`
	Slowest     []recorded   `json:"slowest"`
	Dropped     uint64       `json:"dropped_records"`
}

type throttled struct {
	Reason string `json:"reason"`
	Count  int64  `json:"count"`
	What   string `json:"what"`
	Do     string `json:"do"`
}

type startsKind struct {
	StartKind thaw.StartKind     `json:"start_kind"`
	Count     int                `json:"count"`
	Failed    int                `json:"failed"`
	Causes    map[thaw.Cause]int `json:"causes"`
	Sum       int64              `json:"sum_us"`
	Median    int64              `json:"median_us"`
	Max       int64              `json:"max_us"`
}

type explainFlags struct {
	since   time.Duration
	imports int
}

func (p *program) explain() *cobra.Command {
	var f explainFlags
	cmd := &cobra.Command{
		Use:   "explain REQUEST_ID | NAME",
		Short: "Say why a call was slow to start, or how a function starts, and what to do about it",
		Long: `Say what one invocation's time went to: how its environment came to it and why it was not a warm one, what each phase took,
how that compares with the function's usual start, which imports and connections its init spent its time on, and what to do.
All attempts of an asynchronous invocation are shown.

With a function's name instead: how often it started and why, what those starts take, and the same about a typical one.

A call that was refused (429) ran nothing and has no record; of a function is told how many were, and why.`,
		Example:           "  thaw explain 8c6c7a36-5d3b-4b8a-9c0e-0c9f5ad4b9a1\n  thaw explain hello --since 1h\n  thaw explain hello --json",
		Args:              oneArgument("a request id or a function's name"),
		ValidArgsFunction: p.completeFunction,
		RunE: func(cmd *cobra.Command, args []string) error {
			if f.since <= 0 {
				return usage("--since must be longer than zero", "thaw explain "+args[0]+" --since 24h")
			}
			if f.imports < 0 {
				return usage("--imports must not be negative", "thaw explain "+args[0]+" --imports 30")
			}
			return p.runExplain(cmd.Context(), args[0], &f)
		},
	}
	cmd.Flags().DurationVar(&f.since, "since", 24*time.Hour, "of a function: how far back to look")
	cmd.Flags().IntVar(&f.imports, "imports", 15, "how many imports to show, the heaviest; 0: all")
	return cmd
}

func (p *program) runExplain(ctx context.Context, name string, f *explainFlags) error {
	c, err := p.connect(1)
	if err != nil {
		return err
	}
	defer c.close()
	// Other forms of an id, such as one without hyphens, are names that a function may have.
	isID := len(name) == len(uuid.Nil.String()) && uuid.Validate(name) == nil
	if isID {
		name = strings.ToLower(name)
	}
	path, query := "/_thaw/invocations/"+url.PathEscape(name), url.Values(nil)
	if !isID {
		path, query = "/_thaw/functions/"+url.PathEscape(name)+"/starts", url.Values{"since": {f.since.String()}}
	}
	var answer json.RawMessage
	if err := c.native(ctx, http.MethodGet, path, query, &answer); err != nil {
		e := p.remote(ctx, "cannot explain "+name, "", err)
		if e.Exit == ExitNotFound && isID {
			e.Next = "thaw explain FUNCTION"
		}
		return e
	}
	if p.json {
		return p.writeVersioned(answer)
	}
	if isID {
		var view explained
		if err := json.Unmarshal(answer, &view); err != nil {
			return err
		}
		p.writeExplained(&view, f)
		return nil
	}
	var view starts
	if err := json.Unmarshal(answer, &view); err != nil {
		return err
	}
	p.writeStarts(&view, f)
	return nil
}

// writeVersioned writes the platform's JSON with this program's version of it.
func (p *program) writeVersioned(answer json.RawMessage) error {
	var object map[string]any
	if err := json.Unmarshal(answer, &object); err != nil {
		return err
	}
	object["version"] = jsonVersion
	p.writeJSON(p.io.Out, object)
	return nil
}

// atForm shows an instant with what tells calls of a burst apart.
const atForm = "2006-01-02 15:04:05.000 MST"

func (p *program) writeExplained(view *explained, f *explainFlags) {
	w := p.io.Out
	for n := range view.Attempts {
		a := &view.Attempts[n]
		if n > 0 {
			fmt.Fprintln(w)
		}
		fmt.Fprintf(w, "%s  %s  %s\n", qualified(&a.recorded), a.RequestID, a.Start.UTC().Format(atForm))
		// The attempts' import tree is mostly the same one.
		writeAttempt(w, a, f, n == len(view.Attempts)-1)
	}
	p.noteDropped(view.Dropped)
}

func qualified(r *recorded) string {
	s := r.Function
	if r.Alias != "" {
		s += ":" + r.Alias
	}
	if r.Version != thaw.Latest {
		s += " (version " + r.Version + ")"
	}
	return s
}

// noteDropped says that there is not a record of everything.
func (p *program) noteDropped(n uint64) {
	if n > 0 {
		fmt.Fprintf(p.io.Err, "note: %d records were lost since the platform started, since its store could not keep up\n", n)
	}
}

// writeAttempt writes the verdict, the waterfall and with tree what init loaded.
func writeAttempt(w io.Writer, a *attempt, f *explainFlags, tree bool) {
	fmt.Fprintln(w)
	for _, sentence := range []string{a.Verdict.Summary, a.Verdict.Start, a.Verdict.NotForked, a.Verdict.Compared} {
		writeWrapped(w, "", sentence)
	}
	if len(a.Verdict.Findings) > 0 {
		fmt.Fprintln(w)
	}
	for n, found := range a.Verdict.Findings {
		writeWrapped(w, fmt.Sprintf("%2d. ", n+1), found.What)
		writeWrapped(w, "    do: ", found.Do)
	}
	fmt.Fprintln(w)
	writeWaterfall(w, a)
	fmt.Fprintln(w)
	switch {
	case a.Restore > 0:
		fmt.Fprintf(w, "reported     Restore Duration %s ms\n", millis(a.Restore))
	case a.Init > 0:
		fmt.Fprintf(w, "reported     Init Duration %s ms\n", millis(a.Init))
	}
	if a.ErrorType != "" {
		fmt.Fprintf(w, "error        %s\n", a.ErrorType)
	}
	fmt.Fprintf(w, "billed       %d ms\n", a.Billed)
	if a.MaxMemory > 0 { // an init that failed was not asked
		fmt.Fprintf(w, "memory       %d MB of %d MB\n", a.MaxMemory, a.Memory)
	}
	fmt.Fprintf(w, "environment  %s\n", a.Environment)
	if a.Node != "" {
		fmt.Fprintf(w, "node         %s\n", a.Node)
	}
	if a.TraceID != "" {
		fmt.Fprintf(w, "trace        %s\n", a.TraceID)
	}
	if tree && a.Profile != nil {
		writeProfile(w, a, f.imports)
	}
}

// textWidth is the width of sentences.
const textWidth = 118

// writeWrapped writes a sentence on lines of at most textWidth characters, the first of which begins with label.
func writeWrapped(w io.Writer, label, sentence string) {
	if sentence == "" {
		return
	}
	line, empty := label, true
	for word := range strings.FieldsSeq(sentence) {
		switch {
		case empty:
			line += word
		case len(line)+1+len(word) > textWidth:
			fmt.Fprintln(w, line)
			line = strings.Repeat(" ", len(label)) + word
		default:
			line += " " + word
		}
		empty = false
	}
	fmt.Fprintln(w, line)
}

// writeWaterfall draws the phases, and what lies between them, where they lay in time. What extensions did when the caller had
// its response stands below the total.
func writeWaterfall(w io.Writer, a *attempt) {
	var parts []part
	failedInit, postRuntime := clampPhase(a.FailedInit), part{name: partPostRuntime, length: clampPhase(a.PostRuntime)}
	for _, phase := range a.Phases {
		p := part{phase.Phase, clampPhase(phase.Start), clampPhase(phase.Length)}
		parts = append(parts, p)
		switch {
		case p.name == thaw.PhaseHandler.String():
			postRuntime.start = p.start + p.length
		case p.name == thaw.PhaseSandbox.String() && failedInit > 0:
			parts = append(parts, part{partFailedInit, max(0, p.start-failedInit), failedInit})
		}
	}
	total := clampPhase(a.Total)
	whole, idle := total, postRuntime.start+postRuntime.length
	after := postRuntime.length > 0
	if after {
		whole = max(total, idle)
		if slices.ContainsFunc(parts, func(p part) bool { return p.name == thaw.PhaseRespond.String() && p.start >= idle }) {
			parts, after = append(parts, postRuntime), false // the caller waited for them
		}
	}
	slices.SortStableFunc(parts, func(a, b part) int { return cmp.Compare(a.start, b.start) })
	for _, p := range parts {
		p.write(w, whole)
	}
	writeLength(w, "total", total)
	if after {
		postRuntime.write(w, whole)
		writeLength(w, "until idle", idle)
	}
}

func (p *program) writeStarts(view *starts, f *explainFlags) {
	w := p.io.Out
	fmt.Fprintf(w, "%s: %d invocations and %d throttles since the platform started\n", view.Function, view.Invocations, view.Throttles)
	p.writeTemplate("starts: ", "  ", &view.Template)
	since := view.Since.UTC().Format(atForm)
	if len(view.Throttled) > 0 {
		fmt.Fprintf(w, "\nThrottled (429) since %s, which ran nothing and left no record:\n", since)
	}
	for i := range view.Throttled {
		t := &view.Throttled[i]
		fmt.Fprintf(w, "%7d  %s\n", t.Count, t.Reason)
		writeWrapped(w, "         ", t.What)
		writeWrapped(w, "     do: ", t.Do)
	}
	if len(view.Kinds) == 0 {
		fmt.Fprintf(w, "\nEvery invocation since %s found a warm environment, or there was none.\n", since)
		fmt.Fprintf(p.io.Err, "  next: thaw invoke %s --cold --explain\n", view.Function)
		p.noteDropped(view.Dropped)
		return
	}
	fmt.Fprintf(w, "\nStarts that were not warm since %s, before the handler:\n", since)
	var sum int64
	for i := range view.Kinds {
		sum += view.Kinds[i].Sum
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "  KIND\tCOUNT\tFAILED\tMEDIAN\tSLOWEST\tOF ALL\tBECAUSE")
	for i := range view.Kinds {
		k := &view.Kinds[i]
		median := "none"
		if k.Failed < k.Count { // it is of those that did not fail
			median = millis(clampPhase(k.Median)) + " ms"
		}
		fmt.Fprintf(t, "  %s\t%d\t%d\t%s\t%s ms\t%.0f %%\t%s\n",
			k.StartKind, k.Count, k.Failed, median, millis(clampPhase(k.Max)), percent(k.Sum, sum), causeCounts(k.Causes))
	}
	t.Flush() //nolint:errcheck // a reader that has gone away is no error worth a message
	if view.Typical != nil {
		fmt.Fprintf(w, "\nA typical one of the kind that costs most: %s  %s\n", view.Typical.RequestID, view.Typical.Start.UTC().Format(atForm))
		writeAttempt(w, view.Typical, f, true)
	}
	if len(view.Slowest) > 0 {
		fmt.Fprintln(w, "\nThe slowest:")
		t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		for i := range view.Slowest {
			r := &view.Slowest[i]
			fmt.Fprintf(t, "  %s ms\t%s\t%s\t%s\t%s\n", millis(clampPhase(r.Before)), r.StartKind, r.Cause, r.Start.UTC().Format(atForm), r.RequestID)
		}
		t.Flush() //nolint:errcheck // as above
	}
	p.noteDropped(view.Dropped)
}

func percent(part, whole int64) float64 {
	if whole <= 0 {
		return 0
	}
	return 100 * float64(part) / float64(whole)
}

// causeCounts lists causes, the most frequent first.
func causeCounts(of map[thaw.Cause]int) string {
	causes := slices.SortedFunc(maps.Keys(of), func(a, b thaw.Cause) int {
		if of[a] != of[b] {
			return of[b] - of[a]
		}
		return strings.Compare(string(a), string(b))
	})
	list := make([]string, len(causes))
	for i, cause := range causes {
		list[i] = fmt.Sprintf("%s %d", first(string(cause), "not known"), of[cause])
	}
	return strings.Join(list, ", ")
}
