package cli

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"thaw"
)

// topColumns in the order of what a narrow terminal should still show. The number is the least width, so that columns
// do not move when a number gets a digit more.
var topColumns = []struct {
	title string
	width int
	left  bool
}{
	{"FUNCTION", 16, true},
	{"VERSION", 7, true},
	{"IN FLIGHT", 9, false},
	{"INV/S", 6, false},
	{"BUSY", 4, false},
	{"IDLE", 4, false},
	{"SPARE", 5, false},
	{"START", 5, false},
	{"PROV", 5, false},
	{"NOW", 10, true},
	{"ALL", 14, true},
	{"MEMORY", 8, false},
	{"THROTTLED", 9, false},
	{"SPILLED", 7, false},
	{"ERRORS", 6, false},
	{"STATE", 8, true},
}

// topHead is how many lines are above the functions.
const topHead = 4

// lines is the view as text: the totals, an empty line, the columns' titles, the functions.
func (v *topView) lines() []string {
	rows := [][]string{{}}
	for _, c := range topColumns {
		rows[0] = append(rows[0], c.title)
	}
	for i := range v.Functions {
		rows = append(rows, v.Functions[i].cells()...)
	}
	lines := append(v.totals(), "")
	lines = append(lines, aligned(rows)...)
	if len(v.Functions) == 0 {
		lines = append(lines, "no functions yet; next: thaw deploy DIR")
	}
	return lines
}

// totals are the two lines of the account and of the node.
func (v *topView) totals() []string {
	a, n := &v.Account, &v.Node
	account := fmt.Sprintf("account  %d in flight; %d of %d unreserved in use, %d of %d reserved or provisioned; %s invocations/s, %d throttled",
		v.InFlight, a.Unreserved, a.Limit-a.Claimed, a.Claimed, a.Limit, rateText(v.PerSecond), v.Throttles)
	node := fmt.Sprintf("node     %d of %d environments: %d busy, %d idle, %d spare, %d starting, %d provisioned and idle; %d of %d templates",
		n.Environments, n.MaxEnvironments, n.By.Busy, n.By.Idle, n.By.Spares, n.By.Starts, n.By.Provisioned, n.Templates, n.MaxTemplates)
	if n.MaxMemory > 0 {
		node += fmt.Sprintf("; %s of %s", bytesText(n.Memory), bytesText(n.MaxMemory))
	}
	return []string{account, node}
}

// cells are a function's line and, when it has more than one version to show, a line for each.
func (r *topRow) cells() [][]string {
	limit := strconv.FormatInt(r.Limit, 10)
	if r.Reserved {
		limit += "r"
	}
	line := func(name, version, inFlight, rate string, e *environments, p *provisioned, rest ...string) []string {
		have := "-"
		if p.Wanted+p.Allocated > 0 {
			have = fmt.Sprintf("%d/%d", p.Available, p.Wanted)
		}
		return append([]string{name, version, inFlight, rate, strconv.Itoa(e.Busy), strconv.Itoa(e.Idle), strconv.Itoa(e.Spares), strconv.Itoa(e.Starts), have}, rest...)
	}
	version := ""
	if len(r.Versions) == 1 {
		version = r.Versions[0].Version
	}
	rows := [][]string{line(r.Name, version, fmt.Sprintf("%d/%s", r.InFlight, limit), rateText(r.PerSecond), &r.Environments, &r.Provisioned,
		sharesText(r.Recent), sharesText(r.Starts), bytesText(r.Memory), strconv.FormatInt(r.Throttles, 10),
		strconv.FormatInt(r.SpilledOver, 10), strconv.FormatInt(r.Errors, 10), r.State)}
	if len(r.Versions) > 1 {
		for i := range r.Versions {
			v := &r.Versions[i]
			rows = append(rows, line("", v.Version, "", "", &v.Environments, &v.Provisioned, "", "", bytesText(v.Memory), "", "", "", v.State))
		}
	}
	return rows
}

// aligned pads the cells of each column to one width.
func aligned(rows [][]string) []string {
	widths := make([]int, len(topColumns))
	for i, c := range topColumns {
		widths[i] = c.width
		for _, row := range rows {
			widths[i] = max(widths[i], len(row[i]))
		}
	}
	lines := make([]string, len(rows))
	for r, row := range rows {
		var b strings.Builder
		for i, cell := range row {
			pad := strings.Repeat(" ", widths[i]-len(cell))
			switch {
			case topColumns[i].left:
				b.WriteString(cell + pad)
			default:
				b.WriteString(pad + cell)
			}
			b.WriteString("  ")
		}
		lines[r] = strings.TrimRight(b.String(), " ")
	}
	return lines
}

func rateText(perSecond *float64) string {
	switch {
	case perSecond == nil:
		return "-"
	case *perSecond >= 99.95:
		return strconv.FormatFloat(math.Round(*perSecond), 'f', 0, 64)
	}
	return strconv.FormatFloat(*perSecond, 'f', 1, 64)
}

// startLetters are the kinds of starts in the order in which a request is given them.
var startLetters = []struct {
	kind   thaw.StartKind
	letter string
}{{thaw.StartWarm, "w"}, {thaw.StartProvisioned, "p"}, {thaw.StartSpare, "s"}, {thaw.StartFork, "f"}, {thaw.StartBoot, "b"}}

// sharesText writes how invocations started, in whole percents. A kind that occurred is never 0, and one that was not
// alone never 100: it says <1 and >99.
func sharesText(starts map[thaw.StartKind]int64) string {
	var sum int64
	for _, k := range startLetters {
		sum += starts[k.kind]
	}
	var parts []string
	for _, k := range startLetters {
		n := starts[k.kind]
		if n == 0 {
			continue
		}
		share := float64(n) / float64(sum) * 100
		switch {
		case n < sum && share > 99:
			parts = append(parts, k.letter+">99")
		case share < 1:
			parts = append(parts, k.letter+"<1")
		default:
			parts = append(parts, fmt.Sprintf("%s%.0f", k.letter, share))
		}
	}
	if len(parts) == 0 {
		return "-"
	}
	return strings.Join(parts, " ")
}
