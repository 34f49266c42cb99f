package anatomy

import (
	"fmt"
	"time"

	"thaw"
)

// maxLibraries is how many imports are named.
const maxLibraries = 3

// initCosts says what init spent its time on.
func initCosts(c *Case, length time.Duration) []Finding {
	whole := Finding{Length: length.Microseconds()}
	if c.Invocation.Failed && c.Invocation.Phases[thaw.PhaseHandler].Length == 0 {
		return nil // said among the failures
	}
	if c.Profile == nil || len(c.Profile.Modules)+len(c.Profile.Connections) == 0 {
		whole.What = fmt.Sprintf("Init took %s ms. What it did was not measured", ms(length))
		if c.NotMeasured == "" {
			whole.What += ": this runtime does not tell, or its profile is not kept any more."
		} else {
			whole.What += ", since " + c.NotMeasured + "."
		}
		whole.Do = "Load what a call does not need inside the handler that needs it" + orFork(c) + "."
		return []Finding{whole}
	}
	b := TakeApart(c.Profile, c.Handler)
	measured := c.Profile.Length
	if measured <= 0 {
		measured = length
	}
	found := slowest(c, &b, measured)
	if len(found) == 0 {
		whole.What = fmt.Sprintf("Init took %s ms, and no import or connection stands out.", ms(length))
		whole.Do = "Load what a call does not need inside the handler that needs it" + orFork(c) + "."
		return []Finding{whole}
	}
	return found
}

// slowest are the imports, the own code and the connections that took a good part of init.
func slowest(c *Case, b *Breakdown, whole time.Duration) []Finding {
	var found []Finding
	worth := func(d time.Duration) bool {
		return d >= worthTime && float64(d) >= worthShare*float64(whole)
	}
	for n := range b.Libraries {
		h := &b.Libraries[n]
		if n == maxLibraries || !worth(h.Total) {
			break
		}
		f := Finding{Length: h.Total.Microseconds(), What: fmt.Sprintf("%s took %s of %s ms of init", loading(h), ms(h.Total), ms(whole))}
		if h.Mostly != "" {
			f.What += fmt.Sprintf(" (%s ms of it %s)", ms(h.MostlyTotal), h.Mostly)
		}
		f.What += "."
		f.Do = lazily(h) + orFork(c) + "."
		found = append(found, f)
	}
	if worth(b.Own) {
		found = append(found, Finding{
			Length: b.Own.Microseconds(),
			What:   fmt.Sprintf("The function's own modules, without what they import, took %s of %s ms of init, most of it %s.", ms(b.Own), ms(whole), b.OwnName),
			Do:     "Do what not every call needs at its first use" + orFork(c) + ".",
		})
	}
	if worth(b.Connecting) && b.Slowest != nil {
		found = append(found, connecting(c, b, whole))
	}
	return found
}

// loading is a module's loading as the subject of a sentence.
func loading(h *Heavy) string {
	switch h.Kind {
	case thaw.ModuleRequire:
		return "require(\"" + h.Name + "\")"
	case thaw.ModuleClasses:
		return "Loading the classes of " + h.Name
	default:
		return "import " + h.Name
	}
}

// lazily says how to pay for a module only where it is needed.
func lazily(h *Heavy) string {
	switch h.Kind {
	case thaw.ModuleRequire:
		return "Call require inside the handler that needs it"
	case thaw.ModuleESM:
		return "Use await import() inside the handler that needs it"
	case thaw.ModuleClasses:
		return "Make what needs them at its first use"
	default:
		return "Import it inside the handler that needs it"
	}
}

func connecting(c *Case, b *Breakdown, whole time.Duration) Finding {
	s := b.Slowest
	where := s.Address
	if s.Host != "" {
		where = s.Host
	}
	f := Finding{Length: b.Connecting.Microseconds(), What: fmt.Sprintf("Opening connections took %s of %s ms of init, the slowest to %s: ", ms(b.Connecting), ms(whole), where)}
	first := true
	for _, step := range []struct {
		name   string
		length time.Duration
	}{{"name resolution", s.DNS}, {"TCP", s.TCP}, {"TLS", s.TLS}} {
		if step.length == 0 {
			continue
		}
		if !first {
			f.What += ", "
		}
		first = false
		f.What += fmt.Sprintf("%s %s ms", step.name, ms(step.length))
	}
	if s.Error != "" {
		f.What += ", and it failed: " + s.Error
	}
	f.What += "."
	switch {
	case s.DNS > s.TCP+s.TLS:
		f.Do = "Name resolution is most of it: connect by address, or at first use"
	default:
		f.Do = "Connect at first use and keep the connection"
	}
	f.Do += "; an init that leaves connections open cannot be forked."
	return f
}
