// Package emf reads CloudWatch's embedded metric format: log events that are JSON objects and say which of their members are metrics
// (Amazon CloudWatch user guide, "Specification: Embedded metric format").
package emf

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"thaw/telemetry/metrics"
)

// Bounds of one document. Those of AWS are 100 metrics of a directive, 30 dimensions of a set and 100 values of a metric; that of the
// metrics of all directives and sets together is ours.
const (
	maxMetrics    = 100
	maxDimensions = 30
	maxValues     = 100
	maxData       = 3000
	maxName       = 1024 // of a metric or a dimension's value, characters
)

// ErrNone is what a log event is answered with that is no document of the format, as most are not.
var ErrNone = errors.New("no metrics are embedded")

// ErrInvalid begins the errors of documents that want to be of the format and are not.
var ErrInvalid = errors.New("the embedded metrics are not valid")

// metadata is the member _aws. Members that it does not name are ignored, as the specification says.
type metadata struct {
	Timestamp         *int64
	CloudWatchMetrics []directive
}

type directive struct {
	Namespace  string
	Dimensions [][]string
	Metrics    []definition
}

type definition struct {
	Name              string
	Unit              string
	StorageResolution *int
}

// MayContain says cheaply whether Parse is worth while.
func MayContain(message string) bool {
	return strings.Contains(message, `"_aws"`) && strings.HasPrefix(strings.TrimLeft(message, " \t\r\n"), "{")
}

// Parse gives the metrics that a log event embeds: for each directive each metric once for each set of dimensions. Errors are
// ErrNone, or wrap ErrInvalid; a document is taken as a whole or not at all. received is the time of values that name none.
func Parse(message string, received time.Time) ([]metrics.Datum, error) {
	if !MayContain(message) {
		return nil, ErrNone
	}
	var root map[string]json.RawMessage
	if err := json.Unmarshal([]byte(message), &root); err != nil {
		return nil, ErrNone // it is a line of text that looks like one
	}
	raw, ok := root["_aws"]
	if !ok {
		return nil, ErrNone
	}
	var meta metadata
	if err := json.Unmarshal(raw, &meta); err != nil {
		return nil, fmt.Errorf("%w: _aws: %w", ErrInvalid, err)
	}
	if len(meta.CloudWatchMetrics) == 0 {
		return nil, ErrNone
	}
	at := received
	if meta.Timestamp != nil {
		at = time.UnixMilli(*meta.Timestamp)
	}
	var data []metrics.Datum
	for i := range meta.CloudWatchMetrics {
		var err error
		if data, err = meta.CloudWatchMetrics[i].extract(data, root, at); err != nil {
			return nil, err
		}
	}
	return data, nil
}

func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrInvalid, fmt.Sprintf(format, args...))
}

func (d *directive) extract(data []metrics.Datum, root map[string]json.RawMessage, at time.Time) ([]metrics.Datum, error) {
	switch {
	case d.Namespace == "" || len(d.Namespace) > 255 || strings.HasPrefix(d.Namespace, "AWS/") || strings.HasPrefix(d.Namespace, ":"):
		return nil, invalid("the namespace %.100q", d.Namespace)
	case len(d.Metrics) > maxMetrics:
		return nil, invalid("%d metrics in a directive, at most %d", len(d.Metrics), maxMetrics)
	}
	sets, err := d.sets(root)
	if err != nil {
		return nil, err
	}
	for i := range d.Metrics {
		m := &d.Metrics[i]
		values, err := m.values(root)
		if err != nil {
			return nil, err
		}
		if len(values) == 0 {
			continue
		}
		if len(data)+len(sets) > maxData {
			return nil, invalid("more than %d metrics", maxData)
		}
		resolution := 60
		if m.StorageResolution != nil {
			resolution = *m.StorageResolution
		}
		for _, set := range sets {
			data = append(data, metrics.Datum{
				Metric: metrics.Metric{Namespace: d.Namespace, Name: m.Name, Dimensions: set},
				Unit:   m.Unit, At: at, Values: values, Resolution: resolution,
			})
		}
	}
	return data, nil
}

// sets gives the values of the sets of dimensions, each once. No set at all stands for one without dimensions.
func (d *directive) sets(root map[string]json.RawMessage) ([][]metrics.Dimension, error) {
	if len(d.Dimensions) == 0 {
		return [][]metrics.Dimension{nil}, nil
	}
	if len(d.Dimensions) > maxData {
		return nil, invalid("%d sets of dimensions", len(d.Dimensions))
	}
	var sets [][]metrics.Dimension
	had := map[string]bool{} // by the names in order, which decide about the values
	values := map[string]string{}
	for _, names := range d.Dimensions {
		if len(names) > maxDimensions {
			return nil, invalid("%d dimensions in a set, at most %d", len(names), maxDimensions)
		}
		set := make([]metrics.Dimension, 0, len(names))
		for _, name := range names {
			value, known := values[name]
			if !known {
				if err := json.Unmarshal(root[name], &value); err != nil {
					return nil, invalid("the dimension %.100q is not a member with a string", name)
				}
				if name == "" || value == "" || len(name) > 250 || len(value) > maxName {
					return nil, invalid("the dimension %.100q is empty or too long", name)
				}
				values[name] = value
			}
			set = append(set, metrics.Dimension{Name: name, Value: value})
		}
		set = metrics.Metric{Dimensions: set}.Sorted().Dimensions
		for i := 1; i < len(set); i++ {
			if set[i].Name == set[i-1].Name {
				return nil, invalid("the dimension %.100q is twice in a set", set[i].Name)
			}
		}
		if key := setKey(set); !had[key] {
			had[key] = true
			sets = append(sets, set)
		}
	}
	return sets, nil
}

func setKey(set []metrics.Dimension) string {
	var b strings.Builder
	for i := range set {
		b.WriteString(set[i].Name)
		b.WriteByte(0)
	}
	return b.String()
}

// values gives the metric's values: its member is a number or a list of numbers. A member that is not there has none.
func (m *definition) values(root map[string]json.RawMessage) ([]float64, error) {
	switch {
	case m.Name == "" || len(m.Name) > maxName:
		return nil, invalid("the metric %.100q", m.Name)
	case m.Unit != "" && !metrics.IsUnit(m.Unit):
		return nil, invalid("the unit %.100q of the metric %.100q", m.Unit, m.Name)
	case m.StorageResolution != nil && *m.StorageResolution != 1 && *m.StorageResolution != 60:
		return nil, invalid("the storage resolution %d of the metric %.100q", *m.StorageResolution, m.Name)
	}
	raw, ok := root[m.Name]
	if !ok {
		return nil, nil
	}
	var one float64
	values := []float64{}
	if len(raw) > 0 && raw[0] == '[' {
		if err := json.Unmarshal(raw, &values); err != nil {
			return nil, invalid("the metric %.100q is not a list of numbers", m.Name)
		}
	} else {
		if string(raw) == "null" || json.Unmarshal(raw, &one) != nil {
			return nil, invalid("the metric %.100q is not a number", m.Name)
		}
		values = append(values, one)
	}
	if len(values) > maxValues {
		return nil, invalid("the metric %.100q has %d values, at most %d", m.Name, len(values), maxValues)
	}
	for _, v := range values {
		if math.Abs(v) > metrics.MaxValue {
			return nil, invalid("the metric %.100q is too large", m.Name)
		}
	}
	return values, nil
}
