// Package sqs answers the API of Amazon SQS over the durable queues of package queues, in its JSON and its query protocol.
// A user's queue NAME is the queue "sqs/NAME" there, whose Meta keeps the attributes, tags and move tasks that only this
// API knows.
//
// Texts of errors are AWS's where one has been recorded, thaw's own otherwise. Policies are kept and shown and not
// enforced: whoever holds the platform's credentials may do everything. There is no encryption at rest and no fair
// queueing of standard queues, and a queue's name can be used again at once after it was deleted.
//
// Locks: none of its own but what Run keeps for its tasks; changes of a queue's description are serialized by the queue.
package sqs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"time"

	"thaw"
	"thaw/awsapi"
	"thaw/control/internal/operation"
	"thaw/state"
	"thaw/state/queues"
)

// prefix begins the names of users' queues in package queues.
const prefix = "sqs/"

// API holds the operations.
type API struct {
	account thaw.Account
	queues  *queues.Queues
	log     *slog.Logger
	now     func() time.Time
	// moving wakes Run for a task that was started.
	moving chan struct{}
	// hurry is closed when receives may wait no more.
	hurry   chan struct{}
	hurried sync.Once
}

// New makes an API on the queues. Move tasks make progress while Run runs. A nil log drops what Run has to say.
func New(account thaw.Account, q *queues.Queues, log *slog.Logger) *API {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &API{account: account, queues: q, log: log, now: time.Now, moving: make(chan struct{}, 1), hurry: make(chan struct{})}
}

// StopWaiting lets no receive wait any more: those under way and those to come answer with what there is. A listener that
// shuts down need not wait for them then.
func (a *API) StopWaiting() { a.hurried.Do(func() { close(a.hurry) }) }

// Register adds the operations to the service sqs: all that its model has.
func (a *API) Register(s *awsapi.Service) {
	awsapi.Handle(s, "CreateQueue", a.createQueue)
	awsapi.Handle(s, "GetQueueUrl", a.getQueueURL)
	awsapi.Handle(s, "ListQueues", a.listQueues)
	awsapi.Handle(s, "DeleteQueue", a.deleteQueue)
	awsapi.Handle(s, "PurgeQueue", a.purgeQueue)
	awsapi.Handle(s, "GetQueueAttributes", a.getQueueAttributes)
	awsapi.Handle(s, "SetQueueAttributes", a.setQueueAttributes)
	awsapi.Handle(s, "ListDeadLetterSourceQueues", a.listDeadLetterSourceQueues)
	awsapi.Handle(s, "SendMessage", a.sendMessage)
	awsapi.Handle(s, "SendMessageBatch", a.sendMessageBatch)
	awsapi.Handle(s, "ReceiveMessage", a.receiveMessage)
	awsapi.Handle(s, "DeleteMessage", a.deleteMessage)
	awsapi.Handle(s, "DeleteMessageBatch", a.deleteMessageBatch)
	awsapi.Handle(s, "ChangeMessageVisibility", a.changeMessageVisibility)
	awsapi.Handle(s, "ChangeMessageVisibilityBatch", a.changeMessageVisibilityBatch)
	awsapi.Handle(s, "TagQueue", a.tagQueue)
	awsapi.Handle(s, "UntagQueue", a.untagQueue)
	awsapi.Handle(s, "ListQueueTags", a.listQueueTags)
	awsapi.Handle(s, "AddPermission", a.addPermission)
	awsapi.Handle(s, "RemovePermission", a.removePermission)
	awsapi.Handle(s, "StartMessageMoveTask", a.startMessageMoveTask)
	awsapi.Handle(s, "ListMessageMoveTasks", a.listMessageMoveTasks)
	awsapi.Handle(s, "CancelMessageMoveTask", a.cancelMessageMoveTask)
}

// settings is the Meta of a queue: what package queues does not need to know.
type settings struct {
	// Attributes are those that were set, by AWS's names and in AWS's form. Defaults are not kept.
	Attributes map[string]string `json:"attributes,omitempty"`
	Tags       map[string]string `json:"tags,omitempty"`
	// Changed is when Attributes last changed.
	Changed time.Time `json:"changed"`
	// Purged is when the queue was last purged.
	Purged time.Time `json:"purged,omitzero"`
	// Tasks are the move tasks from this queue, the newest first.
	Tasks []task `json:"tasks,omitempty"`
}

func readSettings(info queues.Info) (settings, error) {
	var s settings
	if len(info.Meta) == 0 {
		return s, nil
	}
	if err := json.Unmarshal(info.Meta, &s); err != nil {
		return s, fmt.Errorf("description of queue %s: %w", info.Name, err)
	}
	return s, nil
}

// get is an attribute's value, its default if it was not set.
func (s *settings) get(name string) string {
	if v, ok := s.Attributes[name]; ok {
		return v
	}
	return attributeOf[name].standard
}

// queue is a user's queue with its settings as they were when it was looked up.
type queue struct {
	*queues.Queue
	settings
	name string
	fifo bool
}

// named gives the queue of a name.
func (a *API) named(name string) (*queue, bool, error) {
	q, ok := a.queues.Queue(prefix + name)
	if !ok {
		return nil, false, nil
	}
	s, err := describe(q)
	return s, err == nil, err
}

