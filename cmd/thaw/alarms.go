package main

import (
	"context"
	"log/slog"

	"thaw"
	"thaw/awsapi"
	"thaw/control/cloudwatch"
	"thaw/state"
	"thaw/state/queues"
	"thaw/telemetry/metrics"
	"thaw/trigger/alarms"
	"thaw/trigger/events"
)

// alarmParts are what alarms and the CloudWatch API stand on.
type alarmParts struct {
	account thaw.Account
	store   *state.Store
	metrics *metrics.Metrics
	queues  *queues.Queues
	events  *eventSide
	log     *slog.Logger
}

// startAlarms starts what evaluates alarms and gives the CloudWatch API, to which they belong.
func startAlarms(ctx context.Context, p *alarmParts, g *group) (register func(*awsapi.Service), err error) {
	records := alarms.NewRecords(p.store)
	api := cloudwatch.New(cloudwatch.Config{Account: p.account, Metrics: p.metrics, Alarms: records})
	loop, err := alarms.New(alarms.Config{
		Account: p.account, Records: records, Functions: p.store, Values: api.AlarmValues, Deliver: p.events.deliveries.Deliver,
		HasQueue: hasQueue(p.queues), Log: p.log,
		Publish: func(ctx context.Context, e alarms.Event) error {
			return p.events.bus.Publish(ctx, []*events.Event{{
				Version: "0", ID: e.ID, DetailType: e.DetailType, Source: e.Source, Account: p.account.ID, Time: events.Time{Time: e.At},
				Region: p.account.Region, Resources: []string{e.Resource}, Detail: e.Detail,
			}})[0]
		},
	})
	if err != nil {
		return nil, err
	}
	g.run(ctx, "alarms", loop.Run)
	return api.Register, nil
}
