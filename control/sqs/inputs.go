package sqs

import "github.com/aws/aws-sdk-go-v2/service/sqs/types"

// Inputs of operations where the SDK's own structs do not serve: those cannot tell a number of zero from none, and have
// enumerations where names are to be refused one by one. Members have the model's names.
//
//nolint:revive // as it says
type (
	createQueueInput struct {
		QueueName  *string
		Attributes map[string]string
		Tags       map[string]string
	}

	getQueueAttributesInput struct {
		QueueUrl       *string
		AttributeNames []string
	}

	sendMessageInput struct {
		QueueUrl                *string
		MessageBody             *string
		DelaySeconds            *int32
		MessageAttributes       map[string]types.MessageAttributeValue
		MessageSystemAttributes map[string]types.MessageSystemAttributeValue
		MessageDeduplicationId  *string
		MessageGroupId          *string
	}

	sendMessageBatchInput struct {
		QueueUrl *string
		Entries  []outgoing
	}

	// outgoing is a message as a batch brings it.
	outgoing struct {
		Id                      *string
		MessageBody             *string
		DelaySeconds            *int32
		MessageAttributes       map[string]types.MessageAttributeValue
		MessageSystemAttributes map[string]types.MessageSystemAttributeValue
		MessageDeduplicationId  *string
		MessageGroupId          *string
	}

	receiveMessageInput struct {
		QueueUrl                    *string
		AttributeNames              []string
		MessageSystemAttributeNames []string
		MessageAttributeNames       []string
		MaxNumberOfMessages         *int32
		VisibilityTimeout           *int32
		WaitTimeSeconds             *int32
		ReceiveRequestAttemptId     *string
	}

	changeMessageVisibilityInput struct {
		QueueUrl          *string
		ReceiptHandle     *string
		VisibilityTimeout *int32
	}

	changeMessageVisibilityBatchInput struct {
		QueueUrl *string
		Entries  []visibilityEntry
	}

	visibilityEntry struct {
		Id                *string
		ReceiptHandle     *string
		VisibilityTimeout *int32
	}
)
