package alarms

import (
	"encoding/json"
	"slices"
	"time"

	"thaw"
)

// State is an alarm's state.
type State string

// The states, in CloudWatch's words.
const (
	OK           State = "OK"
	InAlarm      State = "ALARM"
	Insufficient State = "INSUFFICIENT_DATA"
)

// The values of TreatMissingData.
const (
	TreatMissing      = "missing" // the default
	TreatIgnore       = "ignore"
	TreatBreaching    = "breaching"
	TreatNotBreaching = "notBreaching"
)

// LowSampleIgnore is the value of EvaluateLowSampleCountPercentile with which an alarm stays as it is while there are too
// few values for its percentile.
const LowSampleIgnore = "ignore"

// Alarm is a metric alarm, or a composite alarm where Composite is set, with its state.
type Alarm struct {
	Name        string             `json:"name"`
	Description *string            `json:"description,omitempty"`
	Metric      *Metric            `json:"metric,omitempty"`
	Composite   *Composite         `json:"composite,omitempty"`
	Enabled     bool               `json:"enabled"` // ActionsEnabled
	Actions     map[State][]string `json:"actions,omitempty"`
	Tags        map[string]string  `json:"tags,omitempty"`
	// Created tells an alarm from one of the same name that was there before. Updated is the last change of what the alarm
	// watches and does.
	Created time.Time `json:"created"`
	Updated time.Time `json:"updated"`
	Status  Status    `json:"status"`
	// HeldUntil is the end of the period that Status.SuppressedBy names.
	HeldUntil time.Time `json:"held_until,omitzero"`
	// Problem is CloudWatch's EvaluationState where the alarm cannot be evaluated: EVALUATION_ERROR.
	Problem string `json:"problem,omitempty"`
	// Outbox is what a change has yet to bring about, written with the change: history, events and actions.
	Outbox []Task `json:"outbox,omitempty"`
	// Change counts the changes of the record, so that an older one that arrives later is known as such.
	Change uint64 `json:"change"`
}

// Status is a state and how the alarm came into it.
type Status struct {
	Value  State  `json:"value"`
	Reason string `json:"reason"`
	Data   string `json:"data,omitempty"` // StateReasonData: JSON, or empty
	// Updated is when the state was set last, Transitioned when it last became another.
	Updated      time.Time `json:"updated"`
	Transitioned time.Time `json:"transitioned"`
	// SuppressedBy is what holds the actions of the last change back; empty: nothing.
	SuppressedBy string `json:"suppressed_by,omitempty"`
}

// Metric is what a metric alarm watches, and when it is in which state.
type Metric struct {
	// Queries has one item of the alarm's own metric, or those of the member Metrics where Math is set: one of them has
	// Return set.
	Queries    []Query `json:"queries"`
	Math       bool    `json:"math,omitempty"`
	Evaluation int     `json:"evaluation"` // EvaluationPeriods, N
	// Datapoints is DatapointsToAlarm, M; 0 where it was not given, which stands for N.
	Datapoints int     `json:"datapoints,omitempty"`
	Threshold  float64 `json:"threshold"`
	Comparison string  `json:"comparison"`
	Missing    string  `json:"missing,omitempty"`    // TreatMissingData; empty: not given
	LowSample  string  `json:"low_sample,omitempty"` // EvaluateLowSampleCountPercentile; empty: not given
}

// Query is CloudWatch's MetricDataQuery: a statistic of a metric, or an expression over others.
type Query struct {
	ID         string      `json:"id"`
	Namespace  string      `json:"namespace,omitempty"`
	Metric     string      `json:"metric,omitempty"` // its name; empty for an expression
	Dimensions []Dimension `json:"dimensions,omitempty"`
	Stat       string      `json:"stat,omitempty"`
	Unit       string      `json:"unit,omitempty"`
	Expression string      `json:"expression,omitempty"`
	Label      string      `json:"label,omitempty"`
	Period     int         `json:"period,omitempty"` // seconds; 0 where an expression has none of its own
	Return     *bool       `json:"return,omitempty"`
	AccountID  string      `json:"account_id,omitempty"`
}

