package events

import (
	"context"
	"encoding/json"
	"strings"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/eventbridge"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge/types"
	"github.com/google/uuid"

	"thaw/control/internal/operation"
	trigger "thaw/trigger/events"
)

// Bounds of PutEvents: all entries together, bytes, as the page "Calculating PutEvents event entry size" counts them, and
// a detail type, characters.
const (
	maxEntries    = 1 << 20
	maxDetailType = 128
	sizeOfTime    = 14
)

// putEvents passes the entries to the rules that match them. An entry without an error has been stored for every target of
// these rules. Other than on AWS, which drops them without a word, entries for event buses that do not exist fail.
func (a *API) putEvents(ctx context.Context, in *sdk.PutEventsInput) (*sdk.PutEventsOutput, error) {
	if in.EndpointId != nil {
		return nil, notImplemented("EndpointId is not implemented: there are no global endpoints here. Leave it out.")
	}
	total := 0
	for i := range in.Entries {
		total += size(&in.Entries[i])
	}
	if total > maxEntries {
		return nil, invalid("Total size of the entries in the request is over the limit.")
	}
	out := &sdk.PutEventsOutput{Entries: make([]types.PutEventsResultEntry, len(in.Entries))}
	fail := func(i int, code, message string) {
		out.FailedEntryCount++
		out.Entries[i] = types.PutEventsResultEntry{ErrorCode: &code, ErrorMessage: &message}
	}
	var list []*trigger.Event
	var places []int // in out.Entries
	for i := range in.Entries {
		if code, message := a.refuse(&in.Entries[i]); code != "" {
			fail(i, code, message)
			continue
		}
		list = append(list, a.event(&in.Entries[i]))
		places = append(places, i)
	}
	if len(list) > 0 {
		for j, err := range a.publish(ctx, list) {
			if err != nil {
				fail(places[j], "InternalFailure", "The event could not be stored for all of its targets. Send it again.")
				continue
			}
			out.Entries[places[j]].EventId = aws.String(list[j].ID)
		}
	}
	return out, nil
}

func size(e *types.PutEventsRequestEntry) int {
	n := len(operation.Value(e.Source)) + len(operation.Value(e.DetailType)) + len(operation.Value(e.Detail))
	if e.Time != nil {
		n += sizeOfTime
	}
	for _, resource := range e.Resources {
		n += len(resource)
	}
	return n
}

// refuse tells what is wrong with an entry, with AWS's codes and texts.
func (a *API) refuse(e *types.PutEventsRequestEntry) (code, message string) {
	for _, member := range []struct {
		name  string
		value *string
	}{{"Source", e.Source}, {"DetailType", e.DetailType}, {"Detail", e.Detail}} {
		if operation.Value(member.value) == "" {
			return "InvalidArgument", "Parameter " + member.name + " is not valid. Reason: " + member.name + " is a required argument."
		}
	}
	var detail map[string]json.RawMessage
	switch {
	case utf8.RuneCountInString(*e.DetailType) > maxDetailType:
		return "InvalidArgument", "Parameter DetailType is not valid. Reason: It has more than 128 characters."
	case strings.HasPrefix(*e.Source, "aws."):
		return "NotAuthorizedForSourceException", "Not authorized for the source."
	case json.Unmarshal([]byte(*e.Detail), &detail) != nil || detail == nil:
		return "MalformedDetail", "Detail is malformed."
	}
	if err := a.checkBus(e.EventBusName); err != nil {
		return "InvalidArgument", "Parameter EventBusName is not valid. Reason: " + *e.EventBusName + " does not exist: there is only the event bus " + trigger.BusName + "."
	}
	return "", ""
}

func (a *API) event(e *types.PutEventsRequestEntry) *trigger.Event {
	at := a.now()
	if e.Time != nil {
		at = *e.Time
	}
	return &trigger.Event{
		Version: "0", ID: uuid.NewString(), DetailType: *e.DetailType, Source: *e.Source, Account: a.account.ID, Time: trigger.Time{Time: at},
		Region: a.account.Region, Resources: e.Resources, Detail: json.RawMessage(*e.Detail), Trace: operation.Value(e.TraceHeader),
	}
}
