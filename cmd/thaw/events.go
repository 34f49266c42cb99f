package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/google/uuid"

	"thaw"
	"thaw/awsapi"
	controlevents "thaw/control/events"
	"thaw/control/scheduler"
	"thaw/control/sqs"
	"thaw/edge"
	"thaw/invoke"
	"thaw/invoke/async"
	"thaw/placement"
	"thaw/state"
	"thaw/state/queues"
	"thaw/trigger/delivery"
	"thaw/trigger/events"
	"thaw/trigger/mapping"
	schedules "thaw/trigger/scheduler"
)

// eventSide is what keeps messages and events, and what acts on them by itself.
type eventSide struct {
	queues     *queues.Queues
	async      *async.Dispatcher
	deliveries *delivery.Deliverer
	mappings   *mapping.Records
	services   map[string]func(*awsapi.Service)
	// stopWaiting ends the requests that wait for messages.
	stopWaiting func()
	bus         *events.Bus
}

// eventParts are what the event side stands on.
type eventParts struct {
	cfg     *config
	account thaw.Account
	store   *state.Store
	queues  *queues.Queues
	invoker *invoke.Invoker
	placer  *placement.Placer
	count   func(metric, function, qualifier string, n int)
	mapped  func(mapping, metric string, messages int) // counts for event source mappings
	log     *slog.Logger
}

// startEvents starts what delivers events, from the bottom up: asynchronous invocations, then what makes them, so that
// a stop hands back what was taken out before what runs it is gone.
func startEvents(ctx context.Context, p *eventParts, g *group) (*eventSide, error) {
	s := &eventSide{queues: p.queues, mappings: mapping.NewRecords(p.store)}
	var err error
	s.async, err = async.New(async.Config{
		Queues: async.NewEngine(p.queues), Invoker: p.invoker, Catalog: p.store, Account: p.account,
		MaxInFlight: p.cfg.Environments.Concurrency, RetryWait: p.cfg.Events.RetryWait, MaxBackoff: p.cfg.Events.MaxBackoff,
		Drain: drainTime, Count: p.count, Log: p.log,
	})
	if err != nil {
		return nil, err
	}
	g.run(ctx, "asynchronous invocations", s.async.Run)
	s.deliveries, err = delivery.New(delivery.Config{Store: p.store, Account: p.account, Enqueue: s.enqueue, Send: s.send, Log: p.log})
	if err != nil {
		return nil, err
	}
	g.run(ctx, "deliveries", s.deliveries.Run)
	mappings, err := mapping.New(mapping.Config{
		Account: p.account, Records: s.mappings, Functions: p.store, Queue: s.source, Invoke: invokeWith(p.invoker), Expect: p.placer.Expect, Count: p.mapped,
		MaxConcurrency: p.cfg.Environments.Concurrency, Grace: drainTime, Environment: os.LookupEnv, Log: p.log,
	})
	if err != nil {
		return nil, err
	}
	g.run(ctx, "event source mappings", mappings.Run)
	clock, err := schedules.New(schedules.Config{
		Store: p.store, Account: p.account, Deliver: s.deliveries.Deliver, Expect: p.placer.Expect, Log: p.log,
		CatchUp: max(p.cfg.Schedules.CatchUp, time.Nanosecond), // its zero is a default
	})
	if err != nil {
		return nil, err
	}
	g.run(ctx, "schedules", clock.Run)
	rules := events.NewRecords(p.store)
	bus := events.New(p.account, rules, s.deliveries.Deliver, nil, p.log)
	s.bus = bus
	messages := sqs.New(p.account, p.queues, p.log)
	g.run(ctx, "redrives", messages.Run)
	s.stopWaiting = messages.StopWaiting
	s.services = map[string]func(*awsapi.Service){
		"sqs":       messages.Register,
		"events":    controlevents.New(p.account, rules, bus.Publish).Register,
		"scheduler": scheduler.New(p.account, schedules.NewRecords(p.store)).Register,
	}
	return s, nil
}

// enqueue has a function invoked asynchronously for a rule or a schedule.
func (s *eventSide) enqueue(ctx context.Context, i delivery.Invocation) error {
	_, err := s.async.Enqueue(ctx, &async.Event{Function: i.Function, Payload: i.Payload, TraceID: i.Trace, RequestID: i.ID, Once: i.Once, Wait: true})
	return err
}

// send puts a message into one of the users' queues.
func (s *eventSide) send(ctx context.Context, name string, m queues.Message) error {
	q, ok := s.queues.Queue(edge.UserQueues + name)
	if !ok {
		return fmt.Errorf("queue %s: %w", name, state.ErrNotFound)
	}
	return q.Send(ctx, m)[0].Err
}

// source gives the queue that a mapping reads.
func (s *eventSide) source(name string) (mapping.Queue, bool) {
	q, ok := s.queues.Queue(name)
	if !ok {
		return nil, false
	}
	return q, true
}

// invokeWith invokes functions for event source mappings.
func invokeWith(invoker *invoke.Invoker) mapping.Invoke {
	return func(ctx context.Context, c *mapping.Call) (mapping.Result, error) {
		r, err := invoker.Invoke(ctx, &invoke.Request{
			Function: c.Function, Qualifier: c.Qualifier, Payload: c.Payload, TraceID: invoke.Furthest(c.Traces),
			RequestID: uuid.NewString(), Start: time.Now(),
		})
		if err != nil {
			return mapping.Result{}, err
		}
		return mapping.Result{Payload: r.Payload, FunctionError: r.FunctionError}, nil
	}
}

// readers gives the mappings that read one of the users' queues.
func (s *eventSide) readers(ctx context.Context, name string) ([]edge.QueueMapping, error) {
	all, err := s.mappings.All(ctx)
	if err != nil {
		return nil, err
	}
	var list []edge.QueueMapping
	for _, m := range all {
		if m.Source.Kind() != mapping.KindQueue || m.Source.QueueName() != edge.UserQueues+name {
			continue
		}
		function := m.Function
		if m.Qualifier != "" {
			function += ":" + m.Qualifier
		}
		list = append(list, edge.QueueMapping{ID: m.UUID, Function: function, State: m.State, LastResult: m.LastResult})
	}
	return list, nil
}

// hasQueue and describeQueue tell the Lambda API about queues: the first takes the name that a user gave, the second the
// engine's.
func hasQueue(all *queues.Queues) func(string) bool {
	return func(name string) bool {
		_, ok := all.Queue(edge.UserQueues + name)
		return ok
	}
}

func describeQueue(all *queues.Queues) func(string) (queues.Info, bool) {
	return func(name string) (queues.Info, bool) {
		q, ok := all.Queue(name)
		if !ok {
			return queues.Info{}, false
		}
		return q.Info(), true
	}
}
