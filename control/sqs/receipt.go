package sqs

import (
	"context"
	"errors"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"thaw"
	"thaw/state/queues"
)

func (a *API) deleteMessage(ctx context.Context, in *sdk.DeleteMessageInput) (*sdk.DeleteMessageOutput, error) {
	q, err := a.at(ctx, in.QueueUrl)
	if err != nil {
		return nil, err
	}
	return &sdk.DeleteMessageOutput{}, q.receiptError(ctx, *in.ReceiptHandle, q.Delete(ctx, *in.ReceiptHandle))
}

func (a *API) deleteMessageBatch(ctx context.Context, in *sdk.DeleteMessageBatchInput) (*sdk.DeleteMessageBatchOutput, error) {
	q, err := a.at(ctx, in.QueueUrl)
	if err != nil {
		return nil, err
	}
	ids, handles := make([]*string, len(in.Entries)), make([]string, len(in.Entries))
	for i, e := range in.Entries {
		ids[i], handles[i] = e.Id, *e.ReceiptHandle
	}
	if err := checkBatch("DeleteMessageBatchRequestEntry", ids); err != nil {
		return nil, err
	}
	out := &sdk.DeleteMessageBatchOutput{}
	for i, err := range q.DeleteBatch(ctx, handles) {
		if err := q.receiptError(ctx, handles[i], err); err != nil {
			out.Failed = append(out.Failed, failed(ids[i], err))
			continue
		}
		out.Successful = append(out.Successful, types.DeleteMessageBatchResultEntry{Id: ids[i]})
	}
	return out, nil
}

func (a *API) changeMessageVisibility(ctx context.Context, in *changeMessageVisibilityInput) (*sdk.ChangeMessageVisibilityOutput, error) {
	q, err := a.at(ctx, in.QueueUrl)
	if err != nil {
		return nil, err
	}
	d, err := visibilityOf(in.VisibilityTimeout)
	if err != nil {
		return nil, err
	}
	err = q.ChangeVisibility(ctx, *in.ReceiptHandle, d)
	return &sdk.ChangeMessageVisibilityOutput{}, q.receiptError(ctx, *in.ReceiptHandle, err)
}

func (a *API) changeMessageVisibilityBatch(ctx context.Context, in *changeMessageVisibilityBatchInput) (*sdk.ChangeMessageVisibilityBatchOutput, error) {
	q, err := a.at(ctx, in.QueueUrl)
	if err != nil {
		return nil, err
	}
	ids := make([]*string, len(in.Entries))
	for i, e := range in.Entries {
		ids[i] = e.Id
	}
	if err := checkBatch("ChangeMessageVisibilityBatchRequestEntry", ids); err != nil {
		return nil, err
	}
	out := &sdk.ChangeMessageVisibilityBatchOutput{}
	var changes []queues.VisibilityChange
	var changed []*string // ids of changes
	for _, e := range in.Entries {
		d, err := visibilityOf(e.VisibilityTimeout)
		if err != nil {
			out.Failed = append(out.Failed, failed(e.Id, err))
			continue
		}
		changes = append(changes, queues.VisibilityChange{Handle: *e.ReceiptHandle, Visibility: d})
		changed = append(changed, e.Id)
	}
	if len(changes) == 0 {
		return out, nil
	}
	for i, err := range q.ChangeVisibilityBatch(ctx, changes) {
		if err := q.receiptError(ctx, changes[i].Handle, err); err != nil {
			out.Failed = append(out.Failed, failed(changed[i], err))
			continue
		}
		out.Successful = append(out.Successful, types.ChangeMessageVisibilityBatchResultEntry{Id: changed[i]})
	}
	return out, nil
}

func visibilityOf(seconds *int32) (time.Duration, error) {
	switch {
	case seconds == nil:
		return 0, absent(visibilityTimeout)
	case *seconds < 0 || *seconds > maxVisibility:
		return 0, invalidValue(*seconds, visibilityTimeout, "Must be between 0 and 43200, if provided.")
	}
	return time.Duration(*seconds) * time.Second, nil
}

// receiptError words what a queue says of a receipt handle.
func (q *queue) receiptError(ctx context.Context, handle string, err error) error {
	switch {
	case errors.Is(err, queues.ErrHandle) && q.fifo && queues.IsHandle(handle):
		return invalidValue(handle, "ReceiptHandle", "The receipt handle has expired.")
	case errors.Is(err, queues.ErrHandle):
		return thaw.Errorf(thaw.CodeReceiptHandle, "The input receipt handle %q is not a valid receipt handle.", handle)
	case errors.Is(err, queues.ErrNotInFlight):
		return invalidValue(handle, "ReceiptHandle", "Message does not exist or is not available for visibility timeout change.")
	}
	return wording(ctx, err)
}

// asError is the error that a caller is told, if err is one.
func asError(err error) (*thaw.Error, bool) { return errors.AsType[*thaw.Error](err) }
