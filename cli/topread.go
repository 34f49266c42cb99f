package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"time"

	"thaw"
)

const (
	// maxTopPages bounds one reading: 100 functions are on a page.
	maxTopPages = 100
	// topPatience is how long one page may take.
	topPatience = 10 * time.Second
)

// environments counts environments by what they do.
type environments struct {
	Busy   int `json:"busy"`
	Idle   int `json:"idle"`
	Spares int `json:"spares"`
	Wanted int `json:"wanted"` // spares
	Starts int `json:"starts"`
	Ending int `json:"ending"`
	// Provisioned are idle; busy ones are among Busy.
	Provisioned int `json:"provisioned"`
}

func (e *environments) total() int {
	return e.Busy + e.Idle + e.Spares + e.Starts + e.Ending + e.Provisioned
}

func (e *environments) add(o *environments) {
	e.Busy += o.Busy
	e.Idle += o.Idle
	e.Spares += o.Spares
	e.Wanted += o.Wanted
	e.Starts += o.Starts
	e.Ending += o.Ending
	e.Provisioned += o.Provisioned
}

type provisioned struct {
	Wanted    int `json:"wanted"`
	Allocated int `json:"allocated"`
	Available int `json:"available"`
}

// nodeView is what the node that answers holds.
type nodeView struct {
	Environments    int          `json:"environments"`
	MaxEnvironments int          `json:"max_environments"`
	By              environments `json:"by"`
	Memory          int64        `json:"memory"`     // bytes that the environments may need together
	MaxMemory       int64        `json:"max_memory"` // 0: not bounded
	Templates       int          `json:"templates"`
	MaxTemplates    int          `json:"max_templates"`
}

// accountView is how the account's concurrency is divided.
type accountView struct {
	Limit      int64 `json:"limit"`
	Claimed    int64 `json:"claimed"`
	Unreserved int64 `json:"unreserved"`
}

// reading is all pages of GET /_thaw/functions at one time.
type reading struct {
	at        time.Time
	node      nodeView
	account   accountView
	functions []readFunction
}

// readFunction is one function of a page.
type readFunction struct {
	Name     string `json:"name"`
	State    string `json:"state"`
	Reserved *int   `json:"reserved_concurrency"`
	Usage    struct {
		OnDemand    int64                    `json:"on_demand"`
		Provisioned int64                    `json:"provisioned"`
		Invocations int64                    `json:"invocations"`
		Errors      int64                    `json:"errors"`
		Throttles   int64                    `json:"throttles"`
		SpilledOver int64                    `json:"spilled_over"`
		Starts      map[thaw.StartKind]int64 `json:"starts"`
	} `json:"usage"`
	Versions []topVersion `json:"versions"`
}

// topVersion is what one version has on the node.
type topVersion struct {
	Version      string       `json:"version"`
	State        string       `json:"state"`
	Environments environments `json:"environments"`
	Provisioned  provisioned  `json:"provisioned"`
	Memory       int64        `json:"memory"` // bytes that its environments may need together
}

var errEndlessPages = errors.New("the platform's list of functions does not end")

// readFunctions reads all pages. What the first says of node and account stands for all.
func (c *client) readFunctions(ctx context.Context) (*reading, error) {
	r := &reading{at: time.Now()}
	after := ""
	for page := range maxTopPages {
		var answer struct {
			Node      nodeView       `json:"node"`
			Account   accountView    `json:"account"`
			Functions []readFunction `json:"functions"`
			After     string         `json:"after"`
		}
		if err := c.readPage(ctx, after, &answer); err != nil {
			return nil, err
		}
		if page == 0 {
			r.node, r.account = answer.Node, answer.Account
		}
		r.functions = append(r.functions, answer.Functions...)
		if answer.After == "" {
			return r, nil
		}
		if answer.After <= after {
			break
		}
		after = answer.After
	}
	return nil, errEndlessPages
}

func (c *client) readPage(ctx context.Context, after string, answer any) error {
	ctx, cancel := context.WithTimeout(ctx, topPatience)
	defer cancel()
	var query url.Values
	if after != "" {
		query = url.Values{"after": {after}}
	}
	resp, err := c.get(ctx, "/_thaw/functions", query)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return refusal(resp)
	}
	return json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(answer)
}

// topView is a reading beside the one before: what `thaw top` shows.
type topView struct {
	Version   int         `json:"version"`
	Time      time.Time   `json:"time"`
	Interval  float64     `json:"interval_s,omitempty"` // since the reading before; absent in the first
	PerSecond *float64    `json:"per_second,omitempty"` // invocations of all functions
	InFlight  int64       `json:"in_flight"`
	Throttles int64       `json:"throttles"`
	Node      nodeView    `json:"node"`
	Account   accountView `json:"account"`
	Functions []topRow    `json:"functions"`
}

