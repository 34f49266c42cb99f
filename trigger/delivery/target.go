package delivery

import (
	"errors"
	"regexp"
	"strings"

	"thaw"
	"thaw/state"
	"thaw/state/queues"
)

// Destination is a target taken apart: a function, or a queue where Queue is not empty.
type Destination struct {
	Function thaw.FunctionRef
	Queue    string // the name alone
}

var arnPattern = regexp.MustCompile(`^arn:aws[a-zA-Z-]*:([a-zA-Z0-9-]+):([a-z0-9-]*):([0-9]{12})?:(.+)$`)

// ParseTarget reads the ARN of a target: a function of this account, with or without a qualifier, or a queue of it. The
// code of the error is CodeValidation where arn is none, and CodeNotImplemented for targets of other services, accounts
// and regions, which it names.
func ParseTarget(account thaw.Account, arn string) (Destination, error) {
	m := arnPattern.FindStringSubmatch(arn)
	if m == nil {
		return Destination{}, thaw.Errorf(thaw.CodeValidation, "Provided Arn is not in correct format.")
	}
	service, region, owner, rest := m[1], m[2], m[3], m[4]
	if service != "lambda" && service != "sqs" {
		return Destination{}, thaw.Errorf(thaw.CodeNotImplemented, "Targets of the service %s are not implemented: %s. A target is a Lambda function or an SQS queue.", service, arn)
	}
	if owner != account.ID || region != account.Region {
		return Destination{}, thaw.Errorf(thaw.CodeNotImplemented, "Targets of other accounts and regions are not implemented: %s. This is account %s in %s.", arn, account.ID, account.Region)
	}
	if service == "sqs" {
		if _, ok := thaw.ParseQueueARN(arn); !ok {
			return Destination{}, thaw.Errorf(thaw.CodeValidation, "Provided Arn is not in correct format.")
		}
		return Destination{Queue: rest}, nil
	}
	ref, ok := thaw.ParseFunctionRef(arn)
	if !ok || !strings.HasPrefix(rest, "function:") {
		return Destination{}, thaw.Errorf(thaw.CodeValidation, "Provided Arn is not in correct format.")
	}
	return Destination{Function: ref}, nil
}

// codes that AWS's dead-letter messages have where a target cannot be used at all; see the page on dead-letter queues of
// EventBridge's user guide.
const (
	codeNoResource   = "NO_RESOURCE"
	codeFromTarget   = "ERROR_FROM_TARGET"
	codeNoPermission = "NO_PERMISSIONS"
)

// final reports whether trying again is of no use, and what AWS calls the reason.
func final(err error) (code string, yes bool) {
	told, ok := errors.AsType[*thaw.Error](err)
	switch {
	case errors.Is(err, state.ErrFull):
		return codeFromTarget, false
	case errors.Is(err, queues.ErrTooLarge):
		return codeFromTarget, true
	case errors.Is(err, state.ErrNotFound), ok && told.Code == thaw.CodeQueueDoesNotExist:
		return codeNoResource, true
	case !ok:
		return codeFromTarget, false
	}
	switch told.Code {
	case thaw.CodeResourceNotFound:
		return codeNoResource, true
	case thaw.CodeAccessDenied:
		return codeNoPermission, true
	case thaw.CodeInvalidParameterValue, thaw.CodeInvalidRequestContent, thaw.CodeValidation, thaw.CodeRequestTooLarge,
		thaw.CodeRequestEntityTooLarge, thaw.CodeNotImplemented, thaw.CodeSerialization, thaw.CodeUnsupportedMediaType:
		return codeFromTarget, true
	}
	return codeFromTarget, false
}
