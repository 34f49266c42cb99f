package thaw

import "time"

// StartKind says how the environment that served an invocation came to it.
type StartKind string

// Start kinds, cheapest first.
const (
	StartWarm        StartKind = "warm"        // an environment that had served before
	StartProvisioned StartKind = "provisioned" // one of the version's provisioned concurrency that had served nothing yet
	StartSpare       StartKind = "spare"       // a parked environment that had served nothing yet
	StartFork        StartKind = "fork"        // forked from the version's template
	StartBoot        StartKind = "boot"        // interpreter or binary started in a new sandbox
)

// Cause says why a start was not warm. It is empty for a warm one.
type Cause string

// Causes of a start that was not warm.
const (
	CauseFirst         Cause = "first"          // nothing had run this version yet
	CauseScaleOut      Cause = "scale-out"      // every environment was busy
	CauseIdleExpired   Cause = "idle-expired"   // the last one had been idle for too long
	CauseAged          Cause = "max-age"        // the last one had lived for too long
	CauseEvicted       Cause = "evicted"        // the last one had to make room
	CauseDeployed      Cause = "deployed"       // new code
	CauseConfigChanged Cause = "config-changed" // same code, new configuration
	CauseCrashed       Cause = "crashed"        // the last one died
	CauseTimedOut      Cause = "timed-out"      // the last one ran into its timeout
	CauseForced        Cause = "forced"         // the caller asked for a new one
)

// Phase is a part of an invocation's time.
type Phase int

// The phases, in the order in which they happen.
const (
	PhaseAdmit      Phase = iota // authenticate, resolve, take a permit
	PhasePlace                   // find or wait for an environment
	PhaseFetch                   // bring the code to this node
	PhaseSandbox                 // namespaces, cgroup, mounts, network
	PhaseRuntime                 // interpreter up, or fork
	PhaseExtensions              // extensions registered
	PhaseInit                    // the user's module
	PhaseRestore                 // hooks, reseed, reconnect
	PhaseHandler                 // the user's handler
	PhaseRespond                 // the response to the caller
	NumPhases
)

var phaseNames = [NumPhases]string{"admit", "place", "fetch", "sandbox", "runtime", "extensions", "init", "restore", "handler", "respond"}

// String is the phase's name in logs, tables and JSON.
func (p Phase) String() string { return phaseNames[p] }

// Span is when a phase began, counted from the invocation's start, and how long it took. Both have microsecond
// meaning; a phase that did not happen has length zero.
type Span struct {
	Start  time.Duration
	Length time.Duration
}

// Phases holds one span per phase.
type Phases [NumPhases]Span

// Set records a phase that began and ended at the given instants of an invocation that began at origin.
func (p *Phases) Set(phase Phase, origin, begin, end time.Time) {
	p[phase] = Span{Start: begin.Sub(origin), Length: end.Sub(begin)}
}

// End is when the last of the phases ended, counted from the invocation's start.
func (p *Phases) End() (end time.Duration) {
	for i := range p {
		if p[i].Length > 0 {
			end = max(end, p[i].Start+p[i].Length)
		}
	}
	return end
}

// Invocation is the record of one finished invocation. Log lines, metrics and explanations are made from it.
type Invocation struct {
	RequestID    string
	Function     string
	Version      string
	Alias        string // the alias that the caller named, empty if none
	Provisioned  bool   // it ran on provisioned concurrency
	SpilledOver  bool   // it ran on demand, since every provisioned environment of its version was busy
	Start        time.Time
	Kind         StartKind
	Cause        Cause
	Phases       Phases
	Duration     time.Duration // the handler's, as REPORT shows it
	InitDuration time.Duration // zero when the environment had been initialised before, or was restored
	// RestoreDuration is the whole start of an environment that was forked from a template of a version with SnapStart, as
	// REPORT shows it; zero for every other start.
	RestoreDuration time.Duration
	// BilledRestore is the part of RestoreDuration that AWS bills, in whole milliseconds: the runtime coming up and the
	// function's after-restore hooks.
	BilledRestore time.Duration
	Billed        time.Duration // whole milliseconds
	MemorySize    int           // MB
	MaxMemoryUsed int           // MB
	ErrorType     string        // empty on success
	Failed        bool          // it ended in a function error: the function's own, a timeout or a crash
	TimedOut      bool          // the function ran into its timeout
	Crashed       bool          // the runtime ended during the invocation
	EnvironmentID string
	TraceID       string // X-Amzn-Trace-Id as the function is told it
	// Caller is the segment that the caller of a sampled invocation named as its own, zero if none. It is not kept with the record.
	Caller [8]byte
	Node   string // that ran it: its host's name
	// ProfileID names the environment or template whose init was measured, see InitProfile; empty: none was.
	ProfileID string
	// Async: it was one attempt of an asynchronous invocation. EventAge is the time from the event's acceptance to this attempt.
	Async    bool
	EventAge time.Duration
	// NodeFull: the start of its environment had to wait, since the node had no room for one more.
	NodeFull bool
	// FailedInit is what a first init took that failed and was repeated within the invocation, as on AWS; it lies between
	// the phases place and sandbox.
	FailedInit time.Duration
	// PostRuntime is how long extensions went on after the runtime had answered; it is part of Duration.
	PostRuntime time.Duration
}
