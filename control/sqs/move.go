package sqs

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"thaw"
	"thaw/control/internal/operation"
	"thaw/state"
	"thaw/state/queues"
)

// Limits of move tasks, after the documentation of StartMessageMoveTask and ListMessageMoveTasks.
const (
	maxMoveRate = 500 // messages per second
	maxTasks    = 10  // kept of a queue
)

// moveBatch is how many messages a task without a rate moves at once: after each, it looks whether it was cancelled.
const moveBatch = 100

// reportInterval is how often a task's progress is written.
const reportInterval = time.Second

// reportPatience is how long the progress of a task may take to be written when the platform stops.
const reportPatience = 5 * time.Second

// task is a move task, kept with the queue that it takes messages from.
type task struct {
	ID          string    `json:"id"`
	Status      string    `json:"status"`
	Destination string    `json:"destination,omitempty"` // name of a queue; empty: where each message died
	Rate        int       `json:"rate,omitempty"`        // messages per second; 0: as fast as they go
	ToMove      int       `json:"to_move"`
	Moved       int       `json:"moved"`
	Started     time.Time `json:"started"`
	Failure     string    `json:"failure,omitempty"`
}

// The states of a task, as AWS has them.
const (
	running    = "RUNNING"
	completed  = "COMPLETED"
	cancelling = "CANCELLING"
	cancelled  = "CANCELLED"
	broken     = "FAILED"
)

func (t *task) active() bool { return t.Status == running || t.Status == cancelling }

// handle is what a task is known by, in AWS's form.
type handle struct {
	Task   string `json:"taskId"`
	Source string `json:"sourceArn"`
}

func noResource(format string, args ...any) error {
	return thaw.Errorf(thaw.CodeResourceNotFound, format, args...)
}

// byARN gives the queue that a parameter names by its ARN.
func (a *API) byARN(parameter, arn string) (*queue, error) {
	if !strings.HasPrefix(arn, "arn:") {
		return nil, invalid("Value for parameter %s is invalid.", parameter)
	}
	name, ok := a.ofARN(arn)
	if ok {
		q, ok, err := a.named(name)
		if ok || err != nil {
			return q, err
		}
	}
	return nil, noResource("The resource that you specified for the %s parameter doesn't exist.", parameter)
}

func (a *API) startMessageMoveTask(ctx context.Context, in *sdk.StartMessageMoveTaskInput) (*sdk.StartMessageMoveTaskOutput, error) {
	source, err := a.byARN("SourceArn", *in.SourceArn)
	if err != nil {
		return nil, err
	}
	t := task{ID: uuid.NewString(), Status: running, Rate: int(operation.Value(in.MaxNumberOfMessagesPerSecond)), Started: a.now().UTC()}
	if in.MaxNumberOfMessagesPerSecond != nil && (t.Rate < 1 || t.Rate > maxMoveRate) {
		return nil, invalidValue(t.Rate, "MaxNumberOfMessagesPerSecond", "Must be between 1 and 500, if provided.")
	}
	if arn := operation.Value(in.DestinationArn); arn != "" {
		destination, err := a.byARN("DestinationArn", arn)
		switch {
		case err != nil:
			return nil, err
		case destination.fifo != source.fifo:
			return nil, invalid("The destination must be the same type of queue as the source.")
		case destination.name == source.name:
			return nil, invalid("The destination must be another queue than the source.")
		}
		t.Destination = destination.name
	}
	if !a.isDeadLetter(source.name) {
		return nil, invalid("Source queue must be configured as a Dead Letter Queue.")
	}
	err = a.update(ctx, source, func(s *settings) error {
		if len(s.Tasks) > 0 && s.Tasks[0].active() {
			return invalid("There is already a task running. Only one active task is allowed for a source queue arn at a given time.")
		}
		t.ToMove = source.Depth().Visible
		s.Tasks = slices.Insert(slices.Clone(s.Tasks), 0, t)
		s.Tasks = s.Tasks[:min(maxTasks, len(s.Tasks))]
		return nil
	})
	if err != nil {
		return nil, err
	}
	a.wake()
	return &sdk.StartMessageMoveTaskOutput{TaskHandle: a.handle(source.name, t.ID)}, nil
}

func (a *API) isDeadLetter(name string) bool {
	for range a.sources(name) {
		return true
	}
	return false
}

func (a *API) handle(source, id string) *string {
	text, _ := json.Marshal(handle{id, a.arn(source)}) // two strings
	return aws.String(base64.StdEncoding.EncodeToString(text))
}

func (a *API) listMessageMoveTasks(_ context.Context, in *sdk.ListMessageMoveTasksInput) (*sdk.ListMessageMoveTasksOutput, error) {
	n := 1
	if in.MaxResults != nil {
		if n = int(*in.MaxResults); n < 1 || n > maxTasks {
			return nil, invalidValue(n, "MaxResults", "Must be between 1 and 10, if provided.")
		}
	}
	source, err := a.byARN("SourceArn", *in.SourceArn)
	if err != nil {
		return nil, err
	}
	out := &sdk.ListMessageMoveTasksOutput{}
	for _, t := range source.Tasks[:min(n, len(source.Tasks))] {
		shown := types.ListMessageMoveTasksResultEntry{
			Status: aws.String(t.Status), SourceArn: aws.String(a.arn(source.name)), StartedTimestamp: t.Started.UnixMilli(),
			ApproximateNumberOfMessagesMoved: int64(t.Moved), ApproximateNumberOfMessagesToMove: aws.Int64(int64(t.ToMove)),
			FailureReason: operation.Optional(t.Failure),
		}
		if t.Destination != "" {
			shown.DestinationArn = aws.String(a.arn(t.Destination))
		}
		if t.Rate > 0 {
			shown.MaxNumberOfMessagesPerSecond = aws.Int32(int32(t.Rate))
		}
		if t.Status == running {
			shown.TaskHandle = a.handle(source.name, t.ID)
		}
		out.Results = append(out.Results, shown)
	}
	return out, nil
}

