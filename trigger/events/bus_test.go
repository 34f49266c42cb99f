package events

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.uber.org/goleak"

	"thaw"
	"thaw/state"
	"thaw/trigger/delivery"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var account = thaw.Account{ID: "123456789012", Region: "eu-west-1"}

func newRecords(t *testing.T) *Records {
	t.Helper()
	store, err := state.Open(t.Context(), state.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	return NewRecords(store)
}

func TestPublish(t *testing.T) {
	records := newRecords(t)
	path := "$.detail"
	dead, attempts, age, group := "arn:aws:sqs:eu-west-1:123456789012:dead", int32(3), int32(60), "g"
	for _, r := range []*Rule{
		{Name: "orders", Pattern: `{"source": ["orders"], "detail": {"total": [{"numeric": [">", 100]}]}}`, State: Enabled, Targets: []Target{
			{ID: "whole", ARN: "arn:whole", DeadLetter: &dead, Attempts: &attempts, Age: &age},
			{ID: "part", ARN: "arn:part", InputPath: &path, Group: &group},
		}},
		{Name: "all", Pattern: `{"account": ["123456789012"]}`, State: Enabled, Targets: []Target{{ID: "1", ARN: "arn:all"}}},
		{Name: "off", Pattern: `{"source": ["orders"]}`, State: Disabled, Targets: []Target{{ID: "1", ARN: "arn:off"}}},
		{Name: "untargeted", Pattern: `{"source": ["orders"]}`, State: Enabled},
		{Name: "timed", Schedule: "rate(1 minute)", State: Enabled, Targets: []Target{{ID: "1", ARN: "arn:timed"}}},
		{Name: "broken", Pattern: `{`, State: Enabled, Targets: []Target{{ID: "1", ARN: "arn:broken"}}},
	} {
		r.ID = uuid.NewString()
		if err := records.Create(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	var got []delivery.Delivery
	var fail error
	now := time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)
	bus := New(account, records, func(_ context.Context, d delivery.Delivery) error {
		got = append(got, d)
		if d.Target == "arn:part" {
			return fail
		}
		return nil
	}, func() time.Time { return now }, nil)
	event := func(detail string) *Event {
		return &Event{Version: "0", ID: uuid.NewString(), DetailType: "t", Source: "orders", Account: account.ID, Time: Time{now}, Region: account.Region, Detail: json.RawMessage(detail), Trace: "Root=1"}
	}
	first, second := event(`{ "total": 101 }`), event(`{"total": 99}`)
	for i, err := range bus.Publish(t.Context(), []*Event{first, second}) {
		if err != nil {
			t.Errorf("event %d: %v", i, err)
		}
	}
	var targets []string
	for _, d := range got {
		targets = append(targets, d.Target)
		if d.Kind != delivery.FromRule || !d.Time.Equal(now) || d.Trace != "Root=1" || uuid.Validate(d.ID) != nil {
			t.Errorf("%+v", d)
		}
	}
	if !slices.Equal(targets, []string{"arn:all", "arn:whole", "arn:part", "arn:all"}) {
		t.Fatalf("%v", targets)
	}
	text := `{"version":"0","id":"` + first.ID + `","detail-type":"t","source":"orders","account":"123456789012","time":"2026-03-02T12:00:00Z","region":"eu-west-1","resources":[],"detail":{"total":101}}`
	whole, part := got[1], got[2]
	if string(whole.Input) != text || string(whole.Event) != text || whole.DeadLetter != dead || whole.Policy != (delivery.Policy{Attempts: 3, Age: time.Minute}) || whole.Source != "arn:aws:events:eu-west-1:123456789012:rule/orders" {
		t.Errorf("%+v %s", whole, whole.Input)
	}
	if string(part.Input) != `{"total":101}` || string(part.Event) != text || part.Group != "g" || part.Policy != delivery.DefaultPolicy {
		t.Errorf("%+v %s", part, part.Input)
	}
	ids := map[string]bool{}
	for _, d := range got {
		ids[d.ID] = true
	}
	if len(ids) != len(got) {
		t.Errorf("%d ids of %d deliveries", len(ids), len(got))
	}

	got, fail = nil, errors.New("nowhere")
	if failed := bus.Publish(t.Context(), []*Event{first, second}); !errors.Is(failed[0], fail) || failed[1] != nil {
		t.Errorf("%v", failed)
	}
	if !ids[got[0].ID] {
		t.Error("the same event for the same target has another id")
	}
}
