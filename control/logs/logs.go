// Package logs answers the API of Amazon CloudWatch Logs over telemetry/groups: groups and streams, events and their
// filters, live tails, queries of Logs Insights, subscription filters to functions, metric filters, retention and tags.
//
// Texts of errors are AWS's where one is known, thaw's own otherwise. Exports, destinations, transformers, anomaly detectors,
// data protection and KMS keys are refused by name. There are no accounts beside this one.
//
// Locks: API.mu guards the queries and the number of live tails; it is held for no call.
package logs

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"time"

	"thaw"
	"thaw/awsapi"
	"thaw/state"
	"thaw/telemetry/groups"
	"thaw/telemetry/insights"

	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs/types"
)

// Functions tells what is deployed.
type Functions interface {
	Function(name string) (*thaw.Function, bool)
}

// Config is what an API needs. Account, Groups and Functions are required.
type Config struct {
	Account   thaw.Account
	Groups    *groups.Index
	Functions Functions
	// Now is the clock, nil for the machine's.
	Now func() time.Time
	// Log gets what no caller is told. Nil means slog.Default().
	Log *slog.Logger
}

// API holds the operations.
type API struct {
	cfg Config

	mu      sync.Mutex
	queries []*query // the newest last
	tails   int      // live tails that are open

	waiting chan *query   // queries for Run
	stopped chan struct{} // closed when live tails are to end
	stop    sync.Once
}

