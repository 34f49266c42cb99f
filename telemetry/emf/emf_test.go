package emf

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"thaw/telemetry"
	"thaw/telemetry/metrics"
)

var received = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// The document of the specification's own example, in its members.
const example = `{
  "_aws": {"Timestamp": 1574109732004, "CloudWatchMetrics": [{
    "Namespace": "lambda-function-metrics",
    "Dimensions": [["functionVersion"], ["functionVersion", "stage"]],
    "Metrics": [{"Name": "time", "Unit": "Milliseconds", "StorageResolution": 60}, {"Name": "sizes", "Unit": "Bytes"}, {"Name": "absent"}]}]},
  "functionVersion": "$LATEST", "stage": "prod", "time": 100, "sizes": [1, 2.5, 3], "requestId": "989ffbf8-9ace-4817-a57c-e4dd734019ee"}`

func TestParse(t *testing.T) {
	at := time.UnixMilli(1574109732004)
	narrow := []metrics.Dimension{{Name: "functionVersion", Value: "$LATEST"}}
	wide := []metrics.Dimension{narrow[0], {Name: "stage", Value: "prod"}}
	datum := func(name, unit string, dimensions []metrics.Dimension, values ...float64) metrics.Datum {
		return metrics.Datum{
			Metric: metrics.Metric{Namespace: "lambda-function-metrics", Name: name, Dimensions: dimensions},
			Unit:   unit, At: at, Values: values, Resolution: 60,
		}
	}
	want := []metrics.Datum{
		datum("time", "Milliseconds", narrow, 100), datum("time", "Milliseconds", wide, 100),
		datum("sizes", "Bytes", narrow, 1, 2.5, 3), datum("sizes", "Bytes", wide, 1, 2.5, 3),
	}
	got, err := Parse(example+"\n", received)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	got, err = Parse(`{"_aws":{"CloudWatchMetrics":[{"Namespace":"n","Dimensions":[],"Metrics":[{"Name":"m","StorageResolution":1}]}]},"m":-0.5}`, received)
	if diff := cmp.Diff([]metrics.Datum{{Metric: metrics.Metric{Namespace: "n", Name: "m"}, At: received, Values: []float64{-0.5}, Resolution: 1}}, got); err != nil || diff != "" {
		t.Error(err, diff)
	}
}

// document makes one from the parts that tests change.
func document(namespace, dimensions, metric, members string) string {
	return fmt.Sprintf(`{"_aws":{"CloudWatchMetrics":[{"Namespace":%q,"Dimensions":%s,"Metrics":[%s]}]},%s}`, namespace, dimensions, metric, members)
}

func TestNotTaken(t *testing.T) {
	many := strings.Repeat(`{"Name":"m"},`, 100) + `{"Name":"m"}`
	sets := strings.Repeat(`["d"],`, maxData) + `["d"]`
	for name, test := range map[string]struct {
		text string
		want error
	}{
		"text":                   {"START RequestId: 1", ErrNone},
		"other JSON":             {`{"level":"INFO","message":"hello"}`, ErrNone},
		"the mark in a string":   {`{"message":"\"_aws\""}`, ErrNone},
		"prefixed":               {"2026-03-01T12:00:00Z\tid\tINFO\t" + example, ErrNone},
		"cut off":                {example[:len(example)-5], ErrNone},
		"nothing in it":          {`{"_aws":{"Timestamp":1}}`, ErrNone},
		"a nested mark":          {`{"a":{"_aws":{"CloudWatchMetrics":[{"Namespace":"n"}]}}}`, ErrNone},
		"_aws is a string":       {`{"_aws":"x"}`, ErrInvalid},
		"no namespace":           {document("", "[]", `{"Name":"m"}`, `"m":1`), ErrInvalid},
		"AWS's namespace":        {document("AWS/Lambda", "[]", `{"Name":"m"}`, `"m":1`), ErrInvalid},
		"metric is a string":     {document("n", "[]", `{"Name":"m"}`, `"m":"1"`), ErrInvalid},
		"metric is null":         {document("n", "[]", `{"Name":"m"}`, `"m":null`), ErrInvalid},
		"unknown unit":           {document("n", "[]", `{"Name":"m","Unit":"Furlongs"}`, `"m":1`), ErrInvalid},
		"unknown resolution":     {document("n", "[]", `{"Name":"m","StorageResolution":30}`, `"m":1`), ErrInvalid},
		"dimension is missing":   {document("n", `[["d"]]`, `{"Name":"m"}`, `"m":1`), ErrInvalid},
		"dimension is a number":  {document("n", `[["d"]]`, `{"Name":"m"}`, `"m":1,"d":2`), ErrInvalid},
		"dimension is twice":     {document("n", `[["d","d"]]`, `{"Name":"m"}`, `"m":1,"d":"x"`), ErrInvalid},
		"too many metrics":       {document("n", "[]", many, `"m":1`), ErrInvalid},
		"too many values":        {document("n", "[]", `{"Name":"m"}`, `"m":[`+strings.Repeat("1,", 100)+`1]`), ErrInvalid},
		"too many sets":          {document("n", `[`+sets+`]`, `{"Name":"m"}`, `"m":1,"d":"x"`), ErrInvalid},
		"too large a number":     {document("n", "[]", `{"Name":"m"}`, `"m":1e200`), ErrInvalid},
		"a number out of bounds": {document("n", "[]", `{"Name":"m"}`, `"m":1e999`), ErrInvalid},
	} {
		if data, err := Parse(test.text, received); !errors.Is(err, test.want) || len(data) > 0 {
			t.Errorf("%s: %v, %v", name, data, err)
		}
	}
}

