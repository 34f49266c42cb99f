package lambda

import (
	"fmt"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"thaw"
	"thaw/trigger/mapping"
)

// FuzzMappingSource holds that a source is one that the loop can follow, or refused with an error of the closed set.
func FuzzMappingSource(f *testing.F) {
	for _, arn := range []string{queueOrders, "arn:aws:sqs:eu-west-1:123456789012:a.fifo", "arn:aws:kinesis:us-east-1:000000000000:stream/s", "arn:aws:sqs:::", "", "x"} {
		f.Add(arn, "", "", "")
		f.Add(arn, endpointSQS, "http://127.0.0.1:9324", "env:A")
		f.Add(arn, endpointNATS, "nats://127.0.0.1:4222/orders", "env:A_1")
		f.Add(arn, "KAFKA_BOOTSTRAP_SERVERS", "kafka:9092", "arn:aws:secretsmanager:x")
	}
	a := &API{cfg: Config{Account: account}}
	f.Fuzz(func(t *testing.T, arn, kind, endpoint, uri string) {
		in := &sdk.CreateEventSourceMappingInput{}
		if arn != "" {
			in.EventSourceArn = &arn
		}
		if kind != "" {
			in.SelfManagedEventSource = &types.SelfManagedEventSource{Endpoints: map[string][]string{kind: {endpoint}}}
		}
		s, err := a.source(in)
		if err == nil && uri != "" {
			err = setAccess(&s, []types.SourceAccessConfiguration{{Type: types.SourceAccessTypeBasicAuth, URI: &uri}})
		}
		if err != nil {
			if code := thaw.CodeOf(err); code != thaw.CodeInvalidParameterValue && code != thaw.CodeNotImplemented {
				t.Errorf("%q %q %q %q: %v", arn, kind, endpoint, uri, err)
			}
			return
		}
		switch {
		case s.Kind() == mapping.KindUnknown:
			t.Errorf("%+v is unknown", s)
		case s.Kind() == mapping.KindQueue && (s.QueueName() == "" || s.Credentials != ""):
			t.Errorf("%+v is no queue of this platform", s)
		case strings.ContainsAny(s.Credentials, "= $"):
			t.Errorf("%+v names no variables", s)
		}
	})
}

const queueOrders = "arn:aws:sqs:us-east-1:000000000000:orders"

func TestListEventSourceMappingsPages(t *testing.T) {
	a, store := newAPI(t)
	for i := range 7 {
		name := fmt.Sprint("f", i)
		active(t, a, store, name)
		if _, err := a.createEventSourceMapping(t.Context(), &sdk.CreateEventSourceMappingInput{FunctionName: &name, EventSourceArn: aws.String(queueOrders)}); err != nil {
			t.Fatal(err)
		}
	}
	in := &sdk.ListEventSourceMappingsInput{EventSourceArn: aws.String(queueOrders), MaxItems: aws.Int32(3)}
	got, pages := map[string]bool{}, 0
	for {
		out, err := a.listEventSourceMappings(t.Context(), in)
		if err != nil {
			t.Fatal(err)
		}
		pages++
		for i := range out.EventSourceMappings {
			got[*out.EventSourceMappings[i].UUID] = true
		}
		if in.Marker = out.NextMarker; in.Marker == nil {
			break
		}
	}
	if len(got) != 7 || pages != 3 {
		t.Errorf("%d mappings on %d pages", len(got), pages)
	}
	in.Marker = aws.String("%%")
	_, err := a.listEventSourceMappings(t.Context(), in)
	wantError(t, err, thaw.CodeInvalidParameterValue, "")
}

// What is no UUID, however long, names no mapping.
func TestMappingsAreNamedByUUIDs(t *testing.T) {
	a, _ := newAPI(t)
	for _, id := range []string{"none", strings.Repeat("0", 2000), "00000000-0000-4000-8000-000000000000"} {
		_, err := a.getEventSourceMapping(t.Context(), &sdk.GetEventSourceMappingInput{UUID: &id})
		wantError(t, err, thaw.CodeResourceNotFound, "The resource you requested does not exist.")
		_, err = a.deleteEventSourceMapping(t.Context(), &sdk.DeleteEventSourceMappingInput{UUID: &id})
		wantError(t, err, thaw.CodeResourceNotFound, "The resource you requested does not exist.")
	}
}

// Until the loop has carried out what was asked, nothing else can be asked; each change has a revision of its own.
func TestMappingsAreInUseWhileTheyChange(t *testing.T) {
	a, store := newAPI(t)
	active(t, a, store, "f")
	out, err := a.createEventSourceMapping(t.Context(), &sdk.CreateEventSourceMappingInput{FunctionName: aws.String("f"), EventSourceArn: aws.String(queueOrders)})
	if err != nil {
		t.Fatal(err)
	}
	update := &sdk.UpdateEventSourceMappingInput{UUID: aws.String(strings.ToUpper(*out.UUID)), BatchSize: aws.Int32(5)}
	_, err = a.updateEventSourceMapping(t.Context(), update)
	wantError(t, err, thaw.CodeResourceInUse, "Cannot update the event source mapping because it is in use.")
	settleMappings(t, store)
	if _, err := a.updateEventSourceMapping(t.Context(), update); err != nil {
		t.Fatal(err)
	}
	m, err := a.cfg.Mappings.Get(t.Context(), *out.UUID)
	if err != nil || m.BatchSize != 5 || m.Revision != 2 || m.State != mapping.StateUpdating {
		t.Errorf("%+v, %v", m, err)
	}
}

// MetricsConfig is kept, shown, left alone by changes that do not name it, and taken back.
func TestMetricsOfMappings(t *testing.T) {
	a, store := newAPI(t)
	active(t, a, store, "f")
	asked := func(groups ...types.EventSourceMappingMetric) *types.EventSourceMappingMetricsConfig {
		return &types.EventSourceMappingMetricsConfig{Metrics: groups}
	}
	out, err := a.createEventSourceMapping(t.Context(), &sdk.CreateEventSourceMappingInput{
		FunctionName: aws.String("f"), EventSourceArn: aws.String(queueOrders), MetricsConfig: asked(types.EventSourceMappingMetricEventCount),
	})
	if err != nil || out.MetricsConfig == nil || fmt.Sprint(out.MetricsConfig.Metrics) != "[EventCount]" {
		t.Fatalf("%+v, %v", out, err)
	}
	for _, test := range []struct {
		metrics *types.EventSourceMappingMetricsConfig
		counts  bool
	}{{nil, true}, {asked(), false}, {nil, false}, {asked(types.EventSourceMappingMetricEventCount), true}} {
		settleMappings(t, store)
		out, err := a.updateEventSourceMapping(t.Context(), &sdk.UpdateEventSourceMappingInput{UUID: out.UUID, MetricsConfig: test.metrics})
		if err != nil || (out.MetricsConfig != nil) != test.counts {
			t.Errorf("%+v: %+v, %v", test.metrics, out, err)
		}
		if m, err := a.cfg.Mappings.Get(t.Context(), *out.UUID); err != nil || m.CountEvents != test.counts {
			t.Errorf("%+v: %+v, %v", test.metrics, m, err)
		}
	}
	settleMappings(t, store)
	_, err = a.updateEventSourceMapping(t.Context(), &sdk.UpdateEventSourceMappingInput{UUID: out.UUID, MetricsConfig: asked(types.EventSourceMappingMetricErrorCount)})
	wantError(t, err, thaw.CodeInvalidParameterValue, "MetricsConfig has ErrorCount, which is for event source mappings of Kafka only. Others have EventCount.")
}
