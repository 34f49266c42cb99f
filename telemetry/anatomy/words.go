package anatomy

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"thaw"
)

// causes end the sentence "it was not warm, because …".
var causes = map[thaw.Cause]string{
	thaw.CauseFirst:         "nothing had run this version since the platform started",
	thaw.CauseScaleOut:      "every other environment was busy",
	thaw.CauseIdleExpired:   "the last environment had been idle for too long and was ended",
	thaw.CauseAged:          "the last environment had reached its maximum age",
	thaw.CauseEvicted:       "the last environment had to make room for others",
	thaw.CauseDeployed:      "new code was deployed",
	thaw.CauseConfigChanged: "the configuration was changed",
	thaw.CauseCrashed:       "the last environment had died",
	thaw.CauseTimedOut:      "the last environment was ended by a timeout",
	thaw.CauseForced:        "the caller asked for a new environment",
}

// kinds say where an invocation ran.
var kinds = map[thaw.StartKind]string{
	thaw.StartWarm:        "in a warm environment, which had served before",
	thaw.StartProvisioned: "in a provisioned environment that had served nothing yet",
	thaw.StartSpare:       "in a spare, an environment that was made before the request came",
	thaw.StartFork:        "in an environment that was forked from the version's template for it",
	thaw.StartBoot:        "in an environment that was booted for it",
}

// CauseWords says why a start was not warm, as the end of a sentence.
func CauseWords(c thaw.Cause) string {
	if words, ok := causes[c]; ok {
		return words
	}
	return string(c)
}

// startSentence says how the environment came to the invocation.
func startSentence(i *thaw.Invocation) string {
	where, ok := kinds[i.Kind]
	if !ok {
		where = "in an environment of the kind " + string(i.Kind)
	}
	s := "It ran " + where
	if i.Cause != "" {
		s += ", since " + CauseWords(i.Cause) + " (" + string(i.Cause) + ")"
	}
	s += "."
	if i.SpilledOver {
		s += " Every provisioned environment of its version was busy."
	}
	return s
}

// nouns name starts of a kind.
var nouns = map[thaw.StartKind]string{
	thaw.StartWarm:        "warm call",
	thaw.StartProvisioned: "first call in a provisioned environment",
	thaw.StartSpare:       "start from a spare",
	thaw.StartFork:        "fork",
	thaw.StartBoot:        "boot",
}

func noun(kind thaw.StartKind) string {
	if n, ok := nouns[kind]; ok {
		return n
	}
	return string(kind)
}

// phaseWords name the phases as subjects of a sentence.
var phaseWords = [thaw.NumPhases]string{
	thaw.PhaseAdmit:      "reading, checking and admitting the request",
	thaw.PhasePlace:      "waiting for an environment",
	thaw.PhaseFetch:      "bringing the code to this node and unpacking it",
	thaw.PhaseSandbox:    "making the sandbox",
	thaw.PhaseRuntime:    "starting the runtime",
	thaw.PhaseExtensions: "registering the extensions",
	thaw.PhaseInit:       "init",
	thaw.PhaseRestore:    "the restore",
	thaw.PhaseHandler:    "the handler",
	thaw.PhaseRespond:    "writing the response",
}

// Throttled says what an invocation was refused for, by AWS's name of the limit, and what to do.
func Throttled(reason string) (what, do string) {
	switch reason {
	case "ReservedFunctionConcurrentInvocationLimitExceeded":
		return "As many ran at the same time as the function's reserved concurrency lets.", "Raise it: PutFunctionConcurrency."
	case "ConcurrentInvocationLimitExceeded":
		return "The account's unreserved concurrency was in use, the function's environments became more too quickly, or the node had no room for one more in time.",
			"Raise environments.concurrency or environments.scale_out, or environments.max and environments.memory; thaw top shows what is in use."
	}
	return "", ""
}

// ms writes a length of time in milliseconds: two digits that say something at least, and no more than anybody wants.
func ms(d time.Duration) string {
	v := float64(d) / float64(time.Millisecond)
	switch {
	case v < 1:
		return strconv.FormatFloat(v, 'f', 2, 64)
	case v < 10:
		return strconv.FormatFloat(v, 'f', 1, 64)
	default:
		return strconv.FormatFloat(v, 'f', 0, 64)
	}
}

// share is part in percent of whole.
func share(part, whole time.Duration) string {
	if whole <= 0 {
		return "0 %"
	}
	return fmt.Sprintf("%.0f %%", 100*float64(part)/float64(whole))
}

// listed joins reasons to one phrase, of which it shows at most three.
func listed(reasons []string) string {
	const shown = 3
	if len(reasons) > shown {
		return strings.Join(reasons[:shown], "; ") + fmt.Sprintf("; and %d more", len(reasons)-shown)
	}
	return strings.Join(reasons, "; ")
}
