package alarms

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"

	"thaw/state"
)

// How much of an alarm's history is kept: CloudWatch shows 30 days.
const (
	historyAge   = 30 * 24 * time.Hour
	historyItems = 100
	historyBytes = 256 << 10
	maxHistories = 10_000 // of deleted alarms too; there can be 5,000
)

// Records keeps alarms and their history, by the alarm's name. The errors of its methods are those of package state.
type Records struct {
	alarms  *state.Records
	history *state.Records
}

// NewRecords makes the records "alarm" and "alarm-history" of the store.
func NewRecords(store *state.Store) *Records {
	return &Records{alarms: store.Records("alarm"), history: store.Records("alarm-history")}
}

// List gives all alarms, sorted by name.
func (r *Records) List(ctx context.Context) ([]*Alarm, error) {
	records, err := r.alarms.List(ctx, "")
	if err != nil {
		return nil, err
	}
	list := make([]*Alarm, len(records))
	for i, record := range records {
		list[i] = new(Alarm)
		if err := json.Unmarshal(record.Value, list[i]); err != nil {
			return nil, fmt.Errorf("alarm %s: %w", record.Key, err)
		}
	}
	return list, nil
}

// Get gives one alarm.
func (r *Records) Get(ctx context.Context, name string) (*Alarm, error) {
	a := new(Alarm)
	return a, r.alarms.Get(ctx, name, a)
}

// Create stores a new alarm.
func (r *Records) Create(ctx context.Context, a *Alarm) error {
	a.Change = 1
	return r.alarms.Create(ctx, a.Name, a)
}

// Update passes an alarm to change, as often as it takes, and stores what became of it.
func (r *Records) Update(ctx context.Context, name string, change func(*Alarm) error) (*Alarm, error) {
	return state.UpdateRecord(ctx, r.alarms, name, func(a *Alarm) error {
		a.Change++
		return change(a)
	})
}

// Delete deletes an alarm. What of its history waits is written before, and last behind it; actions that wait are dropped.
func (r *Records) Delete(ctx context.Context, name string, last func(*Alarm) Item) error {
	a, err := r.Get(ctx, name)
	if err != nil {
		return err
	}
	if err := r.record(ctx, a, append(a.unwritten(), last(a)), last(a).At); err != nil {
		return err
	}
	return r.alarms.Delete(ctx, name)
}

// unwritten are the items of the history that wait.
func (a *Alarm) unwritten() []Item {
	var items []Item
	for i := range a.Outbox {
		if item := a.Outbox[i].Item; item != nil {
			items = append(items, *item)
		}
	}
	return items
}

// Journal is the stored history of one alarm, which outlives it.
type Journal struct {
	Name      string `json:"name"`
	Composite bool   `json:"composite,omitempty"`
	Items     []Item `json:"items"` // the oldest first
}

// History gives one alarm's history, items of before the last 30 days left out. It is empty where there was no such alarm.
func (r *Records) History(ctx context.Context, name string, now time.Time) (*Journal, error) {
	j, a := &Journal{Name: name}, new(Alarm)
	if err := r.history.Get(ctx, name, j); err != nil && !errors.Is(err, state.ErrNotFound) {
		return nil, err
	}
	switch err := r.alarms.Get(ctx, name, a); {
	case err == nil:
		j.Composite = a.Composite != nil
		j.add(a.unwritten(), now)
	case !errors.Is(err, state.ErrNotFound):
		return nil, err
	}
	j.add(nil, now)
	return j, nil
}

// Histories passes the history of every alarm to fn, in no order and one at a time: together they may be too much to hold.
func (r *Records) Histories(ctx context.Context, now time.Time, fn func(*Journal)) error {
	list, err := r.List(ctx)
	if err != nil {
		return err
	}
	waiting := map[string]*Alarm{}
	for _, a := range list {
		if len(a.Outbox) > 0 {
			waiting[a.Name] = a
		}
	}
	pass := func(j *Journal) {
		if a := waiting[j.Name]; a != nil {
			j.Composite = a.Composite != nil
			j.add(a.unwritten(), now)
			delete(waiting, j.Name)
		}
		j.add(nil, now)
		fn(j)
	}
	err = r.history.Each(ctx, func(record state.Record) error {
		j := new(Journal)
		if err := json.Unmarshal(record.Value, j); err != nil {
			return fmt.Errorf("history of alarm %s: %w", record.Key, err)
		}
		pass(j)
		return nil
	})
	if err != nil {
		return err
	}
	for name := range waiting {
		pass(&Journal{Name: name})
	}
	return nil
}

