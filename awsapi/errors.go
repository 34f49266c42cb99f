package awsapi

import (
	"bytes"
	"errors"
	"log/slog"
	"math"
	"net/http"
	"strconv"
	"time"

	smithyjson "github.com/aws/smithy-go/encoding/json"
	smithyxml "github.com/aws/smithy-go/encoding/xml"

	"thaw"
)

// wireForm is how one error code looks on the wire.
type wireForm struct {
	status int
	// key is the JSON member that holds the text: AWS's shapes differ in its case.
	key string
	// fault is the JSON member Type, "User" or "Service". Errors that do not come from the service's own model but from
	// AWS's common layer have none.
	fault string
	// query and queryStatus are the code and status in the query protocol, where they differ from the JSON ones.
	query       string
	queryStatus int
}

// wireForms holds every code of the root package. The Lambda model's own errors follow the model, which a test checks;
// the common ones follow AWS's page "Common Error Types".
var wireForms = map[thaw.ErrorCode]wireForm{
	thaw.CodeInvalidParameterValue: {status: 400, key: "message", fault: "User", query: "InvalidParameterValue"},
	thaw.CodeInvalidRequestContent: {status: 400, key: "message", fault: "User"},
	thaw.CodeResourceNotFound:      {status: 404, key: "Message", fault: "User"},
	thaw.CodeResourceConflict:      {status: 409, key: "message", fault: "User"},
	thaw.CodeResourceInUse:         {status: 400, key: "Message", fault: "User"},
	thaw.CodeResourceNotReady:      {status: 502, key: "message", fault: "Service"},
	thaw.CodePreconditionFailed:    {status: 412, key: "message", fault: "User"},
	thaw.CodeTooManyRequests:       {status: 429, key: "message", fault: "User", query: "Throttling", queryStatus: 400},
	thaw.CodeRequestTooLarge:       {status: 413, key: "message", fault: "User"},
	thaw.CodeCodeStorageExceeded:   {status: 400, key: "message", fault: "User"},
	thaw.CodePolicyLengthExceeded:  {status: 400, key: "message", fault: "User"},
	thaw.CodeInvalidZip:            {status: 502, key: "Message", fault: "Service"},
	thaw.CodeInvalidRuntime:        {status: 502, key: "Message", fault: "Service"},
	thaw.CodeUnsupportedMediaType:  {status: 415, key: "message", fault: "User"},
	thaw.CodeProvisionedNotFound:   {status: 404, key: "message", fault: "User"},
	thaw.CodeRecursiveInvocation:   {status: 400, key: "Message", fault: "User"},
	thaw.CodeService:               {status: 500, key: "Message", fault: "Service", query: "ServiceFailure"},

	thaw.CodeValidation:            {status: 400, key: "message", query: "ValidationError"},
	thaw.CodeSerialization:         {status: 400, key: "Message", query: "MalformedInput"},
	thaw.CodeRequestEntityTooLarge: {status: 413, key: "message", query: "RequestEntityTooLarge"},
	thaw.CodeAccessDenied:          {status: 403, key: "Message", query: "AccessDenied"},
	thaw.CodeUnknownOperation:      {status: 404, key: "message", query: "InvalidAction", queryStatus: 400},
	thaw.CodeNotImplemented:        {status: 501, key: "message", query: "NotImplemented"},
	thaw.CodeMissingAuthentication: {status: 403, key: "message", query: "MissingAuthenticationToken"},
	thaw.CodeInvalidSignature:      {status: 403, key: "message", query: "SignatureDoesNotMatch"},
	thaw.CodeUnrecognizedClient:    {status: 403, key: "message", query: "InvalidClientTokenId"},
	thaw.CodeIncompleteSignature:   {status: 403, key: "message", query: "IncompleteSignature", queryStatus: 400},
	thaw.CodeInternal:              {status: 500, key: "message"},

	thaw.CodeNoSuchEntity:        {status: 404, key: "message", fault: "User"},
	thaw.CodeEntityAlreadyExists: {status: 409, key: "message", fault: "User"},
	thaw.CodeDeleteConflict:      {status: 409, key: "message", fault: "User"},
	thaw.CodeMalformedPolicy:     {status: 400, key: "message", fault: "User"},
	thaw.CodeLimitExceeded:       {status: 409, key: "message", fault: "User"},
	thaw.CodeInvalidInput:        {status: 400, key: "message", fault: "User"},
	thaw.CodeValidationError:     {status: 400, key: "message", fault: "User"},

	thaw.CodeObjectNotFound:   {status: 400, key: "Message"},
	thaw.CodeQuotaExceeded:    {status: 400, key: "Message"},
	thaw.CodeInvalidNextToken: {status: 400, key: "Message"},
	thaw.CodeTooManyTags:      {status: 400, key: "Message"},
	thaw.CodeInternalService:  {status: 500, key: "Message"},

	thaw.CodeInvalidEventPattern: {status: 400, key: "message"},
	thaw.CodeManagedRule:         {status: 400, key: "message"},
	thaw.CodeEventsInternal:      {status: 500, key: "message"},
	thaw.CodeConflict:            {status: 409, key: "Message"},
	thaw.CodeServiceQuota:        {status: 402, key: "Message"},
	thaw.CodeInternalServer:      {status: 500, key: "Message"},

	// Status and query code of the SQS API's own errors are in its model.
	thaw.CodeMissingParameter:      {status: 400, key: "message", query: "MissingParameter"},
	thaw.CodeBatchIDsNotDistinct:   {status: 400, key: "message"},
	thaw.CodeBatchTooLong:          {status: 400, key: "message"},
	thaw.CodeEmptyBatch:            {status: 400, key: "message"},
	thaw.CodeInvalidAddress:        {status: 404, key: "message"},
	thaw.CodeInvalidAttributeName:  {status: 400, key: "message"},
	thaw.CodeInvalidAttributeValue: {status: 400, key: "message"},
	thaw.CodeInvalidBatchID:        {status: 400, key: "message"},
	thaw.CodeInvalidMessage:        {status: 400, key: "message"},
	thaw.CodeOverLimit:             {status: 403, key: "message"},
	thaw.CodePurgeInProgress:       {status: 403, key: "message"},
	thaw.CodeQueueDoesNotExist:     {status: 400, key: "message"},
	thaw.CodeQueueNameExists:       {status: 400, key: "message"},
	thaw.CodeReceiptHandle:         {status: 404, key: "message"},
	thaw.CodeTooManyBatchEntries:   {status: 400, key: "message"},
	thaw.CodeUnsupportedOperation:  {status: 400, key: "message"},

	// Those of CloudWatch, too.
	thaw.CodeParameterCombination: {status: 400, key: "message"},
	thaw.CodeAlarmNotFound:        {status: 404, key: "message"},
	thaw.CodeLimitFault:           {status: 400, key: "message"},
	thaw.CodeNextTokenFault:       {status: 400, key: "message"},
	thaw.CodeFormatFault:          {status: 400, key: "message"},
	thaw.CodeServiceFault:         {status: 500, key: "Message"},

	thaw.CodeInvalidParameter:   {status: 400, key: "message"},
	thaw.CodeAlreadyExists:      {status: 400, key: "message"},
	thaw.CodeOperationAborted:   {status: 400, key: "message"},
	thaw.CodeInvalidOperation:   {status: 400, key: "message"},
	thaw.CodeMalformedQuery:     {status: 400, key: "message"},
	thaw.CodeServiceUnavailable: {status: 500, key: "message"},
	thaw.CodeSessionTimeout:     {status: 400, key: "message"},
	thaw.CodeSessionStreaming:   {status: 400, key: "message"},
}

