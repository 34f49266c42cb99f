package anatomy

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"thaw"
)

// Template is what is known, now, of the template that the version's environments are forked from. State and Reasons are those
// that `thaw get` shows.
type Template struct {
	State   string
	Reasons []string
	Init    time.Duration // what runtime and init took when it was made, 0: not known
}

// States of a template, as package template has them.
const (
	templateReady    = "ready"
	templateBuilding = "building"
	templateOff      = "off"
	templateEvicted  = "evicted"
)

// Case is one invocation with what is known about it.
type Case struct {
	Invocation *thaw.Invocation
	Profile    *thaw.InitProfile // of the init that it paid for, or that its template did; nil: not known
	Usual      Usual             // of starts of the same kind, this one included or not
	Warm       Usual             // of warm calls
	Template   Template
	Handler    string // the version's setting
	// Timeout is the function's, seconds; 0: not known.
	Timeout int
	// Attempt counts the attempts of an asynchronous invocation, from 1; 0 for others.
	Attempt int
	// NotMeasured says why the function's inits are not measured, as a clause; empty: they are.
	NotMeasured string
}

// Verdict is what is to be said about an invocation. All texts are sentences.
type Verdict struct {
	// Summary says what the invocation took and what most of that was; Dominant is that phase, or post_runtime where the caller
	// waited for extensions, empty for none.
	Summary  string `json:"summary"`
	Dominant string `json:"dominant,omitempty"`
	// Start says how its environment came to it, and why it was not a warm one.
	Start string `json:"start"`
	// NotForked says of a booted one why it was not forked.
	NotForked string `json:"not_forked,omitempty"`
	// Compared says how the start compares with the function's usual one of the same kind.
	Compared string `json:"compared,omitempty"`
	// Findings are what is worth knowing, what cost most first.
	Findings []Finding `json:"findings,omitempty"`
}

// Finding is one thing that cost time or went wrong.
type Finding struct {
	Phase  string `json:"phase,omitempty"` // in which, or post_runtime; empty: none
	Length int64  `json:"length_us,omitempty"`
	What   string `json:"what"`
	Do     string `json:"do,omitempty"` // empty: there is nothing to be done
}

// What is worth a finding.
const (
	worthShare = 0.1 // of the invocation's whole time
	worthTime  = 5 * time.Millisecond
	maxFound   = 6
	// unusual is from how many times its usual length on a start or phase counts as slow, if unusualTime longer.
	unusual     = 1.5
	unusualTime = 20 * time.Millisecond
	// enough is how many starts make a median worth telling.
	enough = 3
)

// Explain judges one invocation.
func Explain(c *Case) Verdict {
	i := c.Invocation
	total := Total(i)
	v := Verdict{Start: startSentence(i), NotForked: notForked(c), Compared: compared(c)}
	most := dominant(i)
	v.Dominant, v.Summary = most.name, summary(c, total, &most)
	v.Findings = slices.Concat(failures(c), costs(c, total))
	if len(v.Findings) > maxFound {
		v.Findings = v.Findings[:maxFound]
	}
	return v
}

// postRuntime is what extensions do after the runtime has answered, where phases are named.
const postRuntime = "post_runtime"

// part is a part of an invocation's time: a phase, or what is none.
type part struct {
	name, words string
	length      time.Duration
}

// dominant finds the part that took most of what the caller waited for.
func dominant(i *thaw.Invocation) (most part) {
	for phase := range thaw.NumPhases {
		if length := i.Phases[phase].Length; length > most.length {
			most = part{phase.String(), phaseWords[phase], length}
		}
	}
	if i.FailedInit > most.length {
		most = part{thaw.PhaseInit.String(), "an init that failed and was repeated", i.FailedInit}
	}
	if WaitedForExtensions(i) && i.PostRuntime > most.length {
		most = part{postRuntime, "extensions, after the handler had answered", i.PostRuntime}
	}
	return most
}

