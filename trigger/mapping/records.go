package mapping

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"thaw/state"
)

// Mapping is one event source mapping, as it is stored. The control API writes what is asked for, the loop what became
// of it: State once a change is carried out, LastResult, and the end of the record.
type Mapping struct {
	UUID      string `json:"uuid"`
	Function  string `json:"function"`
	Qualifier string `json:"qualifier,omitempty"` // an alias or a version's number, empty for the function itself
	Source    Source `json:"source"`
	Enabled   bool   `json:"enabled"`
	BatchSize int    `json:"batch_size"` // messages in one invocation at most, 1 to 10,000
	// Window is for how long, in seconds, messages are gathered before the function is invoked, 0 to 300 (AWS's
	// MaximumBatchingWindowInSeconds).
	Window int `json:"window,omitempty"`
	// MaxConcurrency bounds the invocations at the same time, 2 to 1,000; 0: the function's own limit does.
	MaxConcurrency int `json:"max_concurrency,omitempty"`
	// Filters are event patterns; a message that matches none of them is deleted unseen. None: all are for the function.
	Filters []string `json:"filters,omitempty"`
	// ReportFailures has the function's response say which messages failed (AWS's ReportBatchItemFailures).
	ReportFailures bool `json:"report_failures,omitempty"`
	// CountEvents has the metrics of AWS's group EventCount written.
	CountEvents bool              `json:"count_events,omitempty"`
	Tags        map[string]string `json:"tags,omitempty"`
	State       string            `json:"state"`
	StateReason string            `json:"state_reason"` // AWS's StateTransitionReason
	LastResult  string            `json:"last_result,omitempty"`
	Modified    time.Time         `json:"modified"`
	// Revision counts what was asked of the mapping, so that the loop sees what it has carried out already.
	Revision uint64 `json:"revision"`
}

// The states of a mapping, after the documentation of EventSourceMappingConfiguration. The loop ends those that end in
// "ing"; until then nothing else can be asked of the mapping.
const (
	StateCreating  = "Creating"
	StateEnabling  = "Enabling"
	StateEnabled   = "Enabled"
	StateDisabling = "Disabling"
	StateDisabled  = "Disabled"
	StateUpdating  = "Updating"
	StateDeleting  = "Deleting"
)

// ReasonUser is the StateTransitionReason of changes that were asked for.
const ReasonUser = "USER_INITIATED"

// Settled reports whether nothing is under way, so that another change can be asked for.
func (m *Mapping) Settled() bool { return m.State == StateEnabled || m.State == StateDisabled }

// Records keeps mappings by UUID. The errors of its methods are those of package state.
type Records struct{ records *state.Records }

// NewRecords makes the records "event-source-mapping" of the store.
func NewRecords(store *state.Store) *Records {
	return &Records{records: store.Records("event-source-mapping")}
}

// All gives every mapping, sorted by UUID.
func (r *Records) All(ctx context.Context) ([]*Mapping, error) {
	records, err := r.records.List(ctx, "")
	if err != nil {
		return nil, err
	}
	mappings := make([]*Mapping, len(records))
	for i, record := range records {
		mappings[i] = new(Mapping)
		if err := json.Unmarshal(record.Value, mappings[i]); err != nil {
			return nil, fmt.Errorf("event source mapping %s: %w", record.Key, err)
		}
	}
	return mappings, nil
}

// Get gives one mapping.
func (r *Records) Get(ctx context.Context, uuid string) (*Mapping, error) {
	m := new(Mapping)
	return m, r.records.Get(ctx, uuid, m)
}

// Create stores a new mapping.
func (r *Records) Create(ctx context.Context, m *Mapping) error {
	return r.records.Create(ctx, m.UUID, m)
}

// Update passes a mapping to change, as often as it takes, and stores what became of it.
func (r *Records) Update(ctx context.Context, uuid string, change func(*Mapping) error) (*Mapping, error) {
	return state.UpdateRecord(ctx, r.records, uuid, change)
}

// Watch calls fn once and again after changes of mappings, until ctx ends.
func (r *Records) Watch(ctx context.Context, fn func()) error { return r.records.Watch(ctx, fn) }

// settle ends what revision rev of a mapping asked for. Where something newer has been asked meanwhile it does nothing.
func (r *Records) settle(ctx context.Context, uuid string, rev uint64, to string) error {
	_, err := r.Update(ctx, uuid, func(m *Mapping) error {
		if m.Revision != rev || m.Settled() || m.State == StateDeleting {
			return errOvertaken
		}
		m.State = to
		return nil
	})
	if errors.Is(err, errOvertaken) || errors.Is(err, state.ErrNotFound) {
		return nil
	}
	return err
}

var errOvertaken = errors.New("the mapping was changed meanwhile")

// noteResult stores the outcome of the last batch.
func (r *Records) noteResult(ctx context.Context, uuid, result string) error {
	_, err := r.Update(ctx, uuid, func(m *Mapping) error {
		if m.LastResult == result {
			return errOvertaken
		}
		m.LastResult = result
		return nil
	})
	if errors.Is(err, errOvertaken) || errors.Is(err, state.ErrNotFound) {
		return nil
	}
	return err
}

// drop ends a mapping that was being deleted.
func (r *Records) drop(ctx context.Context, uuid string) error {
	if err := r.records.Delete(ctx, uuid); !errors.Is(err, state.ErrNotFound) {
		return err
	}
	return nil
}
