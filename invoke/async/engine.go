package async

import (
	"context"
	"time"

	"thaw/state/queues"
)

// Queues is the durable queue engine as far as events need it; NewEngine makes one of the real engine.
type Queues interface {
	Create(ctx context.Context, info queues.Info) error
	Queue(name string) (Queue, bool)
	// Names lists the queues whose names begin with prefix, sorted.
	Names(prefix string) []string
	Delete(ctx context.Context, name string) error
}

// Queue is one queue; what its methods do and fail with is written at *queues.Queue.
type Queue interface {
	Info() queues.Info
	Depth() queues.Depth
	Send(ctx context.Context, messages ...queues.Message) []queues.Sent
	Receive(ctx context.Context, most int, wait time.Duration, visibility *time.Duration) ([]queues.Received, error)
	Delete(ctx context.Context, handle string) error
	DeleteBatch(ctx context.Context, handles []string) []error
	ChangeVisibilityBatch(ctx context.Context, changes []queues.VisibilityChange) []error
	Return(ctx context.Context, handle string, delay time.Duration, note []byte) error
	Die(ctx context.Context, handle string, meta []byte) error
	Recall(ctx context.Context) (int, error)
	Peek(ctx context.Context, after uint64, limit int) ([]queues.Received, error)
}

// NewEngine is the real engine as Config takes it.
func NewEngine(e *queues.Queues) Queues { return engine{e} }

type engine struct{ of *queues.Queues }

func (e engine) Create(ctx context.Context, info queues.Info) error {
	_, err := e.of.Create(ctx, info)
	return err
}

func (e engine) Queue(name string) (Queue, bool) {
	q, ok := e.of.Queue(name)
	if !ok {
		return nil, false
	}
	return q, true
}

func (e engine) Names(prefix string) []string {
	const page = 1000
	var names []string
	for after := ""; ; {
		list := e.of.List(prefix, after, page)
		for _, q := range list {
			after = q.Info().Name
			names = append(names, after)
		}
		if len(list) < page {
			return names
		}
	}
}

func (e engine) Delete(ctx context.Context, name string) error { return e.of.Delete(ctx, name) }
