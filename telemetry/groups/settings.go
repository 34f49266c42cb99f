package groups

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"thaw"
	"thaw/state"
)

// settingsKind is the kind of the records.
const settingsKind = "log-group"

// Group is what is set for a group. A group without a record has the zero value of all but Created.
type Group struct {
	Created   time.Time         `json:"created"`
	Retention int               `json:"retention,omitempty"` // days; 0: none of its own
	Tags      map[string]string `json:"tags,omitempty"`
	Class     string            `json:"class,omitempty"`     // empty: STANDARD
	Protected bool              `json:"protected,omitempty"` // deletion is refused
	// Subscriptions are the subscription filters in the order in which they were made.
	Subscriptions []Subscription `json:"subscriptions,omitempty"`
	// MetricFilters likewise.
	MetricFilters []MetricFilter `json:"metric_filters,omitempty"`
}

// MetricFilter makes values of a metric from the events that a pattern means.
type MetricFilter struct {
	Name      string    `json:"name"`
	Pattern   string    `json:"pattern"`
	Created   time.Time `json:"created"`
	After     uint64    `json:"after"` // as of a Subscription
	Namespace string    `json:"namespace"`
	Metric    string    `json:"metric"`
	Unit      string    `json:"unit,omitempty"`
	// Value is a number, or where the number is in the message: $.a.b or $column.
	Value string `json:"value"`
	// Default is the value of a minute in which there are events and none is meant; nil: none.
	Default *float64 `json:"default,omitempty"`
	// Dimensions are names and where their values are in the message.
	Dimensions map[string]string `json:"dimensions,omitempty"`
}

// Subscription is a subscription filter.
type Subscription struct {
	Name         string    `json:"name"`
	Pattern      string    `json:"pattern"`
	Destination  string    `json:"destination"` // a function's ARN
	Distribution string    `json:"distribution,omitempty"`
	Created      time.Time `json:"created"`
	// After is the sequence behind which events are delivered.
	After uint64 `json:"after"`
}

// Settings are the records of all groups that have one.
type Settings struct{ records *state.Records }

// NewSettings gives the settings kept in store.
func NewSettings(store *state.Store) *Settings {
	return &Settings{records: store.Records(settingsKind)}
}

// All gives the settings by the group's name.
func (s *Settings) All(ctx context.Context) (map[string]Group, error) {
	list, err := s.records.List(ctx, "")
	if err != nil {
		return nil, err
	}
	all := make(map[string]Group, len(list))
	for _, r := range list {
		var g Group
		if err := json.Unmarshal(r.Value, &g); err != nil {
			return nil, fmt.Errorf("settings of log group %s: %w", r.Key, err)
		}
		all[r.Key] = g
	}
	return all, nil
}

// Get gives the settings of one group; ok is false where it has none.
func (s *Settings) Get(ctx context.Context, name string) (g Group, ok bool, err error) {
	err = s.records.Get(ctx, name, &g)
	if errors.Is(err, state.ErrNotFound) {
		return g, false, nil
	}
	return g, err == nil, err
}

// Create keeps the settings of a group that has none. It fails with state.ErrExists.
func (s *Settings) Create(ctx context.Context, name string, g Group) error {
	return s.records.Create(ctx, name, g)
}

// Update changes the settings of a group, from those it begins with where it has none. An error of change ends it and is
// returned as it is.
func (s *Settings) Update(ctx context.Context, name string, begin Group, change func(*Group) error) error {
	for {
		_, err := state.UpdateRecord(ctx, s.records, name, change)
		if !errors.Is(err, state.ErrNotFound) {
			return err
		}
		g := begin
		if err := change(&g); err != nil {
			return err
		}
		if err := s.records.Create(ctx, name, g); !errors.Is(err, state.ErrExists) {
			return err
		}
	}
}

// Delete drops the settings of a group, if it has any.
func (s *Settings) Delete(ctx context.Context, name string) error {
	err := s.records.Delete(ctx, name)
	if errors.Is(err, state.ErrNotFound) {
		return nil
	}
	return err
}

// Watch calls changed once, and again after changes, until ctx ends.
func (s *Settings) Watch(ctx context.Context, changed func()) error {
	return s.records.Watch(ctx, changed)
}

// ARN is the ARN of a group.
func ARN(account thaw.Account, name string) string {
	return "arn:aws:logs:" + account.Region + ":" + account.ID + ":log-group:" + name
}

// WritesTo reports whether what a qualifier of a function names, a version or one of an alias's two, has a group as its own
// log.
func WritesTo(f *thaw.Function, qualifier, group string) bool {
	numbers := []string{qualifier}
	if alias, ok := f.Aliases[qualifier]; ok {
		numbers = []string{alias.Version, alias.Other}
	} else if qualifier == "" {
		numbers = []string{thaw.Latest}
	}
	for _, number := range numbers {
		if v := f.Version(number); v != nil && v.LogGroupName() == group {
			return true
		}
	}
	return false
}

// Permits reports whether a function's policy lets CloudWatch Logs invoke it for a group: the principal is logs.amazonaws.com,
// or the older form with the region in it.
func Permits(policy thaw.Policy, account thaw.Account, name string) bool {
	for _, service := range []string{"logs.amazonaws.com", "logs." + account.Region + ".amazonaws.com"} {
		if policy.Permits(thaw.InvokePermission{Service: service, Source: ARN(account, name) + ":*", Account: account.ID}) {
			return true
		}
	}
	return false
}
