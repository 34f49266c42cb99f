package emf

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"thaw/telemetry"
	"thaw/telemetry/metrics"
)

// Namespace and names of the metrics that AWS has of documents that are not taken (AWS/Logs, by LogGroupName).
const (
	namespace        = "AWS/Logs"
	validationErrors = "EMFValidationErrors"
)

// Extractor takes the metrics out of the log events that pass by.
type Extractor struct {
	Put func(ctx context.Context, data []metrics.Datum) error
	Log *slog.Logger

	refused atomic.Uint64
}

// Refused counts the documents whose metrics were not taken: they were not valid, or there are too many metrics.
func (x *Extractor) Refused() uint64 { return x.refused.Load() }

// Watch gives a store that keeps what it is given in another, and takes the metrics out of what that has taken.
func (x *Extractor) Watch(store telemetry.Store) telemetry.Store { return &watched{store, x} }

type watched struct {
	telemetry.Store
	extractor *Extractor
}

// PublishLog stores a batch, and takes its metrics once it is sure to be stored once.
func (w *watched) PublishLog(group, meta string, data []byte) error {
	if err := w.Store.PublishLog(group, meta, data); err != nil {
		return err
	}
	w.extractor.Batch(group, data)
	return nil
}

var mark = []byte(`"_aws"`)

// Batch takes the metrics out of a batch of log events, off the request path.
func (x *Extractor) Batch(group string, data []byte) {
	if !bytes.Contains(data, mark) {
		return
	}
	// A damaged batch has no more metrics; its reader says that it is damaged.
	_ = telemetry.DecodeBatch(data, func(e telemetry.Event) error {
		x.Event(group, e.At, e.Message)
		return nil
	})
}

// Event takes the metrics out of one log event.
func (x *Extractor) Event(group string, at time.Time, message string) {
	data, err := Parse(message, at)
	for i := range data {
		data[i].Origin = group
	}
	switch {
	case errors.Is(err, ErrNone):
		return
	case err == nil:
		if err = x.Put(context.Background(), data); err == nil { //nolint:forbidigo // it does not wait, and there is no caller
			return
		}
	}
	if x.refused.Add(1) == 1 {
		x.Log.Warn("metrics embedded in a log event were not taken; further ones are counted as EMFValidationErrors", "log_group", group, "because", err)
	}
	// Where even this is not taken there are too many metrics, which the store says itself.
	_ = x.Put(context.Background(), []metrics.Datum{{ //nolint:forbidigo // it does not wait, and there is no caller
		Metric: metrics.Metric{Namespace: namespace, Name: validationErrors, Dimensions: []metrics.Dimension{{Name: "LogGroupName", Value: group}}},
		Unit:   metrics.UnitCount, Values: []float64{1},
	}})
}
