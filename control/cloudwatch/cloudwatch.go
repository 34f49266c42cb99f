// Package cloudwatch answers the CloudWatch API: metrics, from the store of package telemetry/metrics, and alarms, whose
// records package trigger/alarms evaluates.
//
// Timestamps of what GetMetricStatistics and GetMetricData answer are aligned to the request's start, as on AWS. Values
// are kept by the second or the minute for as long as there is room, so the coarser periods that AWS asks for where data
// are old are taken, but not demanded. Where AWS's text for a mistake is on record, it is given; the other texts are
// thaw's own.
package cloudwatch

import (
	"context"
	"encoding/base64"
	"errors"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"

	"thaw"
	"thaw/awsapi"
	"thaw/telemetry/metrics"
	"thaw/trigger/alarms"
)

// Metrics is the store of metrics; *metrics.Metrics is one.
type Metrics interface {
	Put(ctx context.Context, data []metrics.Datum) error
	List(ctx context.Context, filter metrics.Filter, after string, limit int) (found []metrics.Metric, next string, err error)
	Query(ctx context.Context, metric metrics.Metric, from, to time.Time, period time.Duration) (points []metrics.Point, unit string, err error)
}

// Config is what an API is made of.
type Config struct {
	Account thaw.Account
	Metrics Metrics
	Alarms  *alarms.Records  // nil: there are none
	Now     func() time.Time // nil: time.Now
}

// API holds the operations.
type API struct {
	cfg Config
	now func() time.Time

	creating sync.Mutex // held while an alarm is made, so that their number stays within the quota
	counted  int        // alarms, and those that were deleted since they were counted; 0 where they have not been counted
}

// New makes an API.
func New(cfg Config) *API {
	a := &API{cfg: cfg, now: cfg.Now}
	if a.now == nil {
		a.now = time.Now
	}
	return a
}

// Register adds the operations to the service monitoring. Dashboards, Contributor Insights, anomaly detectors, metric
// streams and the like are not implemented.
func (a *API) Register(s *awsapi.Service) {
	awsapi.Union[types.EvaluationCriteria](s, &types.EvaluationCriteriaMemberPromQLCriteria{})
	awsapi.Union[types.EvaluationWindow](s, &types.EvaluationWindowMemberSlidingWindow{}, &types.EvaluationWindowMemberWallClockWindow{})
	if a.cfg.Alarms != nil {
		a.registerAlarms(s)
	}
	awsapi.Handle(s, "PutMetricData", a.putMetricData)
	awsapi.Handle(s, "ListMetrics", a.listMetrics)
	awsapi.Handle(s, "GetMetricStatistics", a.getMetricStatistics)
	awsapi.Handle(s, "GetMetricData", a.getMetricData)
}

func invalid(format string, args ...any) error {
	return thaw.Errorf(thaw.CodeInvalidParameterValue, format, args...)
}

func badCombination(format string, args ...any) error {
	return thaw.Errorf(thaw.CodeParameterCombination, format, args...)
}

func notImplemented(format string, args ...any) error {
	return thaw.Errorf(thaw.CodeNotImplemented, format, args...)
}

// storeError words an error of the store in CloudWatch's codes.
func storeError(err error) error {
	e, ok := errors.AsType[*thaw.Error](err)
	if !ok {
		return err
	}
	switch e.Code {
	case thaw.CodeLimitExceeded:
		return &thaw.Error{Code: thaw.CodeLimitFault, Message: e.Message, Cause: e.Cause}
	case thaw.CodeService:
		return &thaw.Error{Code: thaw.CodeServiceFault, Message: e.Message, Cause: e.Cause}
	}
	return err
}

// dimensions is a metric's, without empty values for nil.
func dimensions(list []types.Dimension) []metrics.Dimension {
	out := make([]metrics.Dimension, len(list))
	for i := range list {
		out[i] = metrics.Dimension{Name: value(list[i].Name), Value: value(list[i].Value)}
	}
	return out
}

func wireDimensions(list []metrics.Dimension) []types.Dimension {
	out := make([]types.Dimension, len(list))
	for i := range list {
		out[i] = types.Dimension{Name: &list[i].Name, Value: &list[i].Value}
	}
	return out
}

// token hides that a listing goes on behind a key.
func token(key string) *string {
	if key == "" {
		return nil
	}
	text := base64.RawURLEncoding.EncodeToString([]byte(key))
	return &text
}

// tokenKey reads a token; ok is false for what token has not made.
func tokenKey(text *string) (key string, ok bool) {
	if text == nil || *text == "" {
		return "", true
	}
	b, err := base64.RawURLEncoding.DecodeString(*text)
	return string(b), err == nil && len(b) > 0
}

func value[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}