// costly is a document with as many sets of dimensions as there may be, which are as large as they may be.
func costly() string {
	var sets, members []string
	for i := range 30 {
		members = append(members, fmt.Sprintf(`"k%02d":%q`, i, strings.Repeat("v", 100)))
	}
	for i := range maxData {
		var names []string
		for b := range 30 {
			if b < 15 || i>>(b-15)&1 == 1 {
				names = append(names, fmt.Sprintf(`"k%02d"`, b))
			}
		}
		sets = append(sets, "["+strings.Join(names, ",")+"]", "["+names[0]+"]")
	}
	return document("n", "["+strings.Join(sets[:maxData], ",")+"]", `{"Name":"m"}`, `"m":1,`+strings.Join(members, ","))
}

// TestEachSetOnce has one set many times.
func TestEachSetOnce(t *testing.T) {
	if got, err := Parse(costly(), received); err != nil || len(got) != maxData/2+1 {
		t.Errorf("%d metrics, %v", len(got), err)
	}
}

func BenchmarkParseCostly(b *testing.B) {
	text := costly()
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		if _, err := Parse(text, received); err != nil {
			b.Fatal(err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(example)
	f.Add(document("n", `[["d"]]`, `{"Name":"m"}`, `"m":[1,2],"d":"x"`))
	f.Add(`{"_aws":{"CloudWatchMetrics":[{}]}}`)
	f.Fuzz(func(t *testing.T, text string) {
		data, err := Parse(text, received)
		if err != nil {
			if len(data) > 0 || !errors.Is(err, ErrNone) && !errors.Is(err, ErrInvalid) {
				t.Errorf("%d metrics, %v", len(data), err)
			}
			return
		}
		if len(data) > maxData {
			t.Errorf("%d metrics of one document", len(data))
		}
		for _, d := range data {
			for _, v := range d.Values {
				if math.IsNaN(v) || math.IsInf(v, 0) {
					t.Errorf("%s is %v", d.Name, v)
				}
			}
		}
	})
}

// keeping is a store of log batches that can refuse.
type keeping struct {
	telemetry.Store
	full bool
}

func (k *keeping) PublishLog(_, _ string, _ []byte) error {
	if k.full {
		return errors.New("full")
	}
	return nil
}

// TestMetricsComeOutOfLogs writes log events as environments do, into a store that is full at first.
func TestMetricsComeOutOfLogs(t *testing.T) {
	var put []metrics.Datum
	x := &Extractor{Log: slog.New(slog.DiscardHandler), Put: func(_ context.Context, data []metrics.Datum) error {
		put = append(put, data...)
		return nil
	}}
	store := &keeping{full: true}
	logs := telemetry.NewLogs(x.Watch(store))
	stream := logs.Stream("/aws/lambda/f", "s")
	stream.Write(received, "id", []byte("a line of text\n"))
	stream.Write(received, "id", []byte(document("shop", `[["d"]]`, `{"Name":"orders","Unit":"Count"}`, `"orders":3,"d":"x"`)+"\n"))
	stream.Write(received, "id", []byte(document("shop", `[["absent"]]`, `{"Name":"orders"}`, `"orders":3`)+"\n"))
	logs.Flush()
	if len(put) > 0 {
		t.Errorf("metrics were taken of what was not stored: %v", put)
	}
	store.full = false
	logs.Flush()
	logs.Flush()
	if len(put) != 2 || put[0].Name != "orders" || put[0].Values[0] != 3 || !put[0].At.Equal(received) || put[1].Name != validationErrors || x.Refused() != 1 {
		t.Errorf("%+v, %d refused", put, x.Refused())
	}
}
