// Package events keeps EventBridge's rules of the default event bus and passes events to the targets of the rules that
// match them: each target gets the event, a part of it, or a text made from it. The API over the same records is another
// package's, and so is the loop that fires rules with a schedule.
//
// There are no locks but in the cache of compiled patterns: records change by compare-and-set.
package events

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"thaw"
	"thaw/state"
	"thaw/trigger/delivery"
)

// BusName is the name of the only event bus.
const BusName = "default"

// The states that a rule can have here.
const (
	Enabled  = "ENABLED"
	Disabled = "DISABLED"
)

// Rule is one rule with its targets, so that one write changes it as a whole.
type Rule struct {
	Name        string `json:"name"`
	ID          string `json:"id"` // a rule that was deleted and made again has another
	Description string `json:"description,omitempty"`
	RoleARN     string `json:"role_arn,omitempty"`
	Pattern     string `json:"pattern,omitempty"`  // empty: it matches no event
	Schedule    string `json:"schedule,omitempty"` // an expression of package schedule, in UTC; empty: none
	State       string `json:"state"`
	// Targets in the order in which they were put.
	Targets []Target          `json:"targets,omitempty"`
	Tags    map[string]string `json:"tags,omitempty"`
	Created time.Time         `json:"created"`
	// Origin is what a rate is counted from: when the rule got its schedule. Nothing up to Since is due: it is when the rule
	// got its schedule or was enabled last.
	Origin time.Time `json:"origin,omitzero"`
	Since  time.Time `json:"since,omitzero"`
}

// Target is one target of a rule. At most one of Input, InputPath and Template is set.
type Target struct {
	ID      string `json:"id"`
	ARN     string `json:"arn"`
	RoleARN string `json:"role_arn,omitempty"`
	// Input is what the target gets instead of the event; InputPath picks a part of the event; Template is a text with
	// the values of Paths in it.
	Input     *string           `json:"input,omitempty"`
	InputPath *string           `json:"input_path,omitempty"`
	Template  *string           `json:"template,omitempty"`
	Paths     map[string]string `json:"paths,omitempty"`
	Group     *string           `json:"group,omitempty"` // SqsParameters.MessageGroupId
	// DeadLetter is a queue's ARN. Attempts and Age are the members of RetryPolicy that are set, Age in seconds.
	DeadLetter *string `json:"dead_letter,omitempty"`
	Attempts   *int32  `json:"attempts,omitempty"`
	Age        *int32  `json:"age,omitempty"`
}

// ARN is the rule's ARN.
func (r *Rule) ARN(account thaw.Account) string { return ARN(account, r.Name) }

// ARN is the ARN of the rule of that name on the default event bus.
func ARN(account thaw.Account, name string) string { return ARNPrefix(account) + name }

// ARNPrefix is what the ARNs of rules begin with.
func ARNPrefix(account thaw.Account) string {
	return "arn:aws:events:" + account.Region + ":" + account.ID + ":rule/"
}

// Policy is the target's retry policy, AWS's defaults in place of what is not set.
func (t *Target) Policy() delivery.Policy { return MakePolicy(t.Attempts, t.Age) }

// MakePolicy is a retry policy with AWS's defaults in place of nil. age is in seconds.
func MakePolicy(attempts, age *int32) delivery.Policy {
	p := delivery.DefaultPolicy
	if attempts != nil {
		p.Attempts = int(*attempts)
	}
	if age != nil {
		p.Age = time.Duration(*age) * time.Second
	}
	return p
}

// Records keeps rules by name. The errors of its methods are those of package state.
type Records struct{ rules *state.Records }

// NewRecords makes the records "event-rule" of the store.
func NewRecords(store *state.Store) *Records { return &Records{rules: store.Records("event-rule")} }

// Rule gives one rule.
func (r *Records) Rule(ctx context.Context, name string) (*Rule, error) {
	rule := new(Rule)
	return rule, r.rules.Get(ctx, name, rule)
}

// Rules gives the rules whose names begin with prefix, sorted by name.
func (r *Records) Rules(ctx context.Context, prefix string) ([]*Rule, error) {
	records, err := r.rules.List(ctx, prefix)
	if err != nil {
		return nil, err
	}
	rules := make([]*Rule, len(records))
	for i, record := range records {
		rules[i] = new(Rule)
		if err := json.Unmarshal(record.Value, rules[i]); err != nil {
			return nil, fmt.Errorf("event rule %s: %w", record.Key, err)
		}
	}
	return rules, nil
}

// Create stores a new rule.
func (r *Records) Create(ctx context.Context, rule *Rule) error {
	return r.rules.Create(ctx, rule.Name, rule)
}

// Update passes a rule to change, as often as it takes, and stores what became of it.
func (r *Records) Update(ctx context.Context, name string, change func(*Rule) error) (*Rule, error) {
	return state.UpdateRecord(ctx, r.rules, name, change)
}

// Delete deletes the rule unless check gives an error, which is returned.
func (r *Records) Delete(ctx context.Context, name string, check func(*Rule) error) error {
	return state.DeleteRecord(ctx, r.rules, name, check)
}

// Follow passes every rule, and then every change, to changed; see state.Records.Follow. A deleted one is nil, as is one
// that cannot be read.
func (r *Records) Follow(ctx context.Context, changed func(name string, rule *Rule), ready func()) error {
	return r.rules.Follow(ctx, func(key string, value json.RawMessage) {
		var rule *Rule
		if value != nil {
			rule = new(Rule)
			if json.Unmarshal(value, rule) != nil {
				rule = nil
			}
		}
		changed(key, rule)
	}, ready)
}

// Event is an event as targets get it.
type Event struct {
	Version    string          `json:"version"` // "0"
	ID         string          `json:"id"`      // a UUID
	DetailType string          `json:"detail-type"`
	Source     string          `json:"source"`
	Account    string          `json:"account"`
	Time       Time            `json:"time"`
	Region     string          `json:"region"`
	Resources  []string        `json:"resources"`
	Detail     json.RawMessage `json:"detail"`
	// Trace is an X-Ray trace header, empty for none. It travels beside the event.
	Trace string `json:"-"`
}

// Time is a time in an event: whole seconds, UTC.
type Time struct{ time.Time }

// MarshalJSON writes 2006-01-02T15:04:05Z.
func (t Time) MarshalJSON() ([]byte, error) {
	return []byte(`"` + t.UTC().Format("2006-01-02T15:04:05Z") + `"`), nil
}

// Encode writes the event as AWS does: in this order of members, without escapes that JSON does not ask for.
func (e *Event) Encode() ([]byte, error) {
	if e.Resources == nil {
		e.Resources = []string{}
	}
	return encode(e)
}

func encode(v any) ([]byte, error) {
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return []byte(strings.TrimSuffix(b.String(), "\n")), nil
}

// Scheduled is the event that a rule with a schedule sends.
func Scheduled(account thaw.Account, id string, at time.Time, rule *Rule) *Event {
	return &Event{
		Version: "0", ID: id, DetailType: "Scheduled Event", Source: "aws.events", Account: account.ID, Time: Time{at},
		Region: account.Region, Resources: []string{rule.ARN(account)}, Detail: json.RawMessage("{}"),
	}
}
