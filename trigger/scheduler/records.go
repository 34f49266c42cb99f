package scheduler

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"thaw"
	"thaw/state"
	"thaw/trigger/delivery"
	"thaw/trigger/events"
)

// DefaultGroup is the schedule group that is always there.
const DefaultGroup = "default"

// Schedule is one schedule of EventBridge Scheduler.
type Schedule struct {
	Group       string     `json:"group"`
	Name        string     `json:"name"`
	ID          string     `json:"id"` // a schedule that was deleted and made again has another
	Description string     `json:"description,omitempty"`
	Expression  string     `json:"expression"`         // of package schedule
	Timezone    string     `json:"timezone,omitempty"` // empty: UTC
	Start       *time.Time `json:"start,omitempty"`
	End         *time.Time `json:"end,omitempty"`
	Window      int        `json:"window,omitempty"` // FlexibleTimeWindow in minutes, 1 to 1440; 0: OFF
	State       string     `json:"state"`            // ENABLED or DISABLED
	// DeleteAfter is ActionAfterCompletion DELETE.
	DeleteAfter bool   `json:"delete_after,omitempty"`
	Target      Target `json:"target"`
	// Token is the ClientToken of the request that made it, and Asked a digest of that request.
	Token    string    `json:"token,omitempty"`
	Asked    string    `json:"asked,omitempty"`
	Created  time.Time `json:"created"`
	Modified time.Time `json:"modified"`
	// Origin is what a rate is counted from. Nothing up to Since is due: it is just before the schedule got its present
	// expression or was enabled last.
	Origin time.Time `json:"origin"`
	Since  time.Time `json:"since"`
}

// Target is a schedule's target.
type Target struct {
	ARN        string          `json:"arn"`
	RoleARN    string          `json:"role_arn"`
	Input      *string         `json:"input,omitempty"`
	Group      *string         `json:"group,omitempty"` // SqsParameters.MessageGroupId
	DeadLetter *string         `json:"dead_letter,omitempty"`
	Policy     delivery.Policy `json:"policy"`
}

// Group is a schedule group.
type Group struct {
	Name     string            `json:"name"`
	ID       string            `json:"id"`
	Deleting bool              `json:"deleting,omitempty"`
	Tags     map[string]string `json:"tags,omitempty"`
	Token    string            `json:"token,omitempty"`
	Created  time.Time         `json:"created"`
	Modified time.Time         `json:"modified"`
}

// Key is the schedule's key: GROUP/NAME.
func (s *Schedule) Key() string { return s.Group + "/" + s.Name }

// ARN is the schedule's ARN.
func (s *Schedule) ARN(account thaw.Account) string { return ARN(account, s.Group, s.Name) }

// ARN is the ARN of a schedule.
func ARN(account thaw.Account, group, name string) string {
	return "arn:aws:scheduler:" + account.Region + ":" + account.ID + ":schedule/" + group + "/" + name
}

// GroupARN is the ARN of a schedule group.
func GroupARN(account thaw.Account, name string) string {
	return "arn:aws:scheduler:" + account.Region + ":" + account.ID + ":schedule-group/" + name
}

// Records keeps schedules, groups, and what has been fired of rules and schedules. The errors of its methods are those of
// package state.
type Records struct {
	schedules *state.Records
	groups    *state.Records
	progress  *state.Records
}

// NewRecords makes the records "schedule", "schedule-group" and "schedule-progress" of the store.
func NewRecords(store *state.Store) *Records {
	return &Records{schedules: store.Records("schedule"), groups: store.Records("schedule-group"), progress: store.Records("schedule-progress")}
}

// Schedule gives one schedule.
func (r *Records) Schedule(ctx context.Context, group, name string) (*Schedule, error) {
	s := new(Schedule)
	return s, r.schedules.Get(ctx, group+"/"+name, s)
}

// Schedules gives the schedules whose keys, GROUP/NAME, begin with prefix, sorted by key.
func (r *Records) Schedules(ctx context.Context, prefix string) ([]*Schedule, error) {
	return list[Schedule](ctx, r.schedules, prefix)
}

// Create stores a new schedule.
func (r *Records) Create(ctx context.Context, s *Schedule) error {
	return r.schedules.Create(ctx, s.Key(), s)
}