// New makes an API. Queries make progress while Run runs.
func New(cfg Config) (*API, error) {
	if cfg.Account.ID == "" || cfg.Groups == nil || cfg.Functions == nil {
		return nil, errors.New("control/logs: Account, Groups and Functions are required")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	return &API{cfg: cfg, waiting: make(chan *query, maxWaiting), stopped: make(chan struct{})}, nil
}

// StopTails ends all live tails, those to come too. A listener that shuts down need not wait for them then.
func (a *API) StopTails() { a.stop.Do(func() { close(a.stopped) }) }

// Register adds the operations to the service logs.
func (a *API) Register(s *awsapi.Service) {
	awsapi.Handle(s, "CreateLogGroup", a.createLogGroup)
	awsapi.Handle(s, "DeleteLogGroup", a.deleteLogGroup)
	awsapi.Handle(s, "DescribeLogGroups", a.describeLogGroups)
	awsapi.Handle(s, "ListLogGroups", a.listLogGroups)
	awsapi.Handle(s, "PutRetentionPolicy", a.putRetentionPolicy)
	awsapi.Handle(s, "DeleteRetentionPolicy", a.deleteRetentionPolicy)
	awsapi.Handle(s, "PutLogGroupDeletionProtection", a.putLogGroupDeletionProtection)
	awsapi.Handle(s, "TagLogGroup", a.tagLogGroup)
	awsapi.Handle(s, "UntagLogGroup", a.untagLogGroup)
	awsapi.Handle(s, "ListTagsLogGroup", a.listTagsLogGroup)
	awsapi.Handle(s, "TagResource", a.tagResource)
	awsapi.Handle(s, "UntagResource", a.untagResource)
	awsapi.Handle(s, "ListTagsForResource", a.listTagsForResource)

	awsapi.Handle(s, "CreateLogStream", a.createLogStream)
	awsapi.Handle(s, "DeleteLogStream", a.deleteLogStream)
	awsapi.Handle(s, "DescribeLogStreams", a.describeLogStreams)
	awsapi.Handle(s, "PutLogEvents", a.putLogEvents)
	awsapi.Handle(s, "GetLogEvents", a.getLogEvents)
	awsapi.Handle(s, "FilterLogEvents", a.filterLogEvents)
	awsapi.HandleStream(s, "StartLiveTail", a.startLiveTail,
		awsapi.Event[types.LiveTailSessionStart]("sessionStart"), awsapi.Event[types.LiveTailSessionUpdate]("sessionUpdate"))

	awsapi.Handle(s, "StartQuery", a.startQuery)
	awsapi.Handle(s, "StopQuery", a.stopQuery)
	awsapi.Handle(s, "GetQueryResults", a.getQueryResults)
	awsapi.Handle(s, "DescribeQueries", a.describeQueries)
	awsapi.Handle(s, "GetLogRecord", a.getLogRecord)
	awsapi.Handle(s, "GetLogGroupFields", a.getLogGroupFields)

	awsapi.Handle(s, "PutSubscriptionFilter", a.putSubscriptionFilter)
	awsapi.Handle(s, "DescribeSubscriptionFilters", a.describeSubscriptionFilters)
	awsapi.Handle(s, "DeleteSubscriptionFilter", a.deleteSubscriptionFilter)
	awsapi.Handle(s, "PutMetricFilter", a.putMetricFilter)
	awsapi.Handle(s, "DeleteMetricFilter", a.deleteMetricFilter)
	awsapi.Handle(s, "TestMetricFilter", a.testMetricFilter)
	awsapi.Handle(s, "DescribeMetricFilters", a.describeMetricFilters)
}

func invalid(format string, args ...any) error {
	return thaw.Errorf(thaw.CodeInvalidParameter, format, args...)
}

// Texts of AWS.
var (
	errNoGroup      = thaw.Errorf(thaw.CodeResourceNotFound, "The specified log group does not exist.")
	errNoStream     = thaw.Errorf(thaw.CodeResourceNotFound, "The specified log stream does not exist.")
	errGroupExists  = thaw.Errorf(thaw.CodeAlreadyExists, "The specified log group already exists")
	errStreamExists = thaw.Errorf(thaw.CodeAlreadyExists, "The specified log stream already exists")
	errToken        = thaw.Errorf(thaw.CodeInvalidParameter, "The specified nextToken is invalid.")
)

// wording gives an error of the store the words for the caller where the caller can do something about it; missing is
// told where something is not there, present where it is already.
func wording(err, missing, present error) error {
	switch {
	case errors.Is(err, state.ErrNotFound) && missing != nil:
		return missing
	case errors.Is(err, state.ErrExists) && present != nil:
		return present
	case errors.Is(err, state.ErrFull):
		return &thaw.Error{Code: thaw.CodeServiceUnavailable, Message: "There is no space left in the data directory; free some and send the request again.", Cause: err}
	case errors.Is(err, state.ErrBusy):
		return &thaw.Error{Code: thaw.CodeServiceUnavailable, Message: "More log events wait to be stored than can wait; send the request again in a moment.", Cause: err}
	}
	return err
}

// group gives the group that a request names by its name or by an identifier, which is a name or an ARN.
func (a *API) group(ctx context.Context, name, identifier *string) (groups.GroupInfo, error) {
	switch {
	case name != nil && identifier != nil:
		return groups.GroupInfo{}, invalid("LogGroup name and LogGroup ARN are mutually exclusive parameters.")
	case name == nil && identifier == nil:
		return groups.GroupInfo{}, invalid("Either a LogGroup name or a LogGroup ARN is required.")
	case name == nil:
		plain, err := a.nameOf(*identifier)
		if err != nil {
			return groups.GroupInfo{}, err
		}
		name = &plain
	}
	info, err := a.cfg.Groups.Group(ctx, *name)
	return info, wording(err, errNoGroup, nil)
}

// nameOf is the group's name in an identifier.
func (a *API) nameOf(identifier string) (string, error) {
	rest, ok := strings.CutPrefix(identifier, "arn:")
	if !ok {
		return identifier, nil
	}
	parts := strings.SplitN(rest, ":", 6)
	if len(parts) != 6 || parts[1] != "logs" || parts[4] != "log-group" {
		return "", invalid("The specified log group identifier is not an ARN of a log group.")
	}
	if parts[2] != a.cfg.Account.Region || parts[3] != a.cfg.Account.ID {
		return "", errNoGroup
	}
	return strings.TrimSuffix(parts[5], ":*"), nil
}

func (a *API) arn(group string) string {
	return groups.ARN(a.cfg.Account, group)
}

func (a *API) streamARN(group, stream string) string { return a.arn(group) + ":log-stream:" + stream }

// compile reads the text of a query, and words what is wrong with it.
func compile(text string) (*insights.Query, error) {
	q, err := insights.Parse(text)
	if errors.Is(err, insights.ErrNotImplemented) {
		return nil, thaw.Errorf(thaw.CodeNotImplemented, "Of the language of Logs Insights, %s.", err)
	}
	if err != nil {
		return nil, thaw.Errorf(thaw.CodeMalformedQuery, "%s", err.Error())
	}
	return q, nil
}

func pointer[T any](v T) *T { return &v }

// millis is a time as the API has it; nil for the zero time.
func millis(t time.Time) *int64 {
	if t.IsZero() {
		return nil
	}
	return pointer(t.UnixMilli())
}
