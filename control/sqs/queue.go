package sqs

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/service/sqs"

	"thaw"
	"thaw/control/internal/operation"
	"thaw/state"
	"thaw/state/queues"
)

// purgeInterval is how often AWS lets a queue be purged.
const purgeInterval = time.Minute

// createQueue gives the URL of the queue that is there if it has all the attributes that the request names. AWS forbids
// a name for 60 seconds after its queue was deleted; nothing here needs that.
func (a *API) createQueue(ctx context.Context, in *createQueueInput) (*sdk.CreateQueueOutput, error) {
	name := *in.QueueName
	fifo, err := newName(name, in.Attributes)
	if err != nil {
		return nil, err
	}
	s := settings{Tags: in.Tags, Changed: a.now().UTC()}
	if err := checkTags(name, in.Tags); err != nil {
		return nil, err
	}
	if err := a.setAttributes(&s, name, fifo, in.Attributes, true); err != nil {
		return nil, err
	}
	url := a.url(ctx, name)
	meta, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	_, err = a.queues.Create(ctx, queues.Info{Name: prefix + name, Options: s.options(fifo), Meta: meta})
	if errors.Is(err, state.ErrExists) {
		err = a.same(ctx, name, in.Attributes, &s)
	}
	if err != nil {
		return nil, wording(ctx, err)
	}
	return &sdk.CreateQueueOutput{QueueUrl: &url}, nil
}

// newName checks the name of a queue to be created, and says whether it is to be a FIFO queue.
func newName(name string, attributes map[string]string) (fifo bool, err error) {
	if attributes[fifoQueue] == "true" {
		if !fifoName.MatchString(name) {
			return true, invalid("The name of a FIFO queue can only include alphanumeric characters, hyphens, or underscores, must end with .fifo suffix and be 1 to 80 in length.")
		}
		return true, nil
	}
	if !standardName.MatchString(name) {
		return false, invalid("Can only include alphanumeric characters, hyphens, or underscores. 1 to 80 in length")
	}
	return false, nil
}

// same compares the attributes that a request to create a queue names with those of the one that is there.
func (a *API) same(ctx context.Context, name string, asked map[string]string, s *settings) error {
	present, ok, err := a.named(name)
	if err != nil {
		return err
	}
	if !ok {
		return noQueue(ctx) // it was deleted at the same time
	}
	for _, attribute := range attributes {
		if _, ok := asked[attribute.name]; ok && present.get(attribute.name) != s.get(attribute.name) {
			return thaw.Errorf(thaw.CodeQueueNameExists, "A queue already exists with the same name and a different value for attribute %s", attribute.name)
		}
	}
	return nil
}

func (a *API) getQueueURL(ctx context.Context, in *sdk.GetQueueUrlInput) (*sdk.GetQueueUrlOutput, error) {
	if owner := operation.Value(in.QueueOwnerAWSAccountId); owner != "" && owner != a.account.ID {
		return nil, noQueue(ctx)
	}
	if _, ok := a.queues.Queue(prefix + *in.QueueName); !ok {
		return nil, noQueue(ctx)
	}
	url := a.url(ctx, *in.QueueName)
	return &sdk.GetQueueUrlOutput{QueueUrl: &url}, nil
}

func (a *API) listQueues(ctx context.Context, in *sdk.ListQueuesInput) (*sdk.ListQueuesOutput, error) {
	p, err := readPage(in.NextToken, in.MaxResults)
	if err != nil {
		return nil, err
	}
	after := ""
	if p.after != "" {
		after = prefix + p.after
	}
	list := a.queues.List(prefix+operation.Value(in.QueueNamePrefix), after, p.size+1)
	out := &sdk.ListQueuesOutput{}
	var last string
	for _, q := range list[:min(p.size, len(list))] {
		last = strings.TrimPrefix(q.Info().Name, prefix)
		out.QueueUrls = append(out.QueueUrls, a.url(ctx, last))
	}
	out.NextToken = p.next(last, len(list) > p.size)
	return out, nil
}

func (a *API) deleteQueue(ctx context.Context, in *sdk.DeleteQueueInput) (*sdk.DeleteQueueOutput, error) {
	q, err := a.at(ctx, in.QueueUrl)
	if err == nil {
		err = a.queues.Delete(ctx, prefix+q.name)
	}
	return &sdk.DeleteQueueOutput{}, wording(ctx, err)
}

func (a *API) purgeQueue(ctx context.Context, in *sdk.PurgeQueueInput) (*sdk.PurgeQueueOutput, error) {
	q, err := a.at(ctx, in.QueueUrl)
	if err != nil {
		return nil, err
	}
	err = a.update(ctx, q, func(s *settings) error {
		now := a.now()
		if since := now.Sub(s.Purged); since >= 0 && since < purgeInterval {
			return thaw.Errorf(thaw.CodePurgeInProgress, "Only one PurgeQueue operation on %s is allowed every 60 seconds.", q.name)
		}
		s.Purged = now.UTC()
		return nil
	})
	if err == nil {
		err = q.Purge(ctx)
	}
	return &sdk.PurgeQueueOutput{}, wording(ctx, err)
}

// listDeadLetterSourceQueues reads all queues: only their own descriptions say where their messages die.
func (a *API) listDeadLetterSourceQueues(ctx context.Context, in *sdk.ListDeadLetterSourceQueuesInput) (*sdk.ListDeadLetterSourceQueuesOutput, error) {
	p, err := readPage(in.NextToken, in.MaxResults)
	if err != nil {
		return nil, err
	}
	target, err := a.at(ctx, in.QueueUrl)
	if err != nil {
		return nil, err
	}
	out := &sdk.ListDeadLetterSourceQueuesOutput{QueueUrls: []string{}}
	var last string
	for name := range a.sources(target.name) {
		if name <= p.after {
			continue
		}
		if len(out.QueueUrls) == p.size {
			out.NextToken = p.next(last, true)
			break
		}
		last = name
		out.QueueUrls = append(out.QueueUrls, a.url(ctx, name))
	}
	return out, nil
}

// all gives every user's queue, by name.
func (a *API) all(yield func(*queues.Queue) bool) {
	after := ""
	for {
		list := a.queues.List(prefix, after, maxPage)
		for _, q := range list {
			if !yield(q) {
				return
			}
			after = q.Info().Name
		}
		if len(list) < maxPage {
			return
		}
	}
}

// sources gives the names of the queues whose messages die in another one.
func (a *API) sources(deadLetter string) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for q := range a.all {
			info := q.Info()
			if info.Options.DeadLetter == prefix+deadLetter && !yield(strings.TrimPrefix(info.Name, prefix)) {
				return
			}
		}
	}
}