func describe(q *queues.Queue) (*queue, error) {
	info := q.Info()
	s, err := readSettings(info)
	return &queue{Queue: q, settings: s, name: strings.TrimPrefix(info.Name, prefix), fifo: info.Options.FIFO}, err
}

// at gives the queue of a URL. Only the path counts, so that a URL works over every address that this platform has.
func (a *API) at(ctx context.Context, queueURL *string) (*queue, error) {
	u, err := url.Parse(operation.Value(queueURL))
	var parts []string
	if err == nil {
		parts = strings.Split(strings.Trim(u.Path, "/"), "/")
	}
	if len(parts) != 2 || parts[0] == "" || parts[1] == "" {
		return nil, thaw.Errorf(thaw.CodeInvalidAddress, "The address %s is not valid for this endpoint.", operation.Value(queueURL))
	}
	if parts[0] != a.account.ID {
		return nil, noQueue(ctx)
	}
	q, ok, err := a.named(parts[1])
	if err == nil && !ok {
		err = noQueue(ctx)
	}
	return q, err
}

// noQueue has another text in the older protocol, as on AWS.
func noQueue(ctx context.Context) error {
	if awsapi.RequestFrom(ctx).Protocol == "query" {
		return thaw.Errorf(thaw.CodeQueueDoesNotExist, "The specified queue does not exist for this wsdl version.")
	}
	return thaw.Errorf(thaw.CodeQueueDoesNotExist, "The specified queue does not exist.")
}

// update changes a queue's settings and, by its attributes, what it does.
func (a *API) update(ctx context.Context, q *queue, change func(*settings) error) error {
	err := q.Update(ctx, func(info *queues.Info) error {
		s, err := readSettings(*info)
		if err != nil {
			return err
		}
		if err := change(&s); err != nil {
			return err
		}
		info.Options = s.options(q.fifo)
		info.Meta, err = json.Marshal(s)
		return err
	})
	return wording(ctx, err)
}

// wording gives an error of the queues the words of AWS where the caller can do something about it.
func wording(ctx context.Context, err error) error {
	switch {
	case errors.Is(err, state.ErrNotFound), errors.Is(err, queues.ErrClosed):
		return noQueue(ctx)
	case errors.Is(err, queues.ErrInFlight):
		return thaw.Errorf(thaw.CodeOverLimit, "As many messages are in flight as this queue can have, 120,000. Delete those that are done with.")
	case errors.Is(err, state.ErrFull):
		return &thaw.Error{Code: thaw.CodeInternal, Message: "There is no space left in the data directory, or the queues have reached queues.max_bytes; receive and delete messages, or make room, and send the request again.", Cause: err}
	}
	return err
}

// arn is the ARN of a queue.
func (a *API) arn(name string) string {
	return a.account.QueueARN(name)
}

// ofARN gives the queue's name in an ARN; ok is false if it is no ARN of a queue of this account and region.
func (a *API) ofARN(arn string) (name string, ok bool) {
	name, ok = strings.CutPrefix(arn, a.arn(""))
	return name, ok && anyName.MatchString(name)
}

// url is the URL of a queue at the address that the caller used.
func (a *API) url(ctx context.Context, name string) string {
	return awsapi.RequestFrom(ctx).Endpoint + "/" + a.account.ID + "/" + name
}

var (
	standardName = regexp.MustCompile(`^[a-zA-Z0-9_-]{1,80}$`)
	fifoName     = regexp.MustCompile(`^[a-zA-Z0-9_-]{1,75}\.fifo$`)
	anyName      = regexp.MustCompile(`^[a-zA-Z0-9_-]{1,80}(\.fifo)?$`)
	labelPattern = standardName // of an entry of a batch, and of a permission
)

func invalid(format string, args ...any) error {
	return thaw.Errorf(thaw.CodeInvalidParameterValue, format, args...)
}

// invalidValue has AWS's form for most parameters.
func invalidValue(v any, parameter, reason string) error {
	return invalid("Value %v for parameter %s is invalid. Reason: %s", v, parameter, reason)
}

func absent(parameter string) error {
	return thaw.Errorf(thaw.CodeMissingParameter, "The request must contain the parameter %s.", parameter)
}

// maxPage is the most that a listing of queues has, after the documentation of MaxResults.
const maxPage = 1000

// page is what a request for a listing asks for. A token holds the name of the last queue of the page before. AWS gives a
// token only to whom has set MaxResults; so does this.
type page struct {
	after string
	size  int
	paged bool
}

func readPage(token *string, maxResults *int32) (page, error) {
	p := page{size: maxPage}
	if maxResults != nil {
		if *maxResults < 1 || *maxResults > maxPage {
			return p, invalidValue(*maxResults, "MaxResults", "MaxResults must be an integer between 1 and 1000")
		}
		p.size, p.paged = int(*maxResults), true
	}
	if operation.Value(token) != "" {
		after, err := operation.After(token)
		if err != nil || !anyName.MatchString(after) {
			return p, invalid("Invalid or expired next token.")
		}
		p.after = after
	}
	return p, nil
}

// next is the token that a page ends with.
func (p page) next(last string, more bool) *string {
	if !p.paged || !more {
		return nil
	}
	return operation.Token(last)
}
