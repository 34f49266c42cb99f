package autoscaling

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"thaw/state"
)

// Target is one scalable target, with everything that hangs on it, so that one write changes it as a whole.
type Target struct {
	Function  string `json:"function"`
	Qualifier string `json:"qualifier"` // an alias or a version's number
	// ID is the last part of its ARN. A target that was deregistered and registered again has another.
	ID        string            `json:"id"`
	Min       int               `json:"min"`
	Max       int               `json:"max"`
	Suspended Suspended         `json:"suspended"`
	Created   time.Time         `json:"created"`
	Tags      map[string]string `json:"tags,omitempty"`
	// Policy is the target tracking policy, nil when there is none. There cannot be two: AWS has one per metric, and
	// there is one metric.
	Policy *Policy `json:"policy,omitempty"`
	// Actions are the scheduled actions, in the order in which they were made.
	Actions []Action `json:"actions,omitempty"`
	// Bounds counts what asks for the capacity to be brought within Min and Max: a registration, a scheduled action.
	// Enforced is the count up to which the loop has done so.
	Bounds   uint64 `json:"bounds"`
	Enforced uint64 `json:"enforced"`
}

// Suspended is AWS's SuspendedState.
type Suspended struct {
	In        bool `json:"in,omitempty"`
	Out       bool `json:"out,omitempty"`
	Scheduled bool `json:"scheduled,omitempty"`
}

// Policy is a target tracking policy on LambdaProvisionedConcurrencyUtilization.
type Policy struct {
	Name           string    `json:"name"`
	ID             string    `json:"id"`                     // a UUID, part of its ARN
	Target         float64   `json:"target"`                 // utilisation above 0; 0.7 is 70%
	OutCooldown    *int32    `json:"out_cooldown,omitempty"` // seconds; nil: 0, which is AWS's default for Lambda
	InCooldown     *int32    `json:"in_cooldown,omitempty"`  // seconds; nil: 0
	DisableScaleIn *bool     `json:"disable_scale_in,omitempty"`
	AlarmHigh      string    `json:"alarm_high"` // a UUID, the end of the alarm's name
	AlarmLow       string    `json:"alarm_low"`  // as AlarmHigh
	Created        time.Time `json:"created"`
}

// Action is a scheduled action.
type Action struct {
	Name     string     `json:"name"`
	ID       string     `json:"id"`                 // a UUID, part of its ARN
	Schedule string     `json:"schedule"`           // an expression of package schedule
	Timezone string     `json:"timezone,omitempty"` // empty: UTC
	Start    *time.Time `json:"start,omitempty"`
	End      *time.Time `json:"end,omitempty"`
	Min      *int32     `json:"min,omitempty"`
	Max      *int32     `json:"max,omitempty"`
	Created  time.Time  `json:"created"`
	// Seen is the time up to which the loop has dealt with what was due: it is written with what it does, so that
	// nothing is done twice, and begins as the time of the last PutScheduledAction.
	Seen time.Time `json:"seen"`
}

// Activity is a scaling activity. The texts are AWS's.
type Activity struct {
	ID string `json:"id"`
	// Number counts the activities of a resource, so that those of one moment have an order.
	Number      uint64    `json:"number"`
	Description string    `json:"description"`
	Cause       string    `json:"cause"`
	Status      string    `json:"status"` // AWS's ScalingActivityStatusCode
	Message     string    `json:"message,omitempty"`
	Start       time.Time `json:"start"`
	End         time.Time `json:"end,omitzero"`
	// Policy is the name of the policy that asked for it, empty for the others. From and To are the capacities before
	// and after; Base is what From was when the cooldown that it happened in began.
	Policy string `json:"policy,omitempty"`
	From   int    `json:"from"`
	To     int    `json:"to"`
	Base   int    `json:"base"`
	// NotScaled is why nothing was changed, AlreadyAtMax or AlreadyAtMin, empty when something was. Min and Max are the
	// bounds at that time.
	NotScaled string `json:"not_scaled,omitempty"`
	Min       int    `json:"min,omitempty"`
	Max       int    `json:"max,omitempty"`
}

// The statuses that activities have here.
const (
	StatusInProgress  = "InProgress"
	StatusSuccessful  = "Successful"
	StatusOverridden  = "Overridden"
	StatusUnfulfilled = "Unfulfilled"
	StatusFailed      = "Failed"
)

// The reasons of not scaling that activities have here, AWS's NotScaledReason codes.
const (
	AlreadyAtMax = "AlreadyAtMaxCapacity"
	AlreadyAtMin = "AlreadyAtMinCapacity"
)

// How many activities of a target are kept, how many of them may be ones that changed nothing, and for how long: AWS
// shows six weeks.
const (
	maxActivities = 100
	maxNotScaled  = 10
	activityAge   = 6 * 7 * 24 * time.Hour
)

// ResourceID is AWS's name of a target: function:NAME:QUALIFIER.
func (t *Target) ResourceID() string { return ResourceID(t.Function, t.Qualifier) }

// ResourceID is AWS's name of a function's qualifier as a resource that is scaled.
func ResourceID(function, qualifier string) string { return "function:" + function + ":" + qualifier }