// masks are the codes of the failures that callers are not told about; InternalFailure where a service has none of its own.
var masks = map[string]thaw.ErrorCode{
	"lambda": thaw.CodeService, "application-autoscaling": thaw.CodeInternalService, "events": thaw.CodeEventsInternal,
	"scheduler": thaw.CodeInternalServer, "monitoring": thaw.CodeServiceFault, "logs": thaw.CodeServiceUnavailable,
}

// queryCode is an error's code in the query protocol.
func queryCode(m *model, code thaw.ErrorCode) string {
	if own, ok := m.Errors[string(code)]; ok && m.QueryCompatible && own.Code != "" {
		return own.Code
	}
	if form := wireForms[code]; form.query != "" {
		return form.query
	}
	return string(code)
}

// QueryCode is the query protocol's name of an error code, which services that have both protocols use in both where an
// answer lists outcomes, such as the failed entries of a batch. An unknown service has none of its own.
func QueryCode(service string, code thaw.ErrorCode) string {
	m := &model{}
	if load, ok := models[service]; ok {
		if loaded, err := load(); err == nil {
			m = loaded
		}
	}
	return queryCode(m, code)
}

// WriteError answers a request with err. A *thaw.Error goes out in the service's wire form; whatever else is logged with
// the request's id and masked, as is the cause of a ServiceException or InternalFailure. It may be called for a request
// that ServeHTTP has never seen, such as one that failed authentication.
func (s *Service) WriteError(w http.ResponseWriter, r *http.Request, err error) {
	req := RequestFrom(r.Context())
	req.fill(r)
	e := s.explain(r, &req, err)
	form := wireForms[e.Code]
	w.Header().Set("X-Amzn-Requestid", req.ID)
	if e.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.FormatInt(retrySeconds(e.RetryAfter), 10))
	}
	switch s.protocol(r) {
	case protocolREST:
		writeRESTError(w, r, s.model, e, form)
	case protocolJSON:
		writeTargetError(w, s.model, e, form)
	case protocolCBOR:
		writeCBORError(w, s.model, e, form)
	default:
		writeQueryError(w, s.model, req.ID, e, form)
	}
}

