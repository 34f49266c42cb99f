// Package events answers the EventBridge API for rules of the default event bus: schedules and event patterns, with
// functions and SQS queues as targets, and PutEvents, which passes events to the rules that match. It writes records;
// package trigger/events matches and delivers, and package trigger/scheduler fires the schedules.
//
// There is one event bus, default. Where AWS's text for a mistake is on record, it is given; the other texts are thaw's own.
//
// Locks: one mutex in API, held while a rule is made, so that their number stays within its quota. Each write is a
// compare-and-set besides.
package events

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"regexp"
	"slices"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/eventbridge/types"

	"thaw"
	"thaw/awsapi"
	"thaw/control/internal/operation"
	"thaw/state"
	trigger "thaw/trigger/events"
)

// Quotas of an account, after the page "Amazon EventBridge quotas".
const (
	maxRules   = 300 // of an event bus
	maxTargets = 5   // of a rule
	maxTags    = 50  // of a rule
	maxPage    = 100 // of a listing
)

// API holds the operations.
type API struct {
	account thaw.Account
	records *trigger.Records
	publish func(ctx context.Context, list []*trigger.Event) []error
	now     func() time.Time

	making sync.Mutex // see the package comment
}

// New makes an API on the records of rules. publish passes events to the rules, as (*trigger.Bus).Publish does.
func New(account thaw.Account, records *trigger.Records, publish func(ctx context.Context, list []*trigger.Event) []error) *API {
	return &API{account: account, records: records, publish: publish, now: time.Now}
}

// Register adds the operations to the service events. Those of other buses, archives, connections and the like are not
// implemented.
func (a *API) Register(s *awsapi.Service) {
	awsapi.Handle(s, "PutRule", a.putRule)
	awsapi.Handle(s, "DescribeRule", a.describeRule)
	awsapi.Handle(s, "ListRules", a.listRules)
	awsapi.Handle(s, "DeleteRule", a.deleteRule)
	awsapi.Handle(s, "EnableRule", a.enableRule)
	awsapi.Handle(s, "DisableRule", a.disableRule)
	awsapi.Handle(s, "PutTargets", a.putTargets)
	awsapi.Handle(s, "RemoveTargets", a.removeTargets)
	awsapi.Handle(s, "ListTargetsByRule", a.listTargetsByRule)
	awsapi.Handle(s, "ListRuleNamesByTarget", a.listRuleNamesByTarget)
	awsapi.Handle(s, "TagResource", a.tagResource)
	awsapi.Handle(s, "UntagResource", a.untagResource)
	awsapi.Handle(s, "ListTagsForResource", a.listTagsForResource)
	awsapi.Handle(s, "TestEventPattern", a.testEventPattern)
	awsapi.Handle(s, "PutEvents", a.putEvents)
}

func invalid(format string, args ...any) error {
	return thaw.Errorf(thaw.CodeValidation, format, args...)
}

func notImplemented(format string, args ...any) error {
	return thaw.Errorf(thaw.CodeNotImplemented, format, args...)
}

// noRule has AWS's text.
func noRule(name string) error {
	return thaw.Errorf(thaw.CodeResourceNotFound, "Rule %s does not exist on EventBus %s.", name, trigger.BusName)
}

// limitExceeded has AWS's text.
func limitExceeded() error {
	return thaw.Errorf(thaw.CodeQuotaExceeded, "The requested resource exceeds the maximum number allowed.")
}

var busPattern = regexp.MustCompile(`^arn:aws[\w-]*:events:([a-z0-9-]+):([0-9]{12}):event-bus/(.+)$`)

// checkBus refuses every event bus but the default one, which may be named by its ARN.
func (a *API) checkBus(name *string) error {
	if name == nil || *name == trigger.BusName {
		return nil
	}
	bus := *name
	if m := busPattern.FindStringSubmatch(bus); m != nil && m[1] == a.account.Region && m[2] == a.account.ID {
		bus = m[3]
	}
	if bus == trigger.BusName {
		return nil
	}
	return thaw.Errorf(thaw.CodeResourceNotFound, "Event bus %s does not exist.", bus)
}

// storeError words an error of the store for the caller where the caller can do something about it.
func storeError(err error) error { return operation.Stored(err, thaw.CodeEventsInternal) }

// update changes a rule, and says what AWS says where there is none.
func (a *API) update(ctx context.Context, name string, change func(*trigger.Rule) error) (*trigger.Rule, error) {
	rule, err := a.records.Update(ctx, name, change)
	if errors.Is(err, state.ErrNotFound) {
		return nil, noRule(name)
	}
	return rule, storeError(err)
}

// rule gives a rule of a bus.
func (a *API) rule(ctx context.Context, name string, bus *string) (*trigger.Rule, error) {
	if err := a.checkBus(bus); err != nil {
		return nil, err
	}
	rule, err := a.records.Rule(ctx, name)
	if errors.Is(err, state.ErrNotFound) {
		return nil, noRule(name)
	}
	return rule, err
}

// page cuts items, which are in the order of their keys, to what a request asks for.
func page[T any](items []T, key func(T) string, token *string, limit *int32) (part []T, next *string, err error) {
	if part, next, err = operation.Cut(items, key, token, int(cmp.Or(operation.Value(limit), maxPage))); err != nil {
		return nil, nil, invalid("Parameter NextToken is not valid. Start again without it.")
	}
	return part, next, nil
}

func tagList(tags map[string]string) []types.Tag {
	list := make([]types.Tag, 0, len(tags))
	for _, key := range slices.Sorted(maps.Keys(tags)) {
		v := tags[key]
		list = append(list, types.Tag{Key: &key, Value: &v})
	}
	return list
}
