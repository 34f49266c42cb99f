package thaw

import (
	"errors"
	"fmt"
	"time"
)

// ErrorCode is the name of an error as AWS clients know it. The set below is closed: what is not in it does not leave the
// platform; awsapi maps each to its HTTP status and wire form.
type ErrorCode string

// Codes of the Lambda API, after the errors of its public model and recorded answers.
const (
	CodeInvalidParameterValue ErrorCode = "InvalidParameterValueException"
	CodeInvalidRequestContent ErrorCode = "InvalidRequestContentException"
	CodeValidation            ErrorCode = "ValidationException"
	CodeResourceNotFound      ErrorCode = "ResourceNotFoundException"
	CodeResourceConflict      ErrorCode = "ResourceConflictException"
	CodeResourceInUse         ErrorCode = "ResourceInUseException"
	CodeResourceNotReady      ErrorCode = "ResourceNotReadyException"
	CodePreconditionFailed    ErrorCode = "PreconditionFailedException"
	CodeTooManyRequests       ErrorCode = "TooManyRequestsException"
	CodeRequestTooLarge       ErrorCode = "RequestTooLargeException"
	CodeRequestEntityTooLarge ErrorCode = "RequestEntityTooLargeException"
	CodeCodeStorageExceeded   ErrorCode = "CodeStorageExceededException"
	CodePolicyLengthExceeded  ErrorCode = "PolicyLengthExceededException"
	CodeInvalidZip            ErrorCode = "InvalidZipFileException"
	CodeInvalidRuntime        ErrorCode = "InvalidRuntimeException"
	CodeUnsupportedMediaType  ErrorCode = "UnsupportedMediaTypeException"
	CodeRecursiveInvocation   ErrorCode = "RecursiveInvocationException"
	CodeProvisionedNotFound   ErrorCode = "ProvisionedConcurrencyConfigNotFoundException"
	CodeService               ErrorCode = "ServiceException"
)

// Codes that any AWS service may answer.
const (
	CodeAccessDenied          ErrorCode = "AccessDeniedException"
	CodeUnknownOperation      ErrorCode = "UnknownOperationException"
	CodeNotImplemented        ErrorCode = "NotImplementedException"
	CodeSerialization         ErrorCode = "SerializationException"
	CodeMissingAuthentication ErrorCode = "MissingAuthenticationTokenException"
	CodeInvalidSignature      ErrorCode = "InvalidSignatureException"
	CodeUnrecognizedClient    ErrorCode = "UnrecognizedClientException"
	CodeIncompleteSignature   ErrorCode = "IncompleteSignatureException"
	CodeInternal              ErrorCode = "InternalFailure"
)

// Codes of the IAM API.
const (
	CodeNoSuchEntity        ErrorCode = "NoSuchEntity"
	CodeEntityAlreadyExists ErrorCode = "EntityAlreadyExists"
	CodeDeleteConflict      ErrorCode = "DeleteConflict"
	CodeMalformedPolicy     ErrorCode = "MalformedPolicyDocument"
	CodeLimitExceeded       ErrorCode = "LimitExceeded"
	CodeInvalidInput        ErrorCode = "InvalidInput"
	CodeValidationError     ErrorCode = "ValidationError"
)

// Codes of the Application Auto Scaling API.
const (
	CodeObjectNotFound   ErrorCode = "ObjectNotFoundException"
	CodeQuotaExceeded    ErrorCode = "LimitExceededException"
	CodeInvalidNextToken ErrorCode = "InvalidNextTokenException"
	CodeTooManyTags      ErrorCode = "TooManyTagsException"
	CodeInternalService  ErrorCode = "InternalServiceException"
)

// Codes of the SQS API, in its JSON protocol; awsapi has those of the query protocol.
const (
	CodeMissingParameter      ErrorCode = "MissingRequiredParameterException"
	CodeBatchIDsNotDistinct   ErrorCode = "BatchEntryIdsNotDistinct"
	CodeBatchTooLong          ErrorCode = "BatchRequestTooLong"
	CodeEmptyBatch            ErrorCode = "EmptyBatchRequest"
	CodeInvalidAddress        ErrorCode = "InvalidAddress"
	CodeInvalidAttributeName  ErrorCode = "InvalidAttributeName"
	CodeInvalidAttributeValue ErrorCode = "InvalidAttributeValue"
	CodeInvalidBatchID        ErrorCode = "InvalidBatchEntryId"
	CodeInvalidMessage        ErrorCode = "InvalidMessageContents"
	CodeOverLimit             ErrorCode = "OverLimit"
	CodePurgeInProgress       ErrorCode = "PurgeQueueInProgress"
	CodeQueueDoesNotExist     ErrorCode = "QueueDoesNotExist"
	CodeQueueNameExists       ErrorCode = "QueueNameExists"
	CodeReceiptHandle         ErrorCode = "ReceiptHandleIsInvalid"
	CodeTooManyBatchEntries   ErrorCode = "TooManyEntriesInBatchRequest"
	CodeUnsupportedOperation  ErrorCode = "UnsupportedOperation"
)