// Update passes a schedule to change, as often as it takes, and stores what became of it.
func (r *Records) Update(ctx context.Context, group, name string, change func(*Schedule) error) (*Schedule, error) {
	return state.UpdateRecord(ctx, r.schedules, group+"/"+name, change)
}

// Delete deletes a schedule.
func (r *Records) Delete(ctx context.Context, group, name string) error {
	return r.schedules.Delete(ctx, group+"/"+name)
}

// Groups gives the groups that were made, sorted by name; DefaultGroup is none of them unless it has tags.
func (r *Records) Groups(ctx context.Context, prefix string) ([]*Group, error) {
	return list[Group](ctx, r.groups, prefix)
}

// Group gives one group; DefaultGroup is always there.
func (r *Records) Group(ctx context.Context, name string) (*Group, error) {
	g := new(Group)
	err := r.groups.Get(ctx, name, g)
	if errors.Is(err, state.ErrNotFound) && name == DefaultGroup {
		return &Group{Name: DefaultGroup}, nil
	}
	return g, err
}

// CreateGroup stores a new group.
func (r *Records) CreateGroup(ctx context.Context, g *Group) error {
	return r.groups.Create(ctx, g.Name, g)
}

// UpdateGroup passes a group to change, as often as it takes, and stores what became of it.
func (r *Records) UpdateGroup(ctx context.Context, name string, change func(*Group) error) (*Group, error) {
	for {
		g, err := state.UpdateRecord(ctx, r.groups, name, change)
		if !errors.Is(err, state.ErrNotFound) || name != DefaultGroup {
			return g, err
		}
		if err := r.CreateGroup(ctx, &Group{Name: DefaultGroup}); err != nil && !errors.Is(err, state.ErrExists) {
			return nil, err
		}
	}
}

// DeleteGroup deletes a group with its schedules. One that was interrupted goes on when it is called again; until it has
// ended the group is there, as Deleting.
func (r *Records) DeleteGroup(ctx context.Context, name string) error {
	if _, err := r.UpdateGroup(ctx, name, func(g *Group) error { g.Deleting = true; return nil }); err != nil {
		return err
	}
	keys, err := r.schedules.List(ctx, name+"/")
	if err != nil {
		return err
	}
	for _, record := range keys {
		if err := r.schedules.Delete(ctx, record.Key); err != nil && !errors.Is(err, state.ErrNotFound) {
			return err
		}
	}
	err = r.groups.Delete(ctx, name)
	if errors.Is(err, state.ErrNotFound) {
		return nil
	}
	return err
}

func list[T any](ctx context.Context, r *state.Records, prefix string) ([]*T, error) {
	records, err := r.List(ctx, prefix)
	if err != nil {
		return nil, err
	}
	all := make([]*T, len(records))
	for i, record := range records {
		all[i] = new(T)
		if err := json.Unmarshal(record.Value, all[i]); err != nil {
			return nil, fmt.Errorf("record %s: %w", record.Key, err)
		}
	}
	return all, nil
}

// notice is the event that a schedule's target gets when the schedule has no input of its own. Its detail is a text.
func notice(account thaw.Account, id string, slot time.Time, s *Schedule) ([]byte, error) {
	e := &events.Event{
		Version: "0", ID: id, DetailType: "Scheduled Event", Source: "aws.scheduler", Account: account.ID,
		Time: events.Time{Time: slot}, Region: account.Region, Resources: []string{s.ARN(account)}, Detail: json.RawMessage(`"{}"`),
	}
	return e.Encode()
}

// send delivers what a schedule sends for a slot.
func (s *Schedule) send(ctx context.Context, account thaw.Account, slot time.Time, deliver events.Deliver) error {
	id := events.DerivedID("schedule", s.ID, slot.Format(time.RFC3339Nano))
	d := delivery.Delivery{
		ID: id, Kind: delivery.FromSchedule, Source: s.ARN(account), Time: slot, Target: s.Target.ARN, Policy: s.Target.Policy, Once: true,
	}
	if s.Target.Group != nil {
		d.Group = *s.Target.Group
	}
	if s.Target.DeadLetter != nil {
		d.DeadLetter = *s.Target.DeadLetter
	}
	if s.Target.Input != nil {
		d.Input = []byte(*s.Target.Input)
	} else {
		var err error
		if d.Input, err = notice(account, id, slot, s); err != nil {
			return err
		}
	}
	return deliver(ctx, d)
}