// summary is the first sentence.
func summary(c *Case, total time.Duration, most *part) string {
	i := c.Invocation
	handler := most.name == thaw.PhaseHandler.String()
	what := "The invocation"
	if c.Attempt > 0 {
		what = fmt.Sprintf("Attempt %d", c.Attempt)
	}
	s := fmt.Sprintf("%s took %s ms", what, ms(total))
	switch {
	case most.length == 0:
		return s + "."
	case handler && StartTime(i) < worthTime:
		s += fmt.Sprintf(", of which %s ms were the handler: its start cost next to nothing.", ms(most.length))
	case handler:
		s += fmt.Sprintf(", of which %s ms were the handler and %s ms its start.", ms(most.length), ms(StartTime(i)))
	default:
		s += fmt.Sprintf(", of which %s ms (%s) were %s.", ms(most.length), share(most.length, total), most.words)
	}
	if i.PostRuntime >= time.Millisecond && !WaitedForExtensions(i) {
		s += fmt.Sprintf(" Extensions went on for %s ms after the response.", ms(i.PostRuntime))
	}
	if i.Async && i.EventAge > 0 {
		s += fmt.Sprintf(" It began %s after the event was accepted.", age(i.EventAge))
	}
	return s
}

func age(d time.Duration) string {
	if d < 10*time.Second {
		return ms(d) + " ms"
	}
	return d.Round(time.Second).String()
}

// compared sets a start against the function's usual one of its kind.
func compared(c *Case) string {
	i, u := c.Invocation, &c.Usual
	if u.Count < enough || i.Kind == thaw.StartWarm {
		return ""
	}
	start := StartTime(i)
	s := fmt.Sprintf("The function's usual %s takes %s ms before the handler (median of %d)", noun(i.Kind), ms(u.Start), u.Count)
	switch {
	case !slower(start, u.Start):
		return s + fmt.Sprintf("; this one took %s ms.", ms(start))
	case u.Start > 0:
		s += fmt.Sprintf("; this one took %s ms, %.1f times as long", ms(start), float64(start)/float64(u.Start))
	default:
		s += fmt.Sprintf("; this one took %s ms", ms(start))
	}
	switch phase, more := excess(i, u); {
	case i.FailedInit > more:
		s += fmt.Sprintf(", %s ms of it an init that failed and was repeated", ms(i.FailedInit))
	case more > 0:
		s += fmt.Sprintf(", %s ms more in %s", ms(more), phaseWords[phase])
	}
	return s + "."
}

func slower(this, usual time.Duration) bool {
	return float64(this) > unusual*float64(usual) && this-usual > unusualTime
}

// excess finds the phase before the handler that took most beyond its usual length.
func excess(i *thaw.Invocation, u *Usual) (worst thaw.Phase, more time.Duration) {
	for phase := range thaw.PhaseHandler {
		if d := i.Phases[phase].Length - u.Phases[phase]; d > more {
			worst, more = phase, d
		}
	}
	return worst, more
}

// notForked says of a booted environment why it was not forked.
func notForked(c *Case) string {
	if c.Invocation.Kind != thaw.StartBoot {
		return ""
	}
	t := &c.Template
	switch t.State {
	case templateReady:
		return "Its version had no template then. It has one now, so that the next one is forked."
	case templateBuilding:
		return "Its version has no template yet; one is being made."
	case templateEvicted:
		return "Its version has no template now: " + listed(t.Reasons) + "."
	case "":
		return ""
	}
	if len(t.Reasons) == 0 {
		return "Its version cannot be forked (" + t.State + ")."
	}
	return "It was not forked: " + listed(t.Reasons) + "."
}

// orFork ends a piece of advice with what forking has to do with it.
func orFork(c *Case) string {
	t := &c.Template
	switch t.State {
	case templateReady, templateBuilding:
		return "; a fork of the version's template does not pay for it again"
	case templateOff:
		return ", or let thaw fork the environments: " + thaw.TagSnapshot + " is off because the function has the tag " + thaw.TagSnapshot + "=off; remove it"
	case "":
		return ""
	case templateEvicted:
		return "; forks do not pay for it, and the version has no template now because " + listed(t.Reasons)
	}
	if len(t.Reasons) == 0 {
		return ""
	}
	return ", or let thaw fork the environments, which it does not because " + listed(t.Reasons)
}

