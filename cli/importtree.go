package cli

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"thaw"
)

// profile is what one init spent its time on. Times are in µs.
type profile struct {
	ID          string       `json:"id"`
	At          time.Time    `json:"at"`
	Length      int64        `json:"length_us"`
	Modules     []module     `json:"modules"`
	Connections []connection `json:"connections"`
	Dropped     int          `json:"dropped"`
}

type module struct {
	Name   string `json:"name"`
	Parent int    `json:"parent"`
	Kind   string `json:"kind"`
	File   string `json:"file"`
	Bytes  int64  `json:"bytes"`
	Self   int64  `json:"self_us"`
	Total  int64  `json:"total_us"`
	Failed bool   `json:"failed"`
}

type connection struct {
	Host    string `json:"host"`
	Address string `json:"address"`
	Start   int64  `json:"start_us"`
	DNS     int64  `json:"dns_us"`
	TCP     int64  `json:"tcp_us"`
	TLS     int64  `json:"tls_us"`
	Module  int    `json:"module"`
	Error   string `json:"error"`
}

// maxConnections is how many connections are listed.
const maxConnections = 20

// writeProfile writes what an init loaded and connected to.
func writeProfile(w io.Writer, a *attempt, limit int) {
	p := a.Profile
	whose := "init"
	if a.StartKind != thaw.StartBoot {
		whose = "the init that this start did not have to go through, in its template or ahead of the request"
	}
	if p.ID == a.Environment {
		whose = "its init"
	}
	if len(p.Modules) > 0 {
		fmt.Fprintf(w, "\nWhat %s loaded in %s ms; time with what a module loads itself, and its own:\n", whose, millis(clampPhase(p.Length)))
		writeImports(w, p.Modules, limit)
	}
	if len(p.Connections) > 0 {
		fmt.Fprintln(w, "\nConnections that it opened:")
		for i := range p.Connections[:min(len(p.Connections), maxConnections)] {
			c := &p.Connections[i]
			fmt.Fprintf(w, "  at %9s ms  %s\n", millis(clampPhase(c.Start)), tellConnection(c, p.Modules))
		}
		if n := len(p.Connections) - maxConnections; n > 0 {
			fmt.Fprintf(w, "  and %d more\n", n)
		}
	}
	if p.Dropped > 0 {
		fmt.Fprintf(w, "  (%d modules or connections are not in this profile: it is bounded)\n", p.Dropped)
	}
}

func tellConnection(c *connection, modules []module) string {
	s := first(c.Host, c.Address)
	if c.Host != "" && c.Address != "" {
		s += " (" + c.Address + ")"
	}
	for _, step := range []struct {
		name   string
		length int64
	}{{"DNS", c.DNS}, {"TCP", c.TCP}, {"TLS", c.TLS}} {
		if step.length > 0 {
			s += fmt.Sprintf(", %s %s ms", step.name, millis(clampPhase(step.length)))
		}
	}
	if c.Module >= 0 && c.Module < len(modules) {
		s += ", by " + shownName(&modules[c.Module])
	}
	if c.Error != "" {
		s += ", failed: " + c.Error
	}
	return s
}

// writeImports writes the limit heaviest modules, 0 meaning all, below those that loaded them; siblings stand in the order of
// their time, and what is left out is counted below its parent.
func writeImports(w io.Writer, modules []module, limit int) {
	children := make([][]int, len(modules)+1) // the last one's are the roots
	parent := func(n int) int {
		if p := modules[n].Parent; p >= 0 && p < n {
			return p
		}
		return len(modules)
	}
	for n := range modules {
		children[parent(n)] = append(children[parent(n)], n)
	}
	shown := heaviest(modules, limit, parent)
	var write func(list []int, depth int)
	write = func(list []int, depth int) {
		slices.SortStableFunc(list, func(a, b int) int { return cmp.Compare(modules[b].Total, modules[a].Total) })
		left, leftTime := 0, int64(0)
		for _, n := range list {
			if !shown[n] {
				left++
				leftTime += clampPhase(modules[n].Total)
				continue
			}
			m := &modules[n]
			more := ""
			if m.Bytes > 0 {
				more = "  " + bytesText(m.Bytes)
			}
			if m.Failed {
				more += "  could not be loaded"
			}
			fmt.Fprintf(w, "%11s %10s  %s%s%s\n", millis(clampPhase(m.Total)), millis(clampPhase(m.Self)), strings.Repeat("  ", depth), shownName(m), more)
			write(children[n], depth+1)
		}
		if left > 0 && leftTime >= 1000 {
			fmt.Fprintf(w, "%11s %10s  %sand %d more\n", millis(leftTime), "", strings.Repeat("  ", depth), left)
		}
	}
	write(children[len(modules)], 0)
}

// heaviest marks the limit modules that took most, and what leads to them.
func heaviest(modules []module, limit int, parent func(int) int) []bool {
	shown := make([]bool, len(modules))
	order := make([]int, len(modules))
	for n := range order {
		order[n] = n
		// What ended init is shown, whatever it took.
		shown[n] = modules[n].Failed && (parent(n) == len(modules) || shown[parent(n)])
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(modules[b].Total, modules[a].Total) })
	if limit > 0 && limit < len(order) {
		order = order[:limit]
	}
	for _, n := range order {
		for ; n < len(modules) && !shown[n]; n = parent(n) {
			shown[n] = true
		}
	}
	return shown
}

// shownName is a module's name, without the directory that all of a function's files are in.
func shownName(m *module) string { return strings.TrimPrefix(m.Name, "/var/task/") }
