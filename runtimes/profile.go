package runtimes

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"

	"thaw"
)

// Bounds of what is taken from one profile; the bootstraps keep to them, and count what they leave out.
const (
	MaxModules     = 2000
	MaxConnections = 100

	maxProfile     = 1 << 20
	maxProfileText = 1200 // bytes of a name: 300 characters
	// maxProfileTime is longer than any init: what claims more is wrong.
	maxProfileTime = time.Hour
)

// profileOption is what a bootstrap that measures init finds on its command line.
const profileOption = "--profile"

// ErrProfile is what ParseProfile fails with.
var ErrProfile = errors.New("runtimes: not a profile of an init")

// profile is what a bootstrap tells, as JSON: a column for each member of a module, which its encoder and this decoder do
// in one go. Times are microseconds from init's begin.
type profile struct {
	Kind    string   `json:"kind"`  // of all modules
	Kinds   []string `json:"kinds"` // or of each
	Names   []string `json:"names"` // empty: what the file says
	Parents []int    `json:"parents"`
	Files   []string `json:"files"`
	Bytes   []int64  `json:"bytes"`
	Starts  []int64  `json:"starts"`
	Selves  []int64  `json:"selves"`
	Totals  []int64  `json:"totals"`
	Counts  []int    `json:"counts"`
	Failed  []int    `json:"failed"`

	Connections profileConnections `json:"connections,omitzero"`
	Dropped     int                `json:"dropped"`
}

// profileConnections are the first MaxConnections of a list; the others are only counted, as three bytes of text would make a
// hundred of memory each.
type profileConnections struct {
	list []profileConnection
	more int
}

type profileConnection struct {
	Host    string `json:"host"`
	Address string `json:"address"`
	Start   int64  `json:"start"`
	DNS     int64  `json:"dns"`
	TCP     int64  `json:"tcp"`
	TLS     int64  `json:"tls"`
	Module  int    `json:"module"`
	Error   string `json:"error"`
}

// UnmarshalJSON is for json.Unmarshal, which has made sure that it is JSON.
func (c *profileConnections) UnmarshalJSON(text []byte) error {
	*c = profileConnections{}
	if text[0] == 'n' {
		return nil // null
	}
	if text[0] != '[' {
		return errors.New("the connections are no list")
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	if _, err := decoder.Token(); err != nil {
		return err
	}
	var rest json.RawMessage
	for decoder.More() {
		var into any = &rest
		if len(c.list) < MaxConnections {
			c.list = append(c.list, profileConnection{})
			into = &c.list[len(c.list)-1]
		} else {
			c.more++
		}
		if err := decoder.Decode(into); err != nil {
			return err
		}
	}
	return nil
}

// ParseProfile fills in the modules and connections of p from what the runtime told (Profiler). Code of the user's has run in
// that process, so that any bytes may come: what is out of bounds is cut, a parent is always before what it loads, and text has
// no control characters. Only what is no profile at all is ErrProfile.
func ParseProfile(p *thaw.InitProfile, told []byte) error {
	if len(told) > maxProfile {
		return fmt.Errorf("%w: it has %d bytes", ErrProfile, len(told))
	}
	var in profile
	if err := json.Unmarshal(told, &in); err != nil {
		return fmt.Errorf("%w: %w", ErrProfile, err)
	}
	n := min(len(in.Names), MaxModules)
	modules := make([]thaw.Module, n)
	for i := range modules {
		m := &modules[i]
		m.Name, m.File = cleanText(in.Names[i]), cleanText(at(in.Files, i))
		m.Bytes, m.Count = max(at(in.Bytes, i), 0), max(at(in.Counts, i), 0)
		m.Start, m.Total = micros(at(in.Starts, i)), micros(at(in.Totals, i))
		m.Self = min(micros(at(in.Selves, i)), m.Total)
		m.Kind = kindOf(in.Kind)
		if i < len(in.Kinds) {
			m.Kind = kindOf(in.Kinds[i])
		}
		if m.Name == "" {
			m.Name = nameOfFile(m.File)
		}
		if m.Parent = -1; i < len(in.Parents) {
			m.Parent = before(in.Parents[i], i)
		}
	}
	for _, i := range in.Failed {
		if i >= 0 && i < n {
			modules[i].Failed = true
		}
	}
	connections := make([]thaw.Connection, len(in.Connections.list))
	for i := range connections {
		c := &in.Connections.list[i]
		connections[i] = thaw.Connection{
			Host: cleanText(c.Host), Address: cleanText(c.Address), Error: cleanText(c.Error),
			Start: micros(c.Start), DNS: micros(c.DNS), TCP: micros(c.TCP), TLS: micros(c.TLS),
			Module: before(c.Module, n),
		}
	}
	p.Modules, p.Connections = modules, connections
	p.Dropped = min(max(in.Dropped, 0), maxProfile) + len(in.Names) - len(modules) + in.Connections.more
	return nil
}

// at is an element of a column that may be shorter than the others.
func at[T any](column []T, i int) (value T) {
	if i < len(column) {
		value = column[i]
	}
	return value
}

// before is an index below limit, or -1.
func before(index, limit int) int {
	if index < 0 || index >= limit {
		return -1
	}
	return index
}

func micros(us int64) time.Duration {
	return time.Duration(min(max(us, 0), maxProfileTime.Microseconds())) * time.Microsecond
}

func kindOf(kind string) string {
	switch kind {
	case thaw.ModuleImport, thaw.ModuleRequire, thaw.ModuleESM, thaw.ModuleClasses:
		return kind
	}
	return thaw.ModuleImport
}

// nameOfFile is what a module without a name of its own is called: its path in the package that it belongs to, or in the
// function's code.
func nameOfFile(file string) string {
	const packages = "/node_modules/"
	if i := strings.LastIndex(file, packages); i >= 0 {
		return file[i+len(packages):]
	}
	return strings.TrimPrefix(file, TaskRoot+"/")
}

// cleanText makes of a runtime's text what can be shown on a terminal and in a page.
func cleanText(text string) string {
	if len(text) > maxProfileText {
		text = text[:maxProfileText]
	}
	return strings.ToValidUTF8(strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Cf, r) {
			return unicode.ReplacementChar
		}
		return r
	}, text), string(unicode.ReplacementChar))
}