func (a *API) cancelMessageMoveTask(ctx context.Context, in *sdk.CancelMessageMoveTaskInput) (*sdk.CancelMessageMoveTaskOutput, error) {
	var h handle
	text, err := base64.StdEncoding.DecodeString(*in.TaskHandle)
	if err != nil || json.Unmarshal(text, &h) != nil || h.Task == "" || h.Source == "" {
		return nil, invalid("Value for parameter TaskHandle is invalid.")
	}
	source, err := a.byARN("SourceArn", h.Source)
	if err != nil {
		return nil, err
	}
	var moved int
	err = a.update(ctx, source, func(s *settings) error {
		t := s.task(h.Task)
		switch {
		case t == nil:
			return noResource("Task does not exist.")
		case t.Status != running:
			return invalid("Only active tasks can be cancelled. This one is %s.", t.Status)
		}
		t.Status, moved = cancelling, t.Moved
		return nil
	})
	if err != nil {
		return nil, err
	}
	a.wake()
	return &sdk.CancelMessageMoveTaskOutput{ApproximateNumberOfMessagesMoved: int64(moved)}, nil
}

// task gives the task with an id, nil if there is none.
func (s *settings) task(id string) *task {
	for i := range s.Tasks {
		if s.Tasks[i].ID == id {
			return &s.Tasks[i]
		}
	}
	return nil
}

func (a *API) wake() {
	select {
	case a.moving <- struct{}{}:
	default: // Run will look anyway
	}
}

// Run moves messages for the move tasks that there are, those of an earlier run of the platform first, until ctx ends. It
// returns ctx's error.
func (a *API) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	var mu sync.Mutex          // guards under
	under := map[string]bool{} // ids of the tasks that have a goroutine
	a.wake()
	for {
		select {
		case <-ctx.Done():
			_ = g.Wait() // tasks return no error
			return ctx.Err()
		case <-a.moving:
		}
		for q := range a.all {
			d, err := describe(q)
			if err != nil || len(d.Tasks) == 0 || !d.Tasks[0].active() {
				continue
			}
			t := d.Tasks[0]
			mu.Lock()
			taken := under[t.ID]
			under[t.ID] = true
			mu.Unlock()
			if taken {
				continue
			}
			g.Go(func() error {
				a.runTask(ctx, d, t)
				mu.Lock()
				defer mu.Unlock()
				delete(under, t.ID)
				return nil
			})
		}
	}
}

// runTask moves a task's messages until it is done, fails or is cancelled. Its queue is looked at before each step: who
// cancels the task writes there.
func (a *API) runTask(ctx context.Context, q *queue, t task) {
	size, interval := moveBatch, time.Duration(0)
	if t.Rate > 0 {
		size = max(1, t.Rate/10)
		interval = time.Duration(size) * time.Second / time.Duration(t.Rate)
	}
	destination := ""
	if t.Destination != "" {
		destination = prefix + t.Destination
	}
	reported := a.now()
	for {
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), reportPatience)
			a.report(last, q, t) // the next run goes on from there
			cancel()
			return
		case <-time.After(interval):
		}
		if s, err := readSettings(q.Info()); err == nil {
			if kept := s.task(t.ID); kept == nil || kept.Status == cancelling {
				t.Status = cancelled
				a.report(ctx, q, t)
				return
			}
		}
		n, err := 0, error(nil)
		if left := t.ToMove - t.Moved; left > 0 {
			n, err = a.queues.Move(ctx, prefix+q.name, destination, min(size, left))
		}
		t.Moved += n
		switch {
		case err != nil && ctx.Err() != nil:
			continue
		case errors.Is(err, state.ErrNotFound):
			t.Status, t.Failure = broken, "AWS.SimpleQueueService.NonExistentQueue"
		case err != nil:
			t.Status, t.Failure = broken, fmt.Sprint(err)
			a.log.Error("moving messages between queues failed", "queue", q.name, "task", t.ID, "error", err)
		case n == 0 && t.Moved < t.ToMove && destination == "" && q.Depth().Visible > 0:
			// Those that are left did not die in a queue, or in one that is deleted.
			t.Status, t.Failure = broken, "CouldNotDetermineMessageSource"
		case n == 0 || t.Moved >= t.ToMove:
			t.Status = completed
		}
		if now := a.now(); t.Status != running || now.Sub(reported) >= reportInterval {
			a.report(ctx, q, t)
			reported = now
		}
		if t.Status != running {
			return
		}
	}
}

// report writes how far a task has come.
func (a *API) report(ctx context.Context, q *queue, t task) {
	err := a.update(ctx, q, func(s *settings) error {
		s.Tasks = slices.Clone(s.Tasks)
		kept := s.task(t.ID)
		if kept == nil {
			return nil
		}
		status := kept.Status
		*kept = t
		if t.Status == running && status == cancelling {
			kept.Status = cancelling
		}
		return nil
	})
	if err != nil && !errors.Is(err, queues.ErrClosed) && thaw.CodeOf(err) != thaw.CodeQueueDoesNotExist {
		a.log.Error("the progress of a move task was not stored", "queue", q.name, "task", t.ID, "error", err)
	}
}