// Dimension is one of a metric's, in the order in which they were given.
type Dimension struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Composite is the rule of a composite alarm.
type Composite struct {
	Rule string `json:"rule"`
	// Suppressor is the alarm, by name or ARN, that holds actions back while it is in ALARM; empty: none. Wait and Extension
	// are seconds.
	Suppressor string `json:"suppressor,omitempty"`
	Wait       int    `json:"wait,omitempty"`
	Extension  int    `json:"extension,omitempty"`
}

// Task is something that a change has yet to bring about.
type Task struct {
	ID string `json:"id"` // a UUID: the request id of an invocation, the id of a message
	// Item is what goes to the history; nil for an action.
	Item *Item `json:"item,omitempty"`
	// Target is an action, an ARN or a URL, or EventTarget.
	Target string    `json:"target,omitempty"`
	Old    Status    `json:"old,omitzero"`
	New    Status    `json:"new,omitzero"`
	Tries  int       `json:"tries,omitempty"` // that failed
	Next   time.Time `json:"next,omitzero"`   // not before
}

// EventTarget stands for the default event bus among the targets of tasks.
const EventTarget = "event"

// Item is an item of an alarm's history.
type Item struct {
	ID      string    `json:"id"`
	At      time.Time `json:"at"`
	Type    string    `json:"type"` // one of the Item constants
	Summary string    `json:"summary"`
	Data    string    `json:"data"` // JSON
}

// The types of history items, CloudWatch's HistoryItemType.
const (
	ItemConfiguration = "ConfigurationUpdate"
	ItemState         = "StateUpdate"
	ItemAction        = "Action"
)

// ARN is an alarm's name as an ARN.
func ARN(account thaw.Account, name string) string {
	return "arn:aws:cloudwatch:" + account.Region + ":" + account.ID + ":alarm:" + name
}

// Type is CloudWatch's AlarmType.
func (a *Alarm) Type() string {
	if a.Composite != nil {
		return "CompositeAlarm"
	}
	return "MetricAlarm"
}

// Period is the length in seconds of what is compared: that of the longest metric.
func (m *Metric) Period() int {
	longest := 0
	for i := range m.Queries {
		longest = max(longest, m.Queries[i].Period)
	}
	return longest
}

// M is how many of the datapoints must breach.
func (m *Metric) M() int {
	if m.Datapoints > 0 {
		return m.Datapoints
	}
	return m.Evaluation
}

// Returned is the query whose values are compared.
func (m *Metric) Returned() *Query {
	for i := range m.Queries {
		if r := m.Queries[i].Return; r == nil || *r {
			return &m.Queries[i]
		}
	}
	return &m.Queries[0]
}

// Configured notes a change of what the alarm watches or does in its history. Kind is Create, Update or Delete, config the alarm
// as DescribeAlarms shows it.
func (a *Alarm) Configured(kind, id string, at time.Time, config json.RawMessage) Item {
	word := map[string]string{"Create": "created", "Update": "updated", "Delete": "deleted"}[kind]
	data := encode(map[string]any{"version": "1.0", "type": kind, word + "Alarm": config})
	return Item{ID: id, At: at, Type: ItemConfiguration, Summary: `Alarm "` + a.Name + `" ` + word, Data: data}
}

// Note has an item written to the history.
func (a *Alarm) Note(item Item) { a.post(Task{ID: item.ID, Item: &item}) }

// post puts tasks into the outbox, which is bounded: what has waited longest goes first. It gives what was dropped.
func (a *Alarm) post(tasks ...Task) (dropped int) {
	a.Outbox = append(a.Outbox, tasks...)
	if n := len(a.Outbox) - maxOutbox; n > 0 {
		a.Outbox = slices.Delete(a.Outbox, 0, n)
		return n
	}
	return 0
}

// maxOutbox is how much an alarm whose actions do not get through may have waiting.
const maxOutbox = 100
