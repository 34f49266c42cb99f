package anatomy

import (
	"cmp"
	"slices"
	"time"

	"thaw"
)

// Usual is what a function's starts of one kind take: medians over Count records.
type Usual struct {
	Count   int
	Start   time.Duration // everything before the handler
	Phases  [thaw.NumPhases]time.Duration
	Slowest time.Duration // the longest Start
}

// StartTime is what an invocation took before its handler ran.
func StartTime(i *thaw.Invocation) time.Duration {
	total := i.FailedInit
	for phase := range thaw.PhaseHandler {
		total += i.Phases[phase].Length
	}
	return total
}

// Total is an invocation's whole time for its caller, to the end of its last phase.
func Total(i *thaw.Invocation) time.Duration { return i.Phases.End() }

// WaitedForExtensions reports whether the caller had its response only when the extensions were done as well.
func WaitedForExtensions(i *thaw.Invocation) bool {
	handler, respond := i.Phases[thaw.PhaseHandler], i.Phases[thaw.PhaseRespond]
	return i.PostRuntime > 0 && respond.Length > 0 && respond.Start >= handler.Start+handler.Length+i.PostRuntime
}

// UsualOf describes the starts of one kind among records; those that failed are left out.
func UsualOf(list []thaw.Invocation, kind thaw.StartKind) Usual {
	var starts []time.Duration
	var phases [thaw.NumPhases][]time.Duration
	for n := range list {
		i := &list[n]
		if i.Kind != kind || i.Failed {
			continue
		}
		starts = append(starts, StartTime(i))
		for phase := range phases {
			phases[phase] = append(phases[phase], i.Phases[phase].Length)
		}
	}
	u := Usual{Count: len(starts)}
	if u.Count == 0 {
		return u
	}
	u.Start, u.Slowest = median(starts), slices.Max(starts)
	for phase := range phases {
		u.Phases[phase] = median(phases[phase])
	}
	return u
}

// median sorts values; of an even number it is the lower one of the middle, so that it was measured.
func median(values []time.Duration) time.Duration {
	slices.Sort(values)
	return values[(len(values)-1)/2]
}

// Typical is the record whose start took the median of those of one kind, nil if there is none. One that failed is taken only
// where all did.
func Typical(list []thaw.Invocation, kind thaw.StartKind) *thaw.Invocation {
	var of []*thaw.Invocation
	for _, failed := range []bool{false, true} {
		for n := range list {
			if list[n].Kind == kind && list[n].Failed == failed {
				of = append(of, &list[n])
			}
		}
		if len(of) > 0 {
			slices.SortStableFunc(of, func(a, b *thaw.Invocation) int { return cmp.Compare(StartTime(a), StartTime(b)) })
			return of[(len(of)-1)/2]
		}
	}
	return nil
}
