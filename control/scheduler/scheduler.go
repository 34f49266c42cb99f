// Package scheduler answers the EventBridge Scheduler API: schedules, one-time and recurring, with functions and SQS queues
// as targets, and schedule groups. It writes records and nothing else: package trigger/scheduler reads the same records and
// fires.
//
// Where AWS's text for a mistake is on record, it is given; the other texts are thaw's own.
//
// Locks: one mutex in API, held while a schedule or a group is made or a group is deleted, so that no schedule is made in a
// group that goes. Each write is a compare-and-set besides.
package scheduler

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"sync"
	"time"

	"thaw"
	"thaw/awsapi"
	"thaw/control/internal/operation"
	trigger "thaw/trigger/scheduler"
)

// Quotas of an account, after the page "Quotas for Amazon EventBridge Scheduler", and the largest page of a listing, after
// its model.
const (
	maxGroups = 500
	maxTags   = 50 // of a group
	maxPage   = 100
)

// API holds the operations.
type API struct {
	account thaw.Account
	records *trigger.Records
	now     func() time.Time

	making sync.Mutex // see the package comment
}

// New makes an API on the records of the loop.
func New(account thaw.Account, records *trigger.Records) *API {
	return &API{account: account, records: records, now: time.Now}
}

// Register adds the operations to the service scheduler: all that its model has.
func (a *API) Register(s *awsapi.Service) {
	awsapi.Handle(s, "CreateSchedule", a.createSchedule)
	awsapi.Handle(s, "GetSchedule", a.getSchedule)
	awsapi.Handle(s, "UpdateSchedule", a.updateSchedule)
	awsapi.Handle(s, "DeleteSchedule", a.deleteSchedule)
	awsapi.Handle(s, "ListSchedules", a.listSchedules)
	awsapi.Handle(s, "CreateScheduleGroup", a.createScheduleGroup)
	awsapi.Handle(s, "GetScheduleGroup", a.getScheduleGroup)
	awsapi.Handle(s, "DeleteScheduleGroup", a.deleteScheduleGroup)
	awsapi.Handle(s, "ListScheduleGroups", a.listScheduleGroups)
	awsapi.Handle(s, "TagResource", a.tagResource)
	awsapi.Handle(s, "UntagResource", a.untagResource)
	awsapi.Handle(s, "ListTagsForResource", a.listTagsForResource)
}

func invalid(format string, args ...any) error {
	return thaw.Errorf(thaw.CodeValidation, format, args...)
}

func notImplemented(format string, args ...any) error {
	return thaw.Errorf(thaw.CodeNotImplemented, format, args...)
}

func notFound(format string, args ...any) error {
	return thaw.Errorf(thaw.CodeResourceNotFound, format, args...)
}

func conflict(format string, args ...any) error {
	return thaw.Errorf(thaw.CodeConflict, format, args...)
}

func noSchedule(name string) error { return notFound("Schedule %s does not exist.", name) }

func noGroup(name string) error { return notFound("Schedule group %s does not exist.", name) }

// storeError words an error of the store for the caller where the caller can do something about it.
func storeError(err error) error { return operation.Stored(err, thaw.CodeInternalServer) }

// digest tells requests apart that have the same ClientToken.
func digest(in any) string {
	text, _ := json.Marshal(in) // structs of the SDK without streams: nothing that can fail
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

// page cuts items, which are in the order of their keys, to what a request asks for.
func page[T any](items []T, key func(T) string, token *string, limit *int32) (part []T, next *string, err error) {
	if part, next, err = operation.Cut(items, key, token, int(cmp.Or(operation.Value(limit), maxPage))); err != nil {
		return nil, nil, invalid("NextToken is not one that this operation gave. Start again without it.")
	}
	return part, next, nil
}