// Codes of the EventBridge and EventBridge Scheduler APIs.
const (
	CodeInvalidEventPattern ErrorCode = "InvalidEventPatternException"
	CodeManagedRule         ErrorCode = "ManagedRuleException"
	CodeEventsInternal      ErrorCode = "InternalException"
	CodeConflict            ErrorCode = "ConflictException"
	CodeServiceQuota        ErrorCode = "ServiceQuotaExceededException"
	CodeInternalServer      ErrorCode = "InternalServerException"
)

// Codes of the CloudWatch API, in its CBOR and JSON protocols; awsapi has those of the query protocol.
const (
	CodeParameterCombination ErrorCode = "InvalidParameterCombinationException"
	CodeAlarmNotFound        ErrorCode = "ResourceNotFound"
	CodeLimitFault           ErrorCode = "LimitExceededFault"
	CodeNextTokenFault       ErrorCode = "InvalidNextToken"
	CodeFormatFault          ErrorCode = "InvalidFormatFault"
	CodeServiceFault         ErrorCode = "InternalServiceFault"
)

// Codes of the CloudWatch Logs API. The last two are of its live tail's events.
const (
	CodeInvalidParameter   ErrorCode = "InvalidParameterException"
	CodeAlreadyExists      ErrorCode = "ResourceAlreadyExistsException"
	CodeOperationAborted   ErrorCode = "OperationAbortedException"
	CodeInvalidOperation   ErrorCode = "InvalidOperationException"
	CodeMalformedQuery     ErrorCode = "MalformedQueryException"
	CodeServiceUnavailable ErrorCode = "ServiceUnavailableException"
	CodeSessionTimeout     ErrorCode = "SessionTimeoutException"
	CodeSessionStreaming   ErrorCode = "SessionStreamingException"
)

// Error is the platform's one error type for what a caller is told. Message is a sentence for the caller and says what
// to do next where AWS's own text does not bind; Cause is for the operator and never leaves the platform.
type Error struct {
	Code    ErrorCode
	Message string
	// Reason is AWS's Reason member; only CodeTooManyRequests has one.
	Reason string
	// RetryAfter becomes the Retry-After header when it is not zero.
	RetryAfter time.Duration
	Cause      error
}

// Error is the text for logs: code, message and cause.
func (e *Error) Error() string {
	if e.Cause != nil {
		return fmt.Sprintf("%s: %s: %v", e.Code, e.Message, e.Cause)
	}
	return fmt.Sprintf("%s: %s", e.Code, e.Message)
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Cause }

// Is reports whether target is an *Error of the same code, so that errors.Is(err, &Error{Code: c}) works.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Code == e.Code && t.Message == ""
}

// Errorf makes an *Error with a formatted message and no cause.
func Errorf(code ErrorCode, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// CodeOf gives the code of the first *Error in err's chain, or CodeService when there is none.
func CodeOf(err error) ErrorCode {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Code
	}
	return CodeService
}

// FunctionError is a failure of the function, not of the platform: the caller gets status 200, the header
// X-Amz-Function-Error and Payload as the body.
type FunctionError struct {
	// Type is AWS's error type: the exception's name, or one of the Sandbox., Runtime. and Function. names below.
	Type string
	// Payload is the JSON object that the caller gets: errorType, errorMessage and, from runtimes, stackTrace.
	Payload []byte
}

// Error is the failure's type and payload, for logs.
func (e *FunctionError) Error() string { return e.Type + ": " + string(e.Payload) }

// Error types of failures that the platform itself reports in a function's place.
const (
	ErrorTimedOut         = "Sandbox.Timedout"
	ErrorExit             = "Runtime.ExitError"
	ErrorOutOfMemory      = "Runtime.OutOfMemory"
	ErrorInvalidEntry     = "Runtime.InvalidEntrypoint"
	ErrorRuntimeUnknown   = "Runtime.Unknown"
	ErrorFunctionUnknown  = "Function.Unknown"
	ErrorResponseTooLarge = "Function.ResponseSizeTooLarge"
)

// Limits of the Lambda API that more than one package must know.
const (
	MaxPayload     = 6 * 1024 * 1024 // a synchronous request's body, bytes
	MaxResponse    = MaxPayload + 100
	MaxZip         = 52_428_800  // a deployment package in the request, bytes
	MaxUnzipped    = 262_144_000 // a deployment package with its layers, unpacked, bytes
	MaxEnvironment = 4096        // all environment variables, names and values, bytes
)