// failures says what went wrong.
func failures(c *Case) []Finding {
	i := c.Invocation
	var found []Finding
	if i.FailedInit > 0 {
		found = append(found, Finding{
			Phase: thaw.PhaseInit.String(), Length: i.FailedInit.Microseconds(),
			What: fmt.Sprintf("A first init failed after %s ms and was repeated, as AWS does; the caller waited for both.", ms(i.FailedInit)),
			Do:   "The INIT_REPORT line in the log says why: thaw logs " + i.Function,
		})
	}
	if i.PostRuntime >= unusualTime {
		f := Finding{
			Phase: postRuntime, Length: i.PostRuntime.Microseconds(),
			What: fmt.Sprintf("Extensions went on for %s ms after the response; the caller did not wait for them, but the environment was busy and they are billed.", ms(i.PostRuntime)),
		}
		if WaitedForExtensions(i) {
			f.What = fmt.Sprintf("Extensions went on for %s ms after the handler had answered; the caller waited for them, since it asked for the log's tail, which ends with REPORT.", ms(i.PostRuntime))
			f.Do = "Leave out LogType=Tail where the response is wanted soon."
		}
		found = append(found, f)
	}
	handled := i.Phases[thaw.PhaseHandler].Length > 0
	switch {
	case !i.Failed:
	case !handled:
		found = append(found, Finding{
			Phase: thaw.PhaseInit.String(), Length: i.Phases[thaw.PhaseInit].Length.Microseconds(),
			What: fmt.Sprintf("Init failed (%s)%s, so that the handler never ran.", cmp.Or(i.ErrorType, thaw.ErrorRuntimeUnknown), failedModule(c.Profile)),
			Do:   "Read what the module wrote: thaw logs " + i.Function,
		})
	case i.TimedOut:
		f := Finding{Phase: thaw.PhaseHandler.String(), Length: i.Duration.Microseconds(), What: "The handler ran into the function's timeout and was ended."}
		if c.Timeout > 0 {
			f.What = fmt.Sprintf("The handler ran into the function's timeout of %d s and was ended.", c.Timeout)
		}
		f.Do = "Look at what it waited for (thaw logs " + i.Function + "), or raise Timeout."
		if !startsWarm(i) && c.Warm.Count >= enough && c.Warm.Phases[thaw.PhaseHandler]*4 < i.Duration {
			f.Do += fmt.Sprintf(" Its warm calls take %s ms, so that it is the first call in an environment that hangs.", ms(c.Warm.Phases[thaw.PhaseHandler]))
		}
		found = append(found, f)
	case i.ErrorType == thaw.ErrorOutOfMemory || i.Crashed && i.MemorySize > 0 && i.MaxMemoryUsed >= i.MemorySize:
		found = append(found, Finding{
			Phase: thaw.PhaseHandler.String(),
			What:  fmt.Sprintf("The runtime was killed for want of memory: it used %d of %d MB.", i.MaxMemoryUsed, i.MemorySize),
			Do:    "Raise MemorySize.",
		})
	case i.Crashed:
		found = append(found, Finding{
			Phase: thaw.PhaseHandler.String(),
			What:  "The runtime ended during the invocation (" + i.ErrorType + "); the next one needs a new environment.",
			Do:    "Read its last lines: thaw logs " + i.Function,
		})
	default:
		found = append(found, Finding{
			Phase: thaw.PhaseHandler.String(),
			What:  "The function answered with an error (" + cmp.Or(i.ErrorType, "of no type") + ").",
		})
	}
	return found
}

// failedModule says which module could not be loaded, as far as that is known: the innermost one. One that its importer does
// without is not meant.
func failedModule(p *thaw.InitProfile) string {
	if p == nil {
		return ""
	}
	name := ""
	fatal := make([]bool, len(p.Modules))
	for n := range p.Modules {
		m := &p.Modules[n]
		// What loaded it stands before it.
		if fatal[n] = m.Failed && (m.Parent < 0 || m.Parent < n && fatal[m.Parent]); fatal[n] {
			name = displayName(m)
		}
	}
	if name == "" {
		return ""
	}
	return " in loading " + name
}

func startsWarm(i *thaw.Invocation) bool { return i.Kind == thaw.StartWarm }

// costs says what took time, the longest first.
func costs(c *Case, total time.Duration) []Finding {
	i := c.Invocation
	var found []Finding
	worth := func(d time.Duration) bool {
		return d >= worthTime && float64(d) >= worthShare*float64(total)
	}
	for phase := range thaw.NumPhases {
		length := i.Phases[phase].Length
		if !worth(length) {
			continue
		}
		for _, f := range costOf(c, phase, length) {
			f.Phase = phase.String()
			found = append(found, f)
		}
	}
	slices.SortStableFunc(found, func(a, b Finding) int { return cmp.Compare(b.Length, a.Length) })
	return found
}

