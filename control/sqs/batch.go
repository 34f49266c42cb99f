package sqs

import (
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"thaw"
	"thaw/awsapi"
)

// maxBatch is the most entries that a batch has.
const maxBatch = 10

// checkBatch refuses a batch for the number of its entries or for their ids.
func checkBatch(entry string, ids []*string) error {
	switch {
	case len(ids) == 0:
		return thaw.Errorf(thaw.CodeEmptyBatch, "There should be at least one %s in the request.", entry)
	case len(ids) > maxBatch:
		return thaw.Errorf(thaw.CodeTooManyBatchEntries, "Maximum number of entries per request are %d. You have sent %d.", maxBatch, len(ids))
	}
	seen := make(map[string]bool, len(ids))
	for _, id := range ids {
		switch {
		case !labelPattern.MatchString(*id):
			return thaw.Errorf(thaw.CodeInvalidBatchID, "A batch entry id can only contain alphanumeric characters, hyphens and underscores. It can be at most 80 letters long.")
		case seen[*id]:
			return thaw.Errorf(thaw.CodeBatchIDsNotDistinct, "Id %s repeated.", *id)
		}
		seen[*id] = true
	}
	return nil
}

// failed is the outcome of an entry that failed. What the caller is not told stands in no answer and in the log of the
// queues.
func failed(id *string, err error) types.BatchResultErrorEntry {
	e := types.BatchResultErrorEntry{Id: id, Code: aws.String("InternalError"), Message: aws.String("The entry failed. Send it again.")}
	if told, ok := asError(err); ok && told.Code != thaw.CodeService {
		e.Code, e.Message, e.SenderFault = aws.String(awsapi.QueryCode("sqs", told.Code)), &told.Message, true
	} else if ok {
		e.Message = &told.Message
	}
	return e
}