// explain is what a caller is told of an error, in a code that has a wire form. It logs what the caller is not told.
func (s *Service) explain(r *http.Request, req *Request, err error) *thaw.Error {
	e, ok := errors.AsType[*thaw.Error](err)
	if !ok {
		e = &thaw.Error{Code: thaw.CodeInternal, Cause: err}
		if code, ok := masks[s.model.Service]; ok {
			e.Code = code
		}
		e.Message = "The service failed to answer. Its log has the reason under request id " + req.ID + "."
	}
	form, ok := wireForms[e.Code]
	if !ok {
		e, form = &thaw.Error{Code: thaw.CodeInternal, Message: e.Message, Cause: err}, wireForms[thaw.CodeInternal]
	}
	if e.Cause != nil && form.status == http.StatusInternalServerError && !canceled(r, err) {
		s.logger().LogAttrs(r.Context(), slog.LevelError, "request failed", slog.String("service", s.model.Service),
			slog.String("operation", req.Operation), slog.String("request_id", req.ID), slog.String("error", err.Error()))
	}
	return e
}

// retrySeconds rounds up: a caller that came back early would be refused again.
func retrySeconds(d time.Duration) int64 { return int64(math.Ceil(d.Seconds())) }

// writeRESTError answers with an error of a rest-json service. Lambda's forms are in wireForms; another service's model
// decides where it has the code.
func writeRESTError(w http.ResponseWriter, r *http.Request, m *model, e *thaw.Error, form wireForm) {
	if own, ok := m.Errors[string(e.Code)]; ok && m.Service != "lambda" {
		form = wireForm{status: own.Status, key: own.Message}
	}
	body := smithyjson.NewEncoder()
	object := body.Object()
	if r.Header.Get("X-Amz-Target") != "" {
		object.Key("__type").String(string(e.Code)) // a client of a JSON protocol looks here, not at the header
	}
	if e.Reason != "" {
		object.Key("Reason").String(e.Reason)
	}
	if form.fault != "" {
		object.Key("Type").String(form.fault)
	}
	object.Key(form.key).String(e.Message)
	object.Close()
	w.Header().Set("X-Amzn-Errortype", string(e.Code))
	writeBody(w, "application/json", form.status, body.Bytes())
}

func writeQueryError(w http.ResponseWriter, m *model, id string, e *thaw.Error, form wireForm) {
	code, status, fault := queryCode(m, e.Code), form.status, "Sender"
	if form.queryStatus != 0 {
		status = form.queryStatus
	}
	if own, ok := m.Errors[string(e.Code)]; ok && m.QueryCompatible {
		status = own.Status
	}
	if status >= http.StatusInternalServerError {
		fault = "Receiver"
	}
	var buf bytes.Buffer
	root := smithyxml.NewEncoder(&buf).RootElement(element("ErrorResponse", smithyxml.NewNamespaceAttribute("", m.Namespace)))
	inner := root.MemberElement(element("Error"))
	inner.MemberElement(element("Type")).String(fault)
	inner.MemberElement(element("Code")).String(code)
	inner.MemberElement(element("Message")).String(e.Message)
	inner.Close()
	root.MemberElement(element("RequestId")).String(id)
	root.Close()
	writeBody(w, "text/xml", status, buf.Bytes())
}

func element(name string, attr ...smithyxml.Attr) smithyxml.StartElement {
	return smithyxml.StartElement{Name: smithyxml.Name{Local: name}, Attr: attr}
}

// writeBody sends a whole answer. A failed write means that the caller has gone; nobody is left to be told.
func writeBody(w http.ResponseWriter, contentType string, status int, body []byte) {
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body)
}