// AlarmHighName is the name that AWS gives the alarm for scaling out.
func (p *Policy) AlarmHighName(resource string) string {
	return "TargetTracking-" + resource + "-AlarmHigh-" + p.AlarmHigh
}

// AlarmLowName is the name that AWS gives the alarm for scaling in.
func (p *Policy) AlarmLowName(resource string) string {
	return "TargetTracking-" + resource + "-AlarmLow-" + p.AlarmLow
}

// Records keeps targets and their activities, by resource. The errors of its methods are those of package state.
type Records struct {
	targets    *state.Records
	activities *state.Records
}

// NewRecords makes the records "scalable-target" and "scaling-activity" of the store.
func NewRecords(store *state.Store) *Records {
	return &Records{targets: store.Records("scalable-target"), activities: store.Records("scaling-activity")}
}

// Targets gives all targets, sorted by resource.
func (r *Records) Targets(ctx context.Context) ([]*Target, error) {
	records, err := r.targets.List(ctx, "")
	if err != nil {
		return nil, err
	}
	targets := make([]*Target, len(records))
	for i, record := range records {
		targets[i] = new(Target)
		if err := json.Unmarshal(record.Value, targets[i]); err != nil {
			return nil, fmt.Errorf("scalable target %s: %w", record.Key, err)
		}
	}
	return targets, nil
}

// Target gives one target.
func (r *Records) Target(ctx context.Context, resource string) (*Target, error) {
	t := new(Target)
	return t, r.targets.Get(ctx, resource, t)
}

// Create stores a new target.
func (r *Records) Create(ctx context.Context, t *Target) error {
	return r.targets.Create(ctx, t.ResourceID(), t)
}

// Update passes a target to change, as often as it takes, and stores what became of it.
func (r *Records) Update(ctx context.Context, resource string, change func(*Target) error) (*Target, error) {
	return state.UpdateRecord(ctx, r.targets, resource, change)
}

// Delete deletes a target with its policy and its scheduled actions. Its activities stay.
func (r *Records) Delete(ctx context.Context, resource string) error {
	return r.targets.Delete(ctx, resource)
}

// journal is the stored form of a target's activities: the newest first.
type journal struct {
	Activities []Activity `json:"activities"`
}

// Activities gives the activities of a resource, the newest first, none that is older than six weeks.
func (r *Records) Activities(ctx context.Context, resource string, now time.Time) ([]Activity, error) {
	var j journal
	if err := r.activities.Get(ctx, resource, &j); err != nil && !errors.Is(err, state.ErrNotFound) {
		return nil, err
	}
	return recent(j.Activities, now), nil
}

// AllActivities is Activities of every resource that has some.
func (r *Records) AllActivities(ctx context.Context, now time.Time) (map[string][]Activity, error) {
	records, err := r.activities.List(ctx, "")
	if err != nil {
		return nil, err
	}
	all := make(map[string][]Activity, len(records))
	for _, record := range records {
		var j journal
		if err := json.Unmarshal(record.Value, &j); err != nil {
			return nil, fmt.Errorf("scaling activities of %s: %w", record.Key, err)
		}
		if kept := recent(j.Activities, now); len(kept) > 0 {
			all[record.Key] = kept
		}
	}
	return all, nil
}

// recent leaves out what is too old.
func recent(activities []Activity, now time.Time) []Activity {
	return slices.DeleteFunc(activities, func(a Activity) bool { return now.Sub(a.Start) > activityAge })
}

// record passes the activities of a resource to change and stores what became of them, within the bounds.
func (r *Records) record(ctx context.Context, resource string, now time.Time, change func([]Activity) []Activity) ([]Activity, error) {
	bounded := func(j *journal) error {
		j.Activities = recent(change(j.Activities), now)
		idle := 0
		j.Activities = slices.DeleteFunc(j.Activities, func(a Activity) bool {
			if a.NotScaled != "" {
				idle++
			}
			return a.NotScaled != "" && idle > maxNotScaled
		})
		j.Activities = j.Activities[:min(len(j.Activities), maxActivities)]
		return nil
	}
	for {
		j, err := state.UpdateRecord(ctx, r.activities, resource, bounded)
		if err == nil {
			return j.Activities, nil
		}
		if !errors.Is(err, state.ErrNotFound) {
			return nil, err
		}
		j = new(journal)
		_ = bounded(j) // it has nothing to refuse
		err = r.activities.Create(ctx, resource, j)
		if err == nil {
			return j.Activities, nil
		}
		if !errors.Is(err, state.ErrExists) {
			return nil, err
		}
	}
}

// forget deletes the activities of resources that have had none for six weeks.
func (r *Records) forget(ctx context.Context, now time.Time) error {
	records, err := r.activities.List(ctx, "")
	if err != nil {
		return err
	}
	for _, record := range records {
		var j journal
		if err := json.Unmarshal(record.Value, &j); err == nil && len(recent(j.Activities, now)) > 0 {
			continue
		}
		if err := r.activities.Delete(ctx, record.Key); err != nil && !errors.Is(err, state.ErrNotFound) {
			return err
		}
	}
	return nil
}