// add appends items that are not there yet and takes out what is too old or too much.
func (j *Journal) add(items []Item, now time.Time) {
	for _, item := range items {
		if !slices.ContainsFunc(j.Items, func(i Item) bool { return i.ID == item.ID }) {
			j.Items = append(j.Items, item)
		}
	}
	size, from := 0, len(j.Items)
	for from > 0 && len(j.Items)-from < historyItems && now.Sub(j.Items[from-1].At) <= historyAge {
		if size += len(j.Items[from-1].Data) + len(j.Items[from-1].Summary); size > historyBytes {
			break
		}
		from--
	}
	j.Items = j.Items[from:]
}

// record writes items to the history, each once.
func (r *Records) record(ctx context.Context, a *Alarm, items []Item, now time.Time) error {
	if len(items) == 0 {
		return nil
	}
	for {
		_, err := state.UpdateRecord(ctx, r.history, a.Name, func(j *Journal) error {
			j.Composite = a.Composite != nil
			j.add(items, now)
			return nil
		})
		if !errors.Is(err, state.ErrNotFound) {
			return err
		}
		j := &Journal{Name: a.Name, Composite: a.Composite != nil}
		j.add(items, now)
		if err = r.history.Create(ctx, a.Name, j); !errors.Is(err, state.ErrExists) {
			return err
		}
	}
}

// forget deletes the histories of which nothing is left, and of the others the oldest, by their last items, where there are too
// many: those of deleted alarms stay.
func (r *Records) forget(ctx context.Context, now time.Time, most int) error {
	type last struct {
		key string
		at  time.Time
	}
	var kept []last
	var gone []string
	err := r.history.Each(ctx, func(record state.Record) error {
		j := new(Journal)
		if json.Unmarshal(record.Value, j) == nil {
			if j.add(nil, now); len(j.Items) > 0 {
				kept = append(kept, last{record.Key, j.Items[len(j.Items)-1].At})
				return nil
			}
		}
		gone = append(gone, record.Key)
		return nil
	})
	if err != nil {
		return err
	}
	if len(kept) > most {
		slices.SortFunc(kept, func(a, b last) int { return a.at.Compare(b.at) })
		for _, k := range kept[:len(kept)-most] {
			gone = append(gone, k.key)
		}
	}
	for _, key := range gone {
		if err := r.history.Delete(ctx, key); err != nil && !errors.Is(err, state.ErrNotFound) {
			return err
		}
	}
	return nil
}

// Set puts the alarm into a state, with what has to follow: history, an event and, where actions are enabled, the actions
// of the state. A state that the alarm is in already changes nothing but the reason.
func (a *Alarm) Set(value State, reason, data string, now time.Time) {
	a.set(value, reason, data, unseen, now)
}

// set is Set that may know of the alarm that suppresses actions.
func (a *Alarm) set(value State, reason, data string, by suppressor, now time.Time) {
	old := a.Status
	a.Status.Value, a.Status.Reason, a.Status.Data, a.Status.Updated = value, reason, data, now
	if value == old.Value {
		return
	}
	a.Status.Transitioned = now
	holds := a.hold(by, now)
	item := Item{ID: uuid.NewString(), At: now, Type: ItemState, Summary: "Alarm updated from " + string(old.Value) + " to " + string(value), Data: stateData(&old, &a.Status)}
	a.send(Task{ID: item.ID, Item: &item}, Task{ID: uuid.NewString(), Target: EventTarget, Old: old, New: a.Status})
	if !holds {
		a.act(&old)
	}
}

// act has the actions of the state carried out, where they are enabled. old is what was before.
func (a *Alarm) act(old *Status) {
	if !a.Enabled {
		return
	}
	var tasks []Task
	for _, target := range a.Actions[a.Status.Value] {
		tasks = append(tasks, Task{ID: uuid.NewString(), Target: target, Old: *old, New: a.Status})
	}
	a.send(tasks...)
}

// send is post that says what was dropped.
func (a *Alarm) send(tasks ...Task) {
	if dropped := a.post(tasks...); dropped > 0 {
		// Said where the operator looks first; the log has it from the loop, which is not the only one to set states.
		a.Status.Reason = cut(a.Status.Reason+" ("+strconv.Itoa(dropped)+" older actions were dropped: too many wait.)", 1023)
	}
}

func cut(text string, most int) string {
	if r := []rune(text); len(r) > most {
		return string(r[:most])
	}
	return text
}

// stateData is HistoryData of a change of the state.
func stateData(old, now *Status) string {
	type status struct {
		Value  State           `json:"stateValue"`
		Reason string          `json:"stateReason"`
		Data   json.RawMessage `json:"stateReasonData,omitempty"`
	}
	of := func(s *Status) status {
		out := status{Value: s.Value, Reason: s.Reason}
		if json.Valid([]byte(s.Data)) {
			out.Data = json.RawMessage(s.Data)
		}
		return out
	}
	return encode(struct {
		Version string `json:"version"`
		Old     status `json:"oldState"`
		New     status `json:"newState"`
	}{"1.0", of(old), of(now)})
}