// topRow is one function's line.
type topRow struct {
	Name     string `json:"name"`
	State    string `json:"state"`
	InFlight int64  `json:"in_flight"`
	// Limit is the reserved concurrency, or what the account leaves to functions without, together with what this one
	// has provisioned.
	Limit        int64                    `json:"limit"`
	Reserved     bool                     `json:"reserved"`
	PerSecond    *float64                 `json:"per_second,omitempty"`
	Recent       map[thaw.StartKind]int64 `json:"recent_starts,omitempty"` // since the reading before
	Starts       map[thaw.StartKind]int64 `json:"starts"`
	Invocations  int64                    `json:"invocations"`
	Errors       int64                    `json:"errors"`
	Throttles    int64                    `json:"throttles"`
	SpilledOver  int64                    `json:"spilled_over"`
	Environments environments             `json:"environments"` // of all versions
	Provisioned  provisioned              `json:"provisioned"`  // of all versions
	Memory       int64                    `json:"memory"`       // bytes, of all versions
	Versions     []topVersion             `json:"versions"`
}

// topOrders are the values of --sort, the default first.
var topOrders = []string{"load", "name", "rate", "environments", "memory", "throttles"}

// compare makes the view of now; before is nil at the first reading.
func compare(before, now *reading, order string) *topView {
	v := &topView{Version: jsonVersion, Time: now.at.UTC(), Node: now.node, Account: now.account, Functions: make([]topRow, 0, len(now.functions))}
	var seen map[string]*readFunction
	if before != nil {
		v.Interval = now.at.Sub(before.at).Seconds()
		v.PerSecond = new(float64)
		seen = make(map[string]*readFunction, len(before.functions))
		for i := range before.functions {
			seen[before.functions[i].Name] = &before.functions[i]
		}
	}
	for i := range now.functions {
		f := &now.functions[i]
		row := now.row(f)
		if before != nil {
			row.since(seen[f.Name], v.Interval)
			*v.PerSecond += *row.PerSecond
		}
		v.InFlight += row.InFlight
		v.Throttles += row.Throttles
		v.Functions = append(v.Functions, row)
	}
	v.sort(order)
	return v
}

// row is what one reading says of a function.
func (r *reading) row(f *readFunction) topRow {
	u := &f.Usage
	row := topRow{
		Name: f.Name, State: f.State, InFlight: u.OnDemand + u.Provisioned, Reserved: f.Reserved != nil, Starts: u.Starts,
		Invocations: u.Invocations, Errors: u.Errors, Throttles: u.Throttles, SpilledOver: u.SpilledOver, Versions: f.Versions,
	}
	for i := range f.Versions {
		have := &f.Versions[i]
		row.Environments.add(&have.Environments)
		row.Memory += have.Memory
		row.Provisioned.Wanted += have.Provisioned.Wanted
		row.Provisioned.Allocated += have.Provisioned.Allocated
		row.Provisioned.Available += have.Provisioned.Available
	}
	if f.Reserved != nil {
		row.Limit = int64(*f.Reserved)
	} else {
		row.Limit = r.account.Limit - r.account.Claimed + int64(row.Provisioned.Wanted)
	}
	return row
}

// since adds what happened after the reading before. Counts begin again with the platform, and with a function that was
// deleted and made again: a count that has become less counts from zero.
func (row *topRow) since(before *readFunction, seconds float64) {
	if before == nil || before.Usage.Invocations > row.Invocations {
		before = &readFunction{}
	}
	row.PerSecond = new(float64)
	if seconds > 0 {
		*row.PerSecond = float64(row.Invocations-before.Usage.Invocations) / seconds
	}
	row.Recent = map[thaw.StartKind]int64{}
	for kind, n := range row.Starts {
		if more := n - before.Usage.Starts[kind]; more > 0 {
			row.Recent[kind] = more
		}
	}
}

func (v *topView) sort(order string) {
	rate := func(r *topRow) float64 {
		if r.PerSecond == nil {
			return 0
		}
		return *r.PerSecond
	}
	slices.SortStableFunc(v.Functions, func(a, b topRow) int {
		more := 0
		switch order {
		case "load":
			more = cmp.Or(cmp.Compare(b.InFlight, a.InFlight), cmp.Compare(rate(&b), rate(&a)))
		case "rate":
			more = cmp.Compare(rate(&b), rate(&a))
		case "environments":
			more = cmp.Compare(b.Environments.total(), a.Environments.total())
		case "memory":
			more = cmp.Compare(b.Memory, a.Memory)
		case "throttles":
			more = cmp.Compare(b.Throttles, a.Throttles)
		}
		if more == 0 && order != "name" {
			more = cmp.Compare(b.Invocations, a.Invocations)
		}
		return cmp.Or(more, cmp.Compare(a.Name, b.Name))
	})
}