// costOf says what one phase that took long spent its time on.
func costOf(c *Case, phase thaw.Phase, length time.Duration) []Finding {
	i := c.Invocation
	one := func(what, do string) []Finding {
		return []Finding{{Length: length.Microseconds(), What: what, Do: do}}
	}
	switch phase {
	case thaw.PhaseAdmit:
		return one(fmt.Sprintf("%s ms passed before the request was admitted: reading its body, checking it, taking a permit.", ms(length)),
			"Nothing of that waits for functions: either the body came slowly, or this machine's CPUs are busy.")
	case thaw.PhasePlace:
		return placed(i, length, one)
	case thaw.PhaseFetch:
		return one(fmt.Sprintf("Bringing the code here and unpacking it took %s ms, once for this code on this node.", ms(length)),
			"A smaller package unpacks sooner; code_cache in the configuration says how much stays unpacked.")
	case thaw.PhaseSandbox:
		return one(fmt.Sprintf("Making the sandbox took %s ms.", ms(length)),
			"Sandboxes are made ahead: more starts came at once than environments.ready, or this machine's CPUs are busy.")
	case thaw.PhaseRuntime:
		if i.Kind == thaw.StartFork {
			return one(fmt.Sprintf("Forking took %s ms.", ms(length)), "That grows with the template's memory, and with how busy this machine's CPUs are.")
		}
		return one(fmt.Sprintf("Starting the runtime, before any code of the function ran, took %s ms.", ms(length)),
			"The function's code has no part in it"+orFork(c)+".")
	case thaw.PhaseExtensions:
		return one(fmt.Sprintf("Init waited %s ms until all extensions had registered.", ms(length)), "Leave out the extensions that the function does not need.")
	case thaw.PhaseInit:
		return initCosts(c, length)
	case thaw.PhaseRestore:
		return one(fmt.Sprintf("The restore took %s ms: the function's own after-restore hooks, and new random numbers and credentials.", ms(length)),
			"Only the hooks can be made shorter.")
	case thaw.PhaseHandler:
		return handlerCosts(c, length)
	case thaw.PhaseRespond:
		return one(fmt.Sprintf("Writing the response took %s ms: the caller took it slowly.", ms(length)), "")
	}
	return nil
}

// placed says what a request waited for before its start began.
func placed(i *thaw.Invocation, length time.Duration, one func(what, do string) []Finding) []Finding {
	switch {
	case i.NodeFull:
		return one(fmt.Sprintf("It waited %s ms for room: the node had as many environments, or as much memory in use, as it may.", ms(length)),
			"Raise environments.max or environments.memory, lower MemorySize of functions that need less, or give this one provisioned concurrency.")
	case i.Kind == thaw.StartWarm || i.Kind == thaw.StartProvisioned || i.Kind == thaw.StartSpare:
		return one(fmt.Sprintf("It waited %s ms for an environment: all were busy, and the one that it got became free, or ready, before a new one was.", ms(length)),
			"Provisioned concurrency, or more spares (environments.max_version_spares), keep environments ready for such bursts.")
	default:
		return one(fmt.Sprintf("Its start waited %s ms for its turn behind other starts.", ms(length)),
			"environments.starters bounds how many are made at the same time; provisioned concurrency and spares are made before they are needed.")
	}
}

// handlerCosts compares a first call in an environment with the warm ones.
func handlerCosts(c *Case, length time.Duration) []Finding {
	i := c.Invocation
	usual := c.Warm.Phases[thaw.PhaseHandler]
	if c.Warm.Count < enough || i.Failed || !slower(length, usual) {
		return nil
	}
	f := Finding{
		Length: (length - usual).Microseconds(),
		What:   fmt.Sprintf("The handler took %s ms; its warm calls take %s ms (median of %d).", ms(length), ms(usual), c.Warm.Count),
	}
	if !startsWarm(i) {
		f.What += " What it does only once in an environment, on first use, is the difference."
		f.Do = fmt.Sprintf("Do that at the module's level, or have the template do it: the tag %s gives it an event to serve before it is forked.", thaw.TagWarmupEvent)
	}
	return []Finding{f}
}
